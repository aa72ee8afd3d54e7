"""What libraries raise while they read a checkpoint, as errors that name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnemos.core.errors import MnemosError, ModelError


@contextmanager
def explained(folder: Path, what: str, cure: str) -> Iterator[None]:
    """Turn whatever a library raises while it reads a checkpoint into a ModelError: it was given these
    files and nothing else, so it is about them. Lack of memory and interrupts stay what they are."""
    try:
        yield
    except (MnemosError, MemoryError):
        raise
    except BaseException as error:
        # tokenizers and safetensors panic in Rust, which is no Exception in Python.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if "trust_remote_code" in str(error):
            raise ModelError(f"{folder}", "brings its own code", "read it, then set trust_remote_code") from None
        if isinstance(error, PermissionError):
            raise ModelError(f"{folder}", f"may not be read ({error})", "chmod -R u+r on it") from None
        if "can't allocate memory" in str(error):
            raise
        raise ModelError(f"{folder}", f"{what} ({_said(error)})", cure) from error


def _said(error: BaseException) -> str:
    """What an error says, in one line. A KeyError says but the key."""
    line = " ".join(str(error).split())
    if isinstance(error, KeyError | TypeError | AttributeError | ZeroDivisionError) or not line:
        line = f"{type(error).__name__}: {line}"
    return line if len(line) <= 400 else f"{line[:399]}…"
