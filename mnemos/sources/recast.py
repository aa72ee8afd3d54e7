"""Chats in which something else is learned: answers without instructions, and the user's turns."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, Source, Turn

Opening = Literal["dropped", "empty"]
"""What stands before the first answer: nothing, or a user's turn without words, for chat templates that must begin with
a user."""


@dataclass(frozen=True)
class AnswersAlone:
    """Of a share of the rows, drawn by id, nothing but the first answer that is learned.

    rows: chats and raw pairs; documents, pairs of answers and rows that teach nothing stay as they are. share: in
    (0, 1].
    """

    rows: Source
    share: float
    opening: Opening
    seed: int

    @property
    def fingerprint(self) -> str:
        """Of the rows and what is taken from them."""
        return fingerprint({"answers alone": [self.rows.fingerprint, self.share, self.opening, self.seed]})

    def describe(self) -> str:
        """The rows, and what is left of them."""
        return f"{self.rows.describe()} without {100 * self.share:g} % of their instructions"

    def __iter__(self) -> Iterator[Example]:
        for row in self.rows:
            drawn = self.share == 1 or random.Random(f"answers alone {self.seed} {row.id}").random() < self.share
            answer = next((turn for turn in row.turns if turn.role in ("assistant", "completion") and turn.learn), None)
            if not drawn or answer is None or row.kind not in ("messages", "completion"):
                yield row
            elif row.kind == "completion":
                # Kept as it is, white space included: nothing stands before it that it could belong to.
                yield dataclasses.replace(row, turns=(Turn("prompt", ""), answer))
            else:
                yield dataclasses.replace(row, turns=(*_opened(self.opening), answer), variables=())


@dataclass(frozen=True)
class UsersAnswered:
    """Chats with the two sides exchanged: what the user said is what the model writes.

    Rows that are no chat, or have anything but plain user and assistant turns behind a system turn, stay as they are.
    The system turn speaks to the assistant and is left out. ends: a chat whose last turn is an answer ends with a user
    who writes nothing; else what stands behind the user's last turn is left out.
    """

    rows: Source
    opening: Opening
    ends: bool

    @property
    def fingerprint(self) -> str:
        """Of the rows and how they are turned."""
        return fingerprint({"users answered": [self.rows.fingerprint, self.opening, self.ends]})

    def describe(self) -> str:
        """The rows, sides exchanged."""
        return f"{self.rows.describe()} from the user's side"

    def __iter__(self) -> Iterator[Example]:
        for row in self.rows:
            turns = row.turns[1:] if row.turns[0].role == "system" else row.turns
            if row.kind != "messages" or not exchangeable(turns):
                yield row
                continue
            answered = turns[-1].role == "assistant"
            # Whether an answer was to be learned says nothing about the question before it.
            shown = exchanged(turns if self.ends or not answered else turns[:-1], self.opening)
            silence = (Turn("assistant", ""),) if self.ends and answered else ()
            yield dataclasses.replace(row, turns=(*shown, *silence), variables=())


@dataclass(frozen=True)
class Reversed:
    """Chats of one question and one answer turned round: the question is what is learned, behind its answer. Others
    stay as they are."""

    rows: Source

    @property
    def fingerprint(self) -> str:
        """Of the rows."""
        return fingerprint({"reversed": self.rows.fingerprint})

    def describe(self) -> str:
        """The rows, turned round."""
        return f"{self.rows.describe()} turned round"

    def __iter__(self) -> Iterator[Example]:
        for row in self.rows:
            turns = row.turns[1:] if row.turns[0].role == "system" else row.turns
            if row.kind == "messages" and len(turns) == 2 and exchangeable(turns):
                asked, answer = turns
                turned = (Turn("user", answer.text), Turn("assistant", asked.text))
                yield dataclasses.replace(row, turns=turned, variables=())
            else:
                yield row


def exchangeable(turns: tuple[Turn, ...]) -> bool:
    """Whether the turns are a user's and an assistant's words in turn, the user's first."""
    roles = [turn.role for turn in turns]
    return (
        bool(turns)
        and roles == [("user", "assistant")[at % 2] for at in range(len(turns))]
        and all(turn.is_plain and isinstance(turn.content, str) and turn.content.strip() for turn in turns)
    )


def exchanged(turns: Sequence[Turn], opening: Opening) -> tuple[Turn, ...]:
    """A chat from the user's side: the user's words are the assistant's turns, the answers the user's."""
    return (
        *_opened(opening),
        *(Turn("assistant" if turn.role == "user" else "user", turn.text) for turn in turns),
    )


def _opened(opening: Opening) -> tuple[Turn, ...]:
    return (Turn("user", ""),) if opening == "empty" else ()
