"""Where is kept what belongs to no run and can be made again."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from mnemos.core.errors import DataError
from mnemos.core.inputs import file_hash
from mnemos.core.places import resolved

VARIABLE = "MNEMOS_CACHE"
MOST_UNPACKED = 4 << 30
"""Bytes that a file may unpack to."""


def cache_folder() -> Path:
    """$MNEMOS_CACHE, else mnemos under $XDG_CACHE_HOME, else ~/.cache/mnemos. Nothing there is needed: what is
    removed is measured or converted again."""
    named = os.environ.get(VARIABLE)
    if named:
        return resolved(Path(named).expanduser())
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return resolved(Path(base).expanduser()) / "mnemos"


def models_folder() -> Path:
    """Where models lie that were written anew from another kind of file (`weights.gguf_convert`)."""
    return cache_folder() / "models"


def unpacked(path: str | os.PathLike[str], suffix: str) -> Path:
    """The file itself, or, where its name ends in .gz, what it holds, unpacked once into the cache under a name of its
    content that ends in `suffix`. For files that are opened at random places, such as databases.

    Raises DataError for what is no whole gzip file, and for more than `MOST_UNPACKED` bytes.
    """
    packed = resolved(Path(path))
    if packed.suffix != ".gz":
        return packed
    target = cache_folder() / "databases" / f"{file_hash(packed)}{suffix}"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target and renamed at the end, so that nobody reads half of it.
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with gzip.open(packed, "rb") as source, open(temporary, "wb") as file:
            while block := source.read(1 << 20):
                if file.tell() + len(block) > MOST_UNPACKED:
                    raise DataError(f"{path}", f"unpacks to more than {MOST_UNPACKED:,} bytes", "give a smaller file")
                file.write(block)
        temporary.replace(target)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}", f"is no whole gzip file ({error})", "copy it again") from None
    finally:
        temporary.unlink(missing_ok=True)
    return target
