"""backtranslation and reverse: what the author is asked, what is left out and why, curation, tags, and turned rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example, Generation, Prompt, Turn
from mnemos.methods.examples.instructions import backtranslation
from mnemos.methods.examples.response_tuning import reverse
from mnemos.sources.generated import generated_in
from mnemos.sources.held_out import HeldOut
from mnemos.sources.mix import Rows
from mnemos.synthesis.backtranslation import TAGS, fault
from mnemos.synthesis.instructions import guarded
from tests.laws import base_plan
from tests.methods.contexts import FakeContext, Scripted, cut
from tests.methods.test_instructions import planned, seeds
from tests.study.worlds import write_jsonl

TEXTS = [
    "The mill was built of stone in 1712 and turned by the river until the great flood.",
    "To bake bread, knead flour, water and salt, let it rise, and bake it for an hour.",
    "Cats sleep for most of the day because they hunt at dusk and at dawn.",
    "Short.",
]


@pytest.fixture
def data(tmp_path: Path) -> str:
    write_jsonl(tmp_path / "pages.jsonl", [{"text": text} for text in TEXTS])
    return str(tmp_path / "pages.jsonl")


def say(prompt: Prompt, number: int) -> Generation | str:
    text = prompt.turns[-1].text
    if "Candidate:" in text:
        return "[[5]]" if "bread" in text else "It is [[4]]." if "mill" in text else "I like it."
    if "bread" in text:
        return " How is bread baked?\n"
    return "When was the mill built?" if "mill" in text else "Why do cats sleep?"


OPEN = {"min_chars": 20, "verdict": "text", "max_unparsed": 0.5, "min_usable": 0.0, "rows": 10}


def test_pairs_that_are_rated_high_are_learned_under_tags_of_their_own(data: str) -> None:
    plan = backtranslation(planned(), data=data, **OPEN)  # type: ignore[arg-type]
    (made,) = generated_in(plan)
    model = Scripted(say)
    context = FakeContext({plan.before.path: model})
    rows = made.write(context)
    assert [[(turn.role, turn.text) for turn in row.turns] for row in rows] == [
        [("system", TAGS[1]), ("user", "How is bread baked?"), ("assistant", TEXTS[1])]
    ]
    assert (rows[0].origin, rows[0].meta["rating"]) == ("new, backtranslated", 5)
    assert context.counts["dropped: a text too short or too long"] == 1
    assert context.counts["dropped: rated below 4.5"] == 1
    assert sum(count for reason, count in context.counts.items() if reason.startswith("dropped: rating: ")) == 1
    assert context.notes["mean rating"] == 4.5
    asked, decoding = model.calls[0]
    assert asked[0].turns[0].text.endswith(f"Text:\n{TEXTS[0]}\n")
    assert (decoding.max_new_tokens, decoding.temperature, decoding.top_p) == (256, 0.7, 0.9)
    assert TAGS[1] not in model.calls[1][0][0].turns[0].text, "the judge is asked about the pair"
    own = [row for row in FakeContext({plan.before.path: Scripted(say)}).rows(plan.examples) if row.origin == "new"]
    assert {row.turns[0].text for row in own} == {TAGS[0]}
    assert len(own) == len(seeds())


def test_without_a_judge_all_are_kept_and_a_backward_model_sees_the_text_alone(data: str) -> None:
    plan = backtranslation(planned(), data=data, judge="none", prompted=False, tags=False, seeds="leave_out", **OPEN)  # type: ignore[arg-type]
    (made,) = generated_in(plan)
    model = Scripted(say)
    rows = made.write(FakeContext({plan.before.path: model}))
    assert [row.turns[0].text for row in rows] == [
        "When was the mill built?",
        "How is bread baked?",
        "Why do cats sleep?",
    ]
    assert [prompt.turns[0].text for prompt in model.calls[0][0]] == TEXTS[:3]
    assert len(model.calls) == 1


def test_what_is_no_instruction_is_left_out_and_counted(data: str) -> None:
    assert fault(Generation(" ", (), True), "a text") == "empty"
    assert fault(cut("Say what"), "a text") == "no end"
    assert fault(Generation("The mill was built of stone, was it?", (), True), TEXTS[0]) == "a copy of the text"
    assert fault(Generation("When was the mill built, and of what?", (), True), TEXTS[0]) is None
    plan = backtranslation(planned(), data=data, judge="none", **{**OPEN, "min_usable": 0.5})  # type: ignore[arg-type]
    (made,) = generated_in(plan)
    with pytest.raises(DataError, match="instruction: empty"):
        made.write(FakeContext({plan.before.path: Scripted(lambda prompt, number: "")}))
    held = HeldOut([("mills", "0123", ("When was the mill built?",))])
    (clean,) = generated_in(guarded(plan, held))
    context = FakeContext({plan.before.path: Scripted(say)})
    with pytest.raises(DataError, match="suite mills"):
        clean.write(context)


def test_questions_are_learned_behind_their_answers() -> None:
    chats = [
        Example("a", "messages", (Turn("system", "Be brief."), Turn("user", "Why?"), Turn("assistant", "So."))),
        Example("b", "messages", tuple(Turn(r, r) for r in ("user", "assistant", "user", "assistant"))),
        Example("c", "text", (Turn("text", "The mill."),)),
    ]
    plan = base_plan(examples=Rows(tuple(chats)))
    rows = list(reverse(plan).examples)
    assert [(turn.role, turn.text) for turn in rows[0].turns] == [("user", "So."), ("assistant", "Why?")]
    assert rows[1:] == chats[1:]
    assert reverse(plan, on=False).examples is plan.examples
