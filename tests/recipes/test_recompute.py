"""Results that are kept name no place of the machine that made them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnemos.core.errors import UsageError
from mnemos.core.places import RECIPES
from mnemos.recipes.recompute import keep, main
from mnemos.study.results.items import FILE, scores_beside


def test_places_of_one_machine_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEMOS_MODELS", str(tmp_path / "models"))
    run = tmp_path / "runs" / "study"
    run.mkdir(parents=True)
    value = {
        "here": f"{RECIPES}/suites/facts.jsonl",
        "elsewhere": "chats made up by /other/checkout/mnemos/recipes/patients/chat as 20 %",
        "inside": f"made up by {run}/steps/train-1/model",
        "beside": f"{run.parent}/data/items.jsonl",
        "model": f"{tmp_path}/models/qwen",
        "flips": ["answers"],
    }
    (run / "results.json").write_text(json.dumps(value))
    (run / FILE).write_bytes(b"scores")
    kept = tmp_path / "kept.json"
    keep(run, kept)
    assert json.loads(kept.read_text()) == {
        "here": "mnemos:suites/facts.jsonl",
        "elsewhere": "chats made up by mnemos:patients/chat as 20 %",
        "inside": "made up by steps/train-1/model",
        "beside": "data/items.jsonl",
        "model": "$MNEMOS_MODELS/qwen",
    }
    assert scores_beside(kept).read_bytes() == b"scores"


def test_of_a_study_that_adapts_the_results_are_kept_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, kept = tmp_path / "run", tmp_path / "kept.json"
    run.mkdir()
    (run / "results.json").write_text(json.dumps({"kind": "adaptation"}))
    assert main([str(kept), "--keep", str(run)]) == 0
    assert "in a journal" in capsys.readouterr().out
    assert not scores_beside(kept).exists()
    (run / "results.json").write_text(json.dumps({"kind": "study"}))
    with pytest.raises(UsageError, match=FILE):
        keep(run, kept)
