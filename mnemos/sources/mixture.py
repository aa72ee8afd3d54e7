"""How much of each source goes into a mixture of pre-training text, and how often that reads it.

Weights come from the sizes (n_i^(1/T), T = 1 in proportion, larger T more even: mT5's 0.3 is T = 3.3) or are given.
Caps bound the epochs of each source; what a capped source cannot give is shared among the others in proportion to
their weights. What repeated tokens are worth follows arXiv:2305.16264: D' = U + U R (1 - exp(-(E - 1) / R)), R = 15.39
for E epochs of U tokens, nearly fresh up to four.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mnemos.core.errors import DataError, UsageError, nearest

MANY_EPOCHS = 4.0
"""Epochs above which repeated tokens are worth clearly less than fresh ones."""
R_TOKENS = 15.39


@dataclass(frozen=True)
class Part:
    """One source in a mixture. size: its tokens (or characters). amount: of them in the mixture. weight: its share of
    the mixture. epochs: amount / size. worth: fresh tokens that the amount is worth. capped: whether the cap holds it
    down."""

    name: str
    size: float
    amount: float
    weight: float
    epochs: float
    worth: float
    capped: bool

    @property
    def warns(self) -> bool:
        """Whether it is read so often that its tokens are worth clearly less."""
        return self.epochs > MANY_EPOCHS


def plan(
    sizes: Mapping[str, float],
    total: float,
    *,
    weights: Mapping[str, float] | None = None,
    temperature: float = 1.0,
    max_epochs: float | Mapping[str, float] = math.inf,
) -> list[Part]:
    """How much of each source makes `total`.

    sizes: name -> tokens. weights: name -> any positive numbers, for every source; by size and temperature without.
    max_epochs: one cap, or a cap by name. Raises UsageError for what cannot be meant, DataError where caps leave less
    than `total`, with what they would leave.
    """
    _check(sizes, total, weights, temperature)
    raw = weights or {name: size ** (1 / temperature) for name, size in sizes.items()}
    cap = {name: (max_epochs.get(name, math.inf) if isinstance(max_epochs, Mapping) else max_epochs) for name in sizes}
    if any(not value > 0 for value in cap.values()):
        raise UsageError(f"max_epochs = {min(cap.values())}", "must be above 0", "4 is usual")
    room = {name: cap[name] * size for name, size in sizes.items()}
    if sum(room.values()) < total * (1 - 1e-9):
        short = ", ".join(f"{name} {value:,.0f}" for name, value in room.items())
        raise DataError(
            f"a mixture of {total:,.0f}", f"cannot be filled: with these caps the sources have {short}",
            f"ask for at most {sum(room.values()):,.0f}, raise max_epochs, or give more text",
        )  # fmt: skip
    amount: dict[str, float] = {}
    free, left = dict(raw), total
    # Fill what overflows its cap, and share the rest anew, until nothing overflows.
    while free:
        scale = left / sum(free.values())
        full = [name for name, weight in free.items() if weight * scale > room[name]]
        if not full:
            amount |= {name: weight * scale for name, weight in free.items()}
            break
        for name in full:
            amount[name] = room[name]
            left -= room[name]
            del free[name]
    return [
        _part(name, size, amount[name], total, amount[name] >= room[name] * (1 - 1e-12)) for name, size in sizes.items()
    ]


def _part(name: str, size: float, amount: float, total: float, capped: bool) -> Part:
    epochs = amount / size
    worth = amount if epochs <= 1 else size + size * R_TOKENS * -math.expm1(-(epochs - 1) / R_TOKENS)
    return Part(name, size, amount, amount / total, epochs, worth, capped)


def _check(sizes: Mapping[str, float], total: float, weights: Mapping[str, float] | None, temperature: float) -> None:
    if not sizes:
        raise UsageError("a mixture", "needs a source", "write NAME=FILE")
    for name, size in sizes.items():
        if not 0 < size < math.inf:
            raise DataError(f"{name}: {size}", "is no size of a source", "leave it out, or give text")
    if not 0 < total < math.inf:
        raise UsageError(f"total = {total}", "must be positive", "leave it out for one epoch of everything")
    if not 0 < temperature < math.inf:
        raise UsageError(f"temperature = {temperature}", "must be positive", "1 is in proportion, 3.3 is mT5's")
    if weights is None:
        return
    for name, weight in weights.items():
        if name not in sizes:
            raise UsageError(f"weight of {name}", "names no source", nearest(name, sizes))
        if not 0 < weight < math.inf:
            raise UsageError(f"weight of {name} = {weight}", "must be positive", "leave the source out instead")
    missing = next((name for name in sizes if name not in weights), None)
    if missing:
        raise UsageError(f"weight of {missing}", "is missing", "give every source a weight, or none")


def drawn(lengths: Sequence[int], amount: float, rng: random.Random) -> Iterator[int]:
    """Places of rows whose lengths come nearest to `amount`: whole turns in a random order each, and a part of one, so
    that how often two rows are read differs by one at most. Rows without length are never drawn."""
    there = [place for place, length in enumerate(lengths) if length > 0]
    left = amount
    while left > 0 and there:
        order = rng.sample(there, len(there))
        for place in order:
            # The last row is taken where that ends nearer to the amount than leaving it does.
            if lengths[place] > 2 * left:
                return
            left -= lengths[place]
            yield place
            if left <= 0:
                return
