from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mnemos.core.errors import UsageError
from mnemos.report.facts import plane
from mnemos.report.reading import read
from tests.report import synthetic


@pytest.mark.parametrize("wrong", [None, [], {}, {"format": 1}, {"format": 2, "comparisons": []}])
def test_refuses_what_is_no_results_file(wrong: Any) -> None:
    with pytest.raises(UsageError, match="results"):
        read(wrong)


def test_every_comparison_is_read_in_the_shown_scale() -> None:
    results = synthetic.study()
    facts = read(results)
    found = {(change.arm, change.suite): change for change in facts.changes}
    assert len(found) == len(results["comparisons"])
    for row in results["comparisons"]:
        change, factor = found[row["arm"], row["suite"]], 100 if row["unit"] == "points" else 1
        for name in ("before", "after", "delta", "low", "high", "minimum_detectable"):
            assert getattr(change, name) == pytest.approx(row[name] * factor)
        assert (change.verdict, change.items, change.tolerance) == (row["verdict"], row["items"], row["tolerance"])


def test_suites_stand_by_role_then_manifest() -> None:
    results = synthetic.study()
    results["manifest"]["suites"].reverse()
    facts = read(results)
    assert [suite.role for suite in facts.suites] == ["new"] + ["old"] * 5 + ["health"] * 3
    assert facts.suites[1].name == "bits-per-byte:english"
    assert [change.suite for change in facts.arms[0].changes] == [suite.name for suite in facts.suites]


def test_gain_turns_with_the_suite() -> None:
    change = next(c for c in read(synthetic.study()).changes if c.suite == "bits-per-byte:english" and c.arm == "plain")
    assert change.delta is not None
    assert change.gain == -change.delta < 0
    assert change.gain_interval == (-change.high, -change.low)  # type: ignore[operator]


def test_missing_numbers_and_reasons() -> None:
    facts = read(synthetic.ugly())
    change = next(c for c in facts.changes if c.suite == "json-answers")
    assert (change.before, change.after, change.delta, change.gain) == (None, None, None, None)
    assert change.missing == 240
    assert dict(change.reasons)["timeout"] == 241
    assert facts.arms[-1].name == "never run"
    assert facts.arms[-1].changes == ()


def test_old_and_partial_files() -> None:
    facts = read({"comparisons": [], "arms": []})
    assert (facts.arms, facts.suites, facts.grids, facts.flips, facts.seeds) == ((), (), (), (), ())
    lone = read({"comparisons": [{"arm": "after", "suite": "s", "delta": None}]})
    assert lone.changes[0].verdict == "cannot tell"
    assert lone.changes[0].role == "old"


def test_plane_against_numpy() -> None:
    results = synthetic.study()
    points, notes = plane(read(results))
    assert len(points) == 6 * 3
    before = {name: entry["mean"] for name, entry in results["before"].items()}
    olds = ["biographies", "refusals", "json-answers", "arithmetic"]
    for point in points:
        run = next(r for r in results["arms"][point.arm]["runs"] if str(r["seed"]) == point.seed)
        lost = [before[name] - run["scores"][name]["mean"] for name in olds]
        assert point.forgetting == pytest.approx(100 * np.mean(lost))
        assert point.learning == pytest.approx(100 * (run["scores"]["new-format"]["mean"] - before["new-format"]))
    assert notes == ["Not on this plane, because not measured in points: bits-per-byte:english."]


def test_plane_leaves_out_a_run_without_a_score() -> None:
    results = synthetic.study()
    results["arms"][0]["runs"][1]["scores"]["refusals"]["mean"] = math.nan
    points, notes = plane(read(results))
    assert len(points) == 17
    assert "plain, seed 1: not drawn, a suite's score is missing." in notes


def test_plane_leaves_out_an_arm_that_missing_items_move() -> None:
    results = synthetic.study()
    [row] = [r for r in results["comparisons"] if r["arm"] == "plain" and r["suite"] == "refusals"]
    row["missing"] = 3
    assert len(plane(read(results))[0]) == 18, "missing, and the means still differ by the paired change"
    # Hard items without an answer raise the mean of the others, where the pairs show a loss.
    row["delta"] -= 0.3
    points, notes = plane(read(results))
    assert len(points) == 15
    assert "plain: not drawn, items are missing on one side of refusals." in notes


def test_grid_is_the_mean_over_seeds_and_missing_stays_missing() -> None:
    results = synthetic.sequence()
    plain = results["matrix"]["arms"]["plain"]
    mean = 100 * np.mean(list(plain["seeds"].values()), axis=0)
    grid = read(results).grids[0]
    np.testing.assert_allclose(np.array(grid.rows, dtype=float), mean)
    assert grid.joint == pytest.approx((90.0, 92.0, 84.0))
    plain["seeds"]["1"][2][0] = None
    assert read(results).grids[0].rows[2][0] is None


def test_cost_is_mean_of_runs_but_memory_the_highest() -> None:
    results = synthetic.study()
    runs = results["arms"][0]["runs"]
    for run, seconds, peak in zip(runs, (10, 20, 60), (5, 9, 7), strict=True):
        run["cost"].update(seconds=seconds, peak_memory_bytes=peak)
    arm = read(results).arms[0]
    assert arm.cost("seconds") == 30
    assert arm.cost("peak_memory_bytes", max) == 9
    assert arm.cost("unknown") is None
    assert arm.counts == {"new": 6000, "too long": 9}


def test_chat_prompts_become_text() -> None:
    flip = read(synthetic.ugly()).flips[0]
    assert flip.prompt.startswith("user: <script>")
    assert flip.before == ""
