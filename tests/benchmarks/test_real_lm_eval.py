"""The benchmarks on real models, on tiny ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import real_choice_vs_lm_eval as choice
from benchmarks import real_generate_vs_lm_eval as generate
from benchmarks import real_lm_eval
from tests.tiny import save_tiny


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MNEMOS_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("MNEMOS_DATA", str(tmp_path / "data"))
    return tmp_path


def _save(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("bench", [choice, generate])
def test_without_a_model_or_data_nothing_is_measured(
    bench: Any, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(bench.run()) == []
    assert "MNEMOS_MODELS" in capsys.readouterr().err
    save_tiny(folders / "models" / "qwen")
    assert list(bench.run()) == []
    assert "MNEMOS_DATA" in capsys.readouterr().err


def test_options_are_four_different_answers() -> None:
    rows = [
        {"context": f"Passage {k}.", "question": f"What is {k}?", "answers": [{"text": f"answer {k % 7}"}]}
        for k in range(30)
    ]
    items = choice.made(rows, 10)
    assert len(items) == 10
    for (context, options), row in zip(items, real_lm_eval.spread(10, rows), strict=True):
        assert context == f"{row['context']}\nQuestion: {row['question']}\nAnswer:"
        assert len(set(options)) == 4
        assert row["answers"][0]["text"] in options


@pytest.mark.filterwarnings("ignore")
def test_both_sides_answer_alike_and_are_timed(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    save_tiny(folders / "models" / "qwen")
    _save(folders / "data/gsm8k/test.jsonl.gz", [{"question": f"What is {k} and {k * k}?"} for k in range(5)])
    rows = [{"context": "The mill.", "question": f"Who {k}?", "answers": [{"text": f"Ada {k}"}]} for k in range(6)]
    _save(folders / "data/xquad/en.jsonl.gz", rows)
    monkeypatch.setattr(generate, "fastest", lambda peer, ask: (1, {}))
    monkeypatch.setattr(choice, "fastest", lambda peer, ask: real_lm_eval.fastest(peer, lambda model: None))
    monkeypatch.setattr(generate, "NEW", 6)
    (written,) = generate.run(3)
    assert written.details["items"] == 3
    assert written.details["tokens"] > 0
    assert all(
        gap <= generate.TIE
        for gap in written.details["texts that differ, by the gap at their first difference"].values()
    )
    (chosen,) = choice.run(4)
    assert chosen.details["items"] == 4
    assert chosen.details["largest difference in log_prob"] < 1e-3
    assert chosen.details["peer's batch size"] in real_lm_eval.SIZES
    assert {written.bound, chosen.bound} == {1.5, 3}
