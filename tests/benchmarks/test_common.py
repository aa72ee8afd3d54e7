"""The harness that the benchmarks share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import common
from benchmarks.__main__ import main


def test_medians_are_compared_and_all_repetitions_kept() -> None:
    figures = iter([3.0, 1.0, 9.0, 2.0, 6.0, 3.0])
    sides = common.alternate(lambda: next(figures), lambda: next(figures), 3)
    result = common.compared("x", sides, unit="items/s", direction="higher is better", bound=2.5, details={"more": 1})
    assert (result.ours, result.peer, result.ratio, result.holds) == (6.0, 2.0, 3.0, True)
    assert result.details == {"ours": [3.0, 9.0, 6.0], "peer": [1.0, 2.0, 3.0], "more": 1}


def test_direction_decides_what_holds() -> None:
    lower = common.Result("x", 2.0, 4.0, "s", "lower is better", 0.5)
    assert lower.holds
    assert not common.Result("x", 2.1, 4.0, "s", "lower is better", 0.5).holds
    assert not common.Result("x", 2.0, 4.0, "s", "higher is better", 0.6).holds


def test_a_saved_result_has_figures_and_provenance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    value = json.loads(common.save(common.Result("x", 2.0, 4.0, "s", "lower is better", 0.5)).read_text())
    assert {"name", "ours", "peer", "ratio", "direction", "bound", "holds", "versions", "commit", "hardware"} <= set(
        value
    )
    assert value["ratio"] == 0.5
    assert value["versions"]["torch"]


def test_the_table_says_what_fails() -> None:
    results = [
        common.Result("good", 5.0, 2.0, "items/s", "higher is better", 2.5),
        common.Result("bad", 9.0, 10.0, "s", "lower is better", 0.5),
    ]
    head, good, bad = common.table(results).splitlines()
    assert head.split() == ["benchmark", "ours", "peer", "ratio", "bound", "holds"]
    assert good.split() == ["good", "5", "items/s", "2", "items/s", "2.50", ">=", "2.5", "yes"]
    assert bad.split()[-4:] == ["0.90", "<=", "0.5", "NO"]


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no_such"]) == 2
    assert "choice_vs_lm_eval" in capsys.readouterr().err
