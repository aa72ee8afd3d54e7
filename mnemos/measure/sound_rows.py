"""Rows of suites about sounds: a file, or a folder as Dynamic-SUPERB's tasks are, with the sounds that they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.json_text import parse_json
from mnemos.core.nouns import AudioPart
from mnemos.core.yaml_text import read_utf8
from mnemos.sources import files
from mnemos.sources.bad_row import RowError
from mnemos.sources.speech import METADATA, metadata_files, sound_of, spoken

INSTANCE = "instance.json"
SPLIT = "test"
"""The only one that Dynamic-SUPERB's tasks have."""

SoundRow = tuple[Mapping[str, Any], str, str]
"""A row whose sounds are paths that can be opened, its name, and its place for messages."""


def instance_of(location: Path) -> Mapping[str, Any]:
    """What the instance.json at a place, or in a folder, says; empty where there is none. Raises DataError for one that
    is no object."""
    path = location / INSTANCE if location.is_dir() else location
    if path.name != INSTANCE or not path.is_file():
        return {}
    found = parse_json(read_utf8(path, DataError), str(path))
    if not isinstance(found, Mapping):
        raise DataError(f"{path}", "must hold an object", "as Dynamic-SUPERB writes it: name, description, path")
    return found


def files_at(location: Path, where: str) -> list[Path]:
    """The files of rows of a task: a file itself, or the metadata of a folder, which instance.json may name, or what a
    copy of its data set on the hub holds: Parquet files of the test split, with the sounds in them."""
    if location.is_file() and location.name != INSTANCE:
        return [location]
    folder = location if location.is_dir() else location.parent
    instance = instance_of(location)
    named = instance.get("path")
    local = folder / named if isinstance(named, str) and named and "\0" not in named else folder
    place = local if local.is_dir() else folder
    found = metadata_files(place, SPLIT) or sorted(place.rglob(f"*{SPLIT}*.parquet"))
    if not found:
        hub = f"; {named!r} of its {INSTANCE} is no folder here" if instance else ""
        raise DataError(
            f"{where}: {location}",
            f"holds no {' or '.join(METADATA)}, and no Parquet file of a test split{hub}",
            "copy the task's test split there: Parquet files, or metadata.csv (file_name, file, instruction, label)",
        )
    return found


def rows_at(settings: Any, folder: Path, where: str) -> Iterator[SoundRow]:
    """Every row of a suite's `data` or `items`. Raises DataError for a bad row, a name that stands twice, and none."""
    seen: dict[str, str] = {}
    for raw, place, base in _raws(settings, folder, where):
        row = _renamed(raw, settings.columns, place)
        found = spoken(row, base, True, place)
        if isinstance(found, RowError):
            raise found
        if row.get("audio2") is not None:
            second = spoken({"audio": row["audio2"]}, base, False, place)
            if isinstance(second, RowError):
                raise second
            found = {**found, "audio2": second["audio"]}
        name = str(found.get("id") or found.get("file") or len(seen) + 1)
        if name in seen:
            raise DataError(f"{place}: id {name!r}", f"stands at {seen[name]} already", "ids must differ")
        seen[name] = place
        yield found, name, place
    if not seen:
        raise DataError(where, "has no items", "a suite needs at least one")


def _raws(settings: Any, folder: Path, where: str) -> Iterator[tuple[Mapping[str, Any], str, Path]]:
    if settings.data is None:
        for number, row in enumerate(settings.items or (), 1):
            place = f"{where}: item {number}"
            if not isinstance(row, Mapping):
                raise DataError(f"{place} = {str(row)[:100]!r}", "must be a mapping", "write {audio: …, label: …}")
            yield row, place, folder
        return
    for path in files_at(Path(settings.data), where):
        for raw in files.rows_of(path, str(path), ""):
            if isinstance(raw.value, RowError):
                raise raw.value
            yield raw.value, raw.where, path.parent


def _renamed(row: Mapping[str, Any], columns: Mapping[str, str], place: str) -> Mapping[str, Any]:
    missing = next((name for name in columns.values() if name not in row), None)
    if missing is not None:
        raise DataError(f"{place}: column {missing!r}", "is missing", "columns: maps a key to it")
    return {**row, **{key: row[name] for key, name in columns.items()}}


def text_in(row: Mapping[str, Any], key: str, place: str) -> str:
    """A column's text. Raises DataError for none."""
    value = row.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)  # a label out of JSON may be a number
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {key} = {str(value)[:60]!r}", "must be a text", f"give the row its {key}")
    return value


def sound_in(row: Mapping[str, Any], place: str) -> AudioPart:
    """The sound of a row. Raises DataError for none."""
    if row.get("audio") is None:
        raise DataError(place, "has no audio", "audio (or file_name): the path of a sound, relative to the rows' file")
    try:
        return sound_of(row)
    except RowError as problem:
        raise problem.at(place) from None
