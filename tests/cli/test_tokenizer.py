"""`mnemos tokenizer`: a trained directory loads, a comparison names what is lost, an extended model keeps the old."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.errors import DataError, ModelError, UsageError
from tests.sources.test_tokenizer import CHINESE, ENGLISH
from tests.tiny import save_tiny


def invoke(*words: str | Path) -> str:
    done = CliRunner().invoke(app, ["tokenizer", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Path]:
    places = {"en": tmp_path / "en.jsonl", "zh": tmp_path / "zh.jsonl"}
    for name, rows in (("en", ENGLISH), ("zh", CHINESE)):
        places[name].write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    return places


def test_train_and_compare(tmp_path: Path, texts: dict[str, Path]) -> None:
    words = invoke("train", texts["en"], "--kind", "unigram", "--vocabulary", "400", "--sentencepiece", "--special",
                   "<s>", "--out", tmp_path / "uni")  # fmt: skip
    assert "the texts support no more: 400 were asked for" in words
    assert "every held-out text comes back" in words
    (tmp_path / "one.jsonl").write_text('{"text": "a"}\n')
    words = invoke("train", tmp_path / "one.jsonl", "--out", tmp_path / "one")
    assert "too few texts to hold one out" in words
    invoke("train", texts["en"], "--vocabulary", "300", "--out", tmp_path / "bytes")
    words = invoke("compare", tmp_path / "uni", tmp_path / "uni" / "tokenizer.model", tmp_path / "bytes",
                   "--text", f"English={texts['en']}", "--text", texts["zh"], "--out", tmp_path / "c")  # fmt: skip
    assert "English: 24 texts" in words
    assert "decoding loses text: '人' comes back as" in words
    rows = json.loads((tmp_path / "c" / "compare.json").read_text())["rows"]
    found = {(row["language"], row["tokenizer"]): row for row in rows}
    assert found["English", "uni"]["tokens"] == found["English", "tokenizer.model"]["tokens"]
    assert found["zh", "bytes"]["round_trip"] == 1
    assert found["zh", "uni"]["round_trip"] == 0
    assert "<svg" in (tmp_path / "c" / "compare.html").read_text()


def test_a_model_is_extended_and_keeps_the_old_language(tmp_path: Path, texts: dict[str, Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = save_tiny(tmp_path / "model")
    for init in ("sub-pieces", "focus"):
        out = tmp_path / init
        words = invoke("extend", "--model", model, "--text", texts["zh"], "--script", "Han", "--pieces", "30", "--init",
                       init, "--old", texts["en"], "--out", out)  # fmt: skip
        assert "0 of 24 old texts have other ids" in words
        first = next(line for line in words.splitlines() if line.startswith("first: "))
        assert any(len(piece) > 1 and piece in "".join(CHINESE) for piece in re.findall('"(.+?)"', first)), first
        tokenizer, before = AutoTokenizer.from_pretrained(out), AutoTokenizer.from_pretrained(model)
        assert len(tokenizer(CHINESE[0])["input_ids"]) < len(before(CHINESE[0])["input_ids"])
        assert tokenizer(ENGLISH[0])["input_ids"] == before(ENGLISH[0])["input_ids"]
        assert tokenizer.chat_template == before.chat_template
        old, new = (AutoModelForCausalLM.from_pretrained(place).get_input_embeddings().weight for place in (model, out))
        assert (new[: len(old)] == old).all()
        assert len(new) > len(old)
        assert new[len(old) :].abs().sum(dim=1).min() > 0


def test_what_cannot_be_meant_is_refused(tmp_path: Path, texts: dict[str, Path]) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").write_text("x")
    with pytest.raises(UsageError, match="is there already"):
        invoke("train", texts["en"], "--out", tmp_path / "there")
    with pytest.raises(UsageError, match="names en a second time"):
        invoke("compare", "x", "--text", texts["en"], "--text", texts["en"])
    odd = tmp_path / "tokenizer.json"
    odd.write_text("{}")
    with pytest.raises(ModelError, match="is no tokenizer"):
        invoke("compare", odd, "--text", texts["en"])
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(DataError, match="is empty"):
        invoke("train", empty, "--out", tmp_path / "o")
    with pytest.raises(DataError, match="has no form in SentencePiece"):
        invoke("train", texts["en"], "--sentencepiece", "--vocabulary", "300", "--out", tmp_path / "p")
    assert not (tmp_path / "p").exists()
