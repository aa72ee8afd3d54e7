"""The reproduction of adapting while listening: its strings of digits, and its table on the page."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnemos.recipes.reproductions.adaptation import DIGITS, SPEAKERS, TEST_TAKES, page_table, read_digits, strings
from mnemos.sources.audio import Clip, write

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "results" / "adaptation.json"


def recordings() -> dict[tuple[str, int, int], Any]:
    """Of each speaker, digit and take a clip of one sample value that names all three."""
    out = {}
    for place, speaker in enumerate(SPEAKERS):
        for digit in range(10):
            for take in range(8):
                value = np.full(100, (place * 100 + digit * 10 + take) / 1000 + 0.001, np.float32)
                out[speaker, digit, take] = Clip(value, 16000, id=f"{digit}_{speaker}_{take}", speaker=speaker)
    return out


def test_strings_say_what_is_written_and_takes_are_of_one_side() -> None:
    made = {train: strings(recordings(), train, 12, (3, 5), 0) for train in (True, False)}
    for train, rows in made.items():
        assert [speaker for _, _, speaker in rows] == [SPEAKERS[place % 4] for place in range(12)]
        for clip, text, speaker in rows:
            parts = [part.split("_") for part in clip.id.split("+")]
            assert text.split() == [DIGITS[int(digit)] for digit, _, _ in parts]
            assert {name for _, name, _ in parts} == {speaker} == {clip.speaker}
            assert all((int(take) in TEST_TAKES) != train for _, _, take in parts)
            assert 3 <= len(parts) <= 5
            # The digits stand one behind the other, with silence between.
            heard = [
                value for value, before in zip(clip.samples, [0.0, *clip.samples], strict=False) if value != before
            ]
            assert len([value for value in heard if value]) == len(parts)
    again = strings(recordings(), True, 12, (3, 5), 0)
    assert [text for _, text, _ in again] == [text for _, text, _ in made[True]]


def test_recordings_come_out_of_their_archives(tmp_path: Path) -> None:
    pytest.importorskip("soundfile", reason="sound is read with soundfile")
    for speaker in SPEAKERS:
        path = tmp_path / f"7_{speaker}_3.wav"
        write(Clip(np.linspace(-0.5, 0.5, 800, dtype=np.float32), 8000), path)
        with tarfile.open(tmp_path / f"{speaker}.tar.gz", "w:gz") as tar:
            tar.add(path, f"../../{path.name}")  # where it says that it belongs is not looked at
            tar.add(tmp_path / path.name, "notes.txt")
    found = read_digits(tmp_path)
    assert set(found) == {(speaker, 7, 3) for speaker in SPEAKERS}
    clip = found["theo", 7, 3]
    assert (clip.rate, len(clip.samples), clip.speaker, clip.id, clip.path) == (16000, 1600, "theo", "7_theo_3", "")
    (tmp_path / "theo.tar.gz").unlink()
    with pytest.raises(FileNotFoundError):
        read_digits(tmp_path)


@pytest.mark.skipif(not KEPT.is_file(), reason="no results of the reproduction are kept")
def test_the_page_has_the_table_of_the_kept_results() -> None:
    results = json.loads(KEPT.read_text(encoding="utf-8"))
    assert page_table(results) in (ROOT / "docs" / "speech.md").read_text(encoding="utf-8")
