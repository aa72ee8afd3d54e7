"""When is a person's hint worth its price? Scores of needing help, the delta-burden curve, and a threshold online.

"I Need Help!" (arXiv:2407.14767): a model says how much it needs help with each question; asking for the share B that
it ranks first gains Delta(B) right answers. Deviations: 1. the area is that of the curve (trapezoids), where the paper
sums N + 1 points over N, so that a random ranking has exactly 0.5; 2. ties are averaged over exactly: within a block of
equal scores the expected gain is linear; 3. yes and no are summed over all their spellings, where the paper takes the
20 most likely tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

YES = ("Yes", " Yes", "yes", " yes", "YES", " YES")
NO = ("No", " No", "no", " no", "NO", " NO")
RESAMPLES = 2000
WARM = 10
"""Questions before an online threshold asks: with fewer scores a quantile says little."""
_PROBABILITY = re.compile(r"(?<![\d.])(?:0?\.\d+|[01](?:\.\d+)?)(?![\d.])")


def yes_score(log_probs: Sequence[float]) -> float:
    """P(yes) / (P(yes) + P(no)), from ln p of the spellings YES and then NO; 0.5 where none can be had. Trap: `Yes` and
    ` Yes` are different tokens, and which one a model writes depends on its chat template."""
    yes, no = (_log_sum(part) for part in (log_probs[: len(YES)], log_probs[len(YES) :]))
    if not (math.isfinite(yes) or math.isfinite(no)):
        return 0.5
    return 1 / (1 + math.exp(min(700.0, max(-700.0, no - yes))))


def _log_sum(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    top = max(known, default=-math.inf)
    if not math.isfinite(top):
        return -math.inf
    return top + math.log(math.fsum(math.exp(value - top) for value in known))


def verbalised(text: str) -> float | None:
    """The first probability in the text; None where there is none."""
    values = (float(found[0]) for found in _PROBABILITY.finditer(text))
    return next((value for value in values if value <= 1), None)


@dataclass(frozen=True)
class Curve:
    """shares: of questions asked, at the borders of blocks of equal scores, from 0 to 1. gains: expected Delta there.
    area: below the curve, as a share of the whole gain; None where hints gain nothing. low, high: its 95 % interval
    (bootstrap over questions), None where a resample often gains nothing. needed: questions to ask for 80 % of the
    whole gain, None without one."""

    shares: tuple[float, ...]
    gains: tuple[float, ...]
    area: float | None
    low: float | None
    high: float | None
    needed: int | None


def curve(scores: Sequence[float], without: Sequence[float], helped: Sequence[float], seed: int = 0) -> Curve:
    """scores, without, helped: of each question, how much help is needed, and what the answer without and with the hint
    was worth."""
    a, d = np.asarray(scores, float), np.asarray(helped, float) - np.asarray(without, float)
    count = len(a)
    order = np.argsort(-a, kind="stable")
    # starts[j]: where the j-th block of equal scores begins, the highest first.
    starts = np.flatnonzero(np.r_[True, np.diff(a[order]) != 0])
    sizes = np.diff(np.r_[starts, count])
    sums = np.add.reduceat(d[order], starts)
    shares, gains = np.r_[0, np.cumsum(sizes)] / count, np.r_[0, np.cumsum(sums)] / count
    whole = float(gains[-1])
    if whole <= 0:
        return Curve(tuple(shares), tuple(gains), None, None, None, None)
    low, high = _interval(d[order], starts, seed)
    needed = _needed(shares, gains, 0.8 * whole, count)
    return Curve(tuple(shares), tuple(gains), _area(shares, gains), low, high, needed)


def _area(shares: Floats, gains: Floats) -> float:
    return float(((gains[1:] + gains[:-1]) / 2 * np.diff(shares)).sum() / gains[-1])


def _interval(d: Floats, starts: npt.NDArray[np.int64], seed: int) -> tuple[float | None, float | None]:
    count, draw = len(d), np.random.default_rng(seed)
    areas = []
    for _ in range(RESAMPLES):
        # How often each question is drawn; blocks keep their order, their sizes become random.
        times = np.bincount(draw.integers(0, count, count), minlength=count)
        sizes, sums = np.add.reduceat(times, starts), np.add.reduceat(times * d, starts)
        gains = np.r_[0, np.cumsum(sums)] / count
        if gains[-1] > 0:
            areas.append(_area(np.r_[0, np.cumsum(sizes)] / count, gains))
    if len(areas) < 0.99 * RESAMPLES:
        return None, None  # the whole gain is hardly told from 0: its shares say nothing
    low, high = np.quantile(areas, [0.025, 0.975])
    return float(low), float(high)


def _needed(shares: Floats, gains: Floats, wanted: float, count: int) -> int | None:
    place = int(np.argmax(gains >= wanted - 1e-12))
    if place == 0:
        return 0
    # Linear within a block.
    rise = gains[place] - gains[place - 1]
    part = (wanted - gains[place - 1]) / rise if rise > 0 else 1.0
    share = float(shares[place - 1] + part * (shares[place] - shares[place - 1]))
    return math.ceil(share * count - 1e-9)


@dataclass(frozen=True)
class Online:
    """gain: of asking as the questions come. share: asked. regret: what asking the same budget's best-ranked questions,
    known from the end, would have gained more."""

    gain: float
    share: float
    regret: float


def online(
    scores: Sequence[float], without: Sequence[float], helped: Sequence[float], budget: float, seed: int = 0
) -> Online:
    """Ask where a score exceeds the running (1 - budget) quantile of the scores so far, and never beyond the budget.
    scores: in the order in which the questions come. Equal scores are told apart by a coin."""
    count, draw = len(scores), np.random.default_rng(seed)
    # A coin far below any difference of two scores.
    a = np.asarray(scores, float) + 1e-9 * draw.random(count)
    d = np.asarray(helped, float) - np.asarray(without, float)
    asked = np.zeros(count, bool)
    for at in range(min(WARM, count), count):
        left = budget * count - asked.sum()
        asked[at] = left >= 1 and a[at] > np.quantile(a[:at], 1 - budget)
    full = curve(scores, without, helped)
    best = float(np.interp(budget, full.shares, full.gains))
    gain = float(d[asked].sum() / count)
    return Online(gain, float(asked.mean()), best - gain)
