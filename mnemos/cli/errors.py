"""What the command line says when something fails: in words, without a traceback, with an exit code.

An error that mnemos raises on purpose says it itself. What the machine or a library raises (a full disk, a
file that may not be read, no memory, a missing package, text that is none) is explained here, with the file
where it is known. Only what is left after that is called a defect of mnemos.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

from mnemos.core.errors import DataError, MnemosError, ModelError, RunError, UsageError, printable, shortened
from mnemos.core.packages import command

AGAIN = "then run the same command again: finished steps are kept"

_SYSTEM: dict[int, tuple[type[MnemosError], str, str]] = {
    errno.ENOSPC: (RunError, "the disk is full", f"free some room, {AGAIN}"),
    errno.EDQUOT: (RunError, "your share of the disk is used up", f"free some room, {AGAIN}"),
    errno.EACCES: (RunError, "may not be read or written: permission denied", "change its permissions or its owner"),
    errno.EPERM: (RunError, "may not be changed: permission denied", "change its permissions or its owner"),
    errno.EROFS: (RunError, "lies on a disk that cannot be written", "name another place with --out"),
    errno.ENOENT: (RunError, "does not exist", "check the path; something may have removed it meanwhile"),
    errno.EISDIR: (UsageError, "is a directory", "name a file"),
    errno.ENOTDIR: (UsageError, "is not a directory, or a part of its path is a file", "check the path"),
    errno.EEXIST: (UsageError, "is there already, as a file or a directory", "name another place, or remove it"),
    errno.ENOTEMPTY: (UsageError, "is not empty", "name another place, or empty it"),
    errno.ELOOP: (UsageError, "is a loop of symbolic links", "remove the link, or name the file itself"),
    errno.ENAMETOOLONG: (UsageError, "is longer than a file's name may be", "use a shorter name"),
    errno.ENOMEM: (RunError, "there is not enough memory", f"free some, {AGAIN}"),
    errno.EMFILE: (RunError, "too many files are open", "raise the limit (ulimit -n) or use fewer --jobs"),
    errno.ENFILE: (RunError, "too many files are open on this machine", "close some, or use fewer --jobs"),
    errno.EIO: (RunError, "the disk reports an error", f"check it, {AGAIN}"),
    errno.EFBIG: (RunError, "is larger than a file may be here", "raise the limit (ulimit -f)"),
}
"""What the operating system refuses: the kind of error, what it means, what helps."""

_PLACES = ("path", "file", "location", "place", "folder", "directory", "target", "root")
"""What functions of mnemos call the file that they are at."""


def message_and_code(error: BaseException) -> tuple[str, int]:
    """What is printed for an error, and the exit code."""
    known = error if isinstance(error, MnemosError) else explained(error)
    if known is not None:
        return f"mnemos: {known}", known.exit_code
    text = printable(shortened(str(error)))
    return (
        f"mnemos: {type(error).__name__}: {text}\n  this is a defect of mnemos: run again with --debug and report it",
        1,
    )


def explained(error: BaseException) -> MnemosError | None:
    """The error as mnemos says it; None for one that nobody foresaw."""
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop from"):  # as pathlib says ELOOP
        return _of_the_system(OSError(errno.ELOOP, "", str(error).partition("'")[2].rstrip("'")))
    name = type(error).__name__
    where = place_of(error.__traceback__)
    at = f" (at {where})" if where else ""
    match error:
        case ModuleNotFoundError(name=str(package)) if package.split(".")[0] != "mnemos":
            name = package.split(".")[0]
            return UsageError(f"the package {name}", f"is not installed{at}", command(name))
        case json.JSONDecodeError():
            return DataError(where or "a JSON file", f"is not JSON: {error}", "write it again, or restore it")
        case UnicodeDecodeError():
            return DataError(where or "a text", f"is not {error.encoding} (byte {error.start})", "save it as UTF-8")
        case UnicodeError():
            return DataError(where or "a text", f"holds what is no text: {error}", "remove it; \\ud83d alone is one")
        case RecursionError():
            return DataError(where or "what was read", "is nested too deeply", "flatten it; --debug shows what")
        case pickle.UnpicklingError() | zlib.error() | EOFError():
            return DataError(where or "a file", f"is damaged ({name}: {error})", "copy or make it again")
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "can't allocate memory" in str(error):
        return RunError(
            f"memory{at}",
            "is not enough",
            f"make batches, lengths or the model smaller, or close something, {AGAIN}",
        )
    if name == "SafetensorError":
        return ModelError(where or "a safetensors file", f"is damaged ({error})", "copy or download it again")
    return None


def _of_the_system(error: OSError) -> MnemosError:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    where = " → ".join(names) or place_of(error.__traceback__) or "a file"
    if error.errno in _SYSTEM:
        kind, bound, cure = _SYSTEM[error.errno]
        return kind(where, bound, cure)
    # Libraries raise bare OSErrors with whole sentences in them.
    text = error.strerror or str(error) or type(error).__name__
    return RunError(
        f"{where}: {text}" if names else text, "", "run again with --debug to see where" if not names else ""
    )


def place_of(traceback: TracebackType | None) -> str:
    """The file or directory that the innermost function of mnemos was at, as far as its variables tell."""
    found = ""
    while traceback is not None:
        frame = traceback.tb_frame
        if str(frame.f_globals.get("__name__", "")).startswith("mnemos."):
            found = _named(frame.f_locals) or found
        traceback = traceback.tb_next
    return found


def _named(variables: dict[str, Any]) -> str:
    for name in _PLACES:
        value = variables.get(name)
        if isinstance(value, Path) or (isinstance(value, str) and value and len(value) < 1000):
            return str(value)
    return ""
