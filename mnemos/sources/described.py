"""Clips with what is known of them: a folder with metadata.csv or metadata.jsonl, one row a clip.

A row names its clip (`file_name` or `audio`) and whatever else it knows: transcript, speaker, gender, accent, emotion,
noise, snr, room, speakers, synthetic, and columns of other names, which stay beside it. Length, volume, speed and pitch
are measured (`sources.acoustics`); columns that claim them are counted and not believed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.nouns import AudioPart
from mnemos.sources import acoustics, audio, files
from mnemos.sources.bad_row import RowError, refuse
from mnemos.sources.speech import METADATA, TEXTS, metadata_files, sound_of, spoken

MEASURED = ("duration", "volume", "speed", "pitch")
"""What is measured of a clip, whatever its row says."""
CLEAR_DB = 10.0
"""A voice in noise that is less than so many dB below it has no pitch that could be measured."""
LONGEST = 2_000
"""Characters of a transcript; a longer one is none of a clip of half a minute."""
_YES, _NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")


@dataclass(frozen=True)
class Described:
    """A clip and what is known of it. known: column -> value in words, without transcript and what is measured.
    synthetic: whether a program speaks; None where nobody says. seconds, volume_db, words_per_second, pitch_hz: as
    measured, None where it cannot be (no transcript, no voice)."""

    id: str
    part: AudioPart
    transcript: str
    known: Mapping[str, str]
    synthetic: bool | None
    seconds: float
    volume_db: float
    words_per_second: float | None
    pitch_hz: float | None

    @property
    def measured(self) -> dict[str, float]:
        """What was measured, rounded, by name with its unit; without what could not be."""
        names = ("seconds", "volume_db", "words_per_second", "pitch_hz")
        return {name: round(value, 2) for name in names if (value := getattr(self, name)) is not None}


def described(
    folder: Path, counts: Counter[str], *, bounds: audio.Bounds | None = None, limit: int | None = None
) -> Iterator[Described]:
    """The clips of a folder, in the order of its metadata. counts: gets rows that are left out, by reason, and columns
    that are not believed. Raises DataError where there is no metadata."""
    found = [folder] if folder.is_file() else metadata_files(folder, "")
    if not found:
        raise DataError(f"{folder}", f"holds no {' or '.join(METADATA)}", "write one row a clip: file_name, transcript")
    given = 0
    for path in found:
        for raw in files.rows_of(path, str(path), path.parent.name):
            if given == limit:
                return
            try:
                if isinstance(raw.value, RowError):
                    raise raw.value
                yield _clip(raw.value, raw.id, path.parent, raw.where, counts, bounds or audio.Bounds())
                given += 1
            except RowError as problem:
                counts[problem.reason] += 1


def _clip(
    row: Mapping[str, Any], name: str, folder: Path, where: str, counts: Counter[str], bounds: audio.Bounds
) -> Described:
    found = spoken(row, folder, True, where)
    if isinstance(found, RowError):
        raise found
    if "audio" not in found:
        refuse("no clip", f"{where}: columns {', '.join(map(str, row))[:200]}", "name no clip", "add file_name")
    values = {str(key): _words(value) for key, value in found.items()}
    part = sound_of(found)
    clip = audio.read(part.path, part=part, bounds=bounds)
    transcript = next((values[key] for key in ("text", *TEXTS) if values.get(key)), "")
    if len(transcript) > LONGEST:
        refuse("long transcript", where, f"has more than {LONGEST:,} characters", "take the row out")
    for column in MEASURED:
        if values.get(column):
            counts[f"column {column}: measured instead"] += 1
    known = {
        key: value
        for key, value in values.items()
        if value and key not in (*MEASURED, *TEXTS, "text", "audio", "id", "start", "end", "synthetic")
    }
    clear = _number(known.get("snr")) >= CLEAR_DB
    return Described(
        values.get("id") or name, part, transcript, known, _truth(values.get("synthetic", ""), where), clip.seconds,
        acoustics.volume_db(clip), acoustics.words_per_second(transcript, clip.seconds),
        acoustics.pitch_hz(clip) if clear and (transcript or "speaker" in known) else None,
    )  # fmt: skip


def _words(value: Any) -> str:
    """A value on one line, as people would write it."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None or isinstance(value, Mapping | list) else " ".join(str(value).split())


def _number(text: str | None) -> float:
    """A number in a text; infinity where there is none."""
    try:
        value = math.inf if text is None else float(text)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(value) else value


def _truth(text: str, where: str) -> bool | None:
    if not text:
        return None
    if text.lower() not in (*_YES, *_NO):
        refuse("wrong type", f"{where}: synthetic = {text[:60]!r}", "must be true or false", "mend synthetic")
    return text.lower() in _YES
