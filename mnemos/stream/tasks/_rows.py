"""Rows of files for tasks: JSON Lines, plain or gzip, bounded, refused by line."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, UsageError
from mnemos.core.json_text import parse_json

MOST_LINE = 16 << 20
"""Bytes of a line."""
MOST_ROWS = 1_000_000
DATA = "MNEMOS_DATA"


def place_of(path: Path, line: int) -> str:
    """File and line, for messages."""
    return f"{path}:{line}"


def object_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object). Raises DataError with file and line."""
    if not path.is_file():
        raise UsageError(f"stream.task.data = {path}", "does not exist", "check the path")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for line in range(1, MOST_ROWS + 2):
                raw = file.readline(MOST_LINE + 1)
                if not raw:
                    return
                where = place_of(path, line)
                if len(raw) > MOST_LINE or line > MOST_ROWS:
                    raise DataError(where, f"is over {MOST_LINE:,} bytes or {MOST_ROWS:,} rows", "give a smaller file")
                if not raw.strip():
                    continue
                value = parse_json(raw.decode("utf-8-sig"), where)
                if not isinstance(value, dict):
                    raise DataError(where, "is no JSON object", 'write {"question": …, "answer": …} in each line')
                yield line, value
    except UnicodeDecodeError as error:
        raise DataError(f"{path}", f"is not UTF-8 (byte {error.start} of a line)", "save it as UTF-8") from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path}", f"is no whole gzip file ({error})", "copy it again") from None


def shipped_data(name: str, given: str | None) -> Path:
    """The file of a shipped task: what the study names, else below $MNEMOS_DATA."""
    if given is not None:
        return Path(given)
    folder = os.environ.get(DATA)
    if not folder:
        bound = "names no data, and the environment variable MNEMOS_DATA is not set"
        raise UsageError("stream.task", bound, f"data: path of {Path(name).name}, or export MNEMOS_DATA")
    return Path(folder) / name
