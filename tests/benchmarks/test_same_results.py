"""Two results.json side by side: renamed keys meet, what differs is found, what belongs to a run is left out."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.same_results import compared, lines, main

OLD: dict[str, Any] = {
    "created": "2026-01-01",
    "comparisons": [
        {"arm": "plain", "suite": "facts", "delta": -0.25, "verdict": "lost", "seconds": 3.0},
        {"arm": "plain", "suite": "json", "delta": 0.5, "verdict": "gained", "seconds": 3.0},
    ],
    "drift": {"share": 0.5},
    "gone": 1,
}


def new(**more: Any) -> dict[str, Any]:
    """The same, later, in another order and under the new name of one key."""
    made = copy.deepcopy(OLD)
    made["kl_forgetting"] = made.pop("drift")
    made["comparisons"].reverse()
    return {**made, "created": "2026-02-01", **more}


def test_what_was_renamed_or_stands_elsewhere_is_the_same() -> None:
    later = new()
    later["comparisons"][0]["seconds"] = 9.0
    later["comparisons"][0]["delta"] += 1e-9
    found, gone, come = compared(OLD, later)
    assert {metric: [one for one in each if one] for metric, each in found.items()} == {
        "comparisons: arm": [], "comparisons: delta": [], "comparisons: suite": [], "comparisons: verdict": [],
        "gone": [], "kl_forgetting: share": [],
    }  # fmt: skip
    assert (gone, come) == ([], [])


def test_what_differs_is_said_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = new(more=2)
    del later["gone"]
    later["comparisons"][1] |= {"delta": -0.2, "verdict": "cannot tell"}
    text = lines(OLD, later)
    assert "| comparisons: delta | 2 | 1 | 0.05 |" in text
    assert "| comparisons: verdict | 2 | 1 | another word |" in text
    assert "- comparisons / plain, facts / delta: -0.25, now -0.2" in text
    assert {"- only before: gone", "- only now: more"} <= set(text)
    for name, results in (("old", OLD), ("new", later)):
        (tmp_path / name).write_text(json.dumps(results))
    assert main([str(tmp_path / "old"), str(tmp_path / "old")]) == 0
    assert main([str(tmp_path / "old"), str(tmp_path / "new")]) == 1
    assert "- only now: more" in capsys.readouterr().out
