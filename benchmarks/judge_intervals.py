"""Do the intervals of a judge's calibration cover the truth?

    python -m benchmarks judge_intervals     the tables of docs/judges.md, results/judge-intervals.json

Labels and verdicts are drawn from distributions whose truth is known and go through the functions that every
calibration uses (`measure.correction`, `measure.agreement`, `measure.arena`). Beside each corrected rate stands the
naive one, Wilson's interval of what the judge says: it covers the truth only where the judge makes no errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.common import Result
from mnemos.measure.agreement import bootstrap, cohen_kappa, gwet_ac1
from mnemos.measure.arena import Duel, standings
from mnemos.measure.correction import Rates, prediction_powered, rogan_gladen

TIMES, COVERED = 1_000, 93.0
BOOTSTRAPPED = 60
"""Samples of a setting whose intervals are bootstrapped."""


@dataclass(frozen=True)
class Row:
    """covered: per cent of samples whose interval holds the truth, of those that have one; naive: the same of the
    uncorrected interval; width: its mean, in points; without: per cent of samples without an interval."""

    what: str
    setting: str
    covered: float
    naive: float | None
    width: float
    without: float


def rogan_gladen_rows(rng: np.random.Generator) -> Iterator[Row]:
    """A judge with these rates reports on n items; m labels on each side estimate its rates."""
    for q1, q0 in ((0.9, 0.85), (0.8, 0.6), (0.6, 0.55), (0.99, 0.99)):
        for theta in (0.1, 0.5, 0.9):
            for n, m in ((200, 30), (1000, 100)):
                hits, naive, width, without = [], [], [], 0
                for _ in range(TIMES):
                    p = rng.binomial(n, theta * q1 + (1 - theta) * (1 - q0)) / n
                    found = rogan_gladen(p, n, Rates(rng.binomial(m, q1) / m, m, rng.binomial(m, q0) / m, m))
                    naive.append(found.naive_low <= theta <= found.naive_high)
                    if np.isnan(found.low):
                        without += 1
                        continue
                    hits.append(found.low <= theta <= found.high)
                    width.append(found.width)
                setting = f"q1 {q1}, q0 {q0}, truth {theta}, n {n}, {m} + {m} labels"
                yield _row("Rogan-Gladen", setting, hits, naive, width, without)


def powered_rows(rng: np.random.Generator) -> Iterator[Row]:
    """Human values 0, 1/2, 1; a judge that copies them with a share of noise, and leans by some to 1."""
    for labels, others in ((12, 200), (30, 200), (100, 1000)):
        for wins, ties in ((0.5, 0.2), (0.85, 0.05)):
            for noise, lean in ((0.2, 0.0), (0.5, 0.3), (1.0, 0.3)):
                truth = wins + ties / 2
                hits, naive, width, without = [], [], [], 0
                for _ in range(TIMES):
                    y = rng.choice([1.0, 0.5, 0.0], labels + others, p=[wins, ties, 1 - wins - ties])
                    random = np.where(rng.random(len(y)) < lean, 1.0, rng.choice([0.0, 0.5, 1.0], len(y)))
                    f = np.where(rng.random(len(y)) < noise, random, y)
                    found = prediction_powered(list(y[:labels]), list(f[:labels]), list(f[labels:]))
                    naive.append(found.naive_low <= truth <= found.naive_high)
                    if np.isnan(found.low):
                        without += 1
                        continue
                    hits.append(found.low <= truth <= found.high)
                    width.append(found.width)
                setting = f"truth {truth:.3f}, noise {noise}, lean {lean}, {labels} labels, {others} others"
                yield _row("prediction-powered", setting, hits, naive, width, without)


def agreement_rows(rng: np.random.Generator) -> Iterator[Row]:
    """Two raters of three labels; truth is that of the table that pairs are drawn from."""
    tables = {
        "even": np.array([[0.3, 0.07, 0.03], [0.06, 0.3, 0.04], [0.04, 0.03, 0.13]]),
        "one label rare": np.array([[0.8, 0.04, 0.01], [0.05, 0.07, 0.005], [0.005, 0.01, 0.01]]),
    }
    for name, table in tables.items():
        for n in (20, 200):
            for what, statistic in (("kappa", cohen_kappa), ("AC1", gwet_ac1)):
                truth, hits, width, without = statistic(table), [], [], 0
                for seed in range(BOOTSTRAPPED):
                    cells = rng.choice(9, n, p=table.ravel())
                    units = np.zeros((n, 9))
                    units[np.arange(n), cells] = 1.0
                    found = bootstrap(units.reshape(n, 3, 3), statistic, seed=seed, rare=statistic is cohen_kappa)
                    if np.isnan(found.low):
                        without += 1
                        continue
                    hits.append(found.low <= truth <= found.high)
                    width.append(found.high - found.low)
                yield _row(what, f"{name}, {n} items", hits, None, width, without)


def arena_rows(rng: np.random.Generator) -> Iterator[Row]:
    """Three models on each prompt, whose difficulty is shared by all verdicts on it; truth is the win rate."""
    for prompts in (20, 100):
        gaps = {("a", "b"): 0.4, ("a", "c"): 0.8, ("b", "c"): 0.4}
        hits, width = [], []
        # The truth by a large sample of the same kind, since a shared difficulty bends the rates.
        truth = np.mean([_won(gaps[pair], rng.normal(0, 1, 200_000)).mean() for pair in (("a", "b"), ("a", "c"))])
        for seed in range(BOOTSTRAPPED // 2):
            hard = rng.normal(0, 1, prompts)
            duels = [
                Duel(str(i), pair, float(rng.random() < _won(gap, np.array([hard[i]]))[0]))
                for i in range(prompts)
                for pair, gap in gaps.items()
            ]
            (found,) = [one for one in standings(duels, seed=seed) if one.model == "a"]
            hits.append(found.wins_low <= truth <= found.wins_high)
            width.append(found.wins_high - found.wins_low)
        yield _row("win rate of three models", f"{prompts} prompts, three verdicts each", hits, None, width, 0)


def _won(gap: float, hard: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-(gap + hard))))


def _row(what: str, setting: str, hits: list[bool], naive: list[bool] | None, width: list[float], without: int) -> Row:
    times = len(hits) + without
    return Row(
        what,
        setting,
        100 * float(np.mean(hits)) if hits else float("nan"),
        None if naive is None else 100 * float(np.mean(naive)),
        100 * float(np.mean(width)) if width else float("nan"),
        100 * without / times,
    )


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    out = ["| | setting | covered % | naive % | width, points | no interval % |", "|---|---|---:|---:|---:|---:|"]
    for row in rows:
        naive = "-" if row.naive is None else f"{row.naive:.1f}"
        out.append(
            f"| {row.what} | {row.setting} | {row.covered:.1f} | {naive} | {row.width:.1f} | {row.without:.1f} |"
        )
    return "\n".join(out)


def run() -> Iterator[Result]:
    """The smallest coverage of each kind beside the bound."""
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    print(table(rows))
    for kind in (rogan_gladen_rows, powered_rows, agreement_rows, arena_rows):
        for row in kind(rng):
            rows.append(row)
            print(table([row]).splitlines()[-1], flush=True)  # as they come: the last ones are bootstrapped
    worst = min(row.covered for row in rows)
    yield Result(
        "judge-intervals", worst, COVERED, "per cent covered, the worst row", "higher is better", 1.0,
        {"rows": [asdict(row) for row in rows], "samples": TIMES, "bootstrapped": BOOTSTRAPPED},
    )  # fmt: skip
