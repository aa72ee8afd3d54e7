"""Is it the model that jumps, or the metric? The same outputs under exact match, edit distance, per-token accuracy and
log-probability (arXiv:2304.15004).

If the loss per token falls as a power of the size, a right token has probability exp(-L), an answer of n tokens about
that to the n-th: exact match bends sharply where nothing in the model does. So a jump is called one only under the
smooth metric too, and there it is looked for where a power law is straight: ln(-mean log-probability) against ln size.

The rule. Over the sizes, a line in ln size is compared with two pieces that meet at one of the sizes between; F is the
drop of the residuals' squares over what is left of them, weighed by the items' own covariance (items are paired: each
was answered at every size). Its distribution under the line is simulated, so that the choice of the best place is paid
for, and residuals that are larger than the items' noise (luck of training) do not count as evidence: F has no scale.
A jump has p < 0.05 and bends upwards.

Traps: exact match of small models is 0 because few items were asked, so that the detection limit 3 / n stands in its
place; per-token accuracy must be teacher-forced, since one early error spoils what is generated behind it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mnemos.core.errors import DataError
from mnemos.measure.laws.fitting import Floats

SIZES, ITEMS = 6, 20
"""Sizes, and items at each, below which the rule says nothing: two pieces take four numbers."""
SIMULATED = 2000
LEVEL = 0.05
LONGEST = 5000
"""Characters of an answer or an output that are compared: an edit distance takes the product of both."""
SMOOTH = "log_probability"
METRICS = ("exact_match", "edit_similarity", "token_accuracy", SMOOTH)


@dataclass(frozen=True)
class Curve:
    """One metric over the sizes. means, low, high: float[K], 95 %. limit: 3 / n where the mean of a score between 0
    and 1 is 0. f, p: of two pieces against a line; bend: slope of the second piece less the first's, positive where
    improvement gets faster; at: the size where they meet. All None where the rule says nothing."""

    name: str
    sizes: Floats
    means: Floats
    low: Floats
    high: Floats
    limit: float
    f: float | None = None
    p: float | None = None
    bend: float | None = None
    at: float | None = None

    @property
    def jumps(self) -> bool:
        """Whether the second piece is proven to rise faster."""
        return self.p is not None and self.p < LEVEL and self.bend is not None and self.bend > 0


@dataclass(frozen=True)
class Emergence:
    """curves: a metric each. verdict: in words. items: those answered at every size. left_out: metrics without a curve,
    and how many of the items have no number for it at some size."""

    curves: tuple[Curve, ...]
    verdict: str
    items: int
    left_out: Mapping[str, int] = field(default_factory=dict)


def edit_similarity(output: str, answer: str) -> float:
    """1 - Levenshtein distance / length of the longer text, by characters; 1 for two empty texts. Texts are cut at
    5,000 characters."""
    a, b = output[:LONGEST], answer[:LONGEST]
    if not a or not b:
        return float(a == b)
    codes = np.array([ord(one) for one in b])
    place = np.arange(len(b) + 1)
    row = place.copy()
    for number, character in enumerate(a, 1):
        # Deletions and replacements at once; an insertion then only moves right, which a running minimum of
        # row - place finds.
        new = np.concatenate([[number], np.minimum(row[1:] + 1, row[:-1] + (codes != ord(character)))])
        row = np.minimum.accumulate(new - place) + place
    return 1 - float(row[-1]) / max(len(a), len(b))


def scores(row: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of one output; NaN for one whose columns are not there.

    row: answer and output (texts); token_logprobs, natural logarithms of the answer's tokens, teacher-forced;
    token_right, whether each of them was the most likely one.
    """
    answer, output = str(row.get("answer", "")).strip(), str(row.get("output", "")).strip()
    logs, right = row.get("token_logprobs"), row.get("token_right")
    return {
        "exact_match": float(answer == output),
        "edit_similarity": edit_similarity(output, answer),
        "token_accuracy": _mean(right),
        SMOOTH: float(np.minimum(0.0, _mean(logs))),  # of NaN, NaN: Python's min would make it 0
    }


def _mean(values: Any) -> float:
    if not isinstance(values, list) or not values:
        return math.nan
    found = [_finite(value) for value in values]
    return float(np.mean(found))  # NaN where one of them is no number


def _finite(value: Any) -> float:
    known = isinstance(value, bool | int | float) and math.isfinite(value)
    return float(value) if known else math.nan


def judge(rows: Iterable[Mapping[str, Any]], *, seed: int = 0) -> Emergence:
    """Curves and verdict. rows: size (a number), item, and what `scores` reads; several rows of a size and item
    (models of several seeds) are averaged. Raises DataError without two sizes, or items that all sizes answered."""
    table: dict[float, dict[str, list[dict[str, float]]]] = {}
    for number, row in enumerate(rows, 1):
        size = _finite(row.get("size"))
        if not size > 0:
            raise DataError(f"row {number}: size = {row.get('size')!r}", "must be a positive number", "give parameters")
        table.setdefault(size, {}).setdefault(str(row.get("item")), []).append(scores(row))
    sizes = sorted(table)
    items = sorted(set.intersection(*(set(one) for one in table.values()))) if table else []
    if len(sizes) < 2 or not items:
        raise DataError(
            f"{len(sizes)} sizes, {len(items)} items answered at each",
            "give no curve",
            "ask several sizes of model the same items",
        )
    curves, left_out = [], {}
    for metric in METRICS:
        # float[K, n], over what models of one size gave.
        values = np.array([[np.mean([one[metric] for one in table[size][item]]) for item in items] for size in sizes])
        known = np.isfinite(values).all(axis=0)
        if known.all():
            curves.append(curve(metric, np.array(sizes), values, seed=seed))
        else:
            # Curves of other items than the rest have would compare items, not metrics.
            left_out[metric] = int((~known).sum())
    return Emergence(tuple(curves), verdict(curves, len(sizes), len(items)), len(items), left_out)


def curve(name: str, sizes: Floats, values: Floats, *, seed: int = 0) -> Curve:
    """One metric's curve and test. sizes: float[K], growing. values: float[K, n], the same items at each size."""
    count = values.shape[1]
    means = values.mean(axis=1)
    covariance = np.atleast_2d(np.cov(values)) / count if count > 1 else np.eye(len(sizes))
    y, covariance = means.copy(), covariance.copy()
    if name == SMOOTH:
        # The logarithm of the loss; its covariance by the delta method.
        loss = np.maximum(-means, 1e-12)
        y, covariance = -np.log(loss), covariance / np.outer(loss, loss)
        half = 1.96 * np.sqrt(np.diag(np.atleast_2d(np.cov(values)) / count)) if count > 1 else np.full(len(y), np.nan)
    else:
        # A share of 0 or 1 has no variance in the sample: that of one more item each way stands for it.
        share = (means * count + 1) / (count + 2)
        least = share * (1 - share) / count * (1.0 if name == "exact_match" else 0.05)
        covariance[np.diag_indices(len(y))] = np.maximum(np.diag(covariance), least)
        half = 1.96 * np.sqrt(np.diag(covariance))
    low, high = means - half, means + half
    if name != SMOOTH:
        low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
    base = Curve(name, sizes, means, low, high, 3 / count)
    if len(sizes) < SIZES or count < ITEMS:
        return base
    f, p, bend, at = two_pieces(np.log(sizes), y, covariance, seed=seed)
    return Curve(name, sizes, means, low, high, 3 / count, f, p, bend, float(np.exp(at)))


def two_pieces(x: Floats, y: Floats, covariance: Floats, *, seed: int = 0) -> tuple[float, float, float, float]:
    """(F, p, bend, place of the bend) of two pieces against a line. x, y: float[K]. covariance: float[K, K] of y, up
    to a factor. p is simulated under the line, the choice of the place included."""
    k = len(x)
    ridge = 1e-9 * np.trace(covariance) / k + 1e-300
    root = np.linalg.cholesky(covariance + ridge * np.eye(k))
    white = np.linalg.inv(root)  # white @ noise has the identity as its covariance
    line = np.stack([np.ones(k), x], axis=1)
    designs = [np.column_stack([line, np.maximum(x - place, 0)]) for place in x[1:-1]]
    # Residual makers: I - X X^+, so that many simulated y are one product.
    makers = [np.eye(k) - (white @ design) @ np.linalg.pinv(white @ design) for design in (line, *designs)]

    def statistic(whitened: Floats) -> tuple[Floats, Floats]:
        left = np.array([((whitened @ maker) ** 2).sum(axis=1) for maker in makers])  # float[1 + places, draws]
        best = left[1:].min(axis=0)
        return (left[0] - best) / np.maximum(best / (k - 4), 1e-12 * left[0] + 1e-300), left[1:].argmin(axis=0)

    measured, place = statistic((white @ y)[None])
    noise = np.random.default_rng(seed).standard_normal((SIMULATED, k))
    # The line itself leaves no residual, so that noise alone is simulated.
    p = (1 + int((statistic(noise)[0] >= measured[0]).sum())) / (1 + SIMULATED)
    design = designs[int(place[0])]
    bend = float(np.linalg.lstsq(white @ design, white @ y, rcond=None)[0][2])
    return float(measured[0]), p, bend, float(x[1:-1][int(place[0])])


def verdict(curves: Sequence[Curve], sizes: int, items: int) -> str:
    """What may be claimed."""
    by_name = {one.name: one for one in curves}
    sharp, smooth = by_name.get("exact_match"), by_name.get(SMOOTH)
    if sizes < SIZES or items < ITEMS:
        return f"CANNOT TELL: {sizes} sizes and {items} items, the rule needs {SIZES} and {ITEMS}"
    if smooth is None:
        return "CANNOT TELL: no log-probabilities of the answers (token_logprobs), and exact match alone makes jumps"
    if smooth.jumps:
        return "JUMP: log-probability bends upwards too, so it is not the metric alone"
    if sharp is not None and sharp.jumps:
        return "JUMP OF THE METRIC: exact match bends upwards, log-probability of the same answers is not shown to"
    return "NO JUMP: neither exact match nor log-probability is shown to bend upwards"
