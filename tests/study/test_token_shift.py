"""A study with a suite of kind token_shift: its ledger, and what results.json and the report hold of it."""

from __future__ import annotations

from pathlib import Path

import mnemos
from mnemos.core.files import read_json
from mnemos.measure.ask import load_measured
from mnemos.report import render
from tests.study.worlds import make_study


def test_a_study_says_where_its_arms_moved(tmp_path: Path) -> None:
    path = make_study(
        tmp_path,
        arms={},
        suites={"new": ["new.yaml"], "old": ["old.yaml", {"name": "shift", "kind": "token_shift", "of": "new"}]},
        train={"learning_rate": 1e-2, "max_steps": 3, "per_device_train_batch_size": 8},
        health=False,
    )
    folder = tmp_path / "run"
    record = mnemos.run(path, out=folder)
    (row,) = [row for row in record.comparisons if row["suite"] == "shift"]
    results = read_json(folder / "results.json")
    found = results["token_shift"]["shift"]["plain"]
    answers = load_measured(folder / "arms" / "plain" / "seed-0" / "answers")["shift"].answers
    ranks = [rank for answer in answers for rank in answer.data["ranks"]]
    assert found["tokens"] == len(ranks)
    assert found["shifted"] == sum(rank > 3 for rank in ranks) / len(ranks)
    # Measured against itself the model before is not shifted, so the whole share is the change.
    assert row["before"] == 0.0
    assert row["delta"] == row["after"] > 0
    assert "Shifted tokens by how much of the answer is written" in render(results, "md", 120)
