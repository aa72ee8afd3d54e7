"""Methods over what the model before knows."""

from __future__ import annotations

import dataclasses

import pytest

from mnemos.core.errors import UsageError
from mnemos.core.plan import Plan
from mnemos.methods.examples.knowledge import slick
from mnemos.sources.generated import generated_in
from mnemos.sources.mix import Rows
from mnemos.synthesis.knowledge import Asking, Classified, OfClasses
from tests import laws
from tests.methods.contexts import FakeContext
from tests.synthesis.test_knowledge import Knows, fact


def plan_of(count: int, **changed: object) -> Plan:
    return dataclasses.replace(laws.base_plan(), examples=Rows(tuple(fact(n) for n in range(count))), **changed)


def read(plan: Plan, model: Knows) -> list[str]:
    """The ids that the plan reads."""
    return [row.id for row in FakeContext({"before": model}).rows(plan.examples)]


def test_the_defaults_ask_as_the_paper_does() -> None:
    (found,) = generated_in(slick(plan_of(6)))
    assert isinstance(found, Classified)
    assert found.asking == Asking(10, 4, 16, 0.5, 40)


def test_arms_and_seeds_ask_once() -> None:
    """Whatever is kept: one source is written for all of them, and the classes are frozen."""
    arms = [
        slick(plan_of(6), keep=["Unknown"]),
        slick(plan_of(6), keep=["HighlyKnown", "MaybeKnown"], rows=3),
        slick(plan_of(6, seed=9), keep=["WeaklyKnown"], unknown_answer="No idea."),
    ]
    assert len({found.fingerprint for plan in arms for found in generated_in(plan)}) == 1
    assert len({plan.examples.fingerprint for plan in arms}) == 3
    # The order of the classes and a class that stands twice change nothing.
    again = slick(plan_of(6), keep=["MaybeKnown", "HighlyKnown", "MaybeKnown"], rows=3)
    assert again.examples.fingerprint == arms[1].examples.fingerprint


def test_it_keeps_the_classes_that_it_names() -> None:
    model = Knows(lambda number: float(int(number) < 4))
    settings = {"num_prompts": 4, "num_shots": 2, "num_generations": 2}
    assert read(slick(plan_of(9), keep=["HighlyKnown"], **settings), model) == ["f0", "f1", "f2", "f3"]
    assert read(slick(plan_of(9), keep=["Unknown"], rows=2, **settings), model) != read(
        slick(plan_of(9, seed=1), keep=["Unknown"], rows=2, **settings), model
    )
    natural = slick(plan_of(9), keep=["HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown"], **settings)
    assert read(natural, model) == [f"f{n}" for n in range(9)]
    assert isinstance(natural.examples, OfClasses)


@pytest.mark.parametrize(
    "settings", [{"keep": []}, {"keep": ["Known"]}, {"rows": 0}, {"temperature": 0}, {"num_prompts": -1}]
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"slick.{next(iter(settings))}"):
        slick(plan_of(6), **settings)
