"""How far rows that a model writes itself end below all tasks at once, on the reproduction lamol in all six orders.

    mnemos reproduce lamol, its results copied to docs/results/lamol.json; then python -m benchmarks lamol_gap

Nothing is trained here: ours and peer are the average accuracies of the arm ARM and of the joint arm in
points, and the bound is within POINTS of each other, written as a ratio.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.common import Result, compared

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "lamol.json"
ARM, POINTS = "lamol+distill", 3.0


def run() -> list[Result]:
    """The one comparison; none where the reproduction has not been walked."""
    return [gap(json.loads(RESULTS.read_text(encoding="utf-8")))] if RESULTS.is_file() else []


def gap(results: dict[str, Any], arm: str = ARM) -> Result:
    """From the content of the reproduction's results.json."""
    arms = results["matrix"]["arms"]
    ours = 100 * arms[arm]["metrics"]["average_accuracy"]["mean"]
    joint = 100 * sum(arms[arm]["joint"]) / len(arms[arm]["joint"])
    averages = {name: entry["metrics"]["average_accuracy"] for name, entry in arms.items()}
    return compared(
        "lamol-gap",
        ([ours], [joint]),
        unit="points",
        direction="higher is better",
        bound=1 - POINTS / joint,
        details={
            "gap": arms[arm]["metrics"]["gap_to_joint"],
            "average_accuracy": averages,
            "orders": [order["tasks"] for order in results["matrix"].get("orders", [])],
            "seeds": results["manifest"].get("seeds"),
        },
    )
