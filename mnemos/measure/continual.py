"""Metrics of a sequence of tasks, by their published formulas, from the matrix of scores.

R[i][j] is the score on task j after training through task i, b[j] the score before any training,
a*[j] that of a model trained on all tasks at once; T tasks, indices from 1 in the formulas:

average accuracy    (1/T) sum_j R[T][j]
backward transfer   1/(T-1) sum_{i<T} (R[T][i] - R[i][i])            GEM, arXiv:1706.08840
forward transfer    1/(T-1) sum_{i>=2} (R[i-1][i] - b[i])            GEM
forgetting          1/(T-1) sum_{j<T} (max_{l<T} R[l][j] - R[T][j])  arXiv:1801.10112
intransigence       (1/T) sum_k (a*[k] - R[k][k])                    arXiv:1801.10112, averaged over tasks
gap to joint        (1/T) sum_j (a*[j] - R[T][j])                    LAMOL, arXiv:1909.03329: below multitask

All are absolute differences in the scores' own scale, for scores where more is better. Trap: a
positive backward transfer is good, a positive forgetting, intransigence or gap is bad; `in_words` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from mnemos.core.errors import DataError
from mnemos.measure.composite import Part, half_width
from mnemos.measure.uncertainty import ALPHA, cluster_numbers

Floats = npt.NDArray[np.float64]
Row = Sequence[float | None]


@dataclass(frozen=True)
class Coefficients:
    """A metric as a linear form: sum_ij c[i][j] R[i][j] + sum_j before[j] b[j] + sum_j joint[j] a*[j]."""

    # float[T, T], float[T], float[T]
    c: Floats
    before: Floats
    joint: Floats


def _average_accuracy(r: Floats) -> Coefficients:
    out = _nothing(len(r))
    out.c[-1] = 1 / len(r)
    return out


def _backward_transfer(r: Floats) -> Coefficients:
    out, t = _nothing(len(r)), len(r)
    for i in range(t - 1):
        out.c[-1, i] += 1 / (t - 1)
        out.c[i, i] -= 1 / (t - 1)
    return out


def _forward_transfer(r: Floats) -> Coefficients:
    out, t = _nothing(len(r)), len(r)
    # Places from 0: row i - 1 is the model just before task i was taught. The first task has no row before it.
    for i in range(1, t):
        out.c[i - 1, i] += 1 / (t - 1)
        out.before[i] -= 1 / (t - 1)
    return out


def _forgetting(r: Floats) -> Coefficients:
    out, t = _nothing(len(r)), len(r)
    # max over l < T, in the paper's words also over stages before task j was taught: what was known without being
    # taught can be forgotten too.
    for j in range(t - 1):
        # The choice is made from the means and then held fixed: a maximum over noisy scores is too high by what the
        # noise adds, and the interval does not say so.
        best = int(np.argmax(r[: t - 1, j]))
        out.c[best, j] += 1 / (t - 1)
        out.c[-1, j] -= 1 / (t - 1)
    return out


def _intransigence(r: Floats) -> Coefficients:
    out, t = _nothing(len(r)), len(r)
    for k in range(t):
        out.joint[k] += 1 / t
        out.c[k, k] -= 1 / t
    return out


def _gap_to_joint(r: Floats) -> Coefficients:
    out = _nothing(len(r))
    out.joint[:] = 1 / len(r)
    out.c[-1] = -1 / len(r)
    return out


def _nothing(t: int) -> Coefficients:
    return Coefficients(np.zeros((t, t)), np.zeros(t), np.zeros(t))


METRICS: Mapping[str, Callable[[Floats], Coefficients]] = {
    "average_accuracy": _average_accuracy,
    "backward_transfer": _backward_transfer,
    "forward_transfer": _forward_transfer,
    "forgetting": _forgetting,
    "intransigence": _intransigence,
    "gap_to_joint": _gap_to_joint,
}
"""Every metric by name; forgetting is linear once the best earlier stage of each task is known."""


@dataclass(frozen=True)
class TaskItems:
    """Item scores behind one task's column, for intervals over items.

    after: float[S, T, n], seed x stage x item. before: float[n]. joint: float[n] or None. share:
    float[n], the items' shares in the task's score, summing to 1. clusters: one name an item, or
    None. Items must be present on every side: drop those that are not.
    """

    after: Floats
    before: Floats
    joint: Floats | None
    share: Floats
    clusters: Sequence[str | None] | None = None


def metric(name: str, matrix: Sequence[Row], before: Row, joint: Row | None = None) -> float | None:
    """One metric of one seed's matrix; None where it needs a missing score, a second task or the
    joint reference. Raises DataError for a matrix that is not square."""
    r, b, a = _arrays(matrix, before, joint)
    if name not in ("average_accuracy", "intransigence", "gap_to_joint") and len(r) < 2:
        return None
    if name == "forgetting" and np.isnan(r[:, : len(r) - 1]).any():
        return None
    form = METRICS[name](r)
    parts = [(form.c, r), (form.before, b), (form.joint, a)]
    # A score with coefficient 0 is not needed, and may be missing: 0 * NaN would make the metric missing with it.
    value = math.fsum(float(k * v) for ks, vs in parts for k, v in zip(ks.flat, vs.flat, strict=True) if k != 0)
    return None if math.isnan(value) else value


def sequence_metrics(
    matrices: Sequence[Sequence[Row]], before: Row, joint: Row | None = None, items: Sequence[TaskItems] | None = None
) -> dict[str, dict[str, float | None]]:
    """{metric: {mean, low, high}} over seeds, in the scores' own scale.

    matrices: one T x T matrix a seed. before: b[T]. joint: a*[T] or None. items: per task, the item
    scores behind the matrices; with them the 95 % interval covers items and seeds (see
    `uncertainty.two_way`; for forgetting the best earlier stages are taken as known). Without
    them it is Student's t over seeds alone, which holds for these very items; None for one seed.
    """
    out: dict[str, dict[str, float | None]] = {}
    for name in METRICS:
        values = [metric(name, matrix, before, joint) for matrix in matrices]
        present = [value for value in values if value is not None]
        if len(present) < len(values) or not present:
            out[name] = {"mean": None, "low": None, "high": None}
            continue
        mean = math.fsum(present) / len(present)
        half = _over_seeds(present) if items is None else _over_items(name, matrices, before, joint, items)
        out[name] = _around(name, mean, half, matrices)
    return out


def _around(name: str, mean: float, half: float | None, matrices: Sequence[Sequence[Row]]) -> dict[str, float | None]:
    """mean, low and high; of scores from 0 to 1 cut to what is possible, 0 to 1 for an accuracy and else -1 to 1."""
    if half is None:
        return {"mean": mean, "low": None, "high": None}
    # Scores of another scale, such as bits per byte, have no ends to cut at.
    if any(value is not None and not 0 <= value <= 1 for matrix in matrices for row in matrix for value in row):
        return {"mean": mean, "low": mean - half, "high": mean + half}
    least = 0.0 if name == "average_accuracy" else -1.0
    return {"mean": mean, "low": min(mean, max(least, mean - half)), "high": max(mean, min(1.0, mean + half))}


def _arrays(matrix: Sequence[Row], before: Row, joint: Row | None) -> tuple[Floats, Floats, Floats]:
    t = len(matrix)
    if any(len(row) != t for row in (*matrix, before, *([] if joint is None else [joint]))):
        raise DataError(
            f"a score matrix of {t} stages", "must have one column a task on every row", "measure every task"
        )
    missing = [None] * t
    r, b, a = (
        np.array([[math.nan if v is None else v for v in row] for row in rows], dtype=float)
        for rows in (matrix, [before], [missing if joint is None else joint])
    )
    return r, b[0], a[0]


def _over_seeds(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(stats.t.ppf(1 - ALPHA / 2, len(values) - 1)) * error


def _over_items(
    name: str, matrices: Sequence[Sequence[Row]], before: Row, joint: Row | None, items: Sequence[TaskItems]
) -> float | None:
    return half_width(_parts(name, matrices, before, joint, items))


def _parts(
    name: str, matrices: Sequence[Sequence[Row]], before: Row, joint: Row | None, items: Sequence[TaskItems]
) -> list[Part]:
    """What each task's items add to the metric, one row a seed: the parts' means sum to it."""
    # One form a seed: the best earlier stages of `forgetting` may differ by seed.
    forms = [METRICS[name](_arrays(matrix, before, joint)[0]) for matrix in matrices]
    parts = []
    for j, task in enumerate(items):
        # Its coefficients are 0 wherever the metric is there without a joint model.
        reference = np.zeros_like(task.before) if task.joint is None else task.joint
        d = [
            # float[n]: sum_i c[i][j] R[i][j] of each item, with its b and a*; over all tasks the means of these sum
            # to the metric.
            f.c[:, j] @ rows + f.before[j] * task.before + f.joint[j] * reference
            for f, rows in zip(forms, task.after, strict=True)
        ]
        # As far as scores from 0 to 1 can take an item: what a task weighs in the metric, 0 where it has no part in it.
        most = max(float(np.abs(f.c[:, j]).sum() + abs(f.before[j]) + abs(f.joint[j])) for f in forms)
        groups = cluster_numbers(task.clusters, len(task.share))
        parts.append(Part(np.stack(d) / (most or 1.0), task.share, groups, most, zero=not most))
    return parts


@dataclass(frozen=True)
class OrderScores:
    """One order of a sequence: its tasks as they were taught, a matrix a seed (rows and columns in
    that order), b, a* or None, and the items behind them or None."""

    tasks: Sequence[str]
    matrices: Sequence[Sequence[Row]]
    before: Row
    joint: Row | None = None
    items: Sequence[TaskItems] | None = None


def pooled_metrics(orders: Sequence[OrderScores], by: Literal["order", "seed"]) -> dict[str, dict[str, float | None]]:
    """{metric: {mean, low, high}} over several orders of the same tasks and the same seeds.

    by: what counts as drawn at random and is therefore the unit of the interval. "order": each
    order's mean over its seeds, for orders that stand for all others. "seed": each seed's mean
    over the orders, where every order was run, so that none is left to chance. With items the
    interval covers those too.
    """
    out: dict[str, dict[str, float | None]] = {}
    axis = 1 if by == "order" else 0
    names = list(orders[0].tasks)
    for name in METRICS:
        values = [[metric(name, matrix, order.before, order.joint) for matrix in order.matrices] for order in orders]
        if any(value is None for row in values for value in row):
            out[name] = {"mean": None, "low": None, "high": None}
            continue
        # float[O, S], orders by seeds -> float[O] or float[S]
        units = np.array(values, dtype=float).mean(axis=axis)
        mean = float(units.mean())
        whole = [order for order in orders if order.items is not None]
        half = (
            _over_seeds(units.tolist()) if len(whole) < len(orders) else half_width(_pooled(name, orders, names, axis))
        )
        out[name] = _around(name, mean, half, [matrix for order in orders for matrix in order.matrices])
    return out


def _pooled(name: str, orders: Sequence[OrderScores], names: Sequence[str], axis: int) -> list[Part]:
    """The parts of every order, brought into one order of tasks and averaged over `axis`."""
    by_task: dict[str, list[Part]] = {task: [] for task in names}
    for order in orders:
        parts = _parts(name, order.matrices, order.before, order.joint, order.items or ())
        for task, part in zip(order.tasks, parts, strict=True):
            by_task[task].append(part)
    pooled = []
    for parts in by_task.values():
        most = max(part.weight for part in parts)
        d = np.stack([part.weight * part.d for part in parts]).mean(axis=axis) / (most or 1.0)
        pooled.append(Part(d, parts[0].share, parts[0].group, most, zero=not most))
    return pooled


def in_words(name: str, value: float, scale: float = 100.0, unit: str = "points") -> str:
    """The value with its sign said: backward_transfer, -0.031 -> "lost 3.1 points on earlier tasks"."""
    size = f"{abs(value) * scale:.1f} {unit}"
    if name == "average_accuracy":
        return f"{value * scale:.1f} {unit} on average"
    good, bad, where = {
        "backward_transfer": ("gained", "lost", "on earlier tasks"),
        "forward_transfer": ("gained", "lost", "on tasks not yet taught"),
        "forgetting": ("lost", "gained", "from the best that earlier tasks had"),
        "intransigence": ("fell short by", "surpassed by", "the model taught all tasks at once"),
        "gap_to_joint": ("ended short by", "surpassed by", "the model taught all tasks at once"),
    }[name]
    return f"{good if value >= 0 else bad} {size} {where}"
