"""Does the gain's interval hold its promise? Streams whose true gain is known, simulated many times.

An item has a difficulty; the reset agent is right where a draw of the item's own says so, the same in every order. The
agent with memory is right with a chance that grows along its stream, at a pace drawn for each order: items, orders and
the learning curve are all at random. Printed is how often the interval holds the true gain, how often a stream without
any gain is called one, and how often a step "from which it is proven" is named without a gain.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.common import Result, compared
from mnemos.stream.gains import gain, pays_off
from mnemos.stream.journal import Step

REPETITIONS = 300
WORLDS = {
    # name: (items, orders, gain at the end, spread of the pace between orders)
    "no gain, 1 order": (200, 1, 0.0, 0.0),
    "no gain, 3 orders": (200, 3, 0.0, 0.0),
    "gain 10, 3 orders": (200, 3, 0.2, 0.0),
    "gain 10, orders differ": (200, 3, 0.2, 0.5),
    "gain 10, 60 items": (60, 3, 0.2, 0.0),
}
LEAST = 0.93


def run() -> Iterator[Result]:
    """The smallest coverage of all worlds against 93 %; each world in the details."""
    table = {name: simulated(*world) for name, world in WORLDS.items()}
    least = min(one["covered"] for one in table.values())
    yield compared(
        "stream-intervals", ([least], [LEAST]), unit="share", direction="higher is better", bound=1.0, details=table
    )


def simulated(items: int, orders: int, final: float, spread: float, repetitions: int = REPETITIONS) -> dict[str, float]:
    draw = np.random.default_rng([items, orders, int(100 * final), int(100 * spread)])
    claimed = named = 0
    found_all = []
    for _ in range(repetitions):
        easy = draw.beta(1.2, 1.2, items)
        base = (draw.random(items) < easy).astype(float)
        sides = []
        for _ in range(orders):
            order = draw.permutation(items)
            pace = max(0.0, 1 + spread * draw.normal())
            rise = pace * final * (np.arange(items) + 0.5) / items
            # Answers of the reset agent, some of its wrong ones turned right: the chance is set so that the mean
            # rises by `rise`, whatever the share of wrong ones.
            wrong = 1 - base[order]
            turned = draw.random(items) < np.clip(rise / max(1e-9, 1 - base.mean()), 0, 1)
            # And as many flips both ways as sampling makes in a stream without a gain.
            noise = draw.random(items) < 0.1
            swapped = np.where(noise, draw.permutation(base[order]), base[order])
            sides.append(made(order, np.where((wrong == 1) & turned, 1.0, swapped)))
        reset = [made(np.arange(items), base)]
        found = gain(sides, reset, power=False)
        if found.low is None or found.high is None:
            continue
        found_all.append((found.gain, found.low, found.high))
        claimed += found.low > 0
        named += final == 0 and pays_off(sides, reset) is not None
    # Exactly 0 without a gain; else the mean over all repetitions: what noise takes of a rise has no short formula.
    truth = float(np.mean([one for one, _, _ in found_all])) if final else 0.0
    covered = sum(low <= truth <= high for _, low, high in found_all)
    return {
        "true gain": truth,
        "covered": covered / repetitions,
        "called a gain": claimed / repetitions,
        "step named": named / repetitions,
    }


def made(order: np.ndarray, values: np.ndarray) -> list[Step]:
    return [
        Step(at, f"q{item}", "", "", float(value), None, None, 1, 1, 1, 0.0, 0)
        for at, (item, value) in enumerate(zip(order, values, strict=True))
    ]
