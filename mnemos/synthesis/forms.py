"""A row as one text behind a generator token, so that a model learns to write such rows; and back.

question                      role marker and content, turn by turn, in a longer chat
__ans__                       or __completion__ of a raw pair; a document is __text__ and the text
answer
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mnemos.core.errors import DataError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, Generation, Kind, Source, Turn

AS_TEXT = ", as text"
"""What the origin of a row's text form ends with."""

_ANSWERS: dict[str, Kind] = {"ans": "messages", "completion": "completion", "text": "text"}
_ANSWER = re.compile(r"__(ans|completion|text)__")
# At the beginning of a line only, where `text_of` puts it; _MARKER finds one anywhere, because a row that spells it
# would be read back as another row.
_ROLE = re.compile(r"(?:\A|\n)__(system|user|assistant|tool)__\n")
_MARKER = re.compile(r"__(?:ans|completion|text|system|user|assistant|tool)__")


class MalformedError(ValueError):
    """A text that is no row. reason: what it is counted under."""


def text_of(row: Example) -> str:
    """The row as one text without a generator token. Raises DataError for kinds that have no such
    form, and where the row itself spells a marker."""
    met = marker_in(row)
    if met:
        raise DataError(
            f"example {row.id!r} holds {met!r}",
            "marks the parts of a row that the model is to write",
            "spell it differently in the row",
        )
    beside = [name for name, _ in (*row.variables, *(field for turn in row.turns for field in turn.fields))]
    if beside:
        raise DataError(
            f"example {row.id!r} holds {beside[0]}",
            "has no form as one text that a model could learn to write",
            "use rows without tools, or another method",
        )
    if row.kind == "text":
        return f"__text__\n{row.turns[0].text}"
    if row.kind == "completion":
        return f"{row.turns[0].text}\n__completion__\n{row.turns[1].text}"
    if row.kind != "messages":
        raise DataError(
            f"example {row.id!r} (kind {row.kind})", "has no one answer to learn to write", "use rows of another format"
        )
    asked = row.turns[:-1]
    # The common case needs no marker of a role, which would be one more thing to learn to write.
    alone = len(asked) == 1 and asked[0].role == "user"
    question = asked[0].text if alone else "\n".join(f"__{turn.role}__\n{turn.text}" for turn in asked)
    return f"{question}\n__ans__\n{row.turns[-1].text}"


def marker_in(row: Example) -> str | None:
    """The first marker that a turn of the row spells: such a row has no text form."""
    found = (_MARKER.search(turn.text) for turn in row.turns)
    return next((met.group() for met in found if met), None)


def row_of(text: str, id: str) -> Example:
    """The row that a text says, with origin "replay". Raises MalformedError unless it has exactly one
    answer marker, with a question before it and an answer behind it."""
    found = _ANSWER.findall(text)
    # Two markers make two possible borders between question and answer: none is guessed.
    if len(found) != 1:
        raise MalformedError("no answer marker" if not found else "several answer markers")
    kind = _ANSWERS[found[0]]
    border = f"__{found[0]}__\n" if kind == "text" else f"\n__{found[0]}__\n"
    question, there, answer = text.partition(border)
    if not there or (kind == "text" and question):
        raise MalformedError("broken answer marker")
    if not answer.strip():
        raise MalformedError("empty answer")
    if kind == "text":
        return Example(id, kind, (Turn("text", answer),), origin="replay")
    if not question.strip():
        raise MalformedError("empty question")
    if kind == "completion":
        return Example(id, kind, (Turn("prompt", question), Turn("completion", answer)), origin="replay")
    return Example(id, kind, (*_turns(question), Turn("assistant", answer)), origin="replay")


def _turns(question: str) -> tuple[Turn, ...]:
    first, *rest = _ROLE.split(question)
    if not rest:
        return (Turn("user", question),)
    turns = tuple(Turn(role, content) for role, content in zip(rest[::2], rest[1::2], strict=True))
    # Text before the first marker has no role; a question that ends with the assistant asks nothing.
    if first or not all(turn.text.strip() for turn in turns) or turns[-1].role == "assistant":
        raise MalformedError("broken turns")
    return turns


def written(generation: Generation, id: str) -> Example:
    """The row that a model wrote; MalformedError also where the length limit cut it off."""
    if not generation.finished:
        raise MalformedError("no end")
    return row_of(generation.text, id)


@dataclass(frozen=True)
class WithForms:
    """Every row of `rows`, and behind each the same as a text behind `generator` (kind completion,
    so that a model can be asked for it by the generator alone), with `AS_TEXT` at the end of its
    origin and of its id."""

    rows: Source
    generator: str

    @property
    def fingerprint(self) -> str:
        """Of the rows and the generator."""
        return fingerprint({"with forms": self.rows.fingerprint, "generator": self.generator})

    def describe(self) -> str:
        """The rows, said to be there twice."""
        return f"{self.rows.describe()} (each also as text behind {self.generator.strip()})"

    def __iter__(self) -> Iterator[Example]:
        for row in self.rows:
            yield row
            turns = (Turn("prompt", self.generator), Turn("completion", text_of(row), row.turns[-1].learn))
            yield dataclasses.replace(
                row, id=row.id + AS_TEXT, kind="completion", turns=turns, origin=row.origin + AS_TEXT
            )
