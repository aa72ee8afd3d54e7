"""Clips in the terminal and as a drawing: what they are, and nothing that text could do to either."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

from rich.console import Console
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.errors import UsageError
from mnemos.sources import audio
from mnemos.sources.read import read
from mnemos.sources.show_sound import envelope, show, svg, wave, words
from tests.tiny_speech import sound

HOSTILE = "<script>alert(1)</script> \x1b[31m & \u202e"


def rows(folder: Path, *texts: str) -> Any:
    lines = []
    for number, text in enumerate(texts):
        audio.write(sound(0.5, number, rate=8_000), folder / f"{number}.wav")
        lines.append(json.dumps({"audio": f"{number}.wav", "text": text}))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return read(str(folder / "rows.jsonl"))


def test_a_clip_is_described_by_what_it_is() -> None:
    clip = audio.Clip(np.concatenate([np.zeros(500), np.full(500, 0.1), np.ones(1000)]).astype(np.float32), 1_000)
    assert words(clip) == "2.00 s, 1,000 Hz, -3.0 dB of full scale, peak 1.00, 50 % at full scale"
    assert wave(clip, 4) == " \u2581\u2588\u2588"
    assert envelope(clip.samples, 4).tolist() == [[0, 0], [0, pytest.approx(0.1)], [0, 1], [0, 1]]
    silent = audio.Clip(np.zeros(10, np.float32), 1_000)
    assert (words(silent), wave(silent, 2)) == ("0.01 s, 1,000 Hz, silent, peak 0.00", "  ")


def test_rows_are_shown_and_what_would_be_left_out_is_counted(tmp_path: Path) -> None:
    source = rows(tmp_path, "one", HOSTILE, "three")
    audio.write(audio.Clip(np.zeros(8_000, np.float32), 8_000), tmp_path / "2.wav")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(show(source, 2))
    text = console.export_text()
    assert "0.50 s, 8,000 Hz" in text
    assert "one" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "3 rows, 0.0 minutes of sound; 1 left out: silent" in text


def test_the_drawing_is_xml_whatever_the_transcript_holds(tmp_path: Path) -> None:
    root = ET.fromstring(svg(rows(tmp_path, "one", HOSTILE), 2))
    texts = [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polygon"))) == 2
    assert texts[1] == "one"
    assert texts[3].startswith("<script>")
    assert "\x1b" not in texts[3]


def test_the_verb_shows_sounds_without_a_model(tmp_path: Path) -> None:
    rows(tmp_path, "one")
    out = tmp_path / "clip.svg"
    done = CliRunner().invoke(app, ["data", "show", str(tmp_path / "rows.jsonl"), "--svg", str(out)])
    assert done.exit_code == 0, done.output
    assert "8,000 Hz" in done.output
    assert out.read_text().startswith("<svg")
    (tmp_path / "text.jsonl").write_text('{"text": "a"}')
    without = CliRunner().invoke(app, ["data", "show", str(tmp_path / "text.jsonl")])
    assert isinstance(without.exception, UsageError)
