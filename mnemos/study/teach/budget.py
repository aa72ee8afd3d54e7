"""What a race may cost, and how it is laid out so that it costs no more.

A time is turned into work once, by the speed that was measured at the start: every later decision follows from rows
and tokens alone, so that a race that was killed and continued ends as an unbroken one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mnemos.core.errors import UsageError

SHARES = (1 / 9, 1 / 3, 1.0)
"""Shares of the rows at which arms are compared. Each rung trains anew, with the whole schedule of its learning rate:
a model in the middle of its schedule says little about the one at its end."""

FEWEST_STEPS = 10
"""Optimiser steps below which a rung says nothing and is left out."""

MOST_SEEDS = 3

_MONEY = re.compile(r"(?:\$(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)(?:\$|USD|EUR|€)|(?:USD|EUR|€)(\d+(?:\.\d+)?))")
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(h|m|min|s)")
_TOKENS = re.compile(r"(\d+(?:\.\d+)?)\s*([kM]?)\s*(?:tok|tokens)")
_SECONDS = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}


@dataclass(frozen=True)
class Budget:
    """amount, in seconds or in tokens trained. price: of an hour of this machine, None where it was not said."""

    amount: float
    unit: Literal["seconds", "tokens"]
    price: float | None = None

    def __str__(self) -> str:
        return self.shown(self.amount)

    def shown(self, amount: float) -> str:
        """A cost in this budget's unit, and what it is in money where the price is known."""
        words = shown(amount, self.unit)
        known = self.unit == "seconds" and self.price is not None
        return f"{words} ({amount / 3600 * (self.price or 0.0):.2f} at {self.price:g} an hour)" if known else words


def parse(text: str, price: float | None = None) -> Budget:
    """``2h``, ``90m``, ``45s``, ``1h30m``, ``500k tokens``, ``2M tokens``; ``$5`` or ``5 EUR`` with the price of an
    hour of this machine in the same currency. Raises UsageError for anything else."""
    plain = "".join(text.split())
    if price is not None and not 0 < price < math.inf:
        raise UsageError(f"--price {price:g}", "must be above 0", "what an hour of this machine costs")
    if (money := _MONEY.fullmatch(plain)) is not None:
        if price is None:
            raise UsageError(f"--budget {text}", "is money, and an hour has no price", "add --price: of an hour")
        amount = float(next(number for number in money.groups() if number is not None))
        if not amount:
            raise UsageError(f"--budget {text}", "is nothing", "90m, 2h or 2M tokens")
        return Budget(amount / price * 3600, "seconds", price)
    parts = list(_TIME.finditer(plain))
    if parts and "".join(part[0] for part in parts) == plain:
        amount = sum(float(part[1]) * _SECONDS[part[2]] for part in parts)
        found = Budget(amount, "seconds", price)
    elif (tokens := _TOKENS.fullmatch(plain)) is not None:
        found = Budget(float(tokens[1]) * {"": 1, "k": 1e3, "M": 1e6}[tokens[2]], "tokens")
    else:
        raise UsageError(
            f"--budget {text}",
            "is neither a time, nor a number of tokens, nor money",
            "90m, 2h, '2M tokens' or '5 USD'",
        )
    if not 0 < found.amount < math.inf:
        raise UsageError(f"--budget {text}", "is nothing", "90m, 2h or 2M tokens")
    return found


def shown(amount: float, unit: str) -> str:
    """A cost as people say it: 1 h 30 min, 250,000 tokens."""
    if unit == "tokens":
        return f"{math.ceil(amount):,} tokens"
    minutes = math.ceil(amount / 60)
    if amount <= 90:
        return f"{math.ceil(amount)} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass(frozen=True)
class Costs:
    """In the budget's unit. train: the dearest arm on all rows, with those that its methods add. measure: one arm on
    the development items. prove: the chosen arm on the held-out ones; a budget of tokens counts none of the two. first:
    what the first arm costs on all rows, which runs alone where there is not enough for two; as `train` unless given.
    """

    train: float
    measure: float
    prove: float
    first: float | None = None

    @property
    def alone(self) -> float:
        """What the first arm costs to train."""
        return self.train if self.first is None else self.first


@dataclass(frozen=True)
class Schedule:
    """How a race is laid out. shares: of the rows, rung by rung. arms: how many run at each. seeds: of the chosen
    arm's proof. cost: of all of it, at most."""

    shares: tuple[float, ...]
    arms: tuple[int, ...]
    seeds: int
    cost: float


def schedule(arms: int, steps: int, costs: Costs, budget: Budget) -> Schedule:
    """The largest race that the budget pays for: first as many arms as there are, then several seeds of the proof,
    then as many survivors as possible at each rung.

    steps: of one arm on all rows. Raises UsageError, naming the smallest budget that works, where none fits.
    """
    for candidate in _candidates(arms, steps, costs):
        if candidate.cost <= budget.amount:
            return candidate
    least = costs.alone + costs.measure + costs.prove
    raise UsageError(
        f"--budget {budget}",
        f"is too small for one arm: {budget.shown(costs.alone)} to train on all rows, and to be measured",
        f"--budget {_written(least, budget.unit)} is the smallest that works; or teach fewer rows",
    )


def _written(amount: float, unit: str) -> str:
    """A budget as `parse` reads it, rounded up."""
    if unit == "tokens":
        return f"'{math.ceil(amount)} tokens'"
    return f"{math.ceil(amount)}s" if amount <= 90 else f"{math.ceil(amount / 60)}m"


def _candidates(arms: int, steps: int, costs: Costs) -> Iterator[Schedule]:
    shares = tuple(share for share in SHARES if share == 1.0 or share * steps >= FEWEST_STEPS)
    for count in range(arms, 1, -1):
        for seeds, kept in ((3, 1.0), (3, 0.5), (2, 0.5), (3, 1 / 3), (2, 1 / 3), (1, 1 / 3)):
            numbers = [count]
            for _ in shares[1:]:
                numbers.append(max(2, math.ceil(numbers[-1] * kept)))
            numbers = [min(number, count) for number in numbers]
            yield Schedule(shares, tuple(numbers), seeds, _cost(shares, numbers, seeds, costs))
    for seeds in (3, 2, 1):
        yield Schedule((1.0,), (1,), seeds, seeds * costs.alone + costs.measure + seeds * costs.prove)


def _cost(shares: tuple[float, ...], arms: list[int], seeds: int, costs: Costs) -> float:
    """Of the rungs; of one combination more at the last, and half-way weights of each arm there, which cost no
    training; of the proof, whose first seed is trained already."""
    rungs = sum(number * (share * costs.train + costs.measure) for share, number in zip(shares, arms, strict=True))
    last = costs.train + costs.measure + (arms[-1] + 1) * costs.measure
    return rungs + last + (seeds - 1) * costs.train + seeds * costs.prove
