"""The score matrix of a task sequence and the metrics drawn from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from mnemos.measure.ask import Measured
from mnemos.measure.continual import OrderScores, TaskItems, pooled_metrics, sequence_metrics
from mnemos.study.experiment import JOINT

Side = Mapping[str, Measured]
"""What one model was measured to be, by suite."""


Runs = Mapping[int, Sequence[Side]]
"""Seed -> one side a stage."""


def of_accuracies(
    task_suites: Mapping[str, Sequence[str]], suites: Iterable[Any]
) -> tuple[dict[str, tuple[str, ...]], str]:
    """Each task's suites that a matrix of accuracies can hold, and why there is no matrix: a task has none; else empty.

    suites: with `name`, `unit` and `better`. Bits per byte and error rates have another scale than points, or fall
    where something is learned: in one mean with points they say nothing, alone the opposite of a metric.
    """
    known = {suite.name: suite for suite in suites}
    kept = {
        task: tuple(name for name in names if known[name].unit == "points" and known[name].better == "higher")
        for task, names in task_suites.items()
    }
    for task, names in task_suites.items():
        if names and not kept[task]:
            first = known[names[0]]
            what = f"is in {first.unit}" + (", of which less is better" if first.better == "lower" else "")
            return kept, f"No score matrix: {first.name} of the task {task} {what}, and accuracies are asked for."
    return kept, ""


def score_matrix(task_suites: Mapping[str, Sequence[str]], before: Side, arms: Mapping[str, Runs]) -> dict[str, Any]:
    """The `matrix` of results.json, of one order.

    task_suites: task -> its suites, in the order of teaching. arms: arm -> seed -> one side a
    stage; the arm "joint", if there is one, is the reference of intransigence. A task's score is
    the mean of its suites' means over the items that every side has a score for, so that all
    entries of a column are about the same items.
    """
    whole = score_matrices([list(task_suites)], task_suites, before, {arm: [runs] for arm, runs in arms.items()})
    order: dict[str, Any] = whole["orders"][0]
    return order


def score_matrices(
    orders: Sequence[Sequence[str]],
    task_suites: Mapping[str, Sequence[str]],
    before: Side,
    arms: Mapping[str, Sequence[Runs]],
    by: Literal["order", "seed"] = "order",
) -> dict[str, Any]:
    """The `matrix` of results.json, of several orders of the same tasks.

    orders: the tasks as each order teaches them. arms: arm -> order -> seed -> one side a stage
    ("joint" has one order). by: see `measure.continual.pooled_metrics`. Returns tasks (those of the first
    order), orders (each {tasks, arms}, as `score_matrix`), over (`by`) and arms (arm -> before,
    joint, seeds, which is empty, and metrics: means over orders and seeds). All orders' entries
    are about the same items.
    """
    made: list[dict[str, Any]] = [{"tasks": list(order), "arms": {}} for order in orders]
    pooled: dict[str, Any] = {}
    joints = [stages[-1] for runs in arms.get(JOINT, ()) for stages in runs.values()]
    for arm, by_order in arms.items():
        if arm == JOINT:
            continue
        found = _orders(orders, task_suites, before, joints, by_order)
        for scores, runs, entry in zip(found, by_order, made, strict=True):
            named = {str(seed): matrix for seed, matrix in zip(runs, scores.matrices, strict=True)}
            metrics = sequence_metrics(scores.matrices, scores.before, scores.joint, scores.items)
            entry["arms"][arm] = {
                "before": scores.before,
                "joint": scores.joint,
                "seeds": named,
                "metrics": metrics,
            }
        first = found[0]
        metrics = pooled_metrics(found, by)
        pooled[arm] = {"before": first.before, "joint": first.joint, "seeds": {}, "metrics": metrics}
    return {"tasks": list(orders[0]), "orders": made, "over": by, "arms": pooled}


def _orders(
    orders: Sequence[Sequence[str]],
    task_suites: Mapping[str, Sequence[str]],
    before: Side,
    joints: Sequence[Side],
    by_order: Sequence[Runs],
) -> list[OrderScores]:
    """One arm's scores in every order."""
    flat = [stages for runs in by_order for stages in runs.values()]
    columns = {task: _column(task_suites[task], before, joints, flat) for task in orders[0]}
    complete = all(len(column.share) for column in columns.values())
    out, first = [], 0
    for order, runs in zip(orders, by_order, strict=True):
        # `columns` hold the runs of all orders below one another: this order's are the next len(runs).
        rows = slice(first, first + len(runs))
        first += len(runs)
        own = [replace(columns[task], after=columns[task].after[rows]) for task in order]
        # [run][stage][task of this order]: R_ij, the score on task j after stage i.
        matrices = [
            [[_mean(column.after[number, stage], column) for column in own] for stage in range(len(order))]
            for number in range(len(runs))
        ]
        start = [_mean(column.before, column) for column in own]
        joint = [_mean(column.joint, column) for column in own] if joints else None
        out.append(OrderScores(list(order), matrices, start, joint, own if complete else None))
    return out


def _column(names: Sequence[str], before: Side, joints: Sequence[Side], seeds: Sequence[Sequence[Side]]) -> TaskItems:
    """One task's item scores on every side, without the items that lack one anywhere."""
    sides = [before, *joints, *(side for stages in seeds for side in stages)]
    values: list[list[float]] = [[] for _ in sides]
    shares: list[float] = []
    clusters: list[str | None] = []
    for name in names:
        first = before[name].scores
        kept = [i for i in range(len(first)) if not any(math.isnan(side[name].scores[i].value) for side in sides)]
        # Each suite counts 1 / len(names) of its task, whatever its number of items; shares add up to 1.
        whole = sum(first[i].weight for i in kept) * len(names)
        shares += [first[i].weight / whole for i in kept]
        clusters += [None if (cluster := first[i].cluster) is None else f"{name}/{cluster}" for i in kept]
        for row, side in zip(values, sides, strict=True):
            row += [side[name].scores[i].value for i in kept]
    # float[1 + J + runs * stages, items], in the order of `sides`.
    table = np.array(values, dtype=float)
    # float[runs, stages, items].
    after = table[1 + len(joints) :].reshape(len(seeds), len(seeds[0]), -1)
    joint = table[1 : 1 + len(joints)].mean(axis=0) if joints else None
    known = clusters if any(cluster is not None for cluster in clusters) else None
    return TaskItems(after, table[0], joint, np.array(shares), known)


def _mean(values: Any, column: TaskItems) -> float | None:
    return float(values @ column.share) if len(column.share) else None
