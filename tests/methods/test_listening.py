"""continuation, modal_invariance and text_only: whose answers are learned, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from mnemos.core.errors import DataError
from mnemos.core.nouns import AudioPart, Example, TextPart, Turn
from mnemos.methods.examples.listening import CONTINUE, continuation, modal_invariance, text_only
from mnemos.sources.in_words import TextRuns
from mnemos.sources.mix import Rows
from tests.laws import base_plan
from tests.methods.contexts import FakeContext, Scripted, cut

SOUND = AudioPart("a.wav", 1.0, 2.0)
PLAIN = Example("t", "messages", (Turn("user", "Hello?"), Turn("assistant", "Hello.")))
SPOKEN = Example("s", "messages", (Turn("user", (SOUND,)), Turn("assistant", "read aloud")))


def asked(name: str, **meta: Any) -> Example:
    turns = (Turn("system", "Listen."), Turn("user", (SOUND, TextPart("\nWho?"))), Turn("assistant", "Ada."))
    return Example(name, "messages", turns, meta=meta)


def plan(*rows: Example) -> Any:
    return base_plan(examples=Rows(rows, "rows"))


def written(made: Any, say: Any) -> tuple[list[Example], Scripted, FakeContext]:
    model = Scripted(say)
    context = FakeContext({"before": model})
    return made.examples.write(context), model, context


def test_a_continuation_is_what_the_model_says_to_the_transcript() -> None:
    made = continuation(plan(PLAIN, asked("a", text="one two"), SPOKEN), max_new_tokens=9)
    out, model, _ = written(made, lambda prompt, number: f"and on {number}")
    [(prompts, decoding)] = model.calls
    assert (decoding.max_new_tokens, decoding.temperature) == (9, 0)
    assert [prompt.turns for prompt in prompts] == [
        (Turn("system", "Listen."), Turn("user", f"one two\n{CONTINUE}")),
        (Turn("user", f"read aloud\n{CONTINUE}"),),
    ]
    heard = Turn("user", (SOUND, TextPart(f"\n{CONTINUE}")))
    assert [row.turns for row in out] == [
        PLAIN.turns,
        (Turn("system", "Listen."), heard, Turn("assistant", "and on 0")),
        (heard, Turn("assistant", "and on 1")),
    ]
    # The transcript of a row that was nothing else stays known, for the text runs of objectives.
    assert [row.meta for row in out] == [{}, {"text": "one two"}, {"text": "read aloud"}]
    assert [row.turns[-2].text for row in TextRuns(Rows(tuple(out), "out"), "text")] == [
        f"one two\n{CONTINUE}", f"read aloud\n{CONTINUE}",
    ]  # fmt: skip


def test_a_modal_invariant_answer_has_the_sound_alone_before_it() -> None:
    made = modal_invariance(plan(asked("a", line="one two")), column="line")
    [row], model, _ = written(made, lambda prompt, number: "Three.")
    assert model.calls[0][0][0].turns[-1] == Turn("user", "one two")
    assert row.turns[1:] == (Turn("user", (SOUND,)), Turn("assistant", "Three."))


def test_rows_of_one_name_and_other_origin_keep_their_answers_apart_and_lost_ones_are_counted() -> None:
    import dataclasses

    rows = [
        asked("a", text="one"),
        dataclasses.replace(asked("a", text="two"), origin="replay"),
        asked("b", text="three"),
    ]
    say = {"one": "1", "two": "2", "three": cut("thr")}
    made = modal_invariance(plan(*rows))
    out, _, context = written(made, lambda prompt, number: say[prompt.turns[-1].text])
    assert [(row.origin, row.turns[-1].text) for row in out] == [("new", "1"), ("replay", "2")]
    assert context.counts["dropped: the answer has no end"] == 1
    assert context.counts["answered"] == 2
    with pytest.raises(DataError, match="the answer has no end: 1"):
        written(modal_invariance(plan(*rows), min_acceptance=1.0), lambda prompt, number: say[prompt.turns[-1].text])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (asked("lost"), "has no transcript: column 'text' is no text"),
        (asked("lost", text="  "), "has no transcript: column 'text' is empty"),
        (asked("lost", text=7), "has no transcript"),
        (Example("lost", "messages", (Turn("user", (SOUND, SOUND)), Turn("assistant", "x"))), "holds 2 sounds"),
    ],
)
def test_a_row_without_a_transcript_is_refused_by_name(row: Example, why: str) -> None:
    for made in (continuation(plan(row)), modal_invariance(plan(row))):
        with pytest.raises(DataError, match=f"lost: {why}"):
            written(made, lambda prompt, number: "x")
    with pytest.raises(DataError, match=f"lost: {why}"):
        list(text_only(plan(row)).examples)
    with pytest.raises(DataError, match=f"lost: {why}"):
        list(TextRuns(Rows((row,), "rows"), "text"))


def test_text_only_puts_words_where_sounds_stand_in_a_share_of_the_rows() -> None:
    rows = [asked(str(number), text=f"word {number}") for number in range(200)]
    out = list(text_only(plan(PLAIN, SPOKEN, *rows)).examples)
    assert out[0] == PLAIN
    assert out[1].turns[0] == Turn("user", "read aloud")
    assert [row.turns[1].content for row in out[2:]] == [f"word {number}\nWho?" for number in range(200)]
    half = list(text_only(plan(*rows), share=0.5).examples)
    changed = [a != b for a, b in zip(half, rows, strict=True)]
    assert 70 < sum(changed) < 130
    # Drawn by id: rows that come or go change no other.
    assert [a != b for a, b in zip(text_only(plan(*rows[50:]), share=0.5).examples, rows[50:], strict=True)] == changed[
        50:
    ]
