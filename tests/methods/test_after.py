"""weights: expressions over after and before."""

from __future__ import annotations

import pytest

from mnemos.core.errors import UsageError
from mnemos.core.method import apply
from mnemos.methods.after import WeightExpression, weights
from tests.laws import base_plan


@pytest.mark.parametrize(
    ("expression", "normal"),
    [
        ("0.5*(after + before)", "0.5*after + 0.5*before"),
        ("before + 0.3*(after - before)", "0.7*before + 0.3*after"),
        ("2*before - after", "2.0*before - after"),
        ("0.5*after", "0.5*after"),
    ],
)
def test_normal_form_is_kept(expression: str, normal: str) -> None:
    assert weights(base_plan(), expression=expression).after == (WeightExpression(normal),)


def test_equal_expressions_are_one_step() -> None:
    same = ["0.5*after+0.5*before", "after/2 + before/2", "0.5*(after + before)"]
    assert len({weights(base_plan(), expression=one).fingerprint for one in same}) == 1


@pytest.mark.parametrize("expression", ["after", "1*after", "after + before - before", "after + 0*before"])
def test_after_alone_is_off(expression: str) -> None:
    plan = weights(base_plan(), expression=expression)
    assert plan.after == ()
    assert plan.history[-1].off


def test_several_are_taken_in_order() -> None:
    plan = apply(base_plan(), [{"weights": {}}, {"weights": {"expression": "2*after - before"}}])
    assert plan.after == (WeightExpression("0.5*after + 0.5*before"), WeightExpression("2.0*after - before"))


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0.5*after + 0.5*befor", "befor: names no checkpoint here\n  did you mean 'before'?"),
        ("after + (chat - base)", "chat: names no checkpoint here\n  known: after, before"),
        ("before", "leaves nothing of the training"),
        ("after - after", "leaves nothing of the training"),
        ("0", "leaves nothing of the training"),
        ("after *", "is not an expression"),
        ("after + 1", "adds the bare number 1"),
    ],
)
def test_refusals(expression: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        weights(base_plan(), expression=expression)
    assert said in str(caught.value)
