"""`mnemos asr` in a terminal: transcripts as they come, what adapting changed, what could not be heard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("soundfile", reason="sound is read with soundfile")

from mnemos.cli import app
from mnemos.core.errors import ModelError, UsageError
from mnemos.models.recognisers.load import load
from mnemos.sources.audio import read, write
from mnemos.stream.adaptation.methods import METHODS
from tests.tiny_speech import sound, tiny_whisper, tiny_whisper_ctc


def test_transcripts_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_whisper_ctc(tmp_path / "model")
    (tmp_path / "clips").mkdir()
    for at in range(3):
        write(sound(0.4, seed=at), tmp_path / "clips" / f"{at}.wav")
    (tmp_path / "clips" / "3.wav").write_bytes(b"RIFF no sound")
    write(sound(1.5, seed=9), tmp_path / "clips" / "4.wav")
    line = ["asr", "adapt", "clips", "--model", "model", "--longest", "1"]
    found = CliRunner().invoke(app, [*line, "--method", "csuta", "--set", "learning_rate=0.1"])
    assert found.exit_code == 0, found.output
    lines = found.output.splitlines()
    assert lines[0].startswith("clips/0.wav  ")
    assert any(one.startswith("             without adapting: ") for one in lines)
    assert "clips/3.wav  left out: damaged audio" in lines
    assert "clips/4.wav  left out: longer than 1 s" in lines
    assert any("real-time factor" in one for one in lines)
    assert "2 could not be heard" in lines
    source = load("model").transcribe([read(path) for path in sorted((tmp_path / "clips").glob("[012].wav"))])
    rows = CliRunner().invoke(app, [*line, "--method", "source", "--json"]).output
    decoder, texts = json.JSONDecoder(), []
    while rows.strip():
        row, end = decoder.raw_decode(rows.lstrip())
        rows = rows.lstrip()[end:]
        texts.append(row["text"])
    assert texts == [*source, None, None]


def test_mistakes_are_named() -> None:
    for words, bound in (
        (["nowhere.wav", "--model", "m"], "does not exist"),
        (["a.wav", "--model", "m", "--method", "dsutta"], "did you mean 'dsuta'"),
        (["a.wav", "--model", "m", "--method", "dsuta-oracle"], "where domains end"),
        (["a.wav", "--model", "m", "--set", "fast=3"], "fast"),
    ):
        found = CliRunner().invoke(app, ["asr", "adapt", *words])
        assert found.exception is not None
        assert bound in str(found.exception)


def test_every_method_is_listed_with_its_deviations() -> None:
    found = CliRunner().invoke(app, ["asr", "methods"])
    assert found.exit_code == 0
    for name, row in METHODS.items():
        assert f"{name:<14} {row.summary}" in found.output
        for number, text in enumerate(row.deviations, 1):
            assert f"deviation {number}: {text}" in found.output
    assert len(json.loads(CliRunner().invoke(app, ["asr", "methods", "--json"]).output)) == len(METHODS)


def test_a_whisper_encoder_gets_a_head(tmp_path: Path) -> None:
    whisper, out = tiny_whisper(tmp_path / "whisper"), tmp_path / "ears"
    line = ["asr", "head", str(whisper), "--out", str(out)]
    found = CliRunner().invoke(app, [*line, "--characters", "abc"])
    assert found.exit_code == 0, found.output
    assert "a head for 3 characters" in found.output
    ears = load(out)
    assert ears.spell("Cab, dad").missing == ",dd"
    assert ears.transcribe([sound(0.4)]) == load(out).transcribe([sound(0.4)])
    assert isinstance(CliRunner().invoke(app, line).exception, UsageError)
    again = CliRunner().invoke(app, ["asr", "head", str(out), "--out", str(tmp_path / "b")])
    assert isinstance(again.exception, ModelError)
