"""Rows of sound and transcript: columns `audio` and `text`, or a folder with metadata.csv as `datasets` writes it; and
rows of sound, question and answer: columns `audio`, `question`, `answer`; and conversations that hold sounds.

`audio` is a path, relative to the file that names it; or a mapping {path, bytes} as in Parquet files of `datasets`,
whose bytes are put into the cache. `start` and `end` are seconds within it. `speaker` and whatever else a row holds
stay columns of the example.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mnemos.core.fingerprint import file_fingerprint
from mnemos.core.nouns import AudioPart, TextPart, Turn
from mnemos.sources.bad_row import RowError, refuse, text_of
from mnemos.sources.parts import Parts, Row
from mnemos.sources.sound_parts import is_sound, place_of, placed_message, stretch_of

SPEECH = "speech"
HEARD = "audio_question"
"""The format of rows that ask something about a sound."""
QUESTIONS, SPOKEN_ANSWERS = ("question", "instruction"), ("answer", "label")
"""What is asked of a sound, and the answer; Dynamic-SUPERB's names stand second."""
METADATA = ("metadata.csv", "metadata.jsonl")
"""What names the sounds of a folder, in the column file_name."""
TEXTS = ("transcription", "transcript", "sentence")
"""Columns that stand for `text` where a row with a sound has none: of `datasets`, LibriSpeech's tools, Common Voice."""


def metadata_files(folder: Path, split: str) -> list[Path]:
    """The metadata files of a folder of sounds: those whose path says `split`, or all where none says any; empty where
    there is none."""
    found = sorted(path for name in METADATA for path in folder.rglob(name) if path.is_file())
    named = [path for path in found if split in path.relative_to(folder).parts]
    return named or [path for path in found if len(path.relative_to(folder).parts) == 1] or found


def spoken(row: Mapping[str, Any], folder: Path | None, table: bool, where: str) -> Mapping[str, Any] | RowError:
    """The row with its sound as a path that can be opened, and its transcript under `text`; any other row untouched.

    folder: of the file that names it. table: whether the row is from a CSV file, which may name sounds by file_name.
    """
    if isinstance(row.get("messages"), list):
        try:
            return {**row, "messages": [placed_message(message, folder) for message in row["messages"]]}
        except RowError as problem:
            return problem.at(where)
    value = row.get("audio", row.get("file_name") if table else None)
    if value is None or "messages" in row:
        return row
    try:
        found = {name: one for name, one in row.items() if name != "file_name"} | {"audio": place_of(value, folder)}
    except RowError as problem:
        return problem.at(where)
    # A transcript beside a question is something that is known of the sound, and not what is to be learned.
    asked = any(name in row for name in QUESTIONS)
    named = next((name for name in TEXTS if name in row and not asked), None)
    if "text" not in row and named is not None:
        found["text"] = found.pop(named)
    return found


def speech(row: Row) -> Parts:
    """What a row says: a user's turn of sound, and its transcript as the answer."""
    text = text_of(row["text"], "text")
    if not text.strip():
        refuse("empty transcript", "text", "is empty", "give it text or take the row out")
    return "messages", (Turn("user", (sound_of(row),)), Turn("assistant", text)), ()


def heard(row: Row) -> Parts:
    """What a row says: a user's turn of sound and question, behind a system text where there is one, and the answer."""
    names = (*(next(name for name in pair if name in row) for pair in (QUESTIONS, SPOKEN_ANSWERS)), "system")
    question, answer, system = (text_of(row.get(name, ""), name) for name in names)
    for name, text in (("question", question), ("answer", answer)):
        if not text.strip():
            refuse(f"empty {name}", name, "is empty", "give it text or take the row out")
    asked = Turn("user", before_text(sound_of(row), question))
    before = (Turn("system", system),) if system.strip() else ()
    return "messages", (*before, asked, Turn("assistant", answer)), ()


def before_text(sound: AudioPart, text: str) -> tuple[AudioPart, TextPart]:
    """The content of a turn that asks something about a sound: in rows that are learned and in suites that measure it
    stands in the same place, the sound first."""
    return sound, TextPart(f"\n{text}")


def sound_of(row: Row) -> AudioPart:
    """The sound of a row: `audio`, and the stretch of it. RowError where these cannot be meant."""
    return AudioPart(text_of(row["audio"], "audio"), *stretch_of(row))


def sounds_in(rows: Iterable[Any]) -> list[str]:
    """Fingerprints of the files that rows name, in their order; "" for one that is not there."""
    return sound_prints(sound_paths(rows))


def sound_paths(rows: Iterable[Any]) -> list[str]:
    """The files that rows name, in their order."""
    return [path for row in rows if isinstance(row, Mapping) for path in _paths(row)]


def sound_prints(paths: Iterable[str]) -> list[str]:
    """Their fingerprints; "" for one that is not there."""
    return [_print(path) for path in paths]


def _paths(row: Mapping[str, Any]) -> list[str]:
    found = [row.get("audio")]
    if isinstance(row.get("messages"), list):
        contents = [one.get("content") for one in row["messages"] if isinstance(one, Mapping)]
        found += [part.get("audio") for one in contents if isinstance(one, list) for part in one if is_sound(part)]
    return [path for path in found if isinstance(path, str)]


def _print(path: str) -> str:
    try:
        return file_fingerprint(path)
    except (OSError, ValueError):
        return ""
