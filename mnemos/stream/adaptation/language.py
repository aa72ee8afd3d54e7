"""A small language model for choosing among transcripts: n-grams of characters or words, smoothed as Witten-Bell."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Literal

from mnemos.core.errors import DataError

MOST_CHARS = 50_000_000
"""Characters of text that are counted at most."""
END = "\n"
"""Stands before a text's first unit and behind its last one."""


class NGrams:
    """p(u | h) = (c(h u) + k(h) p(u | h')) / (c(h) + k(h)), where h is the history of order - 1 units, h' the same
    without its oldest one, c counts and k is how many different units followed; below the shortest history all units
    known, and one unknown, are as likely (Witten & Bell 1991)."""

    def __init__(self, texts: Iterable[str], order: int = 4, unit: Literal["character", "word"] = "character") -> None:
        """Raises DataError where the texts hold nothing."""
        self.order, self.unit = order, unit
        self.follow: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        read = 0
        for text in texts:
            units = self.units(text)
            if not units:
                continue
            read += len(text)
            for place, unit_ in enumerate([*units, END]):
                for length in range(order):
                    self.follow[self._before(units, place, length)][unit_] += 1
            if read > MOST_CHARS:
                break
        if not read:
            raise DataError("the texts of the language model", "hold no word", "give text of the kind that is spoken")
        self.totals = {history: sum(counts.values()) for history, counts in self.follow.items()}
        self.known = len(self.follow[()]) + 1

    def units(self, text: str) -> list[str]:
        """What is counted: characters, blanks among them, or words; without case."""
        words = text.casefold().split()
        return words if self.unit == "word" else list(" ".join(words))

    def _before(self, units: list[str], place: int, length: int) -> tuple[str, ...]:
        found = tuple(units[max(0, place - length) : place])
        return (*(END,) * (length - len(found)), *found)

    def probability(self, unit: str, history: tuple[str, ...]) -> float:
        """p(unit | history)."""
        p = 1 / self.known
        for length in range(len(history) + 1):
            counts = self.follow.get(history[len(history) - length :])
            if counts is None:
                break
            total, kinds = self.totals[history[len(history) - length :]], len(counts)
            p = (counts[unit] + kinds * p) / (total + kinds)
        return p

    def log_prob(self, text: str) -> float:
        """ln p of the text and its end, in nats."""
        units = self.units(text)
        found = (
            math.log(self.probability(unit, self._before(units, place, self.order - 1)))
            for place, unit in enumerate([*units, END])
        )
        return math.fsum(found)
