"""Sounds that rows name: a path, an object {path, bytes}, or a part of a message."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemos.core.cache import cache_folder
from mnemos.sources.bad_row import refuse, short


def placed_message(message: Any, folder: Path | None) -> Any:
    """A message whose parts that are sounds name files that can be opened."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list) or not any(is_sound(part) for part in content):
        return message
    parts = [{**part, **sound_part(part, folder)} if is_sound(part) else part for part in content]
    return {**message, "content": parts}


def is_sound(part: Any) -> bool:
    """Whether a part of a message is a sound, {"type": "audio", "audio": path}, as Qwen's and transformers' chats have
    it; `audio_url` in their older files."""
    return isinstance(part, Mapping) and part.get("type") in ("audio", "audio_url")


def sound_part(part: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """{"type": "audio", "audio": place} of such a part. RowError where it names no file."""
    value = next((part[name] for name in ("audio", "path", "url", "audio_url") if part.get(name)), None)
    if isinstance(value, Mapping) and isinstance(value.get("url"), str):
        value = value["url"]
    if isinstance(value, str) and "://" in value[:20]:
        refuse("sound elsewhere", f"audio = {short(value)}", "is an address, and nothing is downloaded", "name a file")
    return {"type": "audio", "audio": place_of(value, folder)}


def place_of(value: Any, folder: Path | None) -> str:
    """The path of a sound that a row names, or holds as bytes, which are put into the cache. RowError for neither."""
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        return str(_kept(value["bytes"], str(value.get("path") or "")))
    path = value.get("path") if isinstance(value, Mapping) else value
    if not isinstance(path, str) or not path or "\0" in path:
        refuse("wrong type", f"audio = {short(value)}", "must be the path of a sound, or {path, bytes}", "mend audio")
    return path if folder is None else os.path.join(folder, Path(path).expanduser())


def stretch_of(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """(start, end) of a row or a part of a message, in seconds; None where it names none. RowError for what cannot be
    meant."""
    start, end = (_seconds(row, name) for name in ("start", "end"))
    if start is not None and end is not None and start >= end:
        refuse("wrong stretch", f"start = {start:g}, end = {end:g}", "must rise", "give seconds within the sound")
    return start, end


def _seconds(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if isinstance(value, bool) or not math.isfinite(found) or found < 0:
        refuse("wrong stretch", f"{name} = {short(value)}", "must be seconds from 0", f"mend {name}")
    return found


def _kept(data: bytes, name: str) -> Path:
    """The file in the cache that holds these bytes."""
    place = cache_folder() / "sounds" / f"{hashlib.sha256(data).hexdigest()[:32]}{Path(name).suffix[:8]}"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not there: two processes may write the same bytes at once.
        temporary = place.with_name(f".{os.getpid()}-{place.name}")
        temporary.write_bytes(data)
        temporary.replace(place)
    return place
