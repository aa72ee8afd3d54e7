"""Do these checkpoints descend from one another? A look at a sample of their weights.

Fine-tuned models stay close to their start: the cosine between the weights of parent and child is
near 1. Two models that were trained apart have weights at right angles, and their difference is
no task vector.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from mnemos.weights.combination import Combination
from mnemos.weights.shards import pool
from mnemos.weights.tensors import Weights

SAMPLE = 1 << 14
"""Elements looked at in each matrix."""
SMALLEST_COSINE = 0.5
"""Below this, two checkpoints are not taken to share a base; children of one base have above 0.9."""


def warnings_of(expression: Combination, opened: Mapping[str, Weights], trunk: str, *, vector: bool) -> list[str]:
    """What looks wrong about adding these checkpoints, in words; empty when nothing does."""
    found = []
    total = _total(expression, opened)
    if total is not None and not vector and abs(total - 1) > 1e-6:
        found.append(
            f"the coefficients of models add up to {total:g}, not 1: every weight, norms included, is scaled by that"
        )
    for name in expression.names:
        one = opened[name]
        if name == trunk or one.is_vector or opened[trunk].is_vector:
            continue
        if one.config.get("model_type") != opened[trunk].config.get("model_type"):
            found.append(
                f"{name} is a {one.config.get('model_type')}, {trunk} a {opened[trunk].config.get('model_type')}"
            )
        cosine = likeness(opened[trunk], one)
        if cosine is not None and cosine < SMALLEST_COSINE:
            found.append(
                f"{name} and {trunk} do not look like children of one base: the cosine between their weights is "
                f"{cosine:.3f}, and above {SMALLEST_COSINE} is expected"
            )
        # One directory under two names is allowed (a mean of a model and itself is itself), but seldom meant.
    folders: dict[str, str] = {}
    for name in expression.names:
        folder = str((opened[name].adapter or opened[name].folder).resolve())
        if folder in folders:
            found.append(f"{folders[folder]} and {name} are the same directory, {folder}")
        folders.setdefault(folder, name)
    dtypes = {name: {s.dtype for s in opened[name].stored.values() if s.dtype.is_floating_point} for name in opened}
    # A trunk that holds every number of the others loses none, so only what it cannot hold is worth a word.
    if any(
        not _holds(ours, kind)
        for name, kinds in dtypes.items() if not opened[name].is_vector
        for kind in kinds for ours in dtypes[trunk]
    ):  # fmt: skip
        words = ", ".join(f"{n} {'/'.join(sorted(str(k)[6:] for k in kinds))}" for n, kinds in dtypes.items())
        found.append(f"dtypes differ ({words}): the result has those of {trunk} unless dtype says otherwise")
    return found


def _holds(wide: torch.dtype, narrow: torch.dtype) -> bool:
    """Whether every number of `narrow` is one of `wide`."""
    return torch.promote_types(wide, narrow) == wide


def _total(expression: Combination, opened: Mapping[str, Weights]) -> float | None:
    total = 0.0
    for atom, factor in expression.terms:
        if not isinstance(factor, float):
            return None
        # A saved difference scales nothing: only coefficients of whole models must add up to 1.
        total += 0.0 if isinstance(atom, str) and opened[atom].is_vector else factor
    return total


def likeness(ours: Weights, theirs: Weights) -> float | None:
    """Cosine between two checkpoints on a sample of their matrices; None where they share none."""

    def products(key: str) -> tuple[float, float, float]:
        place, shape = theirs.find(key), ours.stored[key].shape
        if len(shape) != 2 or "embed" in key or place is None or theirs.stored[place].shape != shape:
            return 0.0, 0.0, 0.0
        # Whole rows from the middle of the matrix, one read each.
        rows = min(max(SAMPLE // max(shape[1], 1), 1), shape[0])
        start = (shape[0] - rows) // 2 * shape[1]
        stop = start + rows * shape[1]
        a, b = (one.view(at).block(start, stop, torch.float32) for one, at in ((ours, key), (theirs, place)))
        if not math.isfinite(float(a.sum() + b.sum())):
            return 0.0, 0.0, 0.0
        return float(a.dot(b)), float(a.dot(a)), float(b.dot(b))

    with pool() as workers:
        found = list(workers.map(products, ours.stored))
    dot, first, second = (math.fsum(column) for column in zip(*found, strict=True))
    return dot / math.sqrt(first * second) if first * second > 0 else None
