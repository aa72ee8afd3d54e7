"""Rows of any format as plain texts, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mnemos.core.nouns import Example
from mnemos.sources.read import FileSource, read


@dataclass(frozen=True)
class Texts:
    """The texts at a location, lazily and repeatably; bad rows are skipped and counted in `source.counts`."""

    source: FileSource

    def __iter__(self) -> Iterator[str]:
        return (text_of(example) for example in self.source)

    def skipped(self) -> dict[str, int]:
        """Rows that the last pass left out, by reason."""
        return {reason: number for reason, number in self.source.counts.items() if reason != "rows"}


HELD_OUT = 20
"""Every so many texts one is kept to measure on."""


def part(texts: Texts, *, held: bool) -> Iterator[str]:
    """The texts that are kept to measure on, every twentieth, or all the others."""
    for at, text in enumerate(texts):
        if (at % HELD_OUT == HELD_OUT - 1) is held:
            yield text


def texts_at(location: str, *, column: str | None = None, limit: int | None = None) -> Texts:
    """Texts of a file, folder or hub data set. column: the one that holds the text, where it is not called `text`."""
    columns = {"text": column} if column else None
    return Texts(read(location, format="text" if column else None, columns=columns, limit=limit, on_bad="skip"))


def text_of(example: Example) -> str:
    """What of an example is text: its turns, a line end between them."""
    return "\n".join(turn.text for turn in example.turns)
