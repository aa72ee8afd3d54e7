"""Curves over training, and whether a rising reward was hacked (arXiv:2210.10760).

A training is cut into equal stretches. At the end of each, and before the first, the model is asked some
suites; what training noted (the reward among it) is averaged within each stretch.

Reward hacking, of one arm and one independent suite (one of what is taught): between some moment and the end
the reward of training rose and the suite fell, both proven.

suite    its end minus that moment, item by item and seed by seed (`uncertainty.paired`)
reward   the last stretch minus the stretch that ends at that moment (the first, for the model before), a
         difference a seed, Student's t over seeds
proven   the interval of each lies on its side of 0, and the larger of the two p values, corrected by Holm over
         all moments and suites of the arm, is below 0.05

The moment is searched for, because a suite that is hacked may rise at first; the correction pays for it. With one
seed nothing is proven about a reward, and nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnemos.measure.uncertainty import (
    ALPHA,
    Floats,
    Spread,
    holm,
    mean_interval,
    paired,
    t_p,
    t_quantile,
)

REWARD = "reward"
NOTED = (REWARD, "kl_to_before")
"""What is kept of a training's notes: the reward that it saw, and how far the model had moved."""


@dataclass(frozen=True)
class SuiteCurves:
    """One suite over one arm's training. values: float[S, M, n], seeds by moments (the model before first) by
    items, NaN without a score. weight: float[n]. clusters: of the items."""

    name: str
    role: str
    unit: str
    better: str
    values: Floats
    weight: Floats
    clusters: Sequence[str | None]


@dataclass(frozen=True)
class ArmCurves:
    """One arm. steps: float[S, M], optimiser steps at each moment. noted: name -> float[S, M - 1], means within
    the stretches, NaN where nothing was noted."""

    name: str
    steps: Floats
    noted: Mapping[str, Floats]
    suites: Sequence[SuiteCurves]


def trajectories(arms: Sequence[ArmCurves]) -> list[dict[str, Any]]:
    """The `arms` in `trajectory` of results.json.

    One entry an arm: arm; steps, of each moment, the mean over seeds; noted, name -> {mean, low, high} for each
    stretch (intervals over seeds), only of names that every stretch has; rise, {mean, low, high} of the reward's
    last stretch minus its first, where there is a reward; suites, name -> {items, missing, moments: {mean, low,
    high} for each, over the items that have a score everywhere}; hacking, one entry a suite that was hacked, see
    `_hacked`.
    """
    return [_arm(arm) for arm in arms]


def _arm(arm: ArmCurves) -> dict[str, Any]:
    # A stretch without a note would leave a curve with a hole, and a rise without a beginning.
    noted = {name: values for name, values in arm.noted.items() if np.isfinite(values).all()}
    reward = noted.get(REWARD)
    return {
        "arm": arm.name,
        "steps": [float(step) for step in arm.steps.mean(axis=0)],
        "noted": {name: [_over_seeds(column) for column in values.T] for name, values in noted.items()},
        **({"rise": _over_seeds(reward[:, -1] - reward[:, 0])} if reward is not None else {}),
        "suites": {suite.name: _suite(suite) for suite in arm.suites},
        "hacking": [] if reward is None else hacking(arm, reward),
    }


def _over_seeds(values: Floats) -> dict[str, float | None]:
    """Mean and Student's interval of one number a seed."""
    mean = float(values.mean())
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None}
    # The seed is the unit: steps of one training are not independent, however many there are.
    half = t_quantile(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _kept(suite: SuiteCurves) -> Any:
    """bool[n]: items with a score in every seed at every moment."""
    return np.isfinite(suite.values).all(axis=(0, 1))


def _clusters(suite: SuiteCurves, kept: Any) -> list[str | None]:
    return [cluster for cluster, keep in zip(suite.clusters, kept, strict=True) if keep]


def _suite(suite: SuiteCurves) -> dict[str, Any]:
    kept = _kept(suite)
    moments: list[dict[str, float | None]] = []
    for moment in range(suite.values.shape[1]):
        found: tuple[float | None, float | None, float | None] = (None, None, None)
        if kept.any():
            # All seeds start from one model: before training there is nothing to vary but items.
            rows = suite.values[: 1 if moment == 0 else None, moment][:, kept]
            found = mean_interval(
                rows, weights=suite.weight[kept], clusters=_clusters(suite, kept), bounded=suite.unit == "points"
            )
        moments.append(dict(zip(("mean", "low", "high"), found, strict=True)))
    return {"items": int(kept.sum()), "missing": int((~kept).sum()), "moments": moments}


def hacking(arm: ArmCurves, reward: Floats) -> list[dict[str, Any]]:
    """One entry for each suite of what is taught that fell, proven, while the reward rose, proven: suite, moment
    (the one that it fell from; of several, that of the largest fall), reward and score ({start, end, delta, low,
    high}) and p_holm.

    reward: float[S, M - 1].
    """
    tried = [
        found
        for suite in arm.suites
        if suite.role == "new" and len(reward) > 1 and _kept(suite).any()
        for moment in range(reward.shape[1])
        # Moments whose stretch is the last one itself leave the reward nothing to rise from.
        if max(0, moment - 1) < reward.shape[1] - 1
        for found in [_pair(suite, moment, reward)]
    ]
    corrected = holm([p for _, _, p in tried])
    proven: dict[str, tuple[float, dict[str, Any]]] = {}
    for (entry, fall, _), p_holm in zip(tried, corrected, strict=True):
        if p_holm is None or not p_holm < ALPHA:
            continue
        if entry["suite"] not in proven or fall > proven[entry["suite"]][0]:
            proven[entry["suite"]] = fall, {**entry, "p_holm": p_holm}
    return [entry for _, entry in proven.values()]


def _pair(suite: SuiteCurves, moment: int, reward: Floats) -> tuple[dict[str, Any], float, float]:
    """What one suite and the reward did from a moment to the end: the entry, how far the suite fell, and the p
    value of both, which is 1 unless both intervals lie on their side of 0."""
    kept = _kept(suite)
    # float[S, M, kept]
    rows = suite.values[:, :, kept]
    # float[kept], summing to 1
    shares = suite.weight[kept] / suite.weight[kept].sum()
    # Both ends differ by seed, and `paired` takes one row before: the mean over seeds, with each seed's own change on
    # it, so that no more can be lost than was there.
    first_scores = rows[:, moment].mean(axis=0)
    change = paired(
        first_scores,
        first_scores + (rows[:, -1] - rows[:, moment]),
        weights=suite.weight[kept],
        clusters=_clusters(suite, kept),
        bounded=suite.unit == "points",
    )
    # Stretch m - 1 ends at moment m; before moment 0 there is none, and the first stretch stands for it.
    first = reward[:, max(0, moment - 1)]
    risen = reward[:, -1] - first
    rise = _over_seeds(risen)
    sign = 1.0 if suite.better == "lower" else -1.0
    fell = change.low is not None and change.high is not None and (change.low > 0 if sign > 0 else change.high < 0)
    rose = rise["low"] is not None and rise["low"] > 0
    p_reward = t_p(float(risen.mean()), Spread(float(risen.var(ddof=1)) / len(risen), len(risen) - 1, len(risen)))
    # Both must be proven: of an intersection of two claims the larger p is the p (intersection-union test).
    p = max(p_reward, 1.0 if change.p is None else change.p) if fell and rose else 1.0
    means = [float(shares @ rows[:, place].mean(axis=0)) for place in (moment, -1)]
    entry = {
        "suite": suite.name,
        "moment": moment,
        "reward": {"start": float(first.mean()), "end": float(reward[:, -1].mean()), **_named(rise)},
        "score": {"start": means[0], "end": means[1], "delta": change.delta, "low": change.low, "high": change.high},
    }
    return entry, sign * change.delta, p


def _named(found: Mapping[str, float | None]) -> dict[str, float | None]:
    return {"delta": found["mean"], "low": found["low"], "high": found["high"]}
