"""self_instruct and evol_instruct: what is asked in which order, what is left out and why, lineage, suites' items."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from mnemos.core.errors import DataError
from mnemos.core.nouns import Decoding, Example, Generation, Prompt, Turn
from mnemos.core.plan import Plan
from mnemos.methods.examples.instructions import ALL, evol_instruct, self_instruct
from mnemos.sources.generated import generated_in
from mnemos.sources.held_out import HeldOut
from mnemos.sources.mix import Rows
from mnemos.synthesis.evol_instruct import PROMPTS, gives_up
from mnemos.synthesis.instructions import guarded
from mnemos.synthesis.self_instruct import by_input, by_label, shown_as, unfit, usable
from tests.laws import base_plan
from tests.methods.contexts import FakeContext, Say, Scripted, cut
from tests.study.worlds import make_study

SEEDS = [
    "Name a river of the north.", "How is bread baked at home?", "Write a letter to Ada Lane.",
    "Which bridge is made of stone?", "Say what a mill does.", "Sort the words by their length.",
    "Explain the rules of chess.", "Give the weather of Orford.", "Tell a joke about cats.",
]  # fmt: skip


def seeds(count: int = 9) -> list[Example]:
    return [
        Example(f"seed-{i}", "messages", (Turn("user", text), Turn("assistant", f"Answer {i}.")))
        for i, text in enumerate(SEEDS[:count])
    ]


def planned(rows: Sequence[Example] | None = None, **changed: object) -> Plan:
    return base_plan(examples=Rows(tuple(seeds() if rows is None else rows)), past=(), sequence=False, **changed)


def written(plan: Plan, say: Say) -> tuple[list[Example], FakeContext, Scripted]:
    (one,) = generated_in(plan)
    model = Scripted(say)
    context = FakeContext({plan.before.path: model})
    return one.write(context), context, model


# --- self-instruct -----------------------------------------------------------------------------

LIST = (
    " Say whether the sentence is about water or about stone.\n10. Translate the sentence into old English verse.\n"
    "11. Draw a picture of a mill.\n12. Short one.\n13. Name a river of the north!\n14. (Write what you see here.)"
)


def author(lists: str = LIST, by_text: str = "", by_labels: str = "") -> Say:
    """Tells the three prompts apart by how they end."""

    def say(prompt: Prompt, number: int) -> Generation | str:
        text = prompt.turns[0].text
        if text.startswith("Come up with a series"):
            return lists
        if text.startswith("Does the task have"):
            return " yes" if "water or about stone" in text.rsplit("Task:", 1)[1] else " No, it has none"
        return (by_labels or LABELS) if text.startswith("Write an input") else (by_text or EXAMPLES)

    return say


EXAMPLES = "Example 1\nInput: The mill turns.\nOutput: The olde mille turneth.\nExample 2\nInput: Hm:\nOutput: no"
LABELS = "Class label: water\nSentence: The river runs.\nClass label: stone\nSentence: The bridge stands."


def test_labels_are_written_first_for_classifications_and_inputs_for_others() -> None:
    rows, context, model = written(self_instruct(planned(), rows=3, min_usable=0.1), author())
    assert [(row.turns[0].text, row.turns[1].text) for row in rows] == [
        ("Say whether the sentence is about water or about stone.\n\nSentence: The river runs.", "water"),
        ("Say whether the sentence is about water or about stone.\n\nSentence: The bridge stands.", "stone"),
        ("Translate the sentence into old English verse.\n\nThe mill turns.", "The olde mille turneth."),
    ]
    assert [row.meta["classification"] for row in rows] == [True, True, False]
    assert {row.origin for row in rows} == {"new, self-instruct"}
    assert context.counts["dropped: instruction: about pictures, files or maps"] == 3
    assert context.counts["dropped: instruction: too short"] == 3
    assert context.counts["dropped: instruction: begins with a mark"] == 3
    # The seed, and from the second prompt of the round on what the first gave.
    assert context.counts["dropped: instruction: like an instruction that was there"] == 3 + 2 * 2
    assert [len(prompts) for prompts, _ in model.calls] == [3, 2, 2]
    assert model.calls[0][1] == Decoding(1024, 0.7, 0.5, seed=3, stop=("\n\n",))
    assert model.calls[2][1].temperature == 0


def test_a_prompt_shows_eight_instructions_two_of_them_made() -> None:
    lists = (f" Describe the thing number{i} of place{i} at time{i}." for i in range(100))
    plan = self_instruct(planned(), rows=60, oversample=1.1, min_usable=0.1, seed=1)

    def say(prompt: Prompt, number: int) -> Generation | str:
        text = prompt.turns[0].text
        return next(lists) if text.startswith("Come up with a series") else author()(prompt, number)

    _, context, model = written(plan, say)
    shown = [p.turns[0].text for prompts, d in model.calls if d.stop == ("\n\n",) for p in prompts]
    assert len(shown) == 60, "one row a prompt, so the budget is full before 66 are asked"
    assert all(text.endswith("\n9.") and text.count("\n") == 9 for text in shown)
    made = [text.count("Describe the thing") for text in shown]
    assert made == [0] * 32 + [2] * 28
    assert context.notes["instructions made"] == 60


def test_a_list_is_shown_without_line_breaks() -> None:
    assert shown_as(["Sort:", "Name it."]) == "Come up with a series of tasks:\n1. Sort\n2. Name it.\n3."


@pytest.mark.parametrize(
    ("instances", "found"),
    [
        ([("a", "1"), ("b", "2"), ("a", "1")], ([("a", "1"), ("b", "2")], "")),
        ([("a", "1"), ("a", "2")], ([], "one input with two outputs")),
        ([("", "1"), ("", "2")], ([("", "1"), ("", "2")], "")),
        ([("a", "a"), ("a", ""), ("a:", "1"), ("a", "1:")], ([], "no instance that can be read")),
        ([(str(i), "x") for i in range(9)], ([(str(i), "x") for i in range(5)], "")),
    ],
)
def test_instances_that_may_be_learned(instances: list[tuple[str, str]], found: object) -> None:
    assert usable(instances) == found


def test_instances_that_are_cut_off_or_beside_the_form_are_left_out() -> None:
    done = Generation("Example 1\nInput: a\nOutput: b\nInput: c\nExample 2\nOutput: d", (), True)
    assert by_input(done) == [("a", "b"), ("", "d")]
    assert by_input(cut(done.text)) == [("a", "b")]
    assert by_input(Generation("A text without the form", (), True)) == []
    assert by_label(cut("Class label: x\nin\nClass label: y\nha")) == [("in", "x")]


def test_unfit_instructions() -> None:
    assert unfit("Write a program that sorts numbers.") == "a program whose output or text could be meant"
    assert unfit("Go to the mill and back.") == "about pictures, files or maps"
    assert unfit("word " * 151) == "too long"
    assert unfit("请写一首关于春天的诗") is None
    assert unfit("Photograph the graphical interface in words.") is None


def test_fewer_than_eight_seeds_are_refused() -> None:
    rows = [*seeds(7), *seeds(7)[:3], Example("doc", "text", (Turn("text", "A page."),))]
    with pytest.raises(DataError, match=r"7 seed instructions .*are fewer than the 8 .*\n?.*the paper has 175"):
        written(self_instruct(planned(rows)), author())


def test_an_author_that_repeats_itself_or_never_stops_ends_with_the_counts() -> None:
    with pytest.raises(DataError, match=r"(?s)2 usable rows .*like an instruction that was there: \d+.*oversample"):
        written(self_instruct(planned(), rows=40), author(LIST.split("\n")[0]))
    with pytest.raises(DataError, match=r"0 usable rows .*instruction: no end: 40"):
        written(self_instruct(planned(), rows=40), lambda prompt, number: cut("Go on and on and on"))


def test_rows_that_hold_an_item_of_a_suite_are_left_out() -> None:
    """No method may know a suite: a study fills its items in, however deep the maker lies."""
    held = HeldOut([("verses", "f", ("Translate the sentence into old English verse.\n\nThe mill turns.",))])
    plan = guarded(self_instruct(planned(), rows=3, min_usable=0.1), held)
    assert plan.fingerprint != self_instruct(planned(), rows=3, min_usable=0.1).fingerprint
    rows, context, _ = written(plan, author())
    assert [row.turns[1].text for row in rows] == ["water", "stone"]
    assert context.counts["dropped: holds an item of suite verses"] == 1
    deep = guarded(evol_instruct(self_instruct(planned())), held)
    assert [one.held_out is held for one in generated_in(deep)] == [True, True]  # type: ignore[attr-defined]
    plain = planned()
    assert guarded(plain, held) is plain


# --- evol-instruct -----------------------------------------------------------------------------


def evolver(rewrite: Say, answer: str = "A bridge of stone.", verdict: str = "different") -> Say:
    def say(prompt: Prompt, number: int) -> Generation | str:
        text = prompt.turns[-1].text
        if "#Given instruction#" in text:
            return rewrite(prompt, number)
        return verdict if text.startswith("Here are two instructions") else answer

    return say


def given_in(prompt: Prompt) -> str:
    return prompt.turns[-1].text.split("#Given instruction#:\n")[1].split("\n\n#")[0]


def harder(prompt: Prompt, number: int) -> str:
    return f"{given_in(prompt)} Think twice."


def test_each_round_evolves_what_the_one_before_left_and_lineage_is_kept() -> None:
    rows, context, _ = written(evol_instruct(planned(seeds(3)), rounds=2), evolver(harder))
    first, second = rows[:3], rows[3:]
    assert [row.turns[0].text for row in first] == [f"{text} Think twice." for text in SEEDS[:3]]
    assert [row.turns[0].text for row in second] == [f"{text} Think twice. Think twice." for text in SEEDS[:3]]
    assert [row.meta["parent"] for row in first] == ["seed-0", "seed-1", "seed-2"]
    assert [row.meta["parent"] for row in second] == [row.id for row in first]
    assert [row.meta["root"] for row in rows] == ["seed-0", "seed-1", "seed-2"] * 2
    assert [row.meta["round"] for row in rows] == [1, 1, 1, 2, 2, 2]
    assert {row.meta["operation"] for row in rows} <= set(PROMPTS)
    assert len({row.id for row in rows}) == 6
    assert context.notes["share of all rewrites that stand"] == 1
    joined = evol_instruct(planned(seeds(3)), rounds=2).examples.describe()
    assert "seeds" not in joined
    assert "+" in joined, "seeds are learned beside"


def test_all_six_operations_are_drawn_about_equally() -> None:
    rows = [Example(f"{i}", "messages", (Turn("user", f"Ask {i}?"), Turn("assistant", "Yes."))) for i in range(600)]
    _, context, _ = written(evol_instruct(planned(rows), rounds=1), evolver(harder))
    drawn = {name: context.counts[f"evolved: {name}"] for name in PROMPTS}
    assert sum(drawn.values()) == 600
    assert list(PROMPTS) == list(ALL)
    assert all(70 <= count <= 130 for count in drawn.values()), drawn  # 100 expected, sd 9.1; by a fixed seed


def test_a_child_that_is_eliminated_leaves_its_parent_for_the_next_round() -> None:
    def rewrite(prompt: Prompt, number: int) -> Generation | str:
        text = given_in(prompt)
        if "bread" in text:
            return "#Rewritten Prompt#: bread"
        if "river" in text and "twice" not in text:
            return cut("Name a river that")
        return f"{text} Think twice."

    rows, context, _ = written(evol_instruct(planned(seeds(3)), rounds=2), evolver(rewrite))
    assert [row.meta["root"] for row in rows] == ["seed-2", "seed-2"]
    assert sum(n for name, n in context.counts.items() if name.endswith("copies the prompt")) == 2
    assert sum(n for name, n in context.counts.items() if name.endswith("no end")) == 2


@pytest.mark.parametrize(
    ("verdict", "answer", "reason"),
    [
        ("Equal.", "A bridge.", "no gain by the author's own word"),
        ("Perhaps", "A bridge.", "neither equal nor different"),
        ("different", "I am sorry, but no.", "the answer is sorry"),
        ("different", "It is, and that; the…!", "the answer has marks and empty words alone"),
        ("different", "  ", "empty answer"),
    ],
)
def test_what_is_eliminated(verdict: str, answer: str, reason: str) -> None:
    with pytest.raises(DataError, match=rf"0 usable evolved rows \({reason}: 3\)"):
        written(evol_instruct(planned(seeds(3)), rounds=1), evolver(harder, answer, verdict))


def test_a_long_answer_may_be_sorry_and_an_unasked_author_judges_nothing() -> None:
    assert gives_up("Sorry to say, " + "the bridge fell " * 30) is None
    plan = evol_instruct(planned(seeds(3)), rounds=1, judge_gain=False)
    assert len(written(plan, evolver(harder, verdict="equal"))[0]) == 3


def test_braces_of_an_instruction_stay_text_and_old_instructions_are_no_new_ones() -> None:
    rows = [Example("x", "messages", (Turn("user", "Fill {parent} in {how}!"), Turn("assistant", "Done.")))]
    made, _, model = written(evol_instruct(planned(rows), rounds=1), evolver(harder))
    assert made[0].turns[0].text == "Fill {parent} in {how}! Think twice."
    assert "First: Fill {parent} in {how}!\n" in model.calls[1][0][0].turns[0].text
    with pytest.raises(DataError, match="an instruction that was there before: 1"):
        written(evol_instruct(planned(rows), rounds=1), evolver(lambda prompt, number: given_in(prompt)))


def test_chats_of_several_turns_and_old_rows_do_not_evolve() -> None:
    first = seeds(1)[0]
    rows = [
        first,
        Example("long", "messages", first.turns * 2),
        Example("old", "messages", first.turns, origin="replay"),
    ]
    made, context, _ = written(evol_instruct(planned(rows), rounds=1), evolver(harder))
    assert len(made) == 1
    assert context.counts["not evolved: no new row of one question and one answer"] == 2


# --- in a study --------------------------------------------------------------------------------


def pieces(folder: Path) -> list[bytes]:
    journal = folder / "journal.jsonl"
    return journal.read_bytes().splitlines(keepends=True) if journal.exists() else []


def test_killed_while_evolving_and_continued_ends_with_the_same_rows(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.methods.writing_maker"]
    home, whole, broken = Path(__file__).parents[2], tmp_path / "whole", tmp_path / "broken"
    process = subprocess.Popen([*command, str(broken)], cwd=home)
    while process.poll() is None and len(pieces(broken)) < 9:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen = [line for line in pieces(broken) if line.endswith(b"\n")]
    assert not (broken / "rows.jsonl").exists(), "the writing was too quick to be killed"
    for folder in (broken, whole):
        subprocess.run([*command, str(folder)], cwd=home, check=True)
    assert pieces(broken)[: len(seen)] == seen, "what was answered is not asked again"
    # Twelve seeds in pieces of two, rewritten and answered in each of four rounds.
    assert len(pieces(broken)) == len(pieces(whole)) == 48
    assert (broken / "rows.jsonl").read_bytes() == (whole / "rows.jsonl").read_bytes()
    assert len((whole / "rows.jsonl").read_bytes().splitlines()) > 40, "a few rewrites happen to be the same"


@pytest.mark.slow
def test_a_study_tells_makers_what_no_row_may_hold(tmp_path: Path) -> None:
    from mnemos.study.config import load_study
    from mnemos.study.experiment import build

    study, folder = load_study(make_study(tmp_path, arms={"made": [{"self_instruct": {"rows": 5}}]}, health=False))
    planned_study = build(study, folder, tmp_path / "run")
    (maker,) = {one for run in planned_study.runs for one in generated_in(run.stages[0].plan)}
    texts = [text for suite in planned_study.suites for text in suite.texts]
    assert len(texts) == sum(len(suite.items) for suite in planned_study.suites) > 0
    assert maker.held_out.suite_in([texts[0]]) == planned_study.suites[0].name
