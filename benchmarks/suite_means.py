"""Do the intervals of a mean over several suites (learned, forgotten, balance) hold the truth? Suites of unlike sizes.

Changes of items are -1, 0 or 1, with a mean of 0.1 in every suite. Items of one cluster (a passage, a dialogue) take
their change from one draw 7 times of 10, and seeds take the items' change 8 times of 10. With several seeds each has an
effect of its own on all suites, as large as the error that the items of the whole leave.

    python -m benchmarks suite_means
    python -m benchmarks.readme                     # fills the table of docs/sweeps.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.common import Result, compared
from mnemos.measure.composite import Part, estimate

REPETITIONS = 2000
SEEDS = (1, 2, 3, 5)
LEAST = 0.93
TRUTH, GAIN, LOSS = 0.1, 0.25, 0.15
SUITES: Mapping[str, tuple[tuple[int, int], ...]] = {
    "2 of 100 items": ((100, 1), (100, 1)),
    "12 and 500 items": ((12, 1), (500, 1)),
    "5 of 12 items": ((12, 1),) * 5,
    "5 passages of 20 items, 300 items": ((5, 20), (300, 1)),
    "3 passages of 30 items, 300 items": ((3, 30), (300, 1)),
    "4 passages of 20 items, 3 of 40 items": ((4, 20), (40, 1), (40, 1), (40, 1)),
    "3 of 5 passages of 20 items": ((5, 20),) * 3,
}
"""name -> (clusters, items of each) of every suite."""


def run() -> Iterator[Result]:
    """The smallest coverage against 93 %; every world in the details."""
    table = {name: {str(seeds): covered(suites, seeds) for seeds in SEEDS} for name, suites in SUITES.items()}
    least = min(one for row in table.values() for one in row.values())
    yield compared(
        "suite-means", ([least], [LEAST]), unit="share", direction="higher is better", bound=1.0, details=table
    )


def covered(suites: tuple[tuple[int, int], ...], seeds: int, repetitions: int = REPETITIONS) -> float:
    """The share of intervals that hold the truth."""
    rng = np.random.default_rng([seeds, *(number for suite in suites for number in suite)])
    luck = 0.0 if seeds == 1 else float(np.std([_mean(drawn(suites, 1, 0.0, rng)) for _ in range(400)]))
    held = 0
    for _ in range(repetitions):
        found = estimate(drawn(suites, seeds, luck, rng), bounded=False)
        held += found.low is not None and found.high is not None and found.low <= TRUTH <= found.high
    return held / repetitions


def _mean(parts: list[Part]) -> float:
    return sum(part.weight * float(part.means.mean()) for part in parts)


def drawn(suites: tuple[tuple[int, int], ...], seeds: int, luck: float, rng: np.random.Generator) -> list[Part]:
    """One sample. luck: standard deviation of the seeds' own effects."""
    own = luck * rng.standard_normal((seeds, 1))
    parts = []
    for clusters, items in suites:
        shape = (clusters, items)
        common = np.where(rng.random(shape) < 0.7, rng.random((clusters, 1)), rng.random(shape))
        place = np.where(rng.random((seeds, *shape)) < 0.8, common, rng.random((seeds, *shape)))
        d = np.where(place < GAIN, 1.0, np.where(place > 1 - LOSS, -1.0, 0.0)).reshape(seeds, -1) + own
        n = clusters * items
        parts.append(Part(d, np.full(n, 1 / n), np.repeat(np.arange(clusters), items), 1 / len(suites)))
    return parts


def means_table(found: Mapping[str, Any]) -> str:
    """The table of docs/sweeps.md: % of intervals that hold the truth, by suites and seeds."""
    lines = ["| suites | " + " | ".join(f"seeds: {seeds}" for seeds in SEEDS) + " |", "|---|" + "---:|" * len(SEEDS)]
    for name in SUITES:
        cells = (f"{100 * found[name][str(seeds)]:.1f}" for seeds in SEEDS)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
