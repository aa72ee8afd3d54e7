"""Which elements of a delta stay: by size, by chance, by chance that falls with the rank in a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

PAGE = 1 << 16
"""Elements whose random numbers share one seed, so that they depend on neither block nor thread."""


class Mask(Protocol):
    """Drops elements of a delta in place."""

    def __call__(self, delta: torch.Tensor, start: int) -> None:
        """delta: elements from `start` on."""
        ...


@dataclass(frozen=True)
class Trim:
    """Keeps low <= |delta| <= high. last: where exact, the index of the last element of exactly `low` that
    is kept; first: of the last one of exactly `high` that is not."""

    low: float
    high: float = math.inf
    last: int | None = None
    first: int = -1

    def __call__(self, delta: torch.Tensor, start: int) -> None:
        """Zero the rest; NaN stays."""
        if self.last is not None:
            size, place = delta.abs().float(), torch.arange(start, start + delta.numel())
            keep = (size > self.low) | (size == self.low) & (place <= self.last)
            # Multiplied, never assigned: NaN * 0 is NaN, so a broken value is not hidden by being dropped.
            delta.mul_(keep & ((size < self.high) | (size == self.high) & (place > self.first)))
            return
        if delta.dtype == torch.float64:  # the bounds are float32, and so is the comparison
            size = delta.abs().float()
            delta.mul_((size >= self.low) & (size <= self.high))
            return
        if self.low > 0:
            # hardshrink zeroes |x| <= its bound, in one pass: the next smaller float32 makes that < low.
            below = float(np.nextafter(np.float32(self.low), np.float32(0)))
            torch.hardshrink(delta, below, out=delta)
        if self.high != math.inf:
            # hardshrink leaves exactly what is above `high`; taken away from itself that is 0.
            delta.sub_(torch.hardshrink(delta, self.high))


@dataclass(frozen=True)
class Drop:
    """Drops with one chance, divides the rest by 1 - chance."""

    chance: float
    seed: tuple[int, ...]

    def __call__(self, delta: torch.Tensor, start: int) -> None:
        """Multiply with 0 or 1 / (1 - chance)."""
        if self.chance > 0:
            # Numbers lie in [0, 1), so one is below `chance` with probability `chance`, and 1 / (1 - chance) keeps the
            # expected delta what it was (arXiv:2311.03099: drop and rescale).
            keep = uniform(self.seed, start, start + delta.numel()) >= self.chance
            delta.mul_(torch.from_numpy(keep)).mul_(1 / (1 - self.chance))


@dataclass(frozen=True)
class DropByRank:
    """Drops each row's small elements with a greater chance than its large ones (MAGPRUNE)."""

    chance: float
    spread: float
    seed: tuple[int, ...]
    width: int

    def __call__(self, delta: torch.Tensor, start: int) -> None:
        """Multiply with 0 or 1 / (1 - chance of its rank)."""
        # rows, order, ranks, chance, drawn: [block's rows, width]. Blocks are whole rows, so a rank is the row's own.
        rows = delta.view(-1, self.width)
        order = rows.abs().argsort(dim=1, descending=True, stable=True)
        # The inverse permutation: the element at place i of the order has rank i.
        ranks = torch.empty_like(order).scatter_(1, order, torch.arange(self.width).expand_as(order))
        # p_i = drop - spread / 2 + spread * r_i / n: from drop - spread/2 for the largest upwards; mean near `drop`.
        chance = self.chance - self.spread / 2 + self.spread * ranks.to(delta.dtype) / self.width
        drawn = torch.from_numpy(uniform(self.seed, start, start + delta.numel())).view_as(rows)
        rows.mul_(drawn >= chance).div_(1 - chance)


def uniform(seed: Sequence[int], start: int, stop: int) -> np.ndarray:
    """float32[stop - start] in [0, 1): the numbers of these elements, whatever block they are in."""
    parts = []
    # Each page begins a generator of its own, so an element's number depends on its place in the tensor alone.
    for page in range(start // PAGE, -(-stop // PAGE)):
        drawn = np.random.Generator(np.random.SFC64([*seed, page])).random(PAGE, dtype=np.float32)
        parts.append(drawn[max(start - page * PAGE, 0) : stop - page * PAGE])
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, np.float32)
