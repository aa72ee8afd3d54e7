"""A study small enough to train in a second: a tiny model, a few rows, a few items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.tiny import save_tiny


def chat(number: int, question: str, answer: str) -> dict[str, Any]:
    """One row of two turns."""
    return {
        "id": f"row-{number}",
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
    }


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_study(folder: Path, **changes: Any) -> Path:
    """Write model, rows, suites and study.yaml under `folder`; `changes` replace study keys."""
    save_tiny(folder / "model")
    write_jsonl(folder / "new.jsonl", [chat(n, f"Say {n}.", f"{n} it is") for n in range(24)])
    write_jsonl(folder / "old.jsonl", [chat(n, f"Add {n} and 1.", str(n + 1)) for n in range(24)])
    suites = [
        {
            "name": "new",
            "kind": "generated",
            "match": "exact",
            "max_new_tokens": 6,
            "items": [{"id": str(n), "prompt": f"Say {n}.", "answer": f"{n} it is"} for n in range(8)],
        },
        {
            "name": "old",
            "kind": "choice",
            "items": [
                {"id": str(n), "prompt": f"Add {n} and 1.", "options": [str(n + 1), str(n)], "answer": 0}
                for n in range(8)
            ],
        },
        {
            "name": "english",
            "kind": "bits_per_byte",
            "items": [{"id": str(n), "text": f"The river runs past mill {n}."} for n in range(6)],
        },
    ]
    (folder / "new.yaml").write_text(yaml.safe_dump(suites[0]))
    (folder / "old.yaml").write_text(yaml.safe_dump(suites[1:]))
    study = {
        "model": "model",
        "teach": {"data": "new.jsonl"},
        "suites": {"new": ["new.yaml"], "old": ["old.yaml"]},
        "arms": {"replay": [{"replay": {"data": "old.jsonl", "share_of_final": 0.25}}]},
        "train": {"learning_rate": 1e-3, "num_train_epochs": 2, "per_device_train_batch_size": 8, "logging_steps": 1},
        "seeds": [0],
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


TIMINGS = {"created", "seconds", "writing_seconds", "trajectory_seconds", "peak_memory_bytes"}
TIMINGS |= {f"peak_memory_{phase}_bytes" for phase in ("prepare", "load", "train", "save")}


def without_timings(value: Any) -> Any:
    """results.json as two equal runs must agree on it."""
    if isinstance(value, dict):
        return {key: without_timings(item) for key, item in value.items() if key not in TIMINGS}
    if isinstance(value, list):
        return [without_timings(item) for item in value]
    return value
