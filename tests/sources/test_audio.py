"""Sound in: files of every kind, bad ones by reason, resampling, augmentation, rows and folders of rows."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")
pytest.importorskip("soxr", reason="the extra [speech] is not installed")

import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.sources import audio
from mnemos.sources.augment import Worse, faster, in_room, noisy
from mnemos.sources.bad_row import RowError
from mnemos.sources.read import read
from tests.tiny_speech import sound


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_every_kind_of_file_is_read(kind: str, tmp_path: Path) -> None:
    clip = sound(1.0, 1)
    audio.write(clip, tmp_path / f"a.{kind}")
    found = audio.read(tmp_path / f"a.{kind}")
    assert (found.rate, found.id) == (16_000, "a")
    assert found.seconds == pytest.approx(1.0, abs=0.1)
    overlap = min(len(found.samples), len(clip.samples))
    assert np.corrcoef(found.samples[:overlap], clip.samples[:overlap])[0, 1] > (
        0.99 if kind in ("wav", "flac") else 0.5
    )


def test_channels_are_averaged_and_rates_made_one(tmp_path: Path) -> None:
    left, right = sound(0.5, 1).samples, sound(0.5, 2).samples
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 16_000, subtype="FLOAT")
    assert np.allclose(audio.read(tmp_path / "a.wav").samples, (left + right) / 2, atol=1e-6)
    assert len(audio.read(tmp_path / "a.wav", rate=8_000).samples) == 4_000


@pytest.mark.parametrize(("old", "new"), [(8_000, 16_000), (44_100, 16_000), (48_000, 16_000), (16_000, 8_000)])
def test_resampling_agrees_with_scipy(old: int, new: int) -> None:
    from scipy.signal import resample_poly

    random = np.random.default_rng(0)
    time = np.arange(old) / old
    # Below both Nyquist frequencies: above them the two filters differ on purpose.
    wave = sum(
        np.sin(2 * np.pi * f * time + p)
        for f, p in zip(random.uniform(50, 3000, 8), random.uniform(0, 6, 8), strict=True)
    )
    wave = (0.1 * wave * np.hanning(old)).astype(np.float32)
    ours = audio.resampled(wave, old, new)
    theirs = resample_poly(wave.astype(np.float64), new // math.gcd(old, new), old // math.gcd(old, new))
    assert len(ours) == len(theirs)
    assert np.abs(ours - theirs).max() < 2e-3 * np.abs(theirs).max()


BAD = {
    "empty audio": lambda: np.zeros(0, np.float32),
    "too short": lambda: np.full(1, 0.5, np.float32),
    "too long": lambda: np.zeros(16_000 * 60, np.float32),
    "silent": lambda: np.zeros(16_000, np.float32),
    "not finite": lambda: np.array([0.1, math.nan] * 8_000, np.float32),
}


@pytest.mark.parametrize("reason", BAD)
def test_what_cannot_be_used_is_refused_by_reason(reason: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", BAD[reason](), 16_000, subtype="FLOAT")
    with pytest.raises(RowError) as met:
        audio.read(tmp_path / "a.wav", bounds=audio.Bounds())
    assert met.value.reason == reason


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    audio.write(sound(1.0), tmp_path / "a.wav")
    whole = (tmp_path / "a.wav").read_bytes()
    for name, data in {"cut.wav": whole[:30], "noise.flac": b"no sound at all", "empty.mp3": b""}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(RowError) as met:
            audio.read(tmp_path / name)
        assert met.value.reason in ("damaged audio", "empty audio")
    with pytest.raises(RowError, match="no such file"):
        audio.read(tmp_path / "gone.wav")


def test_memory_follows_what_is_there_and_not_what_a_header_promises(tmp_path: Path) -> None:
    """A header of an hour above a second of sound, in eight channels: refused without an hour's memory."""
    import tracemalloc

    audio.write(sound(1.0), tmp_path / "a.flac")
    data = bytearray((tmp_path / "a.flac").read_bytes())
    # STREAMINFO: 36 bits of total samples end 26 bytes into the file (RFC 9639, section 8.2).
    data[21] &= 0xF0
    data[22:26] = (16_000 * 3_500).to_bytes(4, "big")
    (tmp_path / "a.flac").write_bytes(bytes(data))
    tracemalloc.start()
    with pytest.raises(RowError) as met:
        audio.read(tmp_path / "a.flac")
    assert met.value.reason == "damaged audio"
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


def test_a_pipe_is_no_sound(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(RowError, match="no such file"):
        audio.read(tmp_path / "a.wav")


def test_clipping_is_told() -> None:
    clip = sound(0.5)
    assert clip.clipped_share == 0
    loud = audio.Clip(np.clip(clip.samples * 50, -1, 1), clip.rate)
    assert loud.clipped_share > 0.5


@settings(deadline=None, max_examples=30)
@given(st.floats(-10, 40), st.integers(0, 1000), st.integers(0, 5000))
def test_noise_stands_at_the_level_asked_for(snr: float, seed: int, start: int) -> None:
    clip, noise = sound(0.3, seed), audio.Clip(np.random.default_rng(seed).normal(size=3000).astype(np.float32), 16_000)
    mixed = noisy(clip, noise, snr, start=start).samples.astype(np.float64)
    speech = clip.samples * (10 ** (-25 / 20) / audio.rms(clip.samples))
    found = 20 * math.log10(audio.rms(speech) / audio.rms(mixed - speech))
    assert found == pytest.approx(snr, abs=0.02)
    assert 20 * math.log10(audio.rms(speech)) == pytest.approx(-25, abs=1e-3)


def test_a_silent_clip_has_no_level() -> None:
    with pytest.raises(DataError, match="silent"):
        noisy(audio.Clip(np.zeros(100, np.float32), 16_000), sound(0.1), 5)


def test_a_room_is_a_convolution_from_the_direct_sound_on() -> None:
    clip = sound(0.2, 1)
    impulse = np.zeros(400, np.float32)
    impulse[50], impulse[250] = 1.0, 0.5
    wet = in_room(clip, audio.Clip(impulse, 16_000)).samples
    expected = clip.samples.copy()
    expected[200:] += 0.5 * clip.samples[:-200]
    assert np.allclose(wet / audio.rms(wet), expected / audio.rms(expected), atol=1e-4)
    assert audio.rms(wet) == pytest.approx(audio.rms(clip.samples), rel=1e-5)


def test_speed_is_the_length_it_leaves() -> None:
    assert len(faster(sound(1.0), 1.25).samples) == pytest.approx(12_800, abs=2)
    with pytest.raises(UsageError, match="speed"):
        faster(sound(0.1), 9)


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    worse = Worse(
        (sound(0.5, 5), sound(0.4, 6)), (0, 20), (audio.Clip(np.array([1, 0.5], np.float32), 16_000),), (0.9, 1.1)
    )
    clip = sound(0.3)
    same, again, other = worse(clip, [1, 2]), worse(clip, [1, 2]), worse(clip, [1, 3])
    assert np.array_equal(same.samples, again.samples)
    assert len(other.samples) != len(same.samples) or not np.array_equal(same.samples, other.samples)


def clips(folder: Path) -> Path:
    (folder / "clips").mkdir(parents=True)
    for name in ("a", "b"):
        audio.write(sound(0.3, ord(name)), folder / "clips" / f"{name}.wav")
    return folder


def test_rows_of_sound_and_text_are_detected_and_named(tmp_path: Path) -> None:
    rows = [
        {"audio": "clips/a.wav", "text": "one", "speaker": "x"},
        {"audio": "clips/b.wav", "text": "two", "start": 0.1},
    ]
    file = clips(tmp_path) / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = read(str(file))
    assert source.describe() == "rows.jsonl: 2 rows, speech (audio, start, text)"
    first, second = source
    assert (first.turns[-1].text, first.meta["speaker"]) == ("one", "x")
    assert audio.read(first.turns[0].sounds[0].path).seconds == pytest.approx(0.3)
    part = second.turns[0].sounds[0]
    assert audio.read(part.path, part=part).seconds == pytest.approx(0.2)


def test_a_folder_with_metadata(tmp_path: Path) -> None:
    with open(clips(tmp_path) / "metadata.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["file_name", "transcription"], ["clips/a.wav", "one, two"], ["clips/b.wav", "three"]])
    found = list(read(str(tmp_path)))
    assert [one.turns[-1].text for one in found] == ["one, two", "three"]
    assert all(Path(one.turns[0].sounds[0].path).is_file() for one in found)


def test_a_ragged_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("audio,text\na.wav,one,more\n")
    with pytest.raises(DataError, match="another number of cells"):
        list(read(str(tmp_path / "rows.csv"), format="speech"))


@pytest.mark.parametrize(
    ("data", "what"), [(b"audio,text\na.wav,\xff\n", "not UTF-8"), (b'audio,text\na.wav,"one\n', "comma-separated")]
)
def test_a_table_that_is_none_is_refused(data: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(data)
    with pytest.raises(DataError, match=what):
        list(read(str(tmp_path / "rows.csv"), format="speech"))


def test_sounds_inside_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    data = (clips(tmp_path) / "clips" / "a.wav").read_bytes()
    table = pyarrow.Table.from_pylist([{"audio": {"bytes": data, "path": "x.wav"}, "sentence": "one"}])
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    [found] = read(str(tmp_path / "rows.parquet"))
    assert found.turns[-1].text == "one"
    assert Path(found.turns[0].sounds[0].path).read_bytes() == data


def test_a_changed_sound_is_another_source(tmp_path: Path) -> None:
    file = clips(tmp_path) / "rows.jsonl"
    file.write_text(json.dumps({"audio": "clips/a.wav", "text": "one"}))
    before = read(str(file)).fingerprint
    assert read(str(file)).fingerprint == before
    audio.write(sound(0.4, 9), tmp_path / "clips" / "a.wav")
    assert read(str(file)).fingerprint != before


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"audio": "a.wav", "text": " "}, "empty transcript"),
        ({"audio": 3, "text": "a"}, "wrong type"),
        ({"audio": "a.wav", "text": "a", "start": 2, "end": 1}, "wrong stretch"),
        ({"audio": "a.wav", "text": "a", "start": "x"}, "wrong stretch"),
    ],
)
def test_bad_rows_are_counted_by_reason(row: dict[str, object], reason: str, tmp_path: Path) -> None:
    good = {"audio": "b.wav", "text": "b"}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (good, row)))
    source = read(str(tmp_path / "rows.jsonl"), on_bad="skip")
    assert len(list(source)) == 1
    assert source.counts == {"rows": 1, reason: 1}
