"""Rows that agree with what a model knows, or contradict it: HAR, INC and SELF (arXiv:2402.18243)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, Source
from mnemos.synthesis.classified import KEY, drawn
from mnemos.synthesis.self_generated import answered

Labels = Literal["har", "inc", "self"]


def side(row: Example, min_confidence: float) -> Literal["right", "wrong", "unsure"] | None:
    """What the model's own answer to a classified row is; unsure where no answer is that of more than `min_confidence`
    of the prompts, None for a row that was not asked about."""
    found = row.meta.get(KEY)
    if not isinstance(found, Mapping) or "own_right" not in found:
        return None
    if not found["own"] or found["confidence"] <= min_confidence:
        return "unsure"
    return "right" if found["own_right"] else "wrong"


@dataclass(frozen=True)
class Aligned:
    """Of classified rows (`classified.Classified`), `number` (None: all) that are drawn by seed, and every row that is
    not new.

    labels: har: rows that the model answers right, with its own answer; inc: rows that it answers wrong, as they are;
    self: the same rows, with its own answer.
    """

    rows: Source
    labels: Labels
    min_confidence: float
    number: int | None
    seed: int

    @property
    def fingerprint(self) -> str:
        """Of the classified rows and the choice."""
        choice = [self.labels, self.min_confidence, self.number, self.seed]
        return fingerprint(["Aligned", self.rows.fingerprint, *choice])

    def describe(self) -> str:
        """One line for people."""
        some = "" if self.number is None else f"{self.number:,} "
        return f"{some}{self.labels} rows of {self.rows.describe()}"

    def __iter__(self) -> Iterator[Example]:
        rows = list(self.rows)
        sides = [side(row, self.min_confidence) for row in rows]
        wanted = "right" if self.labels == "har" else "wrong"
        places = [at for at, one in enumerate(sides) if one == wanted]
        # inc and self draw from the same places by the same seed, so they are the same questions.
        chosen = drawn(
            places, self.number, self.seed, f"{self.labels} ({wanted} answers)", Counter(filter(None, sides))
        )
        for at, row in enumerate(rows):
            if row.origin != "new":
                yield row
            elif at in chosen:
                yield row if self.labels == "inc" else answered(row, row.meta[KEY]["own"])
