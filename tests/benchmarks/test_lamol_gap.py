"""The gap is the difference of the two averages, and holds up to three points."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.lamol_gap import ARM, gap


def results(ours: float, joint: list[float]) -> dict[str, Any]:
    metrics = {"average_accuracy": {"mean": ours, "low": None, "high": None}, "gap_to_joint": {"mean": 0.0}}
    return {"matrix": {"arms": {ARM: {"joint": joint, "metrics": metrics}}}, "manifest": {"seeds": [0]}}


@pytest.mark.parametrize(("ours", "holds"), [(0.571, True), (0.569, False), (0.65, True)])
def test_within_three_points(ours: float, holds: bool) -> None:
    found = gap(results(ours, [0.5, 0.6, 0.7]))
    assert (found.ours, found.peer) == pytest.approx((100 * ours, 60.0))
    assert found.holds is holds
