"""Byte-pair encoding and WordPiece's training, written to be read: the rules, with their ties resolved by rule."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Literal

Pair = tuple[str, str]
Rule = Literal["count", "score"]
PREFIX = "##"
"""Of a piece that continues a word."""
LONGEST_WORD = 100
"""Characters above which an encoder takes a word for unknown, so that training leaves it out."""


def merges(
    words: Mapping[tuple[str, ...], int],
    most: int,
    rule: Rule = "count",
    prefix: str = "",
    allowed: Callable[[str], bool] | None = None,
) -> list[Pair]:
    """The first `most` merges of words given as pieces, with how often each occurs.

    rule: "count" merges the most frequent pair (BPE); "score" the pair with the largest
    count(ab) / (count(a) count(b)) (WordPiece as published). Of equal pairs the one that is first in order of its
    texts. prefix: taken off the second piece. allowed: whether a piece may come to be. Stops where no pair is left.
    """
    state = _Merging(words, rule, prefix, allowed)
    found: list[Pair] = []
    while len(found) < most and (pair := state.best()) is not None:
        state.merge(pair)
        found.append(pair)
    return found


class _Merging:
    """Counts of pieces and pairs, kept up to date merge by merge; a heap with stale entries finds the best pair."""

    def __init__(
        self,
        words: Mapping[tuple[str, ...], int],
        rule: Rule,
        prefix: str,
        allowed: Callable[[str], bool] | None = None,
    ) -> None:
        self.allowed = allowed or (lambda piece: True)
        self.words = [list(word) for word in words]
        self.counts = list(words.values())
        self.rule, self.prefix = rule, prefix
        self.pieces: Counter[str] = Counter()
        self.pairs: Counter[Pair] = Counter()
        self.where: defaultdict[Pair, set[int]] = defaultdict(set)
        self.having: defaultdict[str, set[Pair]] = defaultdict(set)
        for at, (word, count) in enumerate(zip(self.words, self.counts, strict=True)):
            for piece in word:
                self.pieces[piece] += count
            for pair in itertools.pairwise(word):
                self._add(pair, count, at)
        self.heap = [(*self._key(pair), pair) for pair in self.pairs]
        heapq.heapify(self.heap)

    def _add(self, pair: Pair, count: int, at: int) -> None:
        self.pairs[pair] += count
        self.where[pair].add(at)
        self.having[pair[0]].add(pair)
        self.having[pair[1]].add(pair)

    def _key(self, pair: Pair) -> tuple[float]:
        count = self.pairs[pair]
        return (-float(count) if self.rule == "count" else -count / (self.pieces[pair[0]] * self.pieces[pair[1]]),)

    def best(self) -> Pair | None:
        """The pair that is merged next; None where there is none."""
        while self.heap:
            key, pair = heapq.heappop(self.heap)
            # An entry whose key is no longer the pair's is stale: a newer one is in the heap.
            current = self.pairs[pair] > 0 and key == self._key(pair)[0]
            if current and self.allowed(pair[0] + pair[1].removeprefix(self.prefix)):
                return pair
        return None

    def merge(self, pair: Pair) -> None:
        """Put the pair together wherever it stands."""
        new = pair[0] + pair[1].removeprefix(self.prefix)
        changed: set[Pair] = set()
        for at in sorted(self.where[pair]):
            word, count = self.words[at], self.counts[at]
            old = list(itertools.pairwise(word))
            merged = _merged(word, pair, new)
            if len(merged) == len(word):
                continue
            taken = (len(word) - len(merged)) * count
            self.pieces[new] += taken
            self.pieces[pair[0]] -= taken
            self.pieces[pair[1]] -= taken
            for one in old:
                self.pairs[one] -= count
            changed.update(old)
            self.words[at] = merged
            for one in itertools.pairwise(merged):
                self._add(one, count, at)
                changed.add(one)
        self.pairs[pair] = 0
        if self.rule == "score":
            # A piece that became rarer raises the score of every pair that it stands in.
            changed |= self.having[pair[0]] | self.having[pair[1]]
        for one in changed:
            if self.pairs[one] > 0:
                heapq.heappush(self.heap, (*self._key(one), one))


def _merged(word: list[str], pair: Pair, new: str) -> list[str]:
    out, at = [], 0
    while at < len(word):
        if at + 1 < len(word) and (word[at], word[at + 1]) == pair:
            out.append(new)
            at += 2
        else:
            out.append(word[at])
            at += 1
    return out


def learn(words: Mapping[str, int], room: int, rule: Rule = "score", most_characters: int = 6000) -> list[str]:
    """A WordPiece vocabulary of at most `room` pieces: characters first, then merges by the published score."""
    shown: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            shown[character] += count
    # Half of the room at most: merges are what the rest is for.
    most = min(most_characters, max(1, room // 2))
    kept = set(sorted(shown, key=lambda one: (-shown[one], one))[:most])
    split = {
        tuple(one if at == 0 else PREFIX + one for at, one in enumerate(word)): count
        for word, count in words.items()
        if len(word) <= LONGEST_WORD and kept.issuperset(word)
    }
    # Pieces that stand at the start of a word and those within one are different; first the more frequent.
    alphabet: Counter[str] = Counter()
    for pieces, count in split.items():
        for piece in pieces:
            alphabet[piece] += count
    found = dict.fromkeys(sorted(alphabet, key=lambda one: (-alphabet[one], one))[:room])
    for left, right in merges(split, max(0, room - len(found)), rule, PREFIX):
        found.setdefault(left + right.removeprefix(PREFIX))
    return list(found)
