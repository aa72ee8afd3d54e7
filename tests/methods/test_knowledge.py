"""Methods over what the model before knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Decoding, Example, Generation, Prompt
from mnemos.core.plan import Plan
from mnemos.methods.examples.knowledge import self_aligning, slick
from mnemos.sources.generated import generated_in
from mnemos.sources.mix import Rows
from mnemos.synthesis.classified import Classified, OfClasses
from mnemos.synthesis.knowledge import Asking
from tests import laws
from tests.methods.contexts import FakeContext
from tests.synthesis.test_knowledge import Knows, fact


def plan_of(count: int, **changed: Any) -> Plan:
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
    settings: dict[str, Any] = {"num_prompts": 4, "num_shots": 2, "num_generations": 2}
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
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"slick.{next(iter(settings))}"):
        slick(plan_of(6), **settings)


# --- HAR, INC, SELF ------------------------------------------------------------------------------


class Sure(Knows):
    """Right below 4; wrong, always the same way, below 8; above, of three answers in turn."""

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        found = super().generate(prompts, decoding)
        numbers = [int("".join(c for c in prompt.turns[-1].text if c.isdigit())) for prompt in prompts]
        out = []
        for place, (number, one) in enumerate(zip(numbers, found, strict=True)):
            text = (
                one.text
                if number < 4
                else f"Village {number}"
                if number < 8
                else f"Hamlet {place // len(set(numbers)) % 3}"
            )
            out.append(Generation(text, (1,), True))
        return out


SMALL: dict[str, Any] = {"num_prompts": 6, "num_shots": 2}


def learned(plan: Plan, number: int = 12) -> dict[str, str]:
    """Id -> what is learned."""
    rows: list[Example] = FakeContext({"before": Sure(lambda number: 1.0)}).rows(plan.examples)
    return {row.id: row.turns[-1].text for row in rows}


def test_har_inc_and_self_are_three_labels_over_two_sets_of_questions() -> None:
    plan = plan_of(12)
    assert learned(self_aligning(plan, labels="har", **SMALL)) == {f"f{n}": f"city {n}." for n in range(4)}
    assert learned(self_aligning(plan, labels="inc", **SMALL)) == {f"f{n}": f"City {n}" for n in range(4, 8)}
    assert learned(self_aligning(plan, labels="self", **SMALL)) == {f"f{n}": f"Village {n}" for n in range(4, 8)}


def test_questions_without_one_answer_come_in_only_below_the_confidence() -> None:
    """Three answers share the six prompts of each such question: a third each."""
    wrong = learned(self_aligning(plan_of(12), labels="inc", min_confidence=0.3, **SMALL))
    assert set(wrong) == {f"f{n}" for n in range(4, 12)}
    assert set(learned(self_aligning(plan_of(12), labels="inc", min_confidence=1 / 3, **SMALL))) == {
        f"f{n}" for n in range(4, 8)
    }


def test_inc_and_self_of_a_seed_are_the_same_questions_and_the_arms_ask_once() -> None:
    arms = [self_aligning(plan_of(12, seed=4), labels=labels, rows=3, **SMALL) for labels in ("har", "inc", "self")]
    assert len({found.fingerprint for plan in arms for found in generated_in(plan)}) == 1
    assert set(learned(arms[1])) == set(learned(arms[2]))
    assert [len(learned(arm)) for arm in arms] == [3, 3, 3]
    draws = {
        frozenset(learned(self_aligning(plan_of(12, seed=seed), labels="inc", rows=3, **SMALL))) for seed in range(6)
    }
    assert len(draws) > 1
    with pytest.raises(DataError, match=r"5 rows of self.*there are 4 \(right: 4, wrong: 4, unsure: 4\)"):
        learned(self_aligning(plan_of(12), labels="self", rows=5, **SMALL))


def test_nothing_is_sampled_for_them() -> None:
    (found,) = generated_in(self_aligning(plan_of(6)))
    assert isinstance(found, Classified)
    assert found.asking == Asking(10, 5, 0, 0.0, 0)
