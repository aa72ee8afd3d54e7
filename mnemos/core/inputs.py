"""Files that a piece of work reads: noted while they are hashed, watched while it works.

A step is named by its files' content. If a file is swapped while the step reads it, the name is wrong, and
whoever puts the old file back would be given the result of the other one. So work that will be kept is
declared finished only after `refuse_changed` has looked at its files again.

The rule. When work begins, each file must hold what the step's name was made of. Whenever something of the
work is to be kept (a checkpoint, a journal's line, the result), size and both times (mtime, ctime) of each file
must still be those of the beginning, which costs next to nothing to look at. Where they differ the file is
hashed again, to say what happened. Both are refused: other bytes, and the same bytes with other times, since a
file that was replaced and put back looks like that, and nobody knows which bytes were read. One difference is none: a
file that was given another name, or lost one (a hard link), changes its ctime and its number of names and nothing else.
Trap: a swap that is undone by a link, rather than by moving the file back, cannot be told from that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import NamedTuple

from mnemos.core.errors import RunError

LENGTH = 16
"""Hex digits kept of a SHA-256: 64 bits, no collision to fear among a study's steps."""


class Signature(NamedTuple):
    """What the file system says of a file: no content changes without one of the times (ctime cannot be set back).
    inode: which file it is; names: how many names it has. Times are in nanoseconds."""

    size: int
    mtime: int
    ctime: int
    inode: int
    names: int

    def renamed(self, other: Signature) -> bool:
        """Whether the two differ as one file does that gained or lost a hard link in between."""
        return self.names != other.names and self._replace(ctime=other.ctime, names=other.names) == other


_noted: ContextVar[dict[str, str] | None] = ContextVar("files noted", default=None)
_watch: ContextVar[Watch | None] = ContextVar("files watched", default=None)


def signature(path: str | os.PathLike[str]) -> Signature:
    """What the file system says of a file."""
    stat = os.stat(path)
    return Signature(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_nlink)


@contextmanager
def noted_files() -> Iterator[dict[str, str]]:
    """Within it, every file that is hashed is noted: absolute path -> hash."""
    found: dict[str, str] = {}
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 (16 hex digits) of a file's bytes; re-read whenever its size, mtime or ctime changed."""
    place = os.path.abspath(path)
    digest = _sha256(place, signature(place))
    found = _noted.get()
    if found is not None:
        found[place] = digest
    return digest


@lru_cache(maxsize=1 << 17)  # one for each clip of a large collection
def _sha256(path: str, signed: Signature) -> str:
    """signed: part of the cache's key."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:LENGTH]


class Watch:
    """The files of one piece of work. work: what messages call it. files: path -> the hash that the work was
    named by. Raises RunError naming the first file that holds something else already."""

    def __init__(self, files: Mapping[str, str], work: str) -> None:
        self.files, self.work = dict(files), work
        self._began = {path: self._signature(path) for path in self.files}
        for path in self.files:
            if self._digest(path) != self.files[path]:
                raise RunError(f"{path}", f"was changed since this run began; {work} needs what it was", _AGAIN)

    def refuse_changed(self) -> None:
        """Raise RunError naming the first file that is not the one of the beginning."""
        for path, began in self._began.items():
            if (now := self._signature(path)) == began:
                continue
            if self._digest(path) != self.files[path]:
                raise RunError(f"{path}", f"was changed while {self.work} worked; nothing of it is kept", _AGAIN)
            if began.renamed(now):
                self._began[path] = now
                continue
            raise RunError(
                f"{path}",
                f"was replaced or touched while {self.work} worked, though it holds the same bytes now: nobody knows "
                "which were read, so nothing since then is kept",
                "run the same command again, and leave the file alone meanwhile",
            )

    def _signature(self, path: str) -> Signature:
        try:
            return signature(path)
        except OSError as error:
            raise self._gone(path, error) from None

    def _digest(self, path: str) -> str:
        try:
            return file_hash(path)
        except OSError as error:
            raise self._gone(path, error) from None

    def _gone(self, path: str, error: OSError) -> RunError:
        text = error.strerror or str(error)
        return RunError(f"{path}", f"cannot be read any more while {self.work} needs it ({text})", _AGAIN)


_AGAIN = "put back what was there, or run the same command again to use what is there now"


@contextmanager
def watched(files: Mapping[str, str], work: str) -> Iterator[Watch]:
    """Within it, `refuse_changed` looks at these files."""
    watch = Watch(files, work)
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


def refuse_changed() -> None:
    """Before something of the present work is kept: raise RunError if a file it reads was changed (see `Watch`)."""
    watch = _watch.get()
    if watch is not None:
        watch.refuse_changed()
