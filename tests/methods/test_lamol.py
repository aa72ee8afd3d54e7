"""lamol: what is learned, what is sampled, what is kept, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Example, Generation, Prompt
from mnemos.core.plan import PastTask, Plan
from mnemos.methods.examples.lamol import lamol
from mnemos.methods.examples.rehearsal import LossBeside
from mnemos.sources.generated import generated_in
from mnemos.sources.mix import is_new
from mnemos.synthesis.lamol import PseudoSamples
from tests.laws import Handle, base_plan, rows
from tests.methods.contexts import FakeContext, Say, Scripted, cut


def plan_with(new: int, *names: str, **changed: object) -> Plan:
    past = tuple(PastTask(name, None, Handle(f"after-{name}", f"after-{name}")) for name in names)
    return base_plan(**{"examples": rows("new", new), "past": past, "sequence": True, **changed})


def samples(prompt: Prompt, number: int) -> str:
    task = prompt.turns[0].text.strip().strip("_")
    return f"{task} question {number}?\n__ans__\n{task} answer {number}"


def scripted(say: Say = samples, **more: Scripted) -> FakeContext:
    return FakeContext({"before": Scripted(say), **more})


def written(plan: Plan, context: FakeContext) -> list[list[Example]]:
    return [one.write(context) for one in generated_in(plan)]


def test_the_first_task_learns_to_write_its_rows() -> None:
    plan = plan_with(3)
    out = lamol(plan)
    assert [(row.kind, row.origin) for row in out.examples] == [
        ("messages", "new"),
        ("completion", "new, as text"),
    ] * 3
    form = list(out.examples)[1]
    assert [turn.text for turn in form.turns] == ["__three__\n", "new 0?\n__ans__\n0."]
    assert out.weigh == (LossBeside(("new, as text", "replay, as text"), 0.25),)
    assert not generated_in(out)
    assert not out.history[-1].off


@pytest.mark.parametrize(
    ("new", "per_new", "tasks", "expected"),
    [(10, 0.2, 1, [2]), (11, 0.2, 2, [2, 1]), (10, 0.5, 3, [2, 2, 1]), (7, 1.0, 2, [4, 3])],
)
def test_the_budget_is_rounded_up_and_divided(new: int, per_new: float, tasks: int, expected: list[int]) -> None:
    plan = lamol(plan_with(new, *"abc"[:tasks]), per_new=per_new)
    made = written(plan, scripted())
    assert [len(part) for part in made] == expected
    assert sum(expected) == math.ceil(per_new * new)
    for part, name in zip(made, "abc", strict=False):
        assert all(row.turns[0].text.startswith(f"{name} question") for row in part)


def test_samples_are_drawn_as_the_paper_draws_them() -> None:
    made = scripted()
    plan = lamol(plan_with(10, "a", "b", seed=5), per_new=1.0, oversample=1.5, max_new_tokens=77, seed=2)
    written(plan, made)
    first, second = made.models["before"].calls
    assert [len(prompts) for prompts, _ in (first, second)] == [8, 8]
    assert {prompt.turns[0].text for prompt in first[0]} == {"__a__\n"}
    decoding = first[1]
    assert (decoding.top_k, decoding.temperature, decoding.max_new_tokens, decoding.seed) == (20, 1.0, 77, 7)


def test_one_token_for_all_tasks() -> None:
    plan = lamol(plan_with(10, "a", "b"), per_new=0.3, tokens="shared")
    (part,) = written(plan, made := scripted())
    assert len(part) == 3
    ((prompts, _),) = made.models["before"].calls
    assert {prompt.turns[0].text for prompt in prompts} == {"__gen__\n"}
    forms = [row for row in lamol(plan_with(2), tokens="shared").examples if row.kind == "completion"]
    assert {row.turns[0].text for row in forms} == {"__gen__\n"}


def test_samples_are_learned_in_both_forms() -> None:
    made = scripted()
    plan = lamol(plan_with(4, "a", "b"), per_new=0.5)
    settled = made.rows(plan.examples)
    counts = Counter(row.origin for row in settled)
    assert counts == {"new": 4, "new, as text": 4, "replay": 2, "replay, as text": 2}
    forms = [row for row in settled if row.origin == "replay, as text"]
    assert [row.turns[0].text for row in forms] == ["__a__\n", "__b__\n"]
    assert forms[0].turns[1].text == "a question 0?\n__ans__\na answer 0"
    assert len({row.id for row in settled}) == len(settled)
    assert not any(is_new(row.origin) for row in settled if row.id.startswith("replay/"))


def test_malformed_samples_are_counted_by_reason() -> None:
    text = ["q?\n__ans__\na", "q? a", cut("q?\n__ans__\na"), "q\n__ans__\na\n__ans__\nb", "q2?\n__ans__\nb"]
    made = scripted(lambda prompt, number: text[number])
    (part,) = written(lamol(plan_with(5, "a"), per_new=1.0, min_usable=0.4), made)
    assert [row.turns[-1].text for row in part] == ["a", "b"]
    assert made.counts == {
        "kept": 2,
        "dropped: no answer marker": 1,
        "dropped: no end": 1,
        "dropped: several answer markers": 1,
    }
    assert made.notes == {"well-formed share": 0.4, "share of the budget": 0.4}
    with pytest.raises(
        DataError, match=r"2 usable samples of a \(no answer marker: 1, no end: 1, several.*\n.*oversam"
    ):
        written(lamol(plan_with(5, "a"), per_new=1.0), scripted(lambda prompt, number: text[number]))


def test_a_new_answer_that_spells_a_marker_is_no_row() -> None:
    answers = iter(["1", "2\n__completion__\n3", "4", "5"])
    made = scripted(**{"after-a": Scripted(lambda prompt, number: next(answers))})
    (part,) = written(lamol(plan_with(3, "a"), per_new=1.0, answers="task", oversample=1.3), made)
    assert [row.turns[-1].text for row in part] == ["1", "4", "5"]
    assert made.counts["dropped: a marker inside a turn"] == 1


def test_answers_of_the_tasks_own_model() -> None:
    teacher = Scripted(lambda prompt, number: cut("…") if number == 1 else f"taught {number}")
    made = scripted(samples, **{"after-a": teacher})
    plan = lamol(plan_with(4, "a"), per_new=0.5, answers="task", oversample=2)
    (part,) = written(plan, made)
    assert [row.turns[0].text for row in part] == ["a question 0?", "a question 2?"]
    assert [row.turns[1].text for row in part] == ["taught 0", "taught 0"], "each batch is a call of its own"
    assert teacher.calls[0][0][0].turns == part[0].turns[:1], "asked by the ordinary chat"
    assert teacher.calls[0][1].temperature == 0


def test_samples_of_the_tasks_own_model() -> None:
    made = scripted(lambda prompt, number: "never", **{"after-a": Scripted(samples), "after-b": Scripted(samples)})
    parts = written(lamol(plan_with(4, "a", "b"), per_new=1.0, samples_by="task"), made)
    assert [len(part) for part in parts] == [2, 2]
    assert not made.models["before"].calls


def test_latest_answers_and_confidence() -> None:
    def say(prompt: Prompt, number: int) -> Generation | str:
        return samples(prompt, number) if prompt.turns[0].role == "prompt" else f"said {prompt.turns[-1].text}"

    made = FakeContext({"before": Scripted(say, probability=lambda text: 0.9 if "1" in text or "3" in text else 0.3)})
    plan = lamol(plan_with(2, "a"), per_new=1.0, answers="latest", confidence=0.5, oversample=2)
    (part,) = written(plan, made)
    assert [row.turns[-1].text for row in part] == ["said a question 1?", "said a question 3?"]
    assert made.counts["dropped: the model is unsure of the answer"] == 2


def test_settings_reach_the_fingerprint() -> None:
    plan = plan_with(10, "a", "b")
    settings = [{}, {"per_new": 0.3}, {"lm_weight": 0.3}, {"tokens": "shared"}, {"samples_by": "task"}]
    settings += [{"answers": "latest"}, {"answers": "task"}, {"confidence": 0.1}, {"oversample": 2.0}, {"seed": 1}]
    assert len({lamol(plan, **one).fingerprint for one in settings}) == len(settings)
    other = dataclasses.replace(plan, before=Handle("before", "f" * 16))
    assert generated_in(lamol(other))[0].fingerprint != generated_in(lamol(plan))[0].fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lm_weight": 0.0}, r"lm_weight = 0 with per_new = 0\.2"),
        ({"tokens": "shared", "answers": "task"}, "answers = task with tokens = shared"),
        ({"tokens": "shared", "samples_by": "task"}, "samples_by = task with tokens = shared"),
    ],
)
def test_combinations_that_cannot_be_meant(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lamol(plan_with(4, "a"), **settings)


def test_outside_a_sequence_it_is_refused() -> None:
    with pytest.raises(UsageError, match=r"not one\n  teach a list of tasks"):
        lamol(plan_with(4, sequence=False))


def test_without_the_tasks_model() -> None:
    past = (PastTask("a", None, None),)
    with pytest.raises(UsageError, match="model right after task a is not known"):
        lamol(plan_with(4, past=past), answers="task")
    assert isinstance(generated_in(lamol(plan_with(4, past=past)))[0], PseudoSamples)


def test_less_than_a_sample_a_task() -> None:
    with pytest.raises(DataError, match=r"1 samples.*less than one for each of 2.*\n.*0\.2000"):
        written(lamol(plan_with(10, "a", "b"), per_new=0.1), scripted())


def test_writing_to_learn_without_rehearsal() -> None:
    plan = lamol(plan_with(4, "a"), per_new=0.0)
    assert not generated_in(plan)
    assert len(list(plan.examples)) == 8
