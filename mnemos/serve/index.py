"""Answers of all runs in one SQLite file, so that ten thousand of them are filtered in a moment.

It lies in the cache and can be made again. A file of answers is read when it is first asked for and again when it has
changed; lines that cannot be read are counted by reason and left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from mnemos.core.databases import patiently
from mnemos.core.errors import RunError
from mnemos.serve.places import AbsentError

MOST_LINE = 16 << 20
"""Bytes of one line of answers."""

MOST_TEXT = 200_000
"""Characters of an answer that are kept for showing."""

MOST_ROWS = 2_000_000
WAIT = 30.0
"""Seconds that one server waits for another one that writes the same index."""

Filter = Literal["all", "flips", "lost", "gained", "differs", "missing"]

# y - x is the change of a score from the first model to the second, turned so that more is better.
CONDITIONS: dict[Filter, str] = {
    "all": "1",
    "flips": "x.score IS NOT y.score",
    "lost": ":sign * (y.score - x.score) < 0",
    "gained": ":sign * (y.score - x.score) > 0",
    "differs": "x.digest IS NOT y.digest",
    "missing": "x.score IS NULL OR y.score IS NULL",
}
"""What each filter keeps. Nothing that a browser sends is ever part of a statement."""

SCHEMA = """\
CREATE TABLE IF NOT EXISTS files (
  id INTEGER PRIMARY KEY, path TEXT UNIQUE NOT NULL, stamp TEXT NOT NULL, suite TEXT NOT NULL, bad TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
  file INTEGER NOT NULL, item TEXT NOT NULL, place INTEGER NOT NULL, score REAL, digest BLOB,
  reason TEXT, text TEXT, length INTEGER, finished INTEGER, tokens INTEGER);
CREATE UNIQUE INDEX IF NOT EXISTS answers_by_item ON answers (file, item, place, score, digest);
CREATE TABLE IF NOT EXISTS summaries (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, value TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Shown:
    """One item's answer. length: of the whole text, of which `text` may be the beginning."""

    score: float | None
    reason: str | None
    text: str | None
    length: int
    finished: bool | None
    tokens: int


@dataclass(frozen=True)
class Pair:
    """Both answers to an item."""

    item: str
    first: Shown
    second: Shown


class Index:
    """The file. Each call opens a connection of its own, so threads and servers may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._make()
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise
            # A cache that another version or a crash left unreadable is made anew.
            for ending in ("", "-wal", "-shm"):
                Path(f"{path}{ending}").unlink(missing_ok=True)
            self._make()

    def _make(self) -> None:
        with self._open() as connection:
            patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"), WAIT)
            connection.executescript(SCHEMA)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.path, timeout=WAIT)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            yield connection

    def file(self, path: Path) -> int:
        """The number of a file of answers, which is read first where needed. Raises AbsentError where it is gone."""
        stamp = stamp_of(path)
        if stamp is None:
            raise AbsentError(f"{path}", "is not there", "the run may have been removed meanwhile")
        with self._open() as connection:
            found = connection.execute("SELECT id FROM files WHERE path = ? AND stamp = ?", [str(path), stamp])
            row = found.fetchone()
            return int(row[0]) if row else self._read(connection, path, stamp)

    def _read(self, connection: sqlite3.Connection, path: Path, stamp: str) -> int:
        bad: Counter[str] = Counter()
        with connection:
            # One server reads a file, others wait and find it there.
            connection.execute("BEGIN IMMEDIATE")
            for (number,) in connection.execute("SELECT id FROM files WHERE path = ?", [str(path)]).fetchall():
                connection.execute("DELETE FROM answers WHERE file = ?", [number])
                connection.execute("DELETE FROM files WHERE id = ?", [number])
            added = connection.execute(
                "INSERT INTO files (path, stamp, suite, bad) VALUES (?, ?, '', '')", [str(path), stamp]
            )
            number = int(added.lastrowid or 0)
            rows = _rows(path, bad)
            first = next(rows, None)
            suite = "" if first is None else str(first["suite"])
            connection.executemany(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                ((number, *values) for values in _values(first, rows, bad)),
            )
            connection.execute(
                "UPDATE files SET suite = ?, bad = ? WHERE id = ?", [suite, json.dumps(dict(bad)), number]
            )
        return number

    def about(self, file: int) -> tuple[str, dict[str, int]]:
        """The suite's name as its rows say it, and how many lines were left out, by reason."""
        with self._open() as connection:
            row = connection.execute("SELECT suite, bad FROM files WHERE id = ?", [file]).fetchone()
        return ("", {}) if row is None else (str(row[0]), json.loads(row[1]))

    def items(
        self,
        first: int,
        second: int,
        *,
        show: Filter = "all",
        text: str = "",
        better: str = "higher",
        seed: int | None = None,
        most: int = 20,
        skip: int = 0,
    ) -> tuple[int, list[str]]:
        """How many items both files hold that pass, and the ids of a page of them.

        show: the filter. text: must stand in one of both answers or in the item's id, whatever its case. better: of the
        suite's score. seed: draws the order; None keeps the file's. most, skip: the page.
        """
        condition = CONDITIONS[show]
        if text:
            condition = f"({condition}) AND (has(x.text) OR has(y.text) OR has(x.item))"
        order = "x.place" if seed is None else "shuffle(x.item), x.place"
        source = "FROM answers x JOIN answers y ON y.file = :second AND y.item = x.item WHERE x.file = :first"
        values = {"first": first, "second": second, "sign": -1 if better == "lower" else 1}
        wanted = text.casefold()
        with self._open() as connection:
            connection.create_function("has", 1, lambda value: value is not None and wanted in value.casefold())
            connection.create_function("shuffle", 1, lambda item: shuffled(seed or 0, item), deterministic=True)
            found = connection.execute(f"SELECT x.item {source} AND ({condition}) ORDER BY {order}", values).fetchall()
        return len(found), [item for (item,) in found[skip : skip + most]]

    def pairs(self, first: int, second: int, items: Sequence[str]) -> list[Pair]:
        """Both answers to each of these items, in their order."""
        asked = (
            "SELECT item, score, reason, text, length, finished, tokens FROM answers WHERE file = ? AND item IN "
            f"({', '.join('?' * len(items))})"
        )
        with self._open() as connection:
            sides = [
                {row[0]: _shown(row[1:]) for row in connection.execute(asked, [file, *items])}
                for file in (first, second)
            ]
        return [Pair(item, sides[0][item], sides[1][item]) for item in items if item in sides[0] and item in sides[1]]

    def kept(self, path: Path, stamp: str) -> Any | None:
        """What `keep` kept for a file as it is now, None where there is nothing."""
        with self._open() as connection:
            row = connection.execute(
                "SELECT value FROM summaries WHERE path = ? AND stamp = ?", [str(path), stamp]
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def keep(self, path: Path, stamp: str, value: Any) -> None:
        """Keep a value that was found in a file."""
        with self._open() as connection, connection:
            connection.execute(
                "INSERT OR REPLACE INTO summaries VALUES (?, ?, ?)", [str(path), stamp, json.dumps(value)]
            )


def stamp_of(path: Path) -> str | None:
    """Changes when the file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}"


def shuffled(seed: int, item: str) -> bytes:
    """Where an item stands in the order that a seed draws: the same on every machine, and whatever others there are."""
    return hashlib.sha256(f"{seed}/{item}".encode("utf-8", "surrogatepass")).digest()[:8]


def _rows(path: Path, bad: Counter[str]) -> Iterator[Mapping[str, Any]]:
    try:
        with open(path, "rb") as file:
            for line in _lines(file, bad):
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    bad["a line that is no JSON"] += 1
                    continue
                if isinstance(row, dict) and isinstance(row.get("suite"), str) and isinstance(row.get("item"), str):
                    yield row
                else:
                    bad["a line that is no answer"] += 1
    except OSError as error:
        raise RunError(f"{path}", f"cannot be read ({error.strerror})", "it may have been removed meanwhile") from None


def _lines(file: BinaryIO, bad: Counter[str]) -> Iterator[bytes]:
    for _ in range(MOST_ROWS):
        line = file.readline(MOST_LINE + 1)
        if not line:
            return
        if len(line) <= MOST_LINE:
            yield line
            continue
        bad[f"a line longer than {MOST_LINE >> 20} MiB"] += 1
        while line and not line.endswith(b"\n"):
            line = file.readline(MOST_LINE)
    bad[f"lines behind the first {MOST_ROWS:,}"] += 1


def _values(
    first: Mapping[str, Any] | None, rows: Iterator[Mapping[str, Any]], bad: Counter[str]
) -> Iterator[tuple[Any, ...]]:
    seen: set[str] = set()
    place = 0
    while first is not None:
        item = _whole(first["item"])
        if item in seen:
            bad["an item that stood there already"] += 1
        else:
            seen.add(item)
            yield (item, place, *_columns(first))
            place += 1
        first = next(rows, None)


def _columns(row: Mapping[str, Any]) -> tuple[Any, ...]:
    score, text, tokens, reason = row.get("score"), row.get("text"), row.get("tokens"), row.get("reason")
    number = isinstance(score, int | float) and not isinstance(score, bool) and abs(score) < 1e300
    words = _whole(text) if isinstance(text, str) else None
    return (
        float(score) if number and score is not None and math.isfinite(score) else None,
        None if words is None else hashlib.sha256(words.encode()).digest()[:8],
        _whole(reason)[:1000] if isinstance(reason, str) else None,
        None if words is None else words[:MOST_TEXT],
        0 if words is None else len(words),
        int(row["finished"]) if isinstance(row.get("finished"), bool) else None,
        tokens if isinstance(tokens, int) and 0 <= tokens < 1 << 53 else 0,
    )


def _whole(text: str) -> str:
    """Without halves of surrogate pairs, which SQLite and UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _shown(row: Sequence[Any]) -> Shown:
    score, reason, text, length, finished, tokens = row
    return Shown(score, reason, text, length or 0, None if finished is None else bool(finished), tokens or 0)
