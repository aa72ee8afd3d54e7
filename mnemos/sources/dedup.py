"""The same text more than once: exactly, nearly (MinHash), by paragraph, and between training text and suites.

Near-duplicates as FineWeb finds them: word 5-grams of the normalised text, 112 hashes in 14 bands of 8, so that two
texts of Jaccard similarity s are a pair with probability 1 - (1 - s^8)^14: 0.56 at 0.7, 0.77 at 0.75, 0.92 at 0.8,
0.99 at 0.85. Pairs make groups (union-find), and the first text of each group is kept.

Trap: signatures of rensa are not those of datasketch or datatrove; stores of them must not be mixed.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

import numpy as np
import numpy.typing as npt
import regex

from mnemos.sources.words import words

NGRAM, BANDS, ROWS = 5, 14, 8
SEED = 1
BATCH = 1000
"""Texts whose signatures are made at a time."""
CONTAMINATED = 13
"""Words in a row that training text and a suite share, as GPT-3 counted contamination."""

_OTHER = regex.compile(r"[^\p{L}\p{N}\p{M}]+")
_DIGITS = regex.compile(r"\p{Nd}+")


def normalised(text: str) -> str:
    """Lower case, accents off, digits as 0, everything else a space: what differs only in these is the same."""
    if text.isascii():
        plain = text.lower()
    else:
        plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))
    return str(_OTHER.sub(" ", _DIGITS.sub("0", plain))).strip()


def shingles(text: str, n: int = NGRAM) -> list[str]:
    """Word n-grams of the normalised text; in scripts without spaces a character is a word. The whole of a shorter
    text. A list with repetitions, which signatures do not care about."""
    plain = normalised(text)
    found = plain.split() if plain.isascii() else words(plain)
    if len(found) <= n:
        return [" ".join(found)]
    return [" ".join(gram) for gram in zip(*(found[at:] for at in range(n)), strict=False)]


def digest(text: str) -> bytes:
    """16 bytes of a text."""
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


@dataclass
class Exact:
    """Which texts repeat an earlier one, after normalisation of white space. Memory: 16 bytes a different text."""

    def __post_init__(self) -> None:
        self.seen: set[bytes] = set()

    def repeats(self, text: str) -> bool:
        """Whether it was there; notes it."""
        key = digest(" ".join(text.split()))
        if key in self.seen:
            return True
        self.seen.add(key)
        return False


@dataclass
class Paragraphs:
    """Takes paragraphs out that an earlier page had. least: characters below which one may repeat (a heading).
    removed: how many paragraphs went."""

    least: int = 40

    def __post_init__(self) -> None:
        self.seen: set[bytes] = set()
        self.removed = 0

    def without(self, text: str) -> str:
        """The text without paragraphs that were there; empty where nothing is left."""
        kept = []
        for paragraph in text.split("\n"):
            plain = " ".join(paragraph.split())
            if len(plain) >= self.least:
                key = digest(plain)
                if key in self.seen:
                    self.removed += 1
                    continue
                self.seen.add(key)
            kept.append(paragraph)
        return "\n".join(kept).strip()


def minhash_groups(
    texts: Iterable[str], *, n: int = NGRAM, bands: int = BANDS, rows: int = ROWS, seed: int = SEED
) -> list[int]:
    """For each text the place of the first text of its group: its own where it repeats none.

    Texts stream; what stays of each is a number of 8 bytes a band. Empty texts are groups of their own.
    """
    keys = [_band_keys(batch, n, bands, rows, seed) for batch in _batches(texts, BATCH)]
    if not keys:
        return []
    table, full = (np.concatenate(parts) for parts in zip(*keys, strict=True))
    parent = list(range(len(table)))
    for band in range(bands):
        _join_equal(parent, table[:, band], full)
    return [_root(parent, at) for at in range(len(parent))]


def _band_keys(
    batch: Sequence[str], n: int, bands: int, rows: int, seed: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """uint64[B, bands] of a batch, and which of its texts hold anything."""
    from rensa import RMinHash

    sets = [shingles(text, n) if text.strip() else [] for text in batch]
    digests = np.array(RMinHash.digests_from_token_sets(sets, bands * rows, seed), dtype=np.uint64)
    mixed = np.zeros((len(batch), bands), np.uint64)
    # A polynomial of the band's numbers modulo 2^64: two different bands meet by chance once in 10^19.
    for number in digests.reshape(len(batch), bands, rows).transpose(2, 0, 1):
        mixed = (mixed ^ number) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed, np.array([bool(one) and one != [""] for one in sets])


def _join_equal(parent: list[int], keys: npt.NDArray[np.uint64], full: npt.NDArray[np.bool_]) -> None:
    """Join texts whose keys of one band are equal, to the first of them."""
    order = np.argsort(keys, kind="stable")
    order = order[full[order]]
    if not len(order):
        return
    ordered = keys[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    for start, end in zip(first, [*first[1:], len(order)], strict=True):
        for other in order[start + 1 : end]:
            _join(parent, int(order[start]), int(other))


def _root(parent: list[int], at: int) -> int:
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = parent[at]
    return at


def _join(parent: list[int], one: int, other: int) -> None:
    """The earlier text stands for both groups."""
    a, b = _root(parent, one), _root(parent, other)
    parent[max(a, b)] = min(a, b)


def _batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    stream = iter(texts)
    while batch := list(islice(stream, size)):
        yield batch


class Contamination:
    """What of test items stands in training text: `n` words in a row.

    items: texts of a suite. Items shorter than n words are looked for whole. `found` counts, by item, the texts that
    held a part of it.
    """

    def __init__(self, items: Iterable[str], n: int = CONTAMINATED) -> None:
        self.n = n
        self.grams: dict[str, list[int]] = {}
        self.short: dict[int, set[int]] = {}
        self.found: Counter[int] = Counter()
        for at, item in enumerate(items):
            for gram in dict.fromkeys(shingles(item, n)):
                if gram:
                    self.grams.setdefault(gram, []).append(at)
            length = len(words(normalised(item)))
            if 0 < length < n:
                self.short.setdefault(length, set()).add(at)

    def hits(self, text: str) -> set[int]:
        """Places of the items that the text holds a part of."""
        lengths = [self.n, *self.short]
        met = {at for n in lengths for gram in set(shingles(text, n)) for at in self.grams.get(gram, ())}
        self.found.update(met)
        return met
