"""Rows of sound in words: the transcript, or whatever a column says of the sound, where the sound stands."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass

from mnemos.core.errors import DataError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import AudioPart, Example, Source, TextPart, Turn

TEXT = "text"
"""The column that a transcript stands in, unless another is named."""


def has_sound(example: Example) -> bool:
    """Whether anything in a row is heard."""
    return any(turn.sounds for turn in example.turns)


def words_of(example: Example, column: str, *, answers: bool = False) -> str:
    """What a column says of a row's one sound. answers: a row that asks nothing of its sound is a transcript, and its
    answer serves where there is no column. DataError, which names the row, where there are no words."""
    where = f"{example.place or example.id}"
    sounds = sum(len(turn.sounds) for turn in example.turns)
    if sounds != 1:
        raise DataError(where, f"holds {sounds} sounds, and words stand for one", "give each its own row")
    found = example.meta.get(column)
    if found is None and answers and not any(turn.text.strip() for turn in example.turns if turn.sounds):
        found = example.turns[-1].text
    if not isinstance(found, str) or not found.strip():
        bound = f"has no transcript: column {column!r} is {'empty' if isinstance(found, str) else 'no text'}"
        raise DataError(where, bound, f"give the row its words in {column!r}, or name the column that holds them")
    return found


def in_words(example: Example, words: str) -> Example:
    """The row with words in the place of its sounds."""
    return dataclasses.replace(example, turns=tuple(_turn(turn, words) for turn in example.turns))


def _turn(turn: Turn, words: str) -> Turn:
    if isinstance(turn.content, str) or not turn.sounds:
        return turn
    parts = [TextPart(words) if isinstance(part, AudioPart) else part for part in turn.content]
    return dataclasses.replace(turn, content="".join(part.text for part in parts if isinstance(part, TextPart)))


@dataclass(frozen=True)
class TextRuns:
    """Of rows with sounds the same in words; rows without are left out. column: what holds the words."""

    rows: Source
    column: str

    @property
    def fingerprint(self) -> str:
        """Of the rows and the column."""
        return fingerprint({"text runs": [self.rows.fingerprint, self.column]})

    def describe(self) -> str:
        """The rows, in words."""
        return f"{self.rows.describe()} in the words of {self.column}"

    def __iter__(self) -> Iterator[Example]:
        return (in_words(row, words_of(row, self.column)) for row in self.rows if has_sound(row))


@dataclass(frozen=True)
class InWords:
    """Rows of which a share, drawn by id, is in words instead of sound; all others stay. column: of the words."""

    rows: Source
    column: str
    share: float
    seed: int

    @property
    def fingerprint(self) -> str:
        """Of the rows, the column and what is drawn."""
        return fingerprint({"in words": [self.rows.fingerprint, self.column, self.share, self.seed]})

    def describe(self) -> str:
        """The rows, and how many are in words."""
        return f"{self.rows.describe()}, {100 * self.share:g} % of their sounds in words"

    def __iter__(self) -> Iterator[Example]:
        for row in self.rows:
            drawn = self.share == 1 or random.Random(f"in words {self.seed} {row.id}").random() < self.share
            yield in_words(row, words_of(row, self.column, answers=True)) if drawn and has_sound(row) else row
