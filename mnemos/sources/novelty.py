"""Whether a text is new beside many others, by ROUGE-L, without comparing it with each of them.

ROUGE-L of two texts of m and n words is 2 L / (m + n), where L is the length of their longest common subsequence (the F
measure of Lin 2004 with beta 1). L is at most the number of words that both hold, repetitions counted. That number is
read for all texts at once from an inverted index, and L itself is computed only where it could reach the bound: the
decisions are those of all comparisons.

Deviation from the package rouge_score: words are runs of letters and digits of any script, and characters of scripts
without spaces, where the package knows a-z and 0-9 alone and finds all Chinese texts new. Of ASCII texts both agree.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mnemos.sources.similarity import longest_common
from mnemos.sources.words import bare_words

ROUNDING = 1e-9


class NoveltyIndex:
    """Texts, and for a further one the first of them that it is too like.

    bound: ROUGE-L from which on two texts are alike, in (0, 1]. Memory: some 8 bytes a word, and the words themselves
    once. Adding never looks at earlier texts.
    """

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self._numbers: dict[str, int] = {}
        self._texts: list[array[int]] = []
        self._lengths = array("i")
        # For each (word, how often it came before in its text) the texts that hold it: words that both of two texts
        # hold, repetitions counted, are then equal keys.
        self._holders: dict[tuple[int, int], array[int]] = {}
        self.compared = 0

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """The text is there from now on. One without words is like nothing."""
        numbers = array("i", (self._numbers.setdefault(word, len(self._numbers)) for word in bare_words(text)))
        for key in _keys(numbers):
            self._holders.setdefault(key, array("i")).append(len(self._texts))
        self._texts.append(numbers)
        self._lengths.append(len(numbers))

    def like(self, text: str) -> tuple[int, float] | None:
        """Place of the first text whose ROUGE-L with this one is at least the bound, and that value; else None."""
        words = bare_words(text)
        # Words that no text holds get numbers that stand for nothing, all of them different.
        numbers = [self._numbers.get(word, -1 - i) for i, word in enumerate(words)]
        held = [self._holders[key] for key in _keys(numbers) if key in self._holders]
        if not held:
            return None
        shared = np.zeros(len(self._texts), np.int32)
        for holders in held:
            # Each text stands in a list at most once, so a plain sum over places is right.
            shared[np.frombuffer(holders, np.int32)] += 1
        total = np.frombuffer(self._lengths, np.int32) + len(numbers)
        for place in np.flatnonzero(2 * shared >= self.bound * total - ROUNDING):
            self.compared += 1
            length = longest_common(self._texts[place], numbers)  # type: ignore[arg-type]
            if 2 * length >= self.bound * int(total[place]) - ROUNDING:
                return int(place), 2 * length / int(total[place])
        return None

    def admit(self, text: str) -> bool:
        """Whether the text is like none; it is then one of them."""
        if self.like(text) is not None:
            return False
        self.add(text)
        return True


def _keys(numbers: Sequence[int]) -> list[tuple[int, int]]:
    seen: Counter[int] = Counter()
    out = []
    for number in numbers:
        out.append((number, seen[number]))
        seen[number] += 1
    return out
