"""Results that are kept name no place of the machine that made them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnemos.core.places import RECIPES
from mnemos.recipes.recompute import keep
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
