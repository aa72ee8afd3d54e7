"""simulated_dialogues: who is asked what, how a dialogue ends, and what of it is kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mnemos.core.errors import DataError
from mnemos.core.nouns import Decoding, Example, Generation, Prompt, Turn
from mnemos.core.plan import Plan
from mnemos.methods.examples.dialogues import simulated_dialogues
from mnemos.sources.generated import generated_in
from mnemos.sources.held_out import HeldOut
from mnemos.sources.mix import Rows
from mnemos.synthesis.dialogues import DialogueRows
from mnemos.synthesis.instructions import guarded
from tests.laws import Handle, base_plan
from tests.methods.contexts import FakeContext, Scripted, cut

Says = Callable[[Prompt, int], Generation | str]
CHATS = ("What is rust?", "How far is the moon?", "Name a bird.")


def talked(
    user: Says, assistant: Says = lambda prompt, number: f"answer to {prompt.turns[-1].text}", **settings: object
) -> tuple[list[Example], FakeContext, Scripted, Scripted]:
    chats = [Example(f"c-{i}", "messages", (Turn("user", one), Turn("assistant", "A."))) for i, one in enumerate(CHATS)]
    given = {"simulator": ".", "seeds": "leave_out", "oversample": 1.0, **settings}
    plan: Plan = simulated_dialogues(base_plan(examples=Rows(tuple(chats)), past=(), sequence=False), **given)
    held_out = HeldOut([("moon", "v1", ("how far is the sun",))])
    (one,) = generated_in(guarded(plan, held_out))
    assert isinstance(one, DialogueRows)
    models = {one.author.path: Scripted(user), one.assistant.path: Scripted(assistant)}
    assert isinstance(one.assistant, Handle)
    context = FakeContext(models)
    return one.write(context), context, models[one.author.path], models[one.assistant.path]


def test_two_models_talk_until_the_user_writes_nothing() -> None:
    def user(prompt: Prompt, number: int) -> str:
        asked = sum(turn.role == "assistant" for turn in prompt.turns)
        which = int(prompt.turns[0].text.split()[1]) if asked else number
        return "" if asked > which else f" question {which} {asked} "

    rows, context, simulator, assistant = talked(user, rows=3)
    assert [len(row.turns) for row in rows] == [2, 4, 6]
    assert [turn.text for turn in rows[1].turns] == [
        "question 1 0", "answer to question 1 0", "question 1 1", "answer to question 1 1",
    ]  # fmt: skip
    assert [turn.role for turn in rows[2].turns] == ["user", "assistant"] * 3
    # The simulator reads the same dialogue with the sides exchanged.
    first, second = simulator.calls[0][0], simulator.calls[1][0]
    assert all(prompt.turns == () for prompt in first)
    assert [(turn.role, turn.text) for turn in second[0].turns] == [
        ("assistant", "question 0 0"), ("user", "answer to question 0 0"),
    ]  # fmt: skip
    assert assistant.calls[0][0][0].turns == (Turn("user", "question 0 0"),)
    assert (simulator.calls[0][1], assistant.calls[0][1]) == (Decoding(128, 0.7, 1.0, seed=3), Decoding(512))
    assert context.counts["ended: the user wrote nothing"] == 3
    assert context.counts["kept"] == 3


def test_what_ends_a_dialogue_and_what_is_kept_of_it() -> None:
    def user(prompt: Prompt, number: int) -> Generation | str:
        if len(prompt.turns) < 2:
            return ("how far is the sun", "tell me of rust", "go on", cut("on and"), "why", "when")[number]
        return {"go on": "go on", "tell me of rust": "and copper"}.get(prompt.turns[0].text, f"why {len(prompt.turns)}")

    def assistant(prompt: Prompt, number: int) -> Generation | str:
        text = prompt.turns[-1].text
        return cut("it is") if text in ("and copper", "when") else f"because of {len(prompt.turns)} {text}"

    rows, context, _, _ = talked(user, assistant, rows=6, max_exchanges=2, min_usable=0.1)
    assert [row.turns[0].text for row in rows] == ["tell me of rust", "go on", "why"]
    assert [row.meta["ended"] for row in rows] == ["the answer has no end", "a question that was asked before", ""]
    assert [len(row.turns) for row in rows] == [2, 2, 4]
    assert context.counts["dropped: holds an item of suite moon"] == 1
    assert context.counts["dropped: nothing asked and answered"] == 2
    assert context.counts["ended: the question has no end"] == 1
    assert context.counts["ended: as many exchanges as are allowed"] == 2
    assert context.notes["share of questions that differ"] == 1
    assert context.notes["exchanges of a dialogue"] == 4 / 3


def test_dialogues_begin_with_questions_of_the_rows() -> None:
    rows, _, simulator, _ = talked(lambda prompt, number: "", rows=2, begin="rows", opening="empty")
    assert [row.turns[0].text for row in rows] == list(CHATS[:2])
    assert simulator.calls[0][0][0].turns[0] == Turn("user", ""), "the opening that it was taught"
    with pytest.raises(DataError, match=r"3 different first questions .* 4 dialogues"):
        talked(lambda prompt, number: "", rows=4, begin="rows")
    with pytest.raises(DataError, match="nothing asked and answered: 4"):
        talked(lambda prompt, number: "", rows=4)
