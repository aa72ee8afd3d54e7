"""What is measured of a clip, and folders of clips with what is known of them."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

from mnemos.core.errors import DataError
from mnemos.sources import audio
from mnemos.sources.acoustics import pitch_hz, volume_db, words_per_second
from mnemos.sources.described import Described, described
from tests.tiny_speech import sound

RATE = 16_000


def voice(hz: float, seconds: float = 0.6, rate: int = RATE, loudness: float = 0.2) -> audio.Clip:
    """A buzz of eight harmonics, each half as strong as the one before."""
    time = np.arange(round(seconds * rate)) / rate
    parts = [0.5**k * np.sin(2 * np.pi * hz * (k + 1) * time) for k in range(8) if hz * (k + 1) < rate / 2]
    wave = np.sum(parts, axis=0)
    return audio.Clip((loudness * wave).astype(np.float32), rate)


@settings(deadline=None, max_examples=25)
@given(st.floats(75, 330), st.sampled_from([8_000, 16_000]))
def test_the_pitch_of_a_buzz_is_its_fundamental(hz: float, rate: int) -> None:
    found = pitch_hz(voice(hz, rate=rate))
    # A lag is a whole number of samples, so that a pitch is known to one part in rate / hz, and peaks of the low
    # resolution are off by one more.
    assert found == pytest.approx(hz, rel=2.0 * hz / rate + 0.005)


def test_the_pitch_is_that_of_another_estimator_on_a_glide() -> None:
    """Of a voice that rises from 120 to 180 Hz the median is that of its own frequency over time."""
    time = np.arange(RATE) / RATE
    hz = 120 + 60 * time
    phase = 2 * np.pi * np.cumsum(hz) / RATE
    clip = audio.Clip((0.2 * np.sin(phase) + 0.1 * np.sin(2 * phase)).astype(np.float32), RATE)
    assert pitch_hz(clip) == pytest.approx(float(np.median(hz)), rel=0.03)


def test_noise_silence_and_a_click_have_no_pitch() -> None:
    random = np.random.default_rng(0)
    for samples in (random.standard_normal(RATE), np.zeros(RATE), np.eye(1, 200)[0]):
        assert pitch_hz(audio.Clip(0.1 * samples.astype(np.float32), RATE)) is None


def test_volume_is_the_root_mean_square_in_decibels() -> None:
    time = np.arange(RATE) / RATE
    wave = audio.Clip((0.5 * np.sin(2 * np.pi * 100 * time)).astype(np.float32), RATE)
    # A sine of amplitude a has a root mean square of a / sqrt 2.
    assert volume_db(wave) == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=1e-4)
    assert volume_db(audio.Clip(np.zeros(10, np.float32), RATE)) == -math.inf


def test_speed_is_words_over_seconds() -> None:
    assert words_per_second("one two  three", 1.5) == 2
    assert words_per_second("one two", 1.5) is None
    assert words_per_second("one two three", 0) is None


def folder(place: Path, rows: list[dict[str, Any]]) -> Path:
    audio.write(voice(110), place / "low.wav")
    audio.write(voice(220), place / "high.wav")
    (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return place


def read(place: Path, rows: list[dict[str, Any]], **more: Any) -> tuple[list[Described], Counter[str]]:
    counts: Counter[str] = Counter()
    return list(described(folder(place, rows), counts, **more)), counts


def test_a_row_is_a_clip_with_what_is_known_and_what_is_measured(tmp_path: Path) -> None:
    row = {"file_name": "low.wav", "transcription": "one two three", "gender": "male", "snr": 20, "synthetic": False,
           "duration": 99, "pitch": "high", "room": None, "speakers": 2.0}  # fmt: skip
    [clip], counts = read(tmp_path, [row])
    assert (clip.transcript, clip.known, clip.synthetic) == (
        "one two three", {"gender": "male", "snr": "20", "speakers": "2"}, False
    )  # fmt: skip
    assert clip.seconds == pytest.approx(0.6)
    assert clip.words_per_second == pytest.approx(3 / 0.6)
    assert clip.pitch_hz == pytest.approx(110, rel=0.02)
    assert counts == {"column duration: measured instead": 1, "column pitch: measured instead": 1}


def test_a_voice_below_loud_noise_has_no_pitch(tmp_path: Path) -> None:
    rows = [{"file_name": "low.wav", "transcript": "one", "snr": snr} for snr in (0, 9.5, 10)]
    clips, _ = read(tmp_path, rows)
    assert [clip.pitch_hz is None for clip in clips] == [True, True, False]


def test_a_table_of_commas_says_the_same(tmp_path: Path) -> None:
    audio.write(voice(110), tmp_path / "low.wav")
    (tmp_path / "metadata.csv").write_text("file_name,transcript,synthetic\nlow.wav,one,true\n")
    [clip] = described(tmp_path, Counter())
    assert (clip.transcript, clip.synthetic, clip.part.path) == ("one", True, str(tmp_path / "low.wav"))


def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    audio.write(sound(31), tmp_path / "long.wav")
    (tmp_path / "none.wav").write_bytes(b"RIFF")
    rows: list[dict[str, Any]] = [
        {"file_name": "long.wav"},
        {"file_name": "none.wav"},
        {"file_name": "gone.wav"},
        {"file_name": 7},
        {"transcript": "one"},
        {"file_name": "low.wav", "synthetic": "perhaps"},
        {"file_name": "low.wav", "transcript": "a" * 3000},
        {"file_name": "high.wav"},
    ]
    clips, counts = read(tmp_path, rows)
    assert [clip.part.path for clip in clips] == [str(tmp_path / "high.wav")]
    assert counts == {"too long": 1, "damaged audio": 1, "no such file": 1, "wrong type": 2, "no clip": 1,
                      "long transcript": 1}  # fmt: skip


def test_a_limit_counts_clips_that_can_be_used(tmp_path: Path) -> None:
    rows = [{"file_name": "gone.wav"}, {"file_name": "low.wav"}, {"file_name": "high.wav"}]
    clips, _ = read(tmp_path, rows, limit=1)
    assert len(clips) == 1


def test_a_folder_without_metadata_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metadata\.csv"):
        list(described(tmp_path, Counter()))
