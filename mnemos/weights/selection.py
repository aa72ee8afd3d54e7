"""The k-th largest of more numbers than are held at a time, exactly.

A sample says between which two values it must lie; one pass then counts what is above and collects
what is between, a percent of all. Where the sample was not like the whole, two passes of counting
find it without any: a float's bits grow with its size, so a histogram of the upper 16 bits finds
the right bin, and one of the lower 16 bits within that bin the value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Sizes = Callable[[int, int], list[np.ndarray]]
"""(start, stop) -> for each of several rows of numbers, float32[stop - start], none negative."""

PIECES = 64
SAMPLE = 1 << 18
"""Numbers in the sample, read in PIECES places."""
SLACK = 6.0
"""Standard deviations of a rank in the sample that the bracket is wide on either side."""


def blocks(count: int, width: int, size: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of blocks of whole rows over `count` elements, `size` long or one row."""
    step = max(size // width, 1) * width
    for start in range(0, count, step):
        yield start, min(start + step, count)


def largest(sizes: Sizes, rows: int, ranks: Sequence[int], count: int, width: int, block: int) -> list[list[float]]:
    """For each rank k, the k-th largest of each of `rows` times `count` numbers; infinity for k = 0.

    width: elements that belong together, so that `sizes` is asked for multiples of it. Ranks above
    `count` mean the smallest.
    """
    wanted = [(k, row) for k in ranks for row in range(rows)]
    found = {(k, row): math.inf for k, row in wanted if k < 1}
    open_ = [pair for pair in wanted if pair not in found]
    # Of fewer numbers the sample alone would be a quarter and more.
    if open_ and count >= 4 * SAMPLE:
        found.update(_bracketed(sizes, open_, count, width, block))
    open_ = [pair for pair in open_ if pair not in found]
    if open_:
        found.update(_counted(sizes, open_, count, width, block))
    return [[found[k, row] for row in range(rows)] for k in ranks]


def places(sizes: Sizes, values: Sequence[float], rank: int, count: int, width: int, block: int) -> list[int]:
    """For each row of numbers, the index of its `rank`-th largest, of equal ones the earlier first; -1 for rank 0.

    values: what `largest` found for that rank. One pass, and one block a row again.
    """
    spans = list(blocks(count, width, block))
    # above: int64[rows], numbers larger than the value. equal: int64[rows, blocks], those of exactly the value.
    above, equal = np.zeros(len(values), np.int64), np.zeros((len(values), len(spans)), np.int64)
    for number, (start, stop) in enumerate(spans):
        for row, (numbers, value) in enumerate(zip(sizes(start, stop), values, strict=True)):
            above[row] += np.count_nonzero(numbers > value)
            equal[row, number] = np.count_nonzero(numbers == value)
    found = []
    for row, value in enumerate(values):
        # The rank-th largest is the `wanted`-th of the equal ones; `number` is the block in which it stands.
        wanted, reached = min(rank, count) - int(above[row]), equal[row].cumsum()
        number = int(np.searchsorted(reached, wanted))
        if wanted < 1 or number == len(spans):  # nothing stays, or values that are not finite
            found.append(-1)
            continue
        start, stop = spans[number]
        # Which of the equal ones within that block; the block is made once more instead of keeping all.
        among = wanted - int(reached[number] - equal[row, number])
        found.append(start + int(np.flatnonzero(sizes(start, stop)[row] == value)[among - 1]))
    return found


def _bracketed(
    sizes: Sizes, wanted: Sequence[tuple[int, int]], count: int, width: int, block: int
) -> dict[tuple[int, int], float]:
    """What could be found by way of a sample."""
    # The k-th largest of all is the (k - above)-th largest of what lies in the bracket, provided it lies there.
    bounds = _bounds(_sample(sizes, count, width), wanted, count)
    above = dict.fromkeys(wanted, 0)
    inside: dict[tuple[int, int], list[np.ndarray]] = {pair: [] for pair in wanted}
    for start, stop in blocks(count, width, block):
        values = sizes(start, stop)
        for pair, (low, high) in bounds.items():
            numbers = values[pair[1]]
            above[pair] += int(np.count_nonzero(numbers > high))
            inside[pair].append(numbers[np.flatnonzero((numbers >= low) & (numbers <= high))])
    found = {}
    for pair, parts in inside.items():
        between, rank = np.concatenate(parts), min(pair[0], count) - above[pair]
        # Else the sample was not like the whole (it is runs of neighbours, not single draws), and `_counted` finds it.
        if 1 <= rank <= len(between):
            found[pair] = float(np.partition(between, len(between) - rank)[len(between) - rank])
    return found


def _sample(sizes: Sizes, count: int, width: int) -> list[np.ndarray]:
    """A part of each row of numbers, in falling order."""
    length = max(SAMPLE // PIECES // width, 1) * width
    starts = {piece * (count // width) // PIECES * width for piece in range(PIECES)}
    parts = [sizes(start, min(start + length, count)) for start in sorted(starts)]
    return [np.sort(np.concatenate(row))[::-1] for row in zip(*parts, strict=True)]


def _bounds(
    sample: Sequence[np.ndarray], wanted: Sequence[tuple[int, int]], count: int
) -> dict[tuple[int, int], tuple[float, float]]:
    out = {}
    for k, row in wanted:
        own = sample[row]
        share = min(k / count, 1.0)
        # How many of n drawn are above a value that a share p exceeds has a standard deviation of sqrt(n p (1 - p));
        # the constant covers shares near 0 and 1, where that root says nothing.
        slack = SLACK * math.sqrt(len(own) * share * (1 - share)) + SLACK
        first, last = math.floor(share * len(own) - slack), math.ceil(share * len(own) + slack)
        high = float(own[first]) if first >= 0 else math.inf
        out[k, row] = (float(own[last]) if last < len(own) else 0.0, high)
    return out


def _counted(
    sizes: Sizes, wanted: Sequence[tuple[int, int]], count: int, width: int, block: int
) -> dict[tuple[int, int], float]:
    """By two histograms, whatever the numbers are."""
    # Of numbers that are not negative the sign bit is 0 and the other bits, read as an integer, sort as the numbers
    # do: 15 upper bits, then 16 lower ones within one bin of the upper.
    upper = {row: np.zeros(1 << 15, dtype=np.int64) for _, row in wanted}
    for start, stop in blocks(count, width, block):
        values = sizes(start, stop)
        for row, histogram in upper.items():
            histogram += np.bincount(values[row].view(np.int32) >> 16, minlength=1 << 15)
    bins = {pair: _bin(upper[pair[1]], pair[0]) for pair in wanted}
    # By bin and not by rank: two ranks that fell into one bin share its histogram.
    lower = {(row, bins[k, row][0]): np.zeros(1 << 16, dtype=np.int64) for k, row in wanted}
    for start, stop in blocks(count, width, block):
        values = sizes(start, stop)
        for (row, number), histogram in lower.items():
            bits = values[row].view(np.int32)
            histogram += np.bincount(bits[np.flatnonzero((bits >> 16) == number)] & 0xFFFF, minlength=1 << 16)
    found = {}
    for k, row in wanted:
        number, rank = bins[k, row]
        bits = np.array([(number << 16) | _bin(lower[row, number], rank)[0]], dtype=np.int32)
        found[k, row] = float(bits.view(np.float32)[0])
    return found


def _bin(histogram: np.ndarray, rank: int) -> tuple[int, int]:
    """(bin, rank within it) of the rank-th largest."""
    # above[i]: how many numbers lie in the i + 1 highest bins.
    above = histogram[::-1].cumsum()
    rank = min(rank, int(above[-1]))
    place = int(np.searchsorted(above, rank))
    number = len(histogram) - 1 - place
    return number, rank - int(above[place] - histogram[number])
