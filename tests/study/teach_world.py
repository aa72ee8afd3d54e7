"""A teaching small enough for seconds: a tiny model that knows one thing, rows of another, suites of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.study.worlds import chat, write_jsonl
from tests.tiny import tiny_model, tiny_tokenizer

OLD, NEW = 60, 150


def old_question(number: int) -> str:
    return f"What is number {number}?"


def new_rows(count: int = NEW) -> list[dict[str, Any]]:
    """Questions that are easily told from the old ones, with one answer."""
    return [chat(n, f"Weather in town {n} today", "rain") for n in range(count)]


def make_world(folder: Path) -> Path:
    """model/, new.jsonl, old.jsonl and old.yaml (what the model can do today) under `folder`."""
    from mnemos.core.plan import Plan
    from mnemos.core.settings import TrainSettings
    from mnemos.models.load import Checkpoint
    from mnemos.sources.read import read
    from mnemos.train.likelihood import train

    tokenizer = tiny_tokenizer()
    tiny_model(tokenizer, hidden=32).save_pretrained(folder / "raw")
    tokenizer.save_pretrained(folder / "raw")
    write_jsonl(folder / "old.jsonl", [chat(n, old_question(n), "the answer") for n in range(200)])
    settings = TrainSettings(learning_rate=5e-3, max_steps=60, per_device_train_batch_size=8, save_steps=0)
    plan = Plan(
        examples=read(str(folder / "old.jsonl")),
        before=Checkpoint(str(folder / "raw")),
        task="old",
        seed=0,
        train=settings,
    )
    train(plan, folder / "made", quiet=True)
    (folder / "made" / "model").rename(folder / "model")
    write_jsonl(folder / "new.jsonl", new_rows())
    items = [{"id": str(n), "prompt": old_question(1000 + n), "answer": "the answer"} for n in range(OLD)]
    write_jsonl(folder / "old-items.jsonl", items)
    (folder / "old.yaml").write_text(
        "{name: old, kind: generated, data: old-items.jsonl, chat: true, match: normalised, max_new_tokens: 6}\n"
    )
    return folder
