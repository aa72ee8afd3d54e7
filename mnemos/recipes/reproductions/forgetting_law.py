"""Laws of forgetting (arXiv:2401.05605) fitted to the reproduction `how-much-is-lost`.

    python -m mnemos.recipes.reproductions.forgetting_law \
        --results runs/reproductions/how-much-is-lost/lost_large/results.json

L_ft is the loss on the new text (nats per byte), L_f what was forgotten: KL from the model before on old text, nats per
token (the paper's cross-entropy against the base model's predictions, less the base's entropy). Two forms:

    linear     L_f = s - c * L_ft                                 over steps and seeds of one way to train
    power      L_f = top - ((a / P)^alpha + (b / N)^beta)^rho      P trainable parameters, N steps, all ways together

Intervals are percentiles over resampled seeds. A law fits here when its R^2 is at least 0.9; else the page says
that none does.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.core.errors import DataError
from mnemos.core.files import write_text
from mnemos.measure.laws.fitting import LEVEL, Floats, Problem, drawn_counts, grid, minimise
from mnemos.recipes.findings import read_results
from mnemos.recipes.pages import wrapped
from mnemos.report.markdown import table

FITS = 0.9
"""Smallest R^2 of a law that is said to fit."""

NEW, OLD = "bits-per-byte:glossa", "moved"
DRAWS = 400


@dataclass(frozen=True)
class Point:
    """One trained model. way: how it was trained, without the number of steps."""

    study: str
    way: str
    parameters: int
    steps: int
    seed: int
    learned_loss: float
    forgotten: float


@dataclass(frozen=True)
class Fit:
    """A law's numbers: name -> (value, low, high), and its R^2 (value, low, high)."""

    numbers: Mapping[str, tuple[float, float, float]]
    r2: tuple[float, float, float]

    @property
    def fits(self) -> bool:
        """Whether it describes what was measured."""
        return self.r2[0] >= FITS


def points(results: Mapping[str, Any]) -> list[Point]:
    """Every run of a study whose arms are named WAY-STEPS; plain is full-STEPS. Raises DataError for a run
    without the two suites."""
    out = []
    for entry in results["arms"]:
        for run in entry["runs"]:
            scores, cost = run["scores"], run["cost"]
            if NEW not in scores or OLD not in scores:
                raise DataError(
                    f"{results['study']}/{entry['arm']}", f"has no {NEW} or {OLD}", "give the reproduction's results"
                )
            way = "full" if entry["arm"] == "plain" else str(entry["arm"]).rpartition("-")[0]
            loss, moved = scores[NEW]["mean"] * math.log(2), scores[OLD]["mean"]
            out.append(
                Point(results["study"], way, cost["trainable_parameters"], cost["steps"], run["seed"], loss, moved)
            )
    return out


def r_squared(measured: Floats, predicted: Floats, weights: Floats | None = None) -> float:
    """1 - residual / total sum of squares; NaN where nothing varies. weights: how often each counts."""
    w = np.ones(len(measured)) if weights is None else weights
    total = float((w * (measured - np.average(measured, weights=w)) ** 2).sum())
    return 1 - float((w * (measured - predicted) ** 2).sum()) / total if total > 0 else math.nan


def line(
    of: Sequence[Point], weights: Floats | None = None, near: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Least squares of L_f = s - c * L_ft. near: nothing to a line, which has one minimum."""
    x, y = _columns(of)
    w = np.ones(len(x)) if weights is None else weights
    # Weights of polyfit multiply residuals before they are squared.
    slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(w))
    return {"c": -float(slope), "s": float(intercept), "r2": r_squared(y, intercept + slope * x, w)}


def _columns(of: Sequence[Point]) -> tuple[Floats, Floats]:
    return np.array([p.learned_loss for p in of]), np.array([p.forgotten for p in of])


def power_law(theta: Floats, parameters: Floats, steps: Floats) -> Floats:
    """float[n]. theta: top, ln a, ln b, ln alpha, ln beta, ln rho."""
    return np.asarray(power_curve(theta[None], parameters, steps)[0][0])


def power_curve(theta: Floats, parameters: Floats, steps: Floats) -> tuple[Floats, Floats]:
    """The law float[S, n] and its slopes float[S, n, 6]. theta: float[S, 6]."""
    top, log_a, log_b = (column[:, None] for column in theta.T[:3])
    alpha, beta, rho = (np.exp(np.clip(column, -20, 20))[:, None] for column in theta.T[3:])
    # In logarithms and within bounds, since the search tries exponents that would overflow.
    u, v = alpha * (log_a - np.log(parameters)), beta * (log_b - np.log(steps))
    inner = np.logaddexp(u, v)
    mass = np.exp(np.clip(rho * inner, -50, 50))
    by_u, by_v = np.exp(u - inner), np.exp(v - inner)  # shares of the sum within
    slopes = np.stack(
        [np.ones_like(mass), *(-mass * rho * part for part in (by_u * alpha, by_v * beta, by_u * u, by_v * v, inner))],
        axis=-1,
    )
    return top - mass, slopes


POSITIVE = ("a", "b", "alpha", "beta", "rho")
"""Numbers of the power law that are searched as logarithms."""


def power(
    of: Sequence[Point], weights: Floats | None = None, near: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Least squares of the power law, searched from `near`, a fit to other points, or from a grid of starts."""
    p, n = np.array([float(x.parameters) for x in of]), np.array([float(x.steps) for x in of])
    y = np.array([x.forgotten for x in of])
    w = np.ones(len(y)) if weights is None else weights
    problem = Problem(lambda theta: power_curve(theta, p, n), y)
    if near is None:
        top, logs = float(y.max()), np.log([0.1, 0.5, 1.0])
        scales = [scale * top for scale in (1.0, 1.5, 3.0)]
        starts = grid(scales, [math.log(p.mean())], [math.log(n.mean())], logs[:2], logs, [0.0])
    else:
        starts = np.array([[near["top"], *(math.log(near[name]) for name in POSITIVE)]])
    best = minimise(problem, starts, w).theta
    return {
        "top": float(best[0]),
        **{name: float(np.exp(np.clip(value, -700, 700))) for name, value in zip(POSITIVE, best[1:], strict=True)},
        "r2": r_squared(y, power_law(best, p, n), w),
    }


def bootstrapped(of: Sequence[Point], fit: Callable[..., dict[str, float]], draws: int = DRAWS) -> Fit:
    """The fit to all points, with 95 % intervals over seeds drawn with replacement; each draw begins at the fit to
    all points."""
    best = fit(of)
    drawn = [fit(of, row, best) for row in drawn_counts([point.seed for point in of], draws)]
    around: dict[str, tuple[float, float, float]] = {}
    for name, value in best.items():
        low, high = np.nanpercentile([one[name] for one in drawn], LEVEL)
        around[name] = (value, float(low), float(high))
    r2 = around.pop("r2")
    return Fit(around, r2)


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """docs/forgetting-law.md."""
    blocks = [
        "# Laws of forgetting",
        "Written by `python -m mnemos.recipes.reproductions.forgetting_law`. Learned: loss on new text, nats per byte "
        "(L_ft). "
        "Forgotten: KL from the model before on old text, nats per token (L_f): the cross-entropy against the base "
        "model's predictions (arXiv:2401.05605) less that model's own entropy. Intervals: 95 %, over seeds.",
    ]
    for study in results:
        found = points(study)
        blocks += [f"## {study['study']}", _means(found), *_laws(found)]
    return wrapped("\n\n".join(blocks) + "\n")


def _means(found: Sequence[Point]) -> str:
    keys = list(dict.fromkeys((p.way, p.parameters, p.steps) for p in found))
    rows = []
    for way, parameters, steps in keys:
        of = [p for p in found if (p.way, p.steps) == (way, steps)]
        x, y = _columns(of)
        rows.append([way, f"{parameters:,}", str(steps), _spread(x), _spread(y)])
    return table(("way", "trainable parameters", "steps", "L_ft", "L_f"), rows)


def _spread(values: Floats) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1) if len(values) > 1 else math.nan:.3f}"


def _laws(found: Sequence[Point]) -> list[str]:
    rows = []
    ways = list(dict.fromkeys(p.way for p in found))
    groups = [(way, [p for p in found if p.way == way]) for way in ways]
    groups += [("all ways", list(found))] if len(ways) > 1 else []
    for way, of in groups:
        fit = bootstrapped(of, line)
        rows.append([way, _number(fit.numbers["c"]), _number(fit.numbers["s"]), _number(fit.r2), _verdict(fit)])
    out = [table(("L_f = s - c·L_ft", "c", "s", "R²", ""), rows)]
    adapters = [p for p in found if p.way != "full"]
    if len({p.parameters for p in adapters}) >= 3:
        law = bootstrapped(adapters, power, draws=40)
        # Numbers of a law that does not fit are where the search stopped, and mean nothing.
        text = [f"{name} {_number(value)}" for name, value in law.numbers.items()] if law.fits else []
        text.append(f"R² {_number(law.r2)}: {_verdict(law)}")
        out.append(f"L_f = top - ((a/P)^alpha + (b/N)^beta)^rho over the adapters: {', '.join(text)}.")
    return out


def _verdict(fit: Fit) -> str:
    return "fits" if fit.fits else "does not fit"


def _number(value: tuple[float, float, float]) -> str:
    return "{:.3g} [{:.3g}, {:.3g}]".format(*value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: write the page."""
    parser = argparse.ArgumentParser(prog="python -m mnemos.recipes.reproductions.forgetting_law", description=__doc__)
    parser.add_argument("--results", type=Path, action="append", required=True, help="a results.json; repeatable")
    parser.add_argument("--out", type=Path, default=Path("docs/forgetting-law.md"), help="the page")
    given = parser.parse_args(arguments)
    write_text(given.out, page(list(read_results(given.results).values())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
