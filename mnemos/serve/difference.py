"""Which words of two texts differ.

Myers' greedy algorithm (doi:10.1007/BF01840446) on words. Time and memory are bounded: what differs in more than
MOST_EDITS words, as an answer that repeats itself a thousand times may, is shown as one change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST_EDITS = 120
"""Words left out or put in beyond which two texts are called different as a whole."""

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")

Part = tuple[str, bool]
"""Text, and whether it stands on this side alone."""


def marked(one: str, other: str) -> tuple[list[Part], list[Part]]:
    """Both texts in parts."""
    a, b = _WORDS.findall(one), _WORDS.findall(other)
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    kept_a, kept_b = _kept(a[start : len(a) - end], b[start : len(b) - end])
    same_a = [True] * start + kept_a + [True] * end
    same_b = [True] * start + kept_b + [True] * end
    return _joined(a, same_a), _joined(b, same_b)


def _joined(words: Sequence[str], same: Sequence[bool]) -> list[Part]:
    parts: list[Part] = []
    for word, kept in zip(words, same, strict=True):
        if parts and parts[-1][1] is not kept:
            parts[-1] = (parts[-1][0] + word, parts[-1][1])
        else:
            parts.append((word, not kept))
    return parts


def _kept(a: Sequence[str], b: Sequence[str]) -> tuple[list[bool], list[bool]]:
    """Which words of each belong to a longest common subsequence; none where it takes more than MOST_EDITS."""
    kept_a, kept_b = [False] * len(a), [False] * len(b)
    trace = _trace(a, b)
    x, y = len(a), len(b)
    for edits in range(len(trace) - 1, -1, -1):
        reached = trace[edits]
        k = x - y
        down = k == -edits or (k != edits and reached.get(k - 1, -1) < reached.get(k + 1, -1))
        came = k + 1 if down else k - 1
        # Before the first edit there is only the run of equal words at the beginning.
        from_x = reached.get(came, 0) if edits else 0
        from_y = from_x - came if edits else 0
        while x > from_x and y > from_y:
            x, y = x - 1, y - 1
            kept_a[x] = kept_b[y] = True
        x, y = from_x, from_y
    return kept_a, kept_b


def _trace(a: Sequence[str], b: Sequence[str]) -> list[dict[int, int]]:
    """For each number of edits, how far each diagonal was reached with one fewer; empty beyond MOST_EDITS."""
    reached = {1: 0}
    trace: list[dict[int, int]] = []
    for edits in range(MOST_EDITS + 1):
        trace.append(dict(reached))
        for k in range(-edits, edits + 1, 2):
            down = k == -edits or (k != edits and reached.get(k - 1, -1) < reached.get(k + 1, -1))
            x = reached.get(k + 1, 0) if down else reached.get(k - 1, -1) + 1
            y = x - k
            while x < len(a) and y < len(b) and a[x] == b[y]:
                x, y = x + 1, y + 1
            reached[k] = x
            if x >= len(a) and y >= len(b):
                return trace
    return []
