"""A study whose arms learn what the model itself says to transcripts, and how it says it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

import mnemos
from mnemos.core.nouns import Decoding, Generation, Prompt
from mnemos.methods.examples.listening import CONTINUE
from mnemos.models.language import LocalModel
from tests.models.speech.making import clip, tiny_listener


def test_answers_are_written_once_and_learned_by_each_objective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    # Random weights end no answer.
    asked: list[str] = []

    def generate(self: LocalModel, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        asked.extend(prompt.turns[-1].text for prompt in prompts if not prompt.turns[-1].sounds)
        return [Generation("and so on", tuple(self.tokenizer("and so on")["input_ids"]), True) for _ in prompts]

    monkeypatch.setattr(LocalModel, "generate", generate)
    tiny_listener(tmp_path / "listener")
    rows = [
        {"audio": clip(tmp_path, 0.3 + 0.1 * n, n).name, "question": "Who?", "answer": "Ada.", "text": f"word {n}"}
        for n in range(4)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts = [{"prompt": f"{n}?", "answer": "yes"} for n in range(3)]
    record = mnemos.run(
        {
            "name": "runs",
            "model": str(tmp_path / "listener"),
            "teach": {"data": str(tmp_path / "rows.jsonl")},
            "suites": {"new": [{"name": "new", "kind": "generated", "items": texts, "max_new_tokens": 2}], "old": []},
            "arms": {
                "diva": [{"output_only": {}}, {"diva": {}}],
                "words": [{"output_only": {}}, {"text_only": {}}, {"lora": {"rank": 2}}],
                "kl": [{"output_only": {}}, {"text_run_kl": {}}, {"lora": {"rank": 2}}],
                "blsp": [{"output_only": {}}, {"continuation": {}}, {"text_run_kl": {"likelihood": 1.0}}],
            },
            "train": {"max_steps": 1, "per_device_train_batch_size": 4, "learning_rate": 1e-3},
            "seeds": [0],
        },
        out=tmp_path / "run",
        quiet=True,
    )
    assert [text for text in asked if text.startswith("word")] == [f"word {n}\n{CONTINUE}" for n in range(4)]
    assert {one["arm"] for one in record.comparisons} == {"plain", "diva", "words", "kl", "blsp"}
    assert all(one["missing"] == 0 for one in record.comparisons if one["suite"] == "new")
