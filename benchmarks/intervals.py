"""Do the 95 % intervals cover, are false claims rare, and is the printed minimum detectable change noticed?

    python -m benchmarks.intervals                        the whole table: docs/intervals.md, results/intervals*.json
    python -m benchmarks.intervals --quick --kind bits    some rows, 300 repetitions each, printed only

Scores are drawn from distributions whose truth is known and go through the functions that every study uses
(`uncertainty.paired`, `compare.judge`). Each setting is simulated with no change (coverage and false claims), with
a change (coverage), and with a change as large as the minimum detectable change that was printed on average in the
first of these, either way (power: of the way that is harder to see). Where a setting lies near a bound it is
repeated up to `MOST` times.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.common import Result, save
from mnemos.core.files import write_text
from mnemos.measure.compare import judge
from mnemos.measure.uncertainty import Paired, paired
from mnemos.recipes.pages import wrapped

Floats = npt.NDArray[np.float64]
Sample = tuple[Floats, Floats, "Floats | None", "list[str] | None"]
"""before: float[n], after: float[S, n], weights, clusters."""

PAGE = Path(__file__).parents[1] / "docs/intervals.md"
COVERAGE, FALSE, POWER = 93.0, 6.0, (75.0, 85.0)
INTRODUCTION = """# Do the intervals cover?

Written by `python -m benchmarks.intervals`, from the functions that every study uses. Scores are drawn from
distributions whose truth is known, before and after, and compared; 95 % of the intervals should hold the truth.

- **covered**: of samples in which nothing changed, how many per cent of the intervals hold zero; **covered, changed**:
  the same where something changed. Bound: at least 93, or no interval. A dash: the items or seeds are too few for this
  kind of score, the report says so, and the verdict is "cannot tell".
- **false claims**: gained or lost although nothing changed, in per cent. Bound: at most 6.
- **detectable**: the mean of the minimum detectable changes that were printed ("could see" in the report), 0.010 is
  one point. **power**: how many per cent of changes of this size are proven, in the direction that is harder to see.
  Bound: 75 to 85, within two standard errors of the simulation. A dash: none is printed, or in fewer than one
  sample of ten.
- Each figure is of 300 samples; of 1,500 where coverage came out below 95.5 %, of 900 where power came out near its
  bound.
- **seeds differ**: each seed has an effect of its own, as large as the error that the items leave. With one seed such
  an effect is part of what is measured: the verdict is about that checkpoint, and this table has nothing to say about
  other seeds. Several seeds cover the way of training.

Scores: right or wrong, with flips that are partly common to all seeds (rare losses: 3 in 100 flip); graded from 0 to 1,
even, skewed, or with 5 in 100 losing 0.7; bits per byte, normal or exponential, equal or log-normal weights; clusters
of three items. Most intervals cover more than 95 %: they assume nothing about the shape of the scores, and pay for it
by width where items are few. A change of graded scores can always hide in items that were not drawn.

How: right-or-wrong items of one seed get Newcombe's interval and McNemar's exact p (below 20 items at fewer of them,
by Student's t). With clusters or seeds the same interval is taken at the effective number of items; where fewer than 12
flipped in a seed, several seeds count for no more than one. Other scores have
their items reweighed at random, one unseen item added at the end of the scale (Gaffke's bound; without a scale a little
beyond the most extreme item); several seeds add their own spread with Student's t. Scores without bounds need nine
independent items.

No minimum detectable change is printed for two seeds, whose spread is hardly known; for fewer than 20 independent items
(unless right or wrong, one seed); for several seeds of right-or-wrong items where fewer than 12 flipped in a seed; for
scores without bounds where fewer than 100 items of equal weight would tell as much, or where one or two items make most
of the error (skewness over the square root of the number of items above 0.5).

Only p is corrected for the number of suites (Holm), an interval is each suite's own; health suites are corrected among
themselves, so that they weaken no verdict. Means over several suites (learned, forgotten, balance)
have a table of their own, in [sweeps](sweeps.md).
"""
FEW, MOST, PRINTED, CLUSTER = 300, 1500, 100, 3
ITEMS = (9, 12, 20, 40, 100, 400, 2000)
SEEDS = ((1, 0.0), (2, 0.0), (2, 1.0), (3, 0.0), (3, 1.0), (4, 1.0), (5, 0.0), (5, 1.0))
"""Number of seeds, and the spread of the seeds' own effects in units of that which items leave."""
EVERY = (12, 100)
"""Items for which every row of SEEDS is simulated; for others one seed, three and five with effects of their own."""
ERROR = 2.0
"""Standard errors of the simulation by which a figure must lie beyond its bound to break it; coverage has none."""


@dataclass(frozen=True)
class Setting:
    """One row of the table. luck: the standard deviation of the seeds' effects, as a share of the standard error
    that the items leave."""

    kind: str
    items: int
    seeds: int
    luck: float


@dataclass(frozen=True)
class Row:
    """What was found, in per cent; None where it does not apply. withheld: share of samples without an interval.
    change: the size that was drawn, in the scores' own scale. detectable: mean printed minimum."""

    kind: str
    items: int
    seeds: int
    luck: float
    withheld: float
    covered: float | None
    covered_change: float | None
    false: float
    detectable: float | None
    power: float | None
    repeats: int
    power_repeats: int


Draw = Callable[[np.random.Generator, Setting, float], Sample]


def _groups(setting: Setting) -> npt.NDArray[np.int64]:
    return np.arange(setting.items) // CLUSTER


def binary(lost: float, gained: float, *, clustered: bool = False) -> Draw:
    """Right-or-wrong items, eight of ten right before. Half of the flips come with the item and are those of every
    seed, half are new in each seed; of clustered items, flips come with the cluster in half the cases."""

    def draw(rng: np.random.Generator, setting: Setting, change: float) -> Sample:
        n, seeds = setting.items, setting.seeds
        start = gained - lost
        spread = np.sqrt(lost + gained - start**2)
        own = start + change + setting.luck * spread / np.sqrt(n) * rng.normal(size=(seeds, 1))
        flips = np.maximum(lost + gained, np.abs(own))
        down, up = (flips - own) / 2 / 0.8, (flips + own) / 2 / 0.2
        x = (rng.random(n) < 0.8).astype(float)
        shared, alone = rng.random(n), rng.random((seeds, n))
        names = None
        if clustered:
            group = _groups(setting)
            together = rng.random(int(group.max()) + 1)[group]
            shared = np.where(rng.random(n) < 0.5, together, shared)
            names = [str(g) for g in group]
        luck = np.where(rng.random(n) < 0.5, shared, alone)
        y = np.where(luck < np.where(x == 1, down, up), 1 - x, x)
        return x, y, None, names

    return draw


def graded(
    noise: Callable[[np.random.Generator, tuple[int, ...]], Floats],
    *,
    bounded: bool,
    weighted: bool = False,
    clustered: bool = False,
    shared: float = 0.7,
) -> Draw:
    """Scores that move by `noise` (mean 0), the larger part of it the same in every seed. Scores with bounds
    start at 0.7 to 0.8."""
    size = float(np.std(noise(np.random.default_rng(0), (200_000,))))

    def draw(rng: np.random.Generator, setting: Setting, change: float) -> Sample:
        n, seeds = setting.items, setting.seeds
        own, alone = noise(rng, (n,)), noise(rng, (seeds, n))
        names = None
        if clustered:
            group = _groups(setting)
            own = (own + noise(rng, (int(group.max()) + 1,))[group]) / 2
            names = [str(g) for g in group]
        d = shared * own + (1 - shared) * alone if seeds > 1 else own
        luck = setting.luck * size / np.sqrt(n) * np.clip(rng.normal(size=(seeds, 1)), -3, 3)
        x = rng.uniform(0.7, 0.8, size=n) if bounded else rng.uniform(0.8, 1.4, size=n)
        weights = rng.lognormal(0.0, 1.0, size=n) if weighted else None
        return x, x + change + d + luck, weights, names

    return draw


def _even(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return 0.4 * rng.beta(2, 2, size=shape) - 0.2


def _skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return 0.6 * (1 / 9 - rng.beta(0.5, 4, size=shape))


def _rare(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return 0.035 + np.where(rng.random(shape) < 0.05, -0.7, 0.0) + rng.uniform(-0.03, 0.03, size=shape)


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return 0.1 * rng.normal(size=shape)


def _exponential(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return 0.1 * (rng.exponential(size=shape) - 1)


KINDS: dict[str, tuple[Draw, bool, float]] = {
    "right or wrong": (binary(0.1, 0.1), True, -0.08),
    "right or wrong, rare losses": (binary(0.015, 0.015), True, -0.03),
    "right or wrong, most lost": (binary(0.02, 0.02), True, -0.7),
    "right or wrong, clustered": (binary(0.1, 0.1, clustered=True), True, -0.08),
    "graded": (graded(_even, bounded=True), True, -0.1),
    "graded, skewed": (graded(_skewed, bounded=True), True, -0.1),
    "graded, rare large losses": (graded(_rare, bounded=True, shared=1.0), True, -0.02),
    "graded, clustered": (graded(_skewed, bounded=True, clustered=True), True, -0.1),
    "bits": (graded(_normal, bounded=False), False, 0.05),
    "bits, skewed": (graded(_exponential, bounded=False), False, 0.05),
    "bits, weighted": (graded(_exponential, bounded=False, weighted=True), False, 0.05),
    "bits, clustered": (graded(_exponential, bounded=False, clustered=True), False, 0.05),
}
"""Kind -> how it is drawn, whether its scores are bounded, and the change that is drawn besides none."""


def settings() -> Iterator[Setting]:
    """Every row: all sizes with one seed, and sizes that study files have with several."""
    for kind in KINDS:
        for items in ITEMS:
            for seeds, luck in SEEDS:
                if items in EVERY or (seeds, luck) in ((1, 0.0), (3, 1.0), (5, 1.0)):
                    yield Setting(kind, items, seeds, luck)


def measure(setting: Setting, change: float, repeats: int, seed: int, power: bool = False) -> list[Paired]:
    """`repeats` samples of a setting, through `paired`."""
    draw, bounded, _ = KINDS[setting.kind]
    rng = np.random.default_rng([seed, setting.items, setting.seeds, int(10 * setting.luck), *setting.kind.encode()])
    found = []
    for _ in range(repeats):
        x, y, weights, clusters = draw(rng, setting, change)
        found.append(paired(x, y, weights=weights, clusters=clusters, bounded=bounded, power=power))
    return found


def _covered(found: list[Paired], truth: float) -> list[bool]:
    return [
        one.low - 1e-12 <= truth <= one.high + 1e-12 for one in found if one.low is not None and one.high is not None
    ]


def proven(one: Paired) -> bool:
    """Whether the verdict of a single suite would be gained or lost, whatever its tolerance."""
    return judge(one.low, one.high, one.p, margin=0.0, better="higher") in ("gained", "lost")


def simulate(setting: Setting, few: int = FEW, most: int = MOST) -> Row:
    """One row of the table."""
    _, bounded, change = KINDS[setting.kind]
    still = measure(setting, 0.0, min(few, PRINTED), 7, power=True)
    printed = [one.minimum_detectable for one in still if one.minimum_detectable is not None]
    still += measure(setting, 0.0, few - len(still), 0)
    if len(_covered(still, 0.0)) > 0 and 100 * np.mean(_covered(still, 0.0)) < COVERAGE + 2.5:
        still += measure(setting, 0.0, most - few, 1)
    moved = measure(setting, change, few, 2)
    if len(_covered(moved, change)) > 0 and 100 * np.mean(_covered(moved, change)) < COVERAGE + 2.5:
        moved += measure(setting, change, most - few, 3)
    inside, with_change = _covered(still, 0.0), _covered(moved, change)
    smallest = float(np.mean(printed)) if len(printed) >= PRINTED / 10 else None
    power, powered = None, 0
    if smallest is not None and smallest < (0.6 if bounded else np.inf):
        power, powered = _power(setting, smallest, few, most)
    return Row(
        **asdict(setting),
        withheld=100 * (1 - len(inside) / len(still)),
        covered=100 * float(np.mean(inside)) if inside else None,
        covered_change=100 * float(np.mean(with_change)) if with_change else None,
        false=100 * float(np.mean([proven(one) for one in still])),
        detectable=smallest,
        power=power,
        repeats=len(still),
        power_repeats=powered,
    )


def _power(setting: Setting, change: float, few: int, most: int) -> tuple[float, int]:
    """How often a change is proven, in per cent, and of how many samples: in the direction that is harder to see.

    Right-or-wrong items are changed downwards only: few of them are wrong before, and there is little to gain.
    """
    sides = (-1,) if setting.kind.startswith("right or wrong") else (-1, 1)
    seen = {side: [proven(one) for one in measure(setting, side * change, few, 4)] for side in sides}
    harder = min(sides, key=lambda side: float(np.mean(seen[side])))
    if not POWER[0] + 2 < 100 * np.mean(seen[harder]) < POWER[1] - 2:
        seen[harder] += [proven(one) for one in measure(setting, harder * change, (most - few) // 2, 5)]
    return 100 * float(np.mean(seen[harder])), len(seen[harder])


def faults(row: Row) -> list[str]:
    """Which bounds a row breaks."""
    out = [
        f"coverage {value:.1f}" for value in (row.covered, row.covered_change) if value is not None and value < COVERAGE
    ]
    out += [f"false claims {row.false:.1f}"] if row.false > FALSE else []
    if row.power is not None:
        error = ERROR * np.sqrt(row.power * (100 - row.power) / row.power_repeats)
        out += [f"power {row.power:.1f}"] if not POWER[0] - error <= row.power <= POWER[1] + error else []
    return out


def run() -> Iterator[Result]:
    """The whole table; the page is written beside the results."""
    rows = []
    for setting in settings():
        row = simulate(setting)
        rows.append(row)
        print(" ".join(_cells(row)), *faults(row), file=sys.stderr, flush=True)
    write_text(PAGE, wrapped(page(rows)))
    yield from summed_up(rows)


def summed_up(rows: list[Row]) -> Iterator[Result]:
    """The table's worst figures against their bounds."""
    broken = {f"{row.kind}, {row.items} items, {row.seeds} seeds": faults(row) for row in rows if faults(row)}
    covered = [value for row in rows for value in (row.covered, row.covered_change) if value is not None]
    details = {"broken": broken, "rows": [asdict(row) for row in rows]}
    yield Result("intervals", min(covered), COVERAGE, "% covered at least", "higher is better", 1.0, details)
    falsely = max(row.false for row in rows)
    yield Result("intervals-false-claims", falsely, FALSE, "% at most", "lower is better", 1.0)
    inside = sum(not faults(row) for row in rows)
    yield Result("intervals-in-bounds", inside, len(rows), "rows", "higher is better", 1.0, {"broken": broken})


def page(rows: list[Row]) -> str:
    """docs/intervals.md."""
    head = "| scores | items | seeds | seeds differ | covered | covered, changed | false claims | detectable | power |"
    lines = [INTRODUCTION, head, f"|---|{'---:|' * 8}"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    broken = [
        f"{row.kind}, {row.items:,} items, {row.seeds} seeds: {', '.join(faults(row))}" for row in rows if faults(row)
    ]
    verdict = "Rows beyond a bound: " + "; ".join(broken) + "." if broken else "No row is beyond a bound."
    return lines[0] + "\n" + "\n".join(lines[1:]) + f"\n\n{verdict}\n"


def main(arguments: list[str]) -> int:
    """The table, or a quick look at it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--kind", default="")
    parser.add_argument("--items", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.quick:
        for setting in settings():
            if options.kind in setting.kind and options.items in (0, setting.items):
                row = simulate(setting, 300, 300)
                print(" ".join(_cells(row)), " ".join(faults(row)), flush=True)
        return 0
    results = list(run())
    for result in results:
        save(result)
    return 0 if all(result.holds for result in results) else 1


def _cells(row: Row) -> list[str]:
    def shown(value: float | None, digits: int = 1) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    return [
        row.kind,
        f"{row.items:,}",
        f"{row.seeds}",
        "yes" if row.luck else "no",
        shown(row.covered),
        shown(row.covered_change),
        shown(row.false),
        shown(row.detectable, 3),
        shown(row.power),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
