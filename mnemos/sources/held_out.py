"""Whether a written row holds what a study measures by.

A suite's item is in a text where they share 13 words in a row (as GPT-3 counted contamination), or, of shorter items,
where the text is the item. Digits and case: unlike `dedup.Contamination`, digits count, because a sum with other
numbers is another question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from hashlib import blake2b

from mnemos.core.fingerprint import fingerprint
from mnemos.sources.words import bare_words

WORDS = 13
COMMON_SHARE, COMMON_LEAST = 0.1, 3
"""Words in a row that stand in more than a tenth of a suite's items, and in three at least, are how the suite asks, and
are in no item more than in another."""


class HeldOut:
    """Items of suites, for rows that must not hold them.

    suites: name -> the texts of its items. print_: changes when they do; taking it reads no text.
    """

    def __init__(self, suites: Sequence[tuple[str, str, tuple[str, ...]]]) -> None:
        self._suites = tuple(suites)

    @property
    def fingerprint(self) -> str:
        """Of the suites' own fingerprints."""
        return fingerprint({"held out": [print_ for _, print_, _ in self._suites]})

    @cached_property
    def _found(self) -> dict[bytes, str]:
        """digest of words -> the suite that holds them."""
        out: dict[bytes, str] = {}
        for name, _, texts in self._suites:
            counts: Counter[bytes] = Counter()
            for text in texts:
                counts.update(set(_grams(text)))
            most = max(COMMON_LEAST - 1, COMMON_SHARE * len(texts))
            out.update({gram: name for gram, count in counts.items() if count <= most})
        return out

    def suite_in(self, texts: Iterable[str]) -> str | None:
        """The name of a suite of which one of the texts holds an item; None where none does."""
        for text in texts:
            for gram in _grams(text):
                if gram in self._found:
                    return self._found[gram]
        return None


def _grams(text: str) -> list[bytes]:
    """Digests of each 13 words in a row; of a shorter text one, of the whole, which no part of a longer text equals."""
    words = bare_words(text)
    if not words:
        return []
    if len(words) < WORDS:
        return [_digest(["", *words])]
    return [_digest(words[at : at + WORDS]) for at in range(len(words) - WORDS + 1)]


def _digest(words: Sequence[str]) -> bytes:
    return blake2b(" ".join(words).encode(errors="surrogatepass"), digest_size=8).digest()
