"""Are arms dropped rightly, and is what is proven afterwards proven?

    python -m benchmarks.teach_race_simulation           the whole table: docs/race.md and its JSON under results/
    python -m benchmarks.teach_race_simulation --quick   a tenth of the races, printed only

Races whose truth is known go through the functions that `mnemos teach` uses: `race.look` after each rung, on scores
of newly trained arms on the same development items, `race.choice` among those that are left, and one comparison of the
chosen arm on held-out items.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.common import Result, save
from mnemos.core.files import write_text
from mnemos.measure.compare import judge
from mnemos.measure.frontier import SuiteScores
from mnemos.measure.race import Rules, choice, look
from mnemos.measure.uncertainty import paired
from mnemos.recipes.pages import wrapped

Floats = npt.NDArray[np.float64]

PAGE = Path(__file__).parents[1] / "docs/race.md"
RACES, RUNGS, OLD, ALLOWED = 200, 3, 5, 0.02
BOUND = 5.0
INTRODUCTION = """# Are arms dropped rightly, and is what is proven proven?

Written by `python -m benchmarks.teach_race_simulation`, from the functions that `mnemos teach` uses. Each row is of
{races:,} races whose truth is known: {rungs} rungs, one new suite and {old} old ones of as many development items each.

- **ahead**: by how many points the best arm's gain on the new suite truly exceeds that of all others, which are equal.
  0: no arm is better than another, and every one is the model before with some answers changed by chance.
- **best dropped**: races in which the best arm (the first, where all are equal) was dropped, in per cent. Bound: at
  most 5, the level of the whole race.
- **others dropped**: of the other arms, how many per cent were dropped by the last rung. **trained**: rows trained, in
  per cent of training every arm on all rows; rungs are shares of 1/9, 1/3 and all of the rows.
- **proven before**: races without any true gain in which the chosen arm's gain would have been called proven on the
  development items by which it was chosen. **proven**: the same on held-out items, as `teach` does it, and **let
  through**: races in which every arm truly loses 4 points on every old suite, 2 are allowed, and held-out items call
  all of them kept. Bound: at most 5, within two standard errors of the simulation.

The test: for each pair of arms a capital is bet on the balance (gain on new suites minus loss on old ones) of one over
the other, by a mixture of ten fixed bets; it may pass 1 / level by chance with probability `level` at most, at however
many looks (Ville's inequality; betting after Waudby-Smith and Ramdas, doi:10.1093/jrsssb/qkad009). The level of 5 % is
divided over opponents, old suites and rungs. Nothing is assumed about the shape of the scores, which is paid for in
width: with 120 items an arm has to be behind by some 20 points of balance to be dropped. Only an arm whose own gain is
proven, by the same test at 5 %, beats another one: who has learned nothing yet has lost little as well. No test covers
that curves cross: an arm that is behind on a ninth of the rows might have won on all of them.

| arms | items | ahead | best dropped | others dropped | trained | proven before | proven | let through |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""


@dataclass(frozen=True)
class Setting:
    """One row. ahead: true advantage of the first arm, 0.1 is ten points."""

    arms: int
    items: int
    ahead: float


@dataclass(frozen=True)
class Row:
    """What was found, in per cent; None where something is truly gained, so that no claim is false."""

    arms: int
    items: int
    ahead: float
    best_dropped: float
    others_dropped: float
    trained: float
    proven_on_development: float | None
    proven: float | None
    let_through: float | None
    races: int


SETTINGS = [
    Setting(arms, items, ahead)
    for arms in (4, 8)
    for items, aheads in ((40, (0.0, 0.5)), (120, (0.0, 0.1, 0.2, 0.4)), (400, (0.0, 0.1, 0.2)))
    for ahead in aheads
    if arms * items <= 4 * 400  # the others would take half of the time
]


def scores(rng: np.random.Generator, setting: Setting, first: list[Floats], loss: float) -> list[SuiteScores]:
    """Scores of newly trained arms on the items of `first` (scores before, new suite first): each changes 8 in 100
    answers either way, half of these changes those of every arm."""
    out = []
    for place, before in enumerate(first):
        shared, after = rng.random(len(before)), {}
        for arm in range(setting.arms):
            drift = (setting.ahead if arm == 0 else 0.0) if place == 0 else -loss
            right = float(before.mean()) if 0 < before.mean() < 1 else 0.5
            down, up = (0.08 + max(0.0, -drift)) / max(right, 0.05), (0.08 + max(0.0, drift)) / max(1 - right, 0.05)
            luck = np.where(rng.random(len(before)) < 0.5, shared, rng.random(len(before)))
            after[str(arm)] = np.where(luck < np.where(before == 1, down, up), 1 - before, before)[None]
        name, role = ("new", "new") if place == 0 else (f"old-{place}", "old")
        out.append(
            SuiteScores(name, role, "points", "higher", before, after, np.ones(len(before)), [None] * len(before))
        )
    return out


def raced(rng: np.random.Generator, setting: Setting, loss: float = 0.0) -> tuple[list[str], float, bool, bool, bool]:
    """Arms that are left, rows trained (of all arms on all rows), whether a gain is called proven on development and
    on held-out items, and whether every old suite is called kept."""
    items = [[(rng.random(setting.items) < share).astype(float) for share in (0.3, *[0.7] * OLD)] for _ in range(2)]
    arms, trained = [str(arm) for arm in range(setting.arms)], 0.0
    rules = Rules(setting.arms, RUNGS, OLD, ALLOWED)
    for rung in range(RUNGS):
        trained += len(arms) * 3.0 ** (rung + 1 - RUNGS) / setting.arms
        found = scores(rng, setting, items[0], loss)
        arms = [place.arm for place in look([found], arms, rules) if not place.dropped]
    chosen = choice(found, arms, max_loss=ALLOWED, ranks=dict.fromkeys(arms, (0.0,)))
    held = scores(rng, setting, items[1], loss)
    gains = [
        judge(one.low, one.high, one.p, margin=ALLOWED, better="higher") == "gained"
        for one in (paired(side[0].before, side[0].after[chosen], power=False) for side in (found, held))
    ]
    lows = [paired(suite.before, suite.after[chosen], power=False).low for suite in held[1:]] if loss else [-1.0]
    return arms, trained, gains[0], gains[1], all(low is not None and low >= -ALLOWED for low in lows)


def row(setting: Setting, races: int) -> Row:
    """Simulate one setting, with a seed of its own."""
    rng = np.random.default_rng([setting.arms, setting.items, round(1000 * setting.ahead)])
    found = [raced(rng, setting) for _ in range(races)]
    none = setting.ahead == 0
    through = [raced(rng, setting, 0.04)[4] for _ in range(races)] if none else []

    def share(values: list[bool] | list[float]) -> float:
        return 100 * float(np.mean(values))

    return Row(
        **asdict(setting),
        best_dropped=share(["0" not in arms for arms, *_ in found]),
        others_dropped=share([1 - sum(arm != "0" for arm in arms) / (setting.arms - 1) for arms, *_ in found]),
        trained=share([trained for _, trained, *_ in found]),
        proven_on_development=share([gained for _, _, gained, _, _ in found]) if none else None,
        proven=share([gained for *_, gained, _ in found]) if none else None,
        let_through=share(through) if none else None,
        races=races,
    )


def holds(found: Row) -> bool:
    """Whether every bound is kept, within two standard errors of the simulation."""
    most = BOUND + 2 * 100 * float(np.sqrt(0.05 * 0.95 / found.races))
    return all(value is None or value <= most for value in (found.best_dropped, found.proven, found.let_through))


def line(found: Row) -> str:
    """One row of the table."""
    numbers = (
        found.best_dropped,
        found.others_dropped,
        found.trained,
        found.proven_on_development,
        found.proven,
        found.let_through,
    )
    text = " | ".join("–" if number is None else f"{number:.1f}" for number in numbers)
    return f"| {found.arms} | {found.items} | {100 * found.ahead:.0f} | {text} |"


def run(races: int = RACES, *, keep: bool = True) -> Iterator[Result]:
    """Simulate every setting; write the page."""
    rows = []
    for setting in SETTINGS:
        rows.append(row(setting, races))
        print(line(rows[-1]), file=sys.stderr, flush=True)
    head, table = INTRODUCTION.format(races=races, rungs=RUNGS, old=OLD).rsplit("\n\n", 1)
    if keep:
        write_text(PAGE, wrapped(f"{head}\n\n{table}" + "\n".join(map(line, rows)) + "\n"))
    worst = max(max(one.best_dropped, one.proven or 0.0, one.let_through or 0.0) for one in rows)
    yield Result(
        "teach_race_simulation", worst, BOUND, "per cent of races", "lower is better", 1 + 2 * 0.0154 / 0.05,
        {"rows": [asdict(one) for one in rows], "holds": all(map(holds, rows))},
    )  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the races, printed only")
    quick = parser.parse_args().quick
    for result in run(RACES // 10 if quick else RACES, keep=not quick):
        if not quick:
            save(result)
        print(f"{result.name}: {result.ours:.1f} against {result.peer:.1f} at most, holds: {result.details['holds']}")


if __name__ == "__main__":
    main()
