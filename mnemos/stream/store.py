"""One SQLite file: steps of streams, states of learners, memories with where each came from.

Level of safety: WAL with synchronous=NORMAL. A process that is killed at any moment loses nothing that was committed;
only a power loss may take the last commits. A step, the memories that it made and the learner's state are one
transaction, so a stream that was killed continues as if it had not been.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnemos.core.databases import patiently
from mnemos.core.errors import DataError, RunError

VERSION = 1
"""Of the file's layout."""
WAIT = 30.0
"""Seconds that one process waits for another's commit."""

SCHEMA = """
create table streams (
  number integer primary key, name text not null unique, fingerprint text not null, state text not null default '{}');
create table steps (
  stream integer not null, step integer not null, item text not null, answer text not null, parsed text,
  value real, reason text, note text, calls integer not null, prompt_tokens integer not null, tokens integer not null,
  seconds real not null, memories integer not null, shown text not null, dropped integer not null, model integer,
  unique (stream, step));
create table panels (
  stream integer not null, step integer not null, item text not null, answer text not null, value real, reason text,
  unique (stream, step, item));
create table memories (
  id integer primary key, stream integer not null, step integer not null, item text not null, key text not null,
  question text not null, answer text not null, correct integer, source text not null, made text not null,
  vector blob);
create index memories_of on memories (stream, id);
create table encoder (fingerprint text not null, width integer not null);
create table answers (
  id text primary key, item text not null, question text not null, key text not null, answer text not null,
  value real, source text not null, made text not null);
"""


class Store:
    """An open file. One connection, used by one thread at a time."""

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise DataError(f"{self.path}", "does not exist", "give the file that a stream wrote")
        self._lock = threading.RLock()
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None, check_same_thread=False)
            self._prepare(create)

    def _prepare(self, create: bool) -> None:
        run = self.connection.execute
        version, tables = run("pragma user_version").fetchone()[0], run("select count(*) from sqlite_master").fetchone()
        if version == 0 and tables[0]:
            raise DataError(f"{self.path}", "is a SQLite file of another program", "name another file")
        if version > VERSION:
            raise DataError(f"{self.path}", f"has layout {version}, above {VERSION}", "use the mnemos that wrote it")
        patiently(lambda: run("pragma journal_mode=wal"), WAIT)
        run("pragma synchronous=normal")
        if version == 0 and create:
            with self.transaction():
                # Another process may have made it while this one waited for the lock.
                if run("pragma user_version").fetchone()[0] == 0:
                    for statement in SCHEMA.split(";"):
                        run(statement)
                    run(f"pragma user_version={VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; one writer at a time. Raises RunError for a full disk and a second writer."""
        with self._lock, self._explained():
            self.connection.execute("begin immediate")
            try:
                yield self.connection
                self.connection.execute("commit")
            except BaseException:
                # A full disk may have rolled back by itself.
                if self.connection.in_transaction:
                    self.connection.execute("rollback")
                raise

    def rows(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """What a query gives."""
        with self._lock, self._explained():
            return list(self.connection.execute(statement, values).fetchall())

    def close(self) -> None:
        """Close it; nothing is waiting to be written."""
        self.connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        again = "then run the same command again: every committed step is kept"
        try:
            yield
        except sqlite3.IntegrityError as error:
            taken = "holds this step already: another process writes the same stream"
            raise RunError(f"{self.path}", f"{taken} ({error})", "let one of them end, or name another file") from None
        except sqlite3.OperationalError as error:
            text = str(error)
            if "full" in text:
                raise RunError(f"{self.path}", "the disk is full", f"free some room, {again}") from None
            if "locked" in text or "busy" in text:
                bound = f"was in use by another process for {WAIT:g} seconds"
                raise RunError(f"{self.path}", bound, "let it end, or name another file") from None
            raise RunError(
                f"{self.path}", f"cannot be used: {text}", f"check its folder and its rights, {again}"
            ) from None
        except sqlite3.DatabaseError as error:
            raise DataError(f"{self.path}", f"is no SQLite file, or is damaged ({error})", "name another one") from None
