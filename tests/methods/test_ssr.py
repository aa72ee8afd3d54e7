"""ssr: prompts, parsing, selection, answers, budget, refusals."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Example, Generation, Prompt, Turn
from mnemos.core.plan import PastTask, Plan
from mnemos.methods.examples.ssr import ssr
from mnemos.models.load import Checkpoint
from mnemos.sources.generated import generated_in
from mnemos.sources.mix import Rows
from mnemos.sources.similarity import representative
from mnemos.synthesis.ssr import parse, shown_as
from tests.laws import Handle, base_plan, rows
from tests.methods.contexts import FakeContext, Say, Scripted, cut

START = Handle("start", "start")


def past(name: str, source: Rows | None) -> PastTask:
    return PastTask(name, source, Handle(f"after-{name}", f"after-{name}"), START)


def plan_with(*tasks: PastTask, **changed: object) -> Plan:
    return base_plan(**{"examples": rows("new", 6), "past": tasks, "sequence": True, **changed})


def invented(prompt: Prompt, number: int) -> str:
    return f" river {number} runs where?\nOutput: to sea {number}\n\nInput: more"


def scripted(say: Say = invented, answer: Say = lambda prompt, number: f"own {prompt.turns[-1].text}") -> FakeContext:
    return FakeContext({"start": Scripted(say), "after-a": Scripted(answer), "before": Scripted(answer)})


def written(plan: Plan, context: FakeContext) -> list[Example]:
    return [row for one in generated_in(plan) for row in one.write(context)]


FEW = {"demonstrations": 4}


def test_the_budget_is_a_share_of_the_old_tasks_rows() -> None:
    made = scripted()
    plan = ssr(plan_with(past("a", rows("a", 41))), per_new=0.2, **FEW)
    kept = written(plan, made)
    assert len(kept) == 9
    ((prompts, decoding),) = made.models["start"].calls
    assert len(prompts) == 52, "5.7 x 9, rounded up"
    assert (decoding.temperature, decoding.top_p, decoding.max_new_tokens, decoding.seed) == (0.9, 0.6, 512, 3)
    assert all(row.origin == "replay" and row.kind == "messages" for row in kept)
    assert len({row.id for row in kept}) == 9
    assert made.counts["kept"] == 9


def test_every_ordered_pair_is_shown_before_any_again() -> None:
    made = scripted()
    written(ssr(plan_with(past("a", rows("a", 10))), per_new=1.0, oversample=2.4, **FEW), made)
    texts = Counter(prompt.turns[0].text for prompt in made.models["start"].calls[0][0])
    assert len(texts) == 4 * 3
    assert set(texts.values()) == {2}
    one = next(iter(texts))
    first, second, last = one.split("\n\n")
    assert last == "Input:"
    assert first != second
    assert all(part.startswith("Input: a ") and "?\nOutput: " in part for part in (first, second))


def test_more_shots_than_orders_can_be_listed() -> None:
    made = scripted()
    plan = ssr(plan_with(past("a", rows("a", 40))), demonstrations=30, shots=6, per_new=0.1, oversample=5)
    written(plan, made)
    parts = [prompt.turns[0].text.split("\n\n") for prompt in made.models["start"].calls[0][0]]
    assert all(len(set(one)) == 7 for one in parts)
    assert len({tuple(one) for one in parts}) == 20


def test_the_system_turn_is_the_definition_and_comes_back() -> None:
    row = Example("x", "messages", (Turn("system", "Add."), Turn("user", " 2+3? "), Turn("assistant", "5")))
    assert shown_as([row]) == "Add.\n\nInput: 2+3?\nOutput: 5\n\nInput:"
    source = Rows(tuple(dataclasses.replace(row, id=str(i)) for i in range(9)), "a")
    kept = written(ssr(plan_with(past("a", source)), **FEW), made := scripted())
    assert kept[0].turns[0] == Turn("system", "Add.")
    asked = made.models["after-a"].calls[0][0][0]
    assert asked.turns == kept[0].turns[:2], "answered by the ordinary chat, system turn included"


def test_raw_pairs_keep_the_white_space_at_their_edges() -> None:
    pair = (Turn("prompt", "Q: why?\nA:\n"), Turn("completion", " because"))
    source = Rows(tuple(Example(str(i), "completion", pair) for i in range(9)), "a")
    kept = written(ssr(plan_with(past("a", source)), answers="sampled", **FEW), scripted())
    assert kept[0].turns[0].text.endswith("runs where?\n")
    assert kept[0].turns[1].text.startswith(" to sea")
    assert kept[0].kind == "completion"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (" a?\nOutput: b\n\nInput: c", ("a?", "b")),
        (" a?\nOutput: b\n", ("a?", "b")),
        (" two\nlines?\nOutput: b\nc", ("two\nlines?", "b\nc")),
        (cut(" a?\nOutput: b\n\nInput: c"), ("a?", "b")),
        (cut(" a?\nOutput: b"), "no end"),
        (cut(" a?"), "no end"),
        (" a?", "no output"),
        (" a?\n\nInput: b\nOutput: c", "no output"),
        (" \nOutput: b", "empty input"),
        (" a?\nOutput: \n\nInput: b", "empty output"),
        (" 12345678901\nOutput: b", "input too long"),
        (" a?\nOutput: 123456", "output too long"),
    ],
)
def test_parsing(answer: str | Generation, expected: tuple[str, str] | str) -> None:
    generation = Generation(answer, (), True) if isinstance(answer, str) else answer
    assert parse(generation, 10, 5) == expected


def test_an_input_that_will_be_answered_anew_needs_no_output() -> None:
    ended = Generation(" ask", (1,), True)
    assert parse(ended, 10, 5) == "no output"
    assert parse(ended, 10, 5, answered=True) == ("ask", "")
    assert parse(Generation(" ask", (1,), False), 10, 5, answered=True) == "no end"
    assert parse(Generation(" ", (1,), True), 10, 5, answered=True) == "empty input"
    assert parse(Generation(" ask\nOutput: so\nInput: more", (1,), True), 10, 5, answered=True) == ("ask", "so")


def test_selection_takes_the_representative_ones() -> None:
    made = scripted()
    plan = ssr(plan_with(past("a", rows("a", 20))), per_new=0.5, answers="sampled", clusters=3, **FEW)
    kept = written(plan, made)
    inputs = [f"river {number} runs where?" for number in range(57)]
    expected = [inputs[i] for i in representative(inputs, 10, 3, plan.seed)]
    assert [row.turns[0].text for row in kept] == expected
    assert [row.turns[1].text for row in kept] == [f"to sea {text.split()[1]}" for text in expected]


def test_equal_inputs_are_taken_once_and_unanswered_ones_give_way() -> None:
    made = scripted(
        lambda prompt, number: f" q {number // 2}\nOutput: o",
        lambda prompt, number: cut("…") if prompt.turns[-1].text in ("q 1", "q 2") else "yes",
    )
    plan = ssr(plan_with(past("a", rows("a", 10))), per_new=0.8, oversample=2, **FEW)
    kept = written(plan, made)
    assert [row.turns[0].text for row in kept] == ["q 0", "q 3", "q 4", "q 5", "q 6", "q 7"]
    assert made.counts == {
        "kept": 6,
        "dropped: an input that was there before": 8,
        "dropped: the answer has no end": 2,
    }


@pytest.mark.parametrize(("answers", "who"), [("task", "after-a"), ("latest", "before"), ("sampled", None)])
def test_who_answers(answers: str, who: str | None) -> None:
    made = scripted()
    kept = written(ssr(plan_with(past("a", rows("a", 10))), answers=answers, **FEW), made)
    assert [name for name in ("after-a", "before") if made.models[name].calls] == ([who] if who else [])
    assert kept[0].turns[-1].text.startswith("own river" if who else "to sea")


def test_rows_of_a_task_are_written_once_for_all_later_stages() -> None:
    first, second = past("a", rows("a", 20)), past("b", rows("b", 20))
    early = ssr(plan_with(first))
    late = ssr(plan_with(first, second, before=Handle("later", "later"), examples=rows("newer", 9), task="four"))
    assert generated_in(early)[0] == generated_in(late)[0]
    assert len(generated_in(late)) == 2
    again = ssr(plan_with(first, before=Handle("later", "later")), answers="latest")
    assert generated_in(again)[0].fingerprint != generated_in(ssr(plan_with(first), answers="latest"))[0].fingerprint


def test_who_makes_rows_up(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    task = past("a", rows("a", 20))
    assert generated_in(ssr(plan_with(task)))[0].author == START  # type: ignore[attr-defined]
    named = ssr(plan_with(task), author=str(tmp_path))
    assert generated_in(named)[0].author == Checkpoint(str(tmp_path))  # type: ignore[attr-defined]
    unknown = dataclasses.replace(task, before=None)
    assert generated_in(ssr(plan_with(unknown)))[0].author == Handle("before")  # type: ignore[attr-defined]


def test_the_first_task_and_tasks_without_rows() -> None:
    first = plan_with()
    assert ssr(first).fingerprint == first.fingerprint
    some = ssr(plan_with(past("a", None), past("b", rows("b", 20))))
    assert len(generated_in(some)) == 1
    with pytest.raises(UsageError, match=r"no earlier task kept its own\n  set keep: true"):
        ssr(plan_with(past("a", None)))
    with pytest.raises(UsageError, match=r"this is not a sequence\n  teach a list of tasks"):
        ssr(plan_with(sequence=False))


def test_fewer_rows_than_demonstrations() -> None:
    odd = Example("t", "text", (Turn("text", "A river."),))
    spelt = Example("s", "messages", (Turn("user", "a\nInput: b"), Turn("assistant", "c")))
    source = Rows((*rows("a", 5), odd, spelt), "a")
    with pytest.raises(DataError, match=r"demonstrations = 20: task a has 5 usable rows .* of 7\n  set .* to 5"):
        written(ssr(plan_with(past("a", source))), scripted())
    with pytest.raises(UsageError, match=r"shots = 5: is more than the 4"):
        ssr(plan_with(past("a", source)), shots=5, **FEW)


def test_an_author_that_writes_nothing_usable() -> None:
    sampled = ssr(plan_with(past("a", rows("a", 20))), **{**FEW, "answers": "sampled"})
    with pytest.raises(DataError, match=r"0 usable rows like those of a \(no output: 12\).*\n  raise ssr.oversample"):
        written(sampled, scripted(lambda prompt, number: "nonsense"))
