"""One run at a time in a directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mnemos.core.errors import RunError
from mnemos.study import processes


@contextlib.contextmanager
def locked(root: Path, *, patient: bool = False) -> Iterator[None]:
    """Refuse a second run in the same directory, or wait for the first one if `patient`; make the directory where
    it is not there. The lock dies with its process."""
    from filelock import FileLock, Timeout

    # The processes of one launch work together under the main one's lock.
    if not processes.is_main():
        yield
        return
    owner = root / ".lock.owner"
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / ".lock")
        lock.acquire(timeout=-1 if patient else 0)
    except Timeout:
        who = owner.read_text().strip() if owner.exists() else "another process"
        raise RunError(f"{root}", f"is in use by {who}", "wait for it, or choose another --out") from None
    except OSError as error:
        raise RunError(f"{root}", f"cannot be written: {error.strerror or error}", "choose another --out") from None
    try:
        owner.write_text(f"process {os.getpid()}\n")
        yield
    finally:
        lock.release()
