"""weights: expressions over after and before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import UsageError
from mnemos.core.method import apply
from mnemos.methods.after.arithmetic import WeightExpression, weights
from tests.laws import base_plan
from tests.weights.checkpoints import write


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
    ("expression", "message"),
    [
        ("0.5*after + 0.5*befor", "befor: names no checkpoint here\n  did you mean 'before'?"),
        ("after + (chat - base)", "chat: names no checkpoint here\n  known: after, before"),
        ("before", "leaves nothing of the training"),
        ("after - after", "leaves nothing of the training"),
        ("0", "leaves nothing of the training"),
        ("after *", "is not an expression"),
        ("after + 1", "adds the bare number 1"),
        ("soup(after, before)", "soup chooses by measuring"),
        ("ties(before, before)", "leaves nothing of the training"),
    ],
)
def test_refusals(expression: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        weights(base_plan(), expression=expression)
    assert message in str(caught.value)


def test_further_models_and_numbers(tmp_path: Path) -> None:
    chat, base = (write(tmp_path / name, {"model.norm.weight": [1.0]}) for name in ("chat", "base"))
    models = {"chat": str(chat), "base": str(base)}
    plan = weights(base_plan(), expression="after + rho*(chat - base)", models=models, numbers={"rho": 0.5})
    (step,) = plan.after
    assert step.expression == "after + 0.5*chat - 0.5*base"
    assert [(name, handle.path) for name, handle in step.models] == [("base", str(base)), ("chat", str(chat))]
    other = weights(base_plan(), expression="after + rho*(chat - base)", models=models, numbers={"rho": 0.6})
    aligned = weights(base_plan(), expression="after + 0.5*(chat - base)", models=models, embeddings="align")
    assert len({plan.fingerprint, other.fingerprint, aligned.fingerprint}) == 3
    same = weights(
        base_plan(), expression="after - 0.5*base + 0.5*chat", models={k: models[k] for k in ("base", "chat")}
    )
    assert same.after[0].models == step.models
    first = plan.fingerprint
    write(chat, {"model.norm.weight": [2.0]})
    again = weights(base_plan(), expression="after + 0.5*(chat - base)", models=models)
    assert again.fingerprint != first  # the content of a named checkpoint counts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"expression": "after + chat", "models": {"chta": "x"}},
            "chat: names no checkpoint here\n  did you mean 'chta'?",
        ),
        ({"expression": "0.5*after", "models": {"chat": "x"}}, "chat: is given but not used"),
        ({"expression": "0.5*after", "numbers": {"rho": 1.0}}, "rho: is given but not used"),
        ({"expression": "0.5*after + before", "models": {"before": "x"}}, "before: has a meaning already"),
        ({"expression": "after*x", "models": {"x": "x"}, "numbers": {"x": 2.0}}, "x: has a meaning already"),
        ({"numbers": {"rho": "much"}}, "numbers.rho = 'much'"),
    ],
)
def test_names_that_mean_nothing(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        weights(base_plan(), **settings)
    assert message in str(caught.value)
