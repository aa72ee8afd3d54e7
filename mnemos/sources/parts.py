"""The parts that conversations of all formats are made of: prompts, answers, system texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mnemos.core.nouns import Kind, Turn
from mnemos.sources.bad_row import refuse, text_of
from mnemos.sources.media import refuse_placeholder
from mnemos.sources.messages import conversation

Row = Mapping[str, Any]
Parts = tuple[Kind, tuple[Turn, ...], tuple[Turn, ...]]
"""kind, turns, rejected: what an Example is made of, but for its thumb."""


def given(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Turns of a prompt: answers in it are context."""
    return tuple(replace(turn, learn=False) if turn.role == "assistant" else turn for turn in turns)


def asked(value: Any, where: str) -> tuple[Turn, ...]:
    """A prompt: text, or a list of messages."""
    if not isinstance(value, str):
        return conversation(value, where)
    refuse_placeholder(value, where)
    return (Turn("user", value),)


def answer_turns(value: Any, where: str) -> tuple[Turn, ...]:
    """An answer: text, a message, or a list of them."""
    if isinstance(value, str):
        return (Turn("assistant", value),)
    return conversation([value] if isinstance(value, Mapping) else value, where)


def instruction(row: Row) -> Turn:
    """alpaca's question: instruction and input."""
    return joined(row, "instruction", "input")


def joined(row: Row, first: str, second: str) -> Turn:
    """A user's turn of two columns, a blank line between them; either may be empty or absent, not both."""
    texts = text_of(row.get(first, ""), first), text_of(row.get(second, ""), second)
    question = "\n\n".join(part for part in texts if part.strip())
    if not question:
        refuse("empty prompt", f"{first} and {second}", "are both empty", "give one of them text")
    refuse_placeholder(question, first)
    return Turn("user", question)


def with_system(row: Row, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns behind what the column `system` says."""
    system = text_of(row.get("system", ""), "system")
    if not system.strip():
        return turns
    if turns and turns[0].role == "system":
        refuse("two system turns", "system", "stands both in a column and in the conversation", "keep one")
    return (Turn("system", system), *turns)


def answered(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The same turns; RowError where they end in no answer, or one that is to be learned is empty."""
    if not turns or turns[-1].role != "assistant":
        last = f"last turn: {turns[-1].role}" if turns else "no turns"
        refuse("no answer", last, "must be the assistant's, or there is nothing to learn", "add the answer")
    for number, turn in enumerate(turns, 1):
        if turn.role == "assistant" and turn.learn and not turn.text.strip() and turn.is_plain:
            refuse("empty answer", f"turn {number} (assistant)", "is empty", "give it text or take the row out")
    return turns
