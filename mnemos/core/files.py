"""Atomic writes: a file is either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mnemos.core.errors import RunError


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically (temporary file, fsync, rename). RunError on a full disk."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:  # Ctrl-C too leaves nothing half written
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"{target}",
                "the disk is full",
                "free some room and run the same command again: finished steps are kept",
            ) from error
        raise


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write indented JSON atomically. NaN is refused: missing numbers are null with a reason."""
    write_text(path, _json(value, indent=1) + "\n")


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(_json(row) + "\n" for row in rows))


def _json(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as "\\ud83d" in somebody's JSON: only escapes can hold it
        return json.dumps(value, indent=indent, allow_nan=False)
    return text


def read_json(path: str | os.PathLike[str]) -> Any:
    """Parse a JSON file that mnemos wrote."""
    # Without a buffer and a decoder in between: a run of ten thousand steps reads as many small files.
    with open(path, "rb", buffering=0) as file, _uncollected():
        return json.loads(file.read().decode("utf-8"))


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without looks for garbage: what is parsed is none, and to find that out takes as long as parsing it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Parse a JSONL file that mnemos wrote (user data goes through `sources.read`)."""
    # Not splitlines: it would also break at U+2028 and its like, which may stand in any answer.
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


FULL_DISK = ("No space left on device", "PytorchStreamWriter failed", ". unexpected pos ")
"""How safetensors and torch.save say that the system would not write, in words of their own."""

TOO_LARGE = "File too large"
"""How the system says that a limit on the size of files was met."""


@contextlib.contextmanager
def full_disk(target: Path, cure: str) -> Iterator[None]:
    """Turn a full disk, or a limit on the size of files, however the writing library says it, into a RunError."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or any(words in str(error) for words in FULL_DISK):
            raise RunError(f"{target}", "the disk is full", cure) from error
        if (isinstance(error, OSError) and error.errno == errno.EFBIG) or TOO_LARGE in str(error):
            raise RunError(f"{target}", "a file may not grow so large here (ulimit -f)", cure) from error
        raise
