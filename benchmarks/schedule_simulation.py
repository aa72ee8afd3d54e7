"""How long would a thousand arms take on 256 workers whose nodes are lost now and then?

    python -m benchmarks.schedule_simulation           the whole table: its part of docs/cluster.md, results/*.json
    python -m benchmarks.schedule_simulation --quick   a tenth of the arms, printed only

The loop, the order of steps and the bound on retries are those of the engines (`study.engines.schedule`). What is
simulated is the workplace: steps take time of a simulated clock, nodes live for exponentially distributed times.
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Result, save
from benchmarks.readme import fill
from mnemos.core.errors import RunError
from mnemos.core.progress import Status
from mnemos.study.engines.schedule import Retries, Schedule, bring_to_done
from mnemos.study.progress import Progress

PAGE = Path(__file__).parents[1] / "docs/cluster.md"
RUNS, WORKERS, MINUTE, HOUR = 1_000, 256, 60.0, 3_600.0
TRAIN, MEASURE, SPREAD = 30 * MINUTE, 6 * MINUTE, 0.3
"""Mean lengths of a training and a measurement, and the standard deviation of their logarithms."""
GONE = 5 * MINUTE
"""Until a lost node is replaced."""
NOTICED = 30.0
"""Until its loss is noticed."""
HANDED_OVER = 0.01
"""Seconds that a step costs beside its work."""
RETRIES, SEEDS, BOUND = 3, 5, 1.25


@dataclass(frozen=True)
class Setting:
    """One row. life: mean hours until a node is lost; None: never. kept: minutes between checkpoints of a training;
    None: it begins anew."""

    life: float | None
    kept: float | None
    runs: int = RUNS
    workers: int = WORKERS


@dataclass(frozen=True)
class Row:
    """What was found, means over seeds. hours, ratio: makespan, also over the ideal one, of the seeds that came to
    their end; None for none. lost: steps lost with their nodes. most: the most often that one step was, in any seed.
    failed: seeds whose run ended because that was too often. loop: seconds of this machine a step, for the loop."""

    life: float | None
    kept: float | None
    ideal_hours: float
    hours: float | None
    ratio: float | None
    lost: float
    most: int
    failed: int
    loop: float


@dataclass(frozen=True)
class Stub:
    """A step that takes time and does nothing."""

    key: str
    seconds: float
    needs: tuple[str, ...] = ()
    title: str = "stub"
    every_process = False
    files = {}  # type: ignore[var-annotated]  # noqa: RUF012

    def work(self, directory: Path, quiet: bool) -> dict[str, Any]:
        raise AssertionError("simulated")


def steps_of(rng: np.random.Generator, runs: int) -> list[Stub]:
    """The model before is measured, and each run trains and is measured."""

    def length(mean: float) -> float:
        return float(mean * rng.lognormal(-(SPREAD**2) / 2, SPREAD))

    steps = [Stub("measure-before", length(MEASURE))]
    for run in range(runs):
        steps.append(Stub(f"train-{run}", length(TRAIN)))
        steps.append(Stub(f"measure-{run}", length(MEASURE), (f"train-{run}", "measure-before")))
    return steps


def ideal(steps: list[Stub], workers: int) -> float:
    """Seconds that no schedule beats: all work spread evenly without a loss, or the longest chain."""
    by_key = {step.key: step for step in steps}
    ends: dict[str, float] = {}
    for step in steps:
        ends[step.key] = step.seconds + max((ends[key] for key in step.needs), default=0.0)
    assert set(ends) == set(by_key)
    return max(sum(step.seconds for step in steps) / workers, max(ends.values()))


class Simulated:
    """A workplace with a clock of its own. A node has one worker; a step that was lost goes to the next free one."""

    def __init__(self, rng: np.random.Generator, setting: Setting) -> None:
        self.rng, self.setting = rng, setting
        self.now, self.lost = 0.0, 0
        self.retries = Retries(RETRIES)
        self.idle = setting.workers
        self.again: list[Stub] = []
        self.events: list[tuple[float, int, str, Stub | None]] = []
        self.done: dict[str, float] = {}
        self.number = 0

    def room(self) -> int:
        return max(0, self.idle - len(self.again))

    def begin(self, step: Any) -> Callable[[], Status]:
        self.idle -= 1
        left = step.seconds - self.done.get(step.key, 0.0) + HANDED_OVER
        life = math.inf if self.setting.life is None else float(self.rng.exponential(self.setting.life * HOUR))
        if life < left:
            kept = 0.0 if self.setting.kept is None else self.setting.kept * MINUTE
            if kept and step.key.startswith("train-"):
                self.done[step.key] = self.done.get(step.key, 0.0) + math.floor(life / kept) * kept
            self._at(life + NOTICED, "lost", step)
            self._at(life + GONE, "back", None)
        else:
            self._at(left, "done", step)
        return Status

    def heard(self) -> Iterator[tuple[str, Status | str | None]]:
        self.now, _, what, step = heapq.heappop(self.events)
        if what != "lost":
            self.idle += 1
        if step is not None and what == "lost":
            self.lost += 1
            self.retries.count(step, "a node")
            self.again.append(step)
        elif step is not None:
            yield step.key, None
        while self.again and self.idle:
            self.begin(self.again.pop(0))

    def _at(self, after: float, what: str, step: Stub | None) -> None:
        self.number += 1
        heapq.heappush(self.events, (self.now + after, self.number, what, step))


def simulate(setting: Setting, seed: int) -> tuple[float, float, int, int, bool, float]:
    """(ideal seconds, seconds, losses, most of one step, whether it ended, seconds of the loop a step)."""
    rng = np.random.default_rng([seed, setting.runs])
    steps = steps_of(rng, setting.runs)
    place = Simulated(rng, setting)
    began = time.perf_counter()
    schedule = Schedule(steps, Path("/nonexistent"))
    ended = True
    with Progress(schedule.todo, silent=True) as progress:
        try:
            bring_to_done(schedule, place, progress)
        except RunError:
            ended = False
    loop = (time.perf_counter() - began) / len(steps)
    return (
        ideal(steps, setting.workers),
        place.now,
        place.lost,
        max(place.retries.lost.values(), default=0),
        ended,
        loop,
    )


def row(setting: Setting, seeds: int = SEEDS) -> Row:
    """Simulate one setting; runs that ended early count as failed, and not in the makespan."""
    found = [simulate(setting, seed) for seed in range(seeds)]
    whole = [one for one in found if one[4]]
    bests, hours = ([one[place] / HOUR for one in whole] for place in (0, 1))
    return Row(
        setting.life,
        setting.kept,
        ideal_hours=float(np.mean([one[0] / HOUR for one in found])),
        hours=float(np.mean(hours)) if hours else None,
        ratio=float(np.mean([a / b for a, b in zip(hours, bests, strict=True)])) if hours else None,
        lost=float(np.mean([one[2] for one in found])),
        most=max(one[3] for one in found),
        failed=sum(not one[4] for one in found),
        loop=float(np.mean([one[5] for one in found])),
    )


SETTINGS = [Setting(None, None), *(Setting(life, kept) for life in (168.0, 24.0, 8.0, 2.0) for kept in (10.0, None))]
HEAD = """| a node lives | checkpoints every | ideal | takes | ratio | steps lost | most of one step | given up |
|---:|---:|---:|---:|---:|---:|---:|---:|"""


def line(found: Row) -> str:
    """One row of the table."""
    life = "for ever" if found.life is None else f"{found.life:g} h"
    kept = "–" if found.life is None else "never" if found.kept is None else f"{found.kept:g} min"
    times = f"{found.ideal_hours:.2f} h | – | –"
    if found.hours is not None:
        times = f"{found.ideal_hours:.2f} h | {found.hours:.2f} h | {found.ratio:.2f}"
    return f"| {life} | {kept} | {times} | {found.lost:.0f} | {found.most} | {found.failed} of {SEEDS} |"


def run(runs: int = RUNS, *, keep: bool = True) -> Iterator[Result]:
    """Simulate every setting; the row of the bound is that of a node a week with checkpoints."""
    rows = []
    for setting in SETTINGS:
        rows.append(row(Setting(setting.life, setting.kept, runs, max(1, WORKERS * runs // RUNS))))
        print(line(rows[-1]), file=sys.stderr, flush=True)
    if keep:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(fill(text, "schedule-table", "\n".join([HEAD, *map(line, rows)])), encoding="utf-8")
    week = rows[1]
    assert week.hours is not None
    yield Result(
        "schedule-simulation", week.hours, week.ideal_hours, "h", "lower is better", BOUND,
        {"rows": [asdict(one) for one in rows], "seconds of the loop a step": max(one.loop for one in rows)},
    )  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the arms, printed only")
    quick = parser.parse_args().quick
    for result in run(RUNS // 10 if quick else RUNS, keep=not quick):
        if not quick:
            save(result)
        print(f"{result.name}: {result.ratio:.2f} of the ideal makespan, {result.bound:g} at most: {result.holds}")


if __name__ == "__main__":
    main()
