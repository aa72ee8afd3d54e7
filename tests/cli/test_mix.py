"""`mnemos data mix`: the file, the epochs, and the warning above four."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.errors import DataError, UsageError
from tests.sources.test_tokenizer import CHINESE, ENGLISH
from tests.tiny import tiny_tokenizer


def invoke(*words: str | Path) -> str:
    done = CliRunner().invoke(app, ["data", "mix", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_sources_are_mixed_and_epochs_said(tmp_path: Path) -> None:
    for name, rows in (("en", ENGLISH), ("zh", CHINESE)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    en, zh, out = f"en={tmp_path / 'en.jsonl'}", f"zh={tmp_path / 'zh.jsonl'}", tmp_path / "mixed.jsonl"
    words = invoke(en, zh, "--weight", "en=1", "--weight", "zh=3", "--total", "3000", "--max-epochs", "8", "--out", out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    characters = Counter[str]()
    for row in rows:
        characters[row["source"]] += len(row["text"])
    assert characters["zh"] / characters["en"] == pytest.approx(3, rel=0.15)
    assert "! read more than 4 times: zh" in words
    record = json.loads((tmp_path / "mixed.jsonl.mixture.json").read_text())
    assert record["rows"] == len(rows)
    tiny_tokenizer().save_pretrained(tmp_path / "tok")
    words = invoke(en, "--tokenizer", tmp_path / "tok" / "tokenizer.json", "--order", "in-context", "--out",
                   tmp_path / "a.jsonl.gz")  # fmt: skip
    assert "tokens by source, in in-context order" in words
    with pytest.raises(UsageError, match="is there already"):
        invoke(en, "--out", out)
    with pytest.raises(DataError, match="cannot be filled"):
        invoke(en, "--total", "1e9", "--out", tmp_path / "b.jsonl")
    with pytest.raises(UsageError, match="is no number"):
        invoke(en, "--weight", "en=much", "--out", tmp_path / "b.jsonl")
    with pytest.raises(UsageError, match="must be NAME=VALUE"):
        invoke("en.jsonl", "--out", tmp_path / "b.jsonl")
    with pytest.raises(UsageError, match="is given twice, first as "):
        invoke(en, en, "--out", tmp_path / "b.jsonl")
    with pytest.raises(UsageError, match="en=2: is given twice"):
        invoke(en, "--weight", "en=1", "--weight", "en=2", "--out", tmp_path / "b.jsonl")
    assert not (tmp_path / "b.jsonl").exists()
    assert not (tmp_path / "b.jsonl").exists()
