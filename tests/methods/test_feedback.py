"""Learning from feedback: pairs of own answers that a reward or a judge rates, and answers revised by principles."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Decoding, Example, Generation, OptionScore, Prompt, Turn
from mnemos.methods.examples.feedback import critique_revision, judged_pairs
from mnemos.rewards.by_name import RewardSettings, make
from mnemos.rewards.judge import CONSTITUTION, Judge, principles
from mnemos.sources.mix import Rows
from mnemos.sources.write import Kept, keep
from mnemos.synthesis.by_reward import JudgedPairs
from mnemos.synthesis.revision import CRITIQUE, REVISION, Revised
from mnemos.synthesis.self_generated import Check
from tests import laws
from tests.methods.contexts import FakeContext, Scripted, cut
from tests.methods.test_best_of_n import Worth

BEFORE, OTHER = laws.Handle("before"), laws.Handle("other", "other")
RULES = principles(CONSTITUTION)


def rows(count: int, **changed: Any) -> Rows:
    turns = [(Turn("user", f"Question {i}?"), Turn("assistant", " gold")) for i in range(count)]
    return Rows(
        tuple(Example(**{"id": str(i), "kind": "messages", "turns": turn, **changed}) for i, turn in enumerate(turns))
    )


def pairs_of(says: list[Any], samples: int, **changed: Any) -> tuple[list[Example], FakeContext]:
    """The rows written when the model says these, in order."""
    made = JudgedPairs(
        rows(len(says) // samples), BEFORE, Check(), Decoding(9, 1.0), floor=0.0, unsolved="drop",
        num_generations=samples, reward=Worth(), max_missing=0.5, min_gap=0.0,
    )  # fmt: skip
    context = FakeContext({"before": Scripted(lambda prompt, number: says[number])})
    return dataclasses.replace(made, **changed).write(context), context


def answers_of(pairs: list[Example]) -> list[tuple[str, str]]:
    return [(one.turns[-1].text, one.rejected[-1].text) for one in pairs]


# --- pairs by a reward -------------------------------------------------------------------------


def test_best_and_worst_of_each_question_are_a_pair() -> None:
    found, context = pairs_of(["1", "3", "2", "0", "-1", "-5"], 3)
    assert answers_of(found) == [(" 3", " 1"), (" 0", " -5")], "behind the white space of the gold answer"
    assert [one.kind for one in found] == ["preference"] * 2
    assert [one.turns[:-1] for one in found] == [row.turns[:-1] for row in rows(2)]
    assert [(one.meta["reward_chosen"], one.meta["reward_rejected"]) for one in found] == [(3.0, 1.0), (0.0, -5.0)]
    assert context.counts == {"pair": 2}
    assert context.notes["reward of samples"] == pytest.approx(0.0)
    assert context.notes["difference of rewards in a pair"] == 3.5


@given(st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=1, max_size=6))
def test_pairs_are_those_that_numpy_finds(batches: list[list[int]]) -> None:
    values = np.array(batches)
    if np.ptp(values) == 0:
        return  # a constant reward is refused
    found, context = pairs_of([f"{value}.{place}" for place, value in enumerate(values.ravel())], 3, reward=Whole())
    differ = np.ptp(values, axis=1) > 0
    first, last = values.argmax(1), 2 - values[:, ::-1].argmin(1)
    wanted = [
        (f" {batch[a]}.{3 * i + a}", f" {batch[b]}.{3 * i + b}")
        for i, (batch, a, b) in enumerate(zip(values, first, last, strict=True))
        if differ[i]
    ]
    assert answers_of(found) == wanted
    assert context.counts["left out: samples that are worth the same"] == int((~differ).sum())
    assert context.notes["questions whose samples are worth the same"] == pytest.approx(float(np.mean(~differ)))


@dataclass(frozen=True)
class Whole(Worth):
    """The whole part of the number that an answer says."""

    def __call__(self, prompts: Any, answers: Any, examples: Any) -> Any:
        return super().__call__(prompts, [answer.split(".")[0] for answer in answers], examples)


def test_every_question_without_a_pair_has_its_reason() -> None:
    says = ["1", "1", cut("9"), "2", "?", "3", "4", "4.5", "1", "5"]
    found, context = pairs_of(says, 2, min_gap=1.0)
    assert answers_of(found) == [(" 5", " 1")]
    assert context.counts == {
        "pair": 1,
        "left out: samples that are worth the same": 1,
        "left out: fewer than two samples with a reward, mostly no end": 1,
        "left out: fewer than two samples with a reward, mostly no number": 1,
        "left out: rewards that differ by less than 1": 1,
        "reward missing: no number": 1,
    }


def test_answers_that_are_all_worth_the_same_are_refused() -> None:
    with pytest.raises(DataError, match=r"1 for each of 4 answers.*\n?.*constant reward"):
        pairs_of(["1", "1", "1.0", "1"], 2)


def test_too_few_pairs_stop_the_study_with_the_counts() -> None:
    says = ["1", "1", "2", "2", "3", "3", "1", "2"]
    with pytest.raises(
        DataError, match=r"1 usable pairs of own answers \(samples that are worth the same: 3\)"
    ) as error:
        pairs_of(says, 2, floor=0.5)
    for part in ("at least 2", "min_acceptance = 0.5 of 4", "Sample more answers"):
        assert part in str(error.value)
    assert len(pairs_of(says, 2, floor=0.25)[0]) == 1


def test_too_many_missing_rewards_stop_the_study_with_their_reasons() -> None:
    with pytest.raises(DataError, match=r"75\.0% of 4 are missing \(no number: 3\)"):
        pairs_of(["?", "?", "?", "1"], 2)


def test_rows_that_are_not_asked_about_stay_as_they_are() -> None:
    plan = judged_pairs(laws.base_plan(examples=rows(40)), reward={"verifier": "exact"}, share=0.5, num_generations=2)
    context = FakeContext({"before": Scripted(lambda prompt, number: "gold" if number % 2 else "no")})
    out = plan.examples.write(context)  # type: ignore[attr-defined]
    made = [one for one in out if one.kind == "preference"]
    assert 0 < len(made) < 40
    assert answers_of(made) == [(" gold", " no")] * len(made)
    assert context.counts == {"pair": len(made), "as it was: not in the share": 40 - len(made)}
    assert [one for one in out if one.kind != "preference"] == [
        row for row in rows(40) if row.id not in {one.id for one in made}
    ]


def test_a_raw_prompt_keeps_its_roles_and_comes_back_from_disk(tmp_path: Path) -> None:
    turns = (Turn("prompt", "2 + 2 ="), Turn("completion", " 4"))
    plan = judged_pairs(
        laws.base_plan(examples=Rows((Example("r", "completion", turns),))),
        reward={"verifier": "exact"},
        num_generations=2,
    )
    (one,) = plan.examples.write(FakeContext({"before": Scripted(lambda prompt, number: "45"[number])}))  # type: ignore[attr-defined]
    assert (one.turns, one.rejected) == (turns, (Turn("completion", " 5"),))
    keep(tmp_path / "rows.jsonl", [one])
    assert list(Kept(tmp_path / "rows.jsonl")) == [one]


# --- pairs by a judge --------------------------------------------------------------------------


@dataclass
class Comparer(Scripted):
    """Judges by the number that an answer says, times `taste` nats, and likes the first place by `lean`."""

    taste: float = 1.0
    lean: float = 0.0
    verdict: str | None = None

    def choose(self, contexts: Any, options: Any) -> list[list[OptionScore]]:
        if not any("(A)" in context.turns[-1].text for context in contexts):
            return super().choose(contexts, options)  # the perplexity of what is learned
        self.calls.append((tuple(contexts), Decoding()))
        gaps = [self.lean + self.taste * (first - second) for first, second in map(shown, contexts)]
        return [[OptionScore(gap, 1, False), OptionScore(0.0, 1, False)] for gap in gaps]

    def generate(self, prompts: Any, decoding: Decoding) -> list[Generation]:
        if self.verdict is None:
            return super().generate(prompts, decoding)
        return [Generation(self.verdict, (), True) for _ in prompts]


def shown(prompt: Prompt) -> tuple[float, float]:
    first, second = prompt.turns[-1].text.split("(A) ")[1].split("\n\n(B) ")
    return float(first), float(second.split("\n\nReply")[0])


def judged(says: list[str], samples: int, model: Any, min_acceptance: float = 0.0) -> tuple[list[Example], FakeContext]:
    plan = laws.base_plan(examples=rows(len(says) // samples))
    plan = judged_pairs(plan, reward={"judge": "self"}, num_generations=samples, min_acceptance=min_acceptance)
    context = FakeContext({"before": model})
    return plan.examples.write(context), context  # type: ignore[attr-defined]


def test_two_samples_have_the_averaged_preference_of_both_orders() -> None:
    """RLAIF's label: the mean of the softmax over both orders, by hand."""
    says = ["2", "1", "0", "3"]
    model = Comparer(lambda prompt, number: says[number], taste=0.7, lean=1.5)
    found, _ = judged(says, 2, model)
    assert answers_of(found) == [(" 2", " 1"), (" 3", " 0")]
    for one, gap in zip(found, (1.0, 3.0), strict=True):
        shown_first = math.exp(0.7 * gap + 1.5) / (1 + math.exp(0.7 * gap + 1.5))
        shown_second = 1 - math.exp(-0.7 * gap + 1.5) / (1 + math.exp(-0.7 * gap + 1.5))
        assert one.meta["reward_chosen"] == pytest.approx((shown_first + shown_second) / 2)
        assert one.meta["reward_rejected"] == pytest.approx(1 - (shown_first + shown_second) / 2)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=4, max_size=4), st.floats(-2, 2))
def test_a_reward_among_samples_is_the_mean_over_all_duels(values: list[int], lean: float) -> None:
    model = Comparer(taste=0.6, lean=lean)
    made = Judge(laws.Handle("j"), RULES).asking(lambda handle: model)
    ((*found,),) = made.among([Prompt((Turn("user", "?"),))], [[str(value) for value in values]])

    def first(a: int, b: int) -> float:
        def p(x: float) -> float:
            return 1 / (1 + math.exp(-x))

        return 0.5 if a == b else (p(0.6 * (a - b) + lean) + 1 - p(0.6 * (b - a) + lean)) / 2

    for i, one in enumerate(found):
        others = [first(values[i], values[j]) for j in range(4) if j != i]
        assert one.value == pytest.approx(sum(others) / 3)
    assert sum(one.value for one in found) == pytest.approx(2.0), "a half for each of four"
    distinct = len(set(values))
    assert len(model.calls[0][0]) == distinct * (distinct - 1) if distinct > 1 else not model.calls


def test_one_answer_alone_is_worth_a_half_and_a_lost_duel_is_left_out() -> None:
    asked = [Prompt((Turn("user", "?"),))] * 2

    class Losing(Comparer):
        def choose(self, contexts: Any, options: Any) -> list[list[OptionScore]]:
            scored = super().choose(contexts, options)
            lost = [9.0 in shown(context) for context in contexts]
            return [
                [OptionScore(math.nan, 1, False), *row[1:]] if gone else row
                for gone, row in zip(lost, scored, strict=True)
            ]

    made = Judge(laws.Handle("j"), RULES).asking(lambda handle: Losing(taste=50.0))
    alone, some = made.among(asked, [["1"], ["1", "2", "9"]])
    assert [one.value for one in alone] == [0.5]
    assert [one.value for one in some[:2]] == pytest.approx([0.0, 1.0])
    assert some[2].reason == "longer than the judge reads"


def test_a_judge_that_only_likes_a_place_makes_no_pair() -> None:
    says = ["1", "2", "3", "4"]
    model = Comparer(lambda prompt, number: says[number], taste=0.0, lean=2.0)
    found, context = judged(says, 2, model)
    assert found == []
    assert context.counts == {"left out: samples that are worth the same": 2}
    with pytest.raises(DataError, match=r"0 usable pairs of own answers \(samples that are worth the same: 2\)"):
        judged(says, 2, model, min_acceptance=0.05)


def test_verdicts_that_cannot_be_read_stop_the_writing_with_their_rate() -> None:
    says = ["1", "2", "3", "4"]
    plan = judged_pairs(
        laws.base_plan(examples=rows(2)),
        reward={"judge": "http://localhost:1/v1#j", "verdict": "text"},
        num_generations=2,
    )
    context = FakeContext(
        {
            "before": Scripted(lambda prompt, number: says[number]),
            "http://localhost:1/v1#j": Comparer(verdict="I cannot say."),
        }
    )
    with pytest.raises(DataError, match=r"4 of 4 verdicts \(100\.0%\) cannot be read"):
        plan.examples.write(context)  # type: ignore[attr-defined]


def test_self_is_the_model_before_and_needs_a_stage() -> None:
    plan = judged_pairs(laws.base_plan(), reward={"judge": "self"})
    assert plan.examples.reward.judge == plan.before  # type: ignore[attr-defined]
    later = judged_pairs(laws.base_plan(before=OTHER), reward={"judge": "self"})
    assert later.examples.reward.judge == OTHER  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="judge = self"):
        make(RewardSettings(judge="self"))


# --- critique and revision ---------------------------------------------------------------------


@dataclass
class Editor(Scripted):
    """Criticises by naming the principle; revises a draft by adding an exclamation mark to it."""

    revises: Any = lambda draft, question: f"{draft}!"

    def generate(self, prompts: Any, decoding: Decoding) -> list[Generation]:
        self.calls.append((tuple(prompts), decoding))
        return [self._one(prompt.turns[-1].text) for prompt in prompts]

    def _one(self, text: str) -> Generation:
        question = text.split("Question:\n")[1].split("\n")[0]
        draft = text.split("Answer:\n")[1].split("\n\n")[0]
        if "Critique of the answer:" not in text:
            return Generation("By " + text.split("principle: ")[1].split("\n\n")[0], (), True)
        made = self.revises(draft, question)
        return made if isinstance(made, Generation) else Generation(made, (), True)


def revised(count: int, editor: Any, **changed: Any) -> tuple[list[Example], FakeContext, Any]:
    made = Revised(
        rows(count), BEFORE, Check(), Decoding(9, 1.0), floor=0.0, unsolved="drop", editor=OTHER, principles=RULES,
        rounds=2, seed=3,
    )  # fmt: skip
    made = dataclasses.replace(made, **changed)
    context = FakeContext({"before": Scripted(lambda prompt, number: f"draft {number}"), "other": editor})
    return made.write(context), context, made


def test_each_round_criticises_the_draft_and_revises_it() -> None:
    editor = Editor()
    out, context, made = revised(3, editor)
    assert [one.turns[-1].text for one in out] == [f" draft {i}!!" for i in range(3)]
    assert context.counts == {"revised": 3}
    assert context.notes["revisions that stand, of all rounds"] == 1.0
    asked = [prompt.turns[-1].text for prompts, _ in editor.calls for prompt in prompts]
    drafts, drawn = [f"draft {i}" for i in range(3)], list(rows(3))
    wanted = []
    for number in range(2):
        named = [random.Random(f"3 {row.id} {number}").choice(RULES) for row in drawn]
        for template, part in ((CRITIQUE, "principle"), (REVISION, "critique")):
            wanted += [
                template.format(
                    question=f"Question {i}?", draft=drafts[i], **{part: rule if part == "principle" else f"By {rule}"}
                )
                for i, rule in enumerate(named)
            ]
        drafts = [f"{draft}!" for draft in drafts]
    assert asked == wanted
    assert {made.principle(row, number) for row, number in itertools.product(rows(60), range(4))} == set(RULES)


@pytest.mark.parametrize(
    ("revision", "why"),
    [
        ("", "empty"),
        (cut("and so on and"), "no end"),
        ("Following the critique, no.", "speaks of the instruction"),
    ],
)
def test_a_revision_that_does_not_stand_leaves_the_row_out_with_its_reason(revision: Any, why: str) -> None:
    out, context, _ = revised(2, Editor(revises=lambda draft, question: revision))
    assert out == []
    assert context.counts == {f"left out: no revision, mostly {why}": 2}
    with pytest.raises(DataError, match=rf"0 usable revised answers \(no revision, mostly {why}: 2\)"):
        revised(2, Editor(revises=lambda draft, question: revision), floor=0.05)


def test_a_bad_round_keeps_the_text_of_the_one_before() -> None:
    editor = Editor(revises=lambda draft, question: "" if draft.endswith("!") else f"{draft}!")
    out, context, _ = revised(2, editor, rounds=3)
    assert [one.turns[-1].text for one in out] == [" draft 0!", " draft 1!"]
    assert context.notes["revisions that stand, of all rounds"] == pytest.approx(1 / 3)


def test_a_word_of_the_instruction_may_stand_where_the_question_has_it() -> None:
    asked = Rows((Example("r", "messages", (Turn("user", "Write a critique."), Turn("assistant", "x"))),))
    out, _, _ = revised(1, Editor(revises=lambda draft, question: "A short critique."), rows=asked)
    assert [one.turns[-1].text for one in out] == ["A short critique."]


def test_a_verifier_refuses_revisions_that_are_wrong() -> None:
    editor = Editor(revises=lambda draft, question: "gold" if "1" in question else "other")
    out, context, _ = revised(2, editor, check=Check("normalised"))
    assert [(one.id, one.turns[-1].text) for one in out] == [("1", " gold")]
    assert context.counts == {"revised": 1, "left out: no revision, mostly wrong": 1}


def test_the_settings_name_editor_principles_and_seed(tmp_path: Path) -> None:
    (tmp_path / "rules.txt").write_text("Be kind.\n")
    plan = laws.base_plan()
    own = critique_revision(plan).examples
    assert (own.editor, own.principles, own.rounds, own.unsolved) == (plan.before, RULES, 4, "drop")  # type: ignore[attr-defined]
    other = critique_revision(plan, editor="http://localhost:1/v1#e", constitution=str(tmp_path / "rules.txt"), seed=2)
    assert other.examples.principles == ("Be kind.",)  # type: ignore[attr-defined]
    assert (other.examples.editor.path, other.examples.seed) == ("http://localhost:1/v1#e", plan.seed + 2)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="cannot be read"):
        critique_revision(plan, constitution=str(tmp_path / "absent"))
