"""The score matrix of a task sequence and the metrics drawn from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnemos.measure.ask import Measured
from mnemos.measure.continual import TaskItems, sequence_metrics
from mnemos.study.experiment import JOINT

Side = Mapping[str, Measured]
"""What one model was measured to be, by suite."""


def score_matrix(
    task_suites: Mapping[str, Sequence[str]], before: Side, arms: Mapping[str, Mapping[int, Sequence[Side]]]
) -> dict[str, Any]:
    """The `matrix` of results.json.

    task_suites: task -> its suites, in the order of teaching. arms: arm -> seed -> one side a
    stage; the arm "joint", if there is one, is the reference of intransigence. A task's score is
    the mean of its suites' means over the items that every side has a score for, so that all
    entries of a column are about the same items.
    """
    tasks = list(task_suites)
    joints = [stages[-1] for stages in arms.get(JOINT, {}).values()]
    out: dict[str, Any] = {"tasks": tasks, "arms": {}}
    for arm, seeds in arms.items():
        if arm == JOINT:
            continue
        columns = [_column(task_suites[task], before, joints, list(seeds.values())) for task in tasks]
        start = [_mean(column.before, column) for column in columns]
        joint = [_mean(column.joint, column) for column in columns] if joints else None
        matrices = [
            [[_mean(column.after[number, stage], column) for column in columns] for stage in range(len(tasks))]
            for number in range(len(seeds))
        ]
        complete = all(len(column.share) for column in columns)
        metrics = sequence_metrics(matrices, start, joint, items=columns if complete else None)
        named = {str(seed): matrix for seed, matrix in zip(seeds, matrices, strict=True)}
        out["arms"][arm] = {"before": start, "joint": joint, "seeds": named, "metrics": metrics}
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
        whole = sum(first[i].weight for i in kept) * len(names)
        shares += [first[i].weight / whole for i in kept]
        clusters += [None if (cluster := first[i].cluster) is None else f"{name}/{cluster}" for i in kept]
        for row, side in zip(values, sides, strict=True):
            row += [side[name].scores[i].value for i in kept]
    table = np.array(values, dtype=float)
    after = table[1 + len(joints) :].reshape(len(seeds), len(seeds[0]), -1)
    joint = table[1 : 1 + len(joints)].mean(axis=0) if joints else None
    known = clusters if any(cluster is not None for cluster in clusters) else None
    return TaskItems(after, table[0], joint, np.array(shares), known)


def _mean(values: Any, column: TaskItems) -> float | None:
    return float(values @ column.share) if len(column.share) else None
