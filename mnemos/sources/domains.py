"""Which source of text a row is of, and the weights of sources that a training has learned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mnemos.core.errors import DataError, UsageError, nearest
from mnemos.core.nouns import Example

WEIGHT, EXCESS = "weight of ", "excess loss of "
"""What the names of notes begin with, before that of the source."""


def domain_of(example: Example, column: str) -> str:
    """The row's source. Raises DataError for a row without the column."""
    value = example.meta.get(column)
    if value is None or value == "":
        raise DataError(
            f"{example.place or example.id}", f"has no column {column}", f"name each row's source in a column {column}"
        )
    return str(value)


def learned_weights(results: Mapping[str, Any], where: str, seed: int, arm: str | None = None) -> dict[str, float]:
    """Source -> mean weight over all steps, which adds up to 1, of the run with this seed, or over all seeds where
    none has it.

    results: the content of a results.json. where: its place, for errors. arm: which arm's; may be left out where one
    alone has learned weights. Raises UsageError for another arm, DataError where none has learned weights.
    """
    found = {str(entry["arm"]): runs for entry in results.get("arms") or () if (runs := _runs(entry))}
    if not found:
        raise DataError(where, "holds no learned weights of sources", "name the results.json of a study with doremi")
    if arm is not None and arm not in found:
        raise UsageError(f"arm = {arm}", f"has learned no weights in {where}", nearest(arm, found))
    if arm is None and len(found) > 1:
        raise UsageError(where, f"holds the weights of several arms: {', '.join(found)}", "choose one with arm")
    runs = found[arm if arm is not None else next(iter(found))]
    chosen = [weights for own, weights in runs if own == seed] or [weights for _, weights in runs]
    # Sources are those of all: each training read the same rows.
    names = sorted({name for weights in chosen for name in weights})
    means = {name: math.fsum(weights.get(name, 0.0) for weights in chosen) / len(chosen) for name in names}
    total = math.fsum(means.values())
    if not (math.isfinite(total) and total > 0):
        raise DataError(where, f"weights of sources add up to {total}", "train the proxy again")
    return {name: mean / total for name, mean in means.items()}


def _runs(entry: Mapping[str, Any]) -> list[tuple[Any, dict[str, float]]]:
    """(seed, source -> mean weight) of each run of an arm that learned weights."""
    out = []
    for run in entry.get("runs") or ():
        noted = run.get("noted") or {}
        own = {name.removeprefix(WEIGHT): _mean(points) for name, points in noted.items() if name.startswith(WEIGHT)}
        if own:
            out.append((run.get("seed"), own))
    return out


def _mean(points: Sequence[Sequence[float]]) -> float:
    """Over all steps, of points [step, mean since the point before]."""
    last, total = 0.0, 0.0
    for step, value in points:
        total += (step - last) * value
        last = step
    return total / last if last else math.nan
