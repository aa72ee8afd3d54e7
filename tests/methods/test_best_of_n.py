"""Best-of-n: the sample with the highest reward is learned."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Decoding, Example, OptionScore, PowerDecoding, Turn
from mnemos.core.reward import Rewarded, missing
from mnemos.methods.examples.self_generated import best_of_n, self_output
from mnemos.models.load import Checkpoint
from mnemos.sources.mix import Rows
from mnemos.synthesis.by_reward import BestSamples
from mnemos.synthesis.self_generated import Check
from tests import laws
from tests.methods.contexts import FakeContext, Scripted, cut
from tests.tiny import save_tiny

BEFORE = laws.Handle("before")


@dataclass(frozen=True)
class Worth:
    """The number that an answer says; "?" has no reward."""

    fingerprint: str = "worth"

    def describe(self) -> str:
        return "the number it says"

    def __call__(self, prompts: Any, answers: Any, examples: Any) -> list[Rewarded]:
        assert all(prompt.turns == row.turns[:-1] for prompt, row in zip(prompts, examples, strict=True))
        return [missing("no number") if answer == "?" else Rewarded(float(answer)) for answer in answers]


def rows(count: int) -> Rows:
    turns = [(Turn("user", f"{i}?"), Turn("assistant", "gold")) for i in range(count)]
    return Rows(tuple(Example(str(i), "messages", turn) for i, turn in enumerate(turns)), "rows")


def written(says: list[Any], samples: int, **changed: Any) -> tuple[list[str], FakeContext]:
    """The answers learned when the model says these, in order."""
    asked = len(says) // samples
    best = BestSamples(
        rows(asked), BEFORE, Check(), Decoding(9, 1.0), floor=0.0, unsolved="drop",
        num_generations=samples, reward=Worth(), max_missing=0.5, least=None,
    )  # fmt: skip
    context = FakeContext({"before": Scripted(lambda prompt, number: says[number])})
    return [row.turns[-1].text for row in dataclasses.replace(best, **changed).write(context)], context


def test_the_best_sample_of_each_question_is_learned() -> None:
    learned, context = written(["1", "3", "2", "0", "-1", "-5"], 3)
    assert learned == ["3", "0"]
    assert context.counts["best sample"] == 2
    assert context.notes["reward of samples"] == pytest.approx(0.0)
    assert context.notes["reward of best samples"] == 1.5
    assert context.notes["questions whose samples are worth the same"] == 0.0


@given(st.lists(st.lists(st.integers(-9, 9), min_size=4, max_size=4), min_size=1, max_size=5))
def test_no_sample_is_worth_more_than_the_one_that_is_learned(batches: list[list[int]]) -> None:
    if len({value for batch in batches for value in batch}) == 1:
        return  # a constant reward is refused
    learned, _ = written([str(value) for batch in batches for value in batch], 4)
    assert learned == [str(max(batch)) for batch in batches]


def test_of_equal_samples_the_first_is_learned() -> None:
    assert written(["1.0", "1", "0", "2", "2.0", "1"], 3)[0] == ["1.0", "2"]


def test_samples_without_an_end_or_a_reward_are_never_learned() -> None:
    learned, context = written([cut("9"), "1", "?", "2", "?", "?"], 2, max_missing=0.7)
    assert learned == ["1", "2"]
    assert context.counts["reward missing: no number"] == 3
    assert context.counts["left out: no sample with a reward, mostly no number"] == 1


def test_a_question_whose_best_sample_is_worth_too_little_is_left_out() -> None:
    learned, context = written(["1", "2", "3", "9"], 2, least=5.0)
    assert learned == ["9"]
    assert context.counts["left out: no sample with a reward of 5"] == 1


def test_a_constant_reward_is_refused() -> None:
    with pytest.raises(DataError, match="no gradient"):
        written(["1", "1", "1.0", "1"], 2)


def test_too_many_missing_rewards_stop_the_study_with_their_reasons() -> None:
    with pytest.raises(DataError, match=r"75\.0% of 4 are missing \(no number: 3\)"):
        written(["?", "?", "?", "1"], 2)


def test_with_a_verifier_it_learns_what_self_output_would_accept() -> None:
    plan = laws.base_plan()
    best = best_of_n(plan, reward={"verifier": "exact"}, num_generations=2, min_reward=1.0)
    right = self_output(plan, verifier="exact", num_generations=2)
    says = ["nonsense", "0."] * 6

    def learned(source: Any) -> list[str]:
        context = FakeContext({"before": Scripted(lambda prompt, number: says[number])})
        model = context.models["before"]
        model.choose = lambda contexts, options: [[_score(text) for text in texts] for texts in options]
        return [row.turns[-1].text for row in source.write(context)]

    assert learned(best.examples) == learned(right.examples) == ["0."]


def _score(text: str) -> Any:
    return OptionScore(-math.log(2) * max(len(text), 1), max(len(text), 1), False)


def test_history_says_what_the_reward_is() -> None:
    plan = best_of_n(laws.base_plan(), reward={"verifier": "number", "reference": "result"}, num_generations=4)
    text = plan.history[-1].settings["reward"]
    assert (text["verifier"], text["reference"]) == ("number", "result")
    other = best_of_n(laws.base_plan(), reward={"verifier": "number"}, num_generations=4)
    assert other.fingerprint != plan.fingerprint


def test_samples_may_be_drawn_from_a_power_of_the_models_distribution() -> None:
    plan = laws.base_plan(examples=rows(2))
    reward = {"verifier": "exact"}
    drawn = best_of_n(plan, reward=reward, power={"alpha": 4, "block": 8, "steps": 3}, max_new_tokens=20)
    assert drawn.examples.decoding == PowerDecoding(20, 0.25, seed=plan.seed, power=4, block=8, steps=3)  # type: ignore[attr-defined]
    warmer = best_of_n(plan, reward=reward, power={"alpha": 4}, temperature=0.5)
    assert warmer.examples.decoding.temperature == 0.5  # type: ignore[attr-defined]
    assert len({one.fingerprint for one in (drawn, warmer, best_of_n(plan, reward=reward, max_new_tokens=20))}) == 3
    with pytest.raises(UsageError, match="leave out top_p"):
        best_of_n(plan, reward=reward, power={"alpha": 4}, top_p=0.9)


def test_best_of_n_from_a_power_learns_what_power_sampling_writes(tmp_path: Path) -> None:
    model = Checkpoint(str(save_tiny(tmp_path / "model")))
    found = rows(3)
    how = PowerDecoding(6, 0.25, seed=3, power=4.0, block=3, steps=2)
    best = BestSamples(
        found, model, Check(), how, floor=0.0, unsolved="keep",
        num_generations=2, reward=Longest(), max_missing=1.0, least=None,
    )  # fmt: skip
    loaded = model.load()
    answers = loaded.generate([row.prompt for row in found for _ in range(2)], how)
    expected = []
    for row, pair in zip(found, zip(answers[::2], answers[1::2], strict=True), strict=True):
        fit = [one.text.strip() for one in pair if one.finished and one.text.strip()]
        expected.append(max(fit, key=len) if fit else row.turns[-1].text)
    assert [row.turns[-1].text for row in best.write(FakeContext({model.path: loaded}))] == expected


class Longest:
    """Worth as many points as the answer has letters."""

    fingerprint = "longest"

    def describe(self) -> str:
        return "letters"

    def __call__(self, prompts: Any, answers: Any, examples: Any) -> list[Rewarded]:
        return [Rewarded(float(len(answer))) for answer in answers]
