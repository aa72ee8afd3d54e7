"""Does one curve of forgetting against KL(before || after) fit all arms (RL's Razor, arXiv:2509.04259)?

One point a run (arm and replicate): x, nats per token of KL(before || after) along the model before's
answers to the new task's prompts; y, points forgotten, the mean over the old suites of the loss against
the model before. A quadratic is fitted by least squares over all points of all arms.

R^2 has a 95 % bootstrap interval: replicates are drawn anew within each arm, and arms among arms, since
the claim is about ways of training that were not tried too. What speaks for one curve is not R^2 alone,
which any arm far out makes large, but `off`: how far each arm lies from the curve of all the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mnemos.measure.frontier import Floats, SuiteScores
from mnemos.measure.uncertainty import ALPHA, t_quantile

DRAWS = 2_000
DEGREE = 2
FEWEST = 5
"""Points below which nothing is fitted: a quadratic has three free numbers."""


def kl_forgetting(
    suites: Sequence[SuiteScores], divergences: Sequence[str], arms: Sequence[str], *, seed: int = 0
) -> dict[str, Any] | None:
    """The `kl_forgetting` of results.json; None without a divergence on new prompts or an old suite in points.

    divergences: names of the suites of KL(before || after) on new prompts; x is their mean. Returns suites,
    old (names), points (one a run: arm, replicate (its place), kl, forgotten), and fit: None with why_not,
    or coefficients (constant first), r2 {mean, low, high}, spearman (rank correlation), draws and off (one
    an arm: the mean of its points minus the curve fitted without it, {mean, low, high} over replicates).
    """
    x, y, old = _sides(suites, divergences, arms)
    if x is None or y is None:
        return None
    points = [
        {"arm": arm, "replicate": place, "kl": float(x[arm][place]), "forgotten": float(y[arm][place])}
        for arm in arms
        for place in range(len(x[arm]))
        if np.isfinite(x[arm][place]) and np.isfinite(y[arm][place])
    ]
    found: dict[str, Any] = {"suites": list(divergences), "old": old, "points": points}
    why = _why_not(points)
    return {**found, "fit": None, "why_not": why} if why else {**found, "fit": _fit(points, seed), "why_not": None}


def _sides(
    suites: Sequence[SuiteScores], divergences: Sequence[str], arms: Sequence[str]
) -> tuple[Mapping[str, Floats] | None, Mapping[str, Floats] | None, list[str]]:
    """arm -> float[R] of both coordinates, and the names of the old suites."""
    by_name = {suite.name: suite for suite in suites}
    new = [by_name[name] for name in divergences if name in by_name]
    old = [suite for suite in suites if suite.role == "old" and suite.unit == "points"]
    if not new or not old:
        return None, None, []
    # arm -> float[R], nats per token
    x = {arm: np.mean([_means(suite, suite.after[arm]) for suite in new], axis=0) for arm in arms}
    # arm -> float[R], positive where something was forgotten
    y = {
        arm: np.mean(
            [(1 if suite.better == "lower" else -1) * _means(suite, suite.after[arm] - suite.before) for suite in old],
            axis=0,
        )
        for arm in arms
    }
    return x, y, [suite.name for suite in old]


def _means(suite: SuiteScores, values: Floats) -> Floats:
    """float[R]: weighted mean of each replicate over the items with a value."""
    there = np.isfinite(values)
    weight = np.where(there, suite.weight, 0.0)
    # A run without any value has weight 0: 0 / 0 is NaN, and its point is left out.
    total = weight.sum(axis=1)
    with np.errstate(invalid="ignore"):
        means = (np.where(there, values, 0.0) * weight).sum(axis=1) / total
    return np.asarray(means)


def _why_not(points: Sequence[Mapping[str, Any]]) -> str | None:
    if len(points) < FEWEST:
        return f"{len(points)} points, a quadratic needs {FEWEST}"
    # Fewer different x than the quadratic has numbers: many curves would fit equally well.
    if len({point["kl"] for point in points}) <= DEGREE:
        return f"the points share fewer than {DEGREE + 1} divergences"
    if len({point["forgotten"] for point in points}) == 1:
        return "every run forgot the same"
    return None


def _fit(points: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    x, y = (np.array([point[name] for point in points]) for name in ("kl", "forgotten"))
    arms = [point["arm"] for point in points]
    names = list(dict.fromkeys(arms))
    groups = [np.flatnonzero([arm == name for arm in arms]) for name in names]
    low, high = _interval(x, y, groups, seed)
    return {
        "coefficients": [float(value) for value in np.polynomial.polynomial.polyfit(x, y, DEGREE)],
        "r2": {"mean": r_squared(x, y), "low": low, "high": high},
        "spearman": _ranks(x, y),
        "draws": DRAWS,
        "off": [{"arm": name, **_off(x, y, group)} for name, group in zip(names, groups, strict=True)],
    }


def r_squared(x: Floats, y: Floats) -> float:
    """1 - (squared residuals of the quadratic) / (squares around the mean)."""
    curve = np.polynomial.polynomial.polyval(x, np.polynomial.polynomial.polyfit(x, y, DEGREE))
    return float(1 - ((y - curve) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def _ranks(x: Floats, y: Floats) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)


def _interval(
    x: Floats, y: Floats, groups: Sequence[npt.NDArray[np.int64]], seed: int
) -> tuple[float | None, float | None]:
    """Percentiles of R^2 over draws of arms, and of runs within each drawn arm."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        # Arms with replacement, then each drawn arm's runs with replacement: an arm drawn twice draws its runs anew.
        drawn = [groups[place] for place in rng.integers(0, len(groups), len(groups))]
        at = np.concatenate([rng.choice(group, len(group)) for group in drawn])
        # Draws without a unique curve, or without any spread of y, have no R^2.
        if len(set(x[at])) > DEGREE and len(set(y[at])) > 1:
            found.append(r_squared(x[at], y[at]))
    # Percentiles of what is left would be those of a selected half.
    if len(found) < DRAWS // 2:
        return None, None
    low, high = np.quantile(found, [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def _off(x: Floats, y: Floats, group: npt.NDArray[np.int64]) -> dict[str, float | None]:
    """How much more one arm forgot than the others' curve says for its divergence."""
    # The arm's own points are left out of the fit: with them an arm far out would pull the curve to itself.
    rest = np.setdiff1d(np.arange(len(x)), group)
    if len(set(x[rest])) <= DEGREE:
        return {"mean": None, "low": None, "high": None}
    curve = np.polynomial.polynomial.polyfit(x[rest], y[rest], DEGREE)
    # Beyond the others' range a quadratic says nothing about them: their nearest end stands for it.
    at = np.clip(x[group], x[rest].min(), x[rest].max())
    gap = y[group] - np.polynomial.polynomial.polyval(at, curve)
    mean = float(gap.mean())
    if len(gap) < 2:
        return {"mean": mean, "low": None, "high": None}
    # Over the arm's replicates alone; the curve of the others is taken as known.
    half = t_quantile(len(gap) - 1) * float(gap.std(ddof=1)) / len(gap) ** 0.5
    return {"mean": mean, "low": mean - half, "high": mean + half}
