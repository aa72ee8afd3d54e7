"""Votes of people on pairs of answers: rows of one SQLite table, or of a JSONL file with the same columns.

    store = VoteStore("runs/votes.sqlite")
    store.add(Vote("study", "chat", "81", "before", "replay/seed-0", "a", "b", "shorter", "ann"))

Who stands as model_a is not told by a pair, so votes are kept with the two names in order, and the verdict and the
place turned with them: a rater votes once on a pair, whichever way round it was shown. Every value is bound, never
written into a statement, so that a rater may be named like SQL. Trap: SQLite's locks are not to be trusted on
network file systems; keep the file on a local disk.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from mnemos.core.databases import patiently
from mnemos.core.errors import DataError, RunError, UsageError
from mnemos.core.files import write_jsonl
from mnemos.measure.items import Row, read_rows

Side = Literal["a", "b"]
VoteVerdict = Literal["a", "b", "tie", "both_bad"]

MOST_NAME, MOST_REASON = 1_000, 4_000
"""Characters of a name, and of a reason: what people type, not what a program may pour in."""

MOST_VOTES = 1_000_000
"""Votes that are read from one file."""

WAIT = 30.0
"""Seconds that a vote waits for others that are being written: fifty raters take turns within one of them."""

_TURNED: dict[str, Any] = {"a": "b", "b": "a", "tie": "tie", "both_bad": "both_bad"}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Vote:
    """What one person thinks of two answers to one item.

    run, suite, item: where the answers are. model_a, model_b: whose they are, such as "before" or "replay/seed-0".
    shown_first: which of the two stood first or on the left. verdict: the better one, tie (both good), or
    both_bad. reason: in the rater's words, may be empty. rater: who. at: when, ISO 8601 in UTC.
    Raises DataError for a value that cannot be meant.
    """

    run: str
    suite: str
    item: str
    model_a: str
    model_b: str
    shown_first: Side
    verdict: VoteVerdict
    reason: str = ""
    rater: str = ""
    at: str = field(default_factory=_now)

    def __post_init__(self) -> None:
        for name in ("run", "suite", "item", "model_a", "model_b", "rater", "at"):
            _check_name(name, getattr(self, name))
        if not isinstance(self.reason, str) or len(self.reason) > MOST_REASON or not _is_text(self.reason):
            raise DataError("reason of a vote", f"must be a text of at most {MOST_REASON:,} characters", "shorten it")
        for name, known in (("shown_first", get_args(Side)), ("verdict", get_args(VoteVerdict))):
            value = getattr(self, name)
            if value not in known:
                raise DataError(f"{name} = {value!r}", f"is none of {', '.join(known)}", "correct the vote")
        if self.model_a == self.model_b:
            raise DataError(f"model_a = model_b = {self.model_a!r}", "are one model", "compare two")
        with contextlib.suppress(ValueError):
            if datetime.fromisoformat(self.at).tzinfo is not None:
                return
        raise DataError(f"at = {self.at!r}", "is no time with its zone", "write it as 2026-01-31T12:00:00+00:00")

    @property
    def pair(self) -> tuple[str, str, str, str, str]:
        """Run, suite, item and the two models in order: equal for votes on the same pair of answers."""
        return (self.run, self.suite, self.item, *sorted((self.model_a, self.model_b)))  # type: ignore[return-value]

    def turned(self) -> Vote:
        """The same vote with model_a and model_b exchanged."""
        return replace(
            self,
            model_a=self.model_b,
            model_b=self.model_a,
            shown_first=_TURNED[self.shown_first],
            verdict=_TURNED[self.verdict],
        )

    def in_order(self) -> Vote:
        """The same vote with model_a before model_b in the order of letters."""
        return self if self.model_a < self.model_b else self.turned()


def _check_name(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{name} = {value!r}", "must be a text that is not empty", "every vote says it")
    if len(value) > MOST_NAME or not _is_text(value) or "\0" in value:
        raise DataError(
            f"{name} = {value[:80]!r}", f"must be at most {MOST_NAME:,} characters of whole letters", "shorten it"
        )


def _is_text(value: str) -> bool:
    # Half a surrogate pair can be typed nowhere, but JSON can hold it; SQLite and UTF-8 cannot.
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


COLUMNS = tuple(one.name for one in fields(Vote))

SCHEMA = """\
CREATE TABLE IF NOT EXISTS votes (
  run TEXT NOT NULL, suite TEXT NOT NULL, item TEXT NOT NULL,
  model_a TEXT NOT NULL, model_b TEXT NOT NULL,
  shown_first TEXT NOT NULL CHECK (shown_first IN ('a', 'b')),
  verdict TEXT NOT NULL CHECK (verdict IN ('a', 'b', 'tie', 'both_bad')),
  reason TEXT NOT NULL, rater TEXT NOT NULL, at TEXT NOT NULL,
  CHECK (model_a < model_b),
  PRIMARY KEY (run, suite, item, model_a, model_b, rater)
) WITHOUT ROWID"""
"""The table. Its primary key is what keeps a rater from voting twice on a pair, also in two windows at once."""

_SELECT = f"SELECT {', '.join(COLUMNS)} FROM votes"
_INSERT = f"INSERT INTO votes ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"


class VoteStore:
    """Votes in a SQLite file. Each call opens a connection of its own, so threads and processes may share a store.

    path: the file; made where it is not there. Raises UsageError for a file that holds something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise UsageError(f"{self.path.parent}", "is no folder", "make it first")
        with self._open() as connection:
            # Written ahead in a file beside it: readers never wait, and a vote that was confirmed outlives a crash.
            # Several that open a new file at once contend for this switch, which busy_timeout does not cover.
            patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"), WAIT)
            connection.execute("PRAGMA synchronous = FULL")
            with connection:
                connection.execute(SCHEMA)
        with self._open() as connection:
            _check_table(connection, self.path)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with _explained(self.path), contextlib.closing(sqlite3.connect(self.path, timeout=WAIT)) as connection:
            # The file may come from anybody: functions that its schema calls are not run.
            connection.execute("PRAGMA trusted_schema = OFF")
            yield connection

    def add(self, vote: Vote) -> None:
        """Keep a vote; it is on the disk when this returns. Raises DataError where its rater has voted on that pair."""
        self.add_all([vote])

    def add_all(self, votes: Iterable[Vote]) -> None:
        """Keep several votes, all or none. Raises DataError naming the first one that is there already."""
        with self._open() as connection, connection:
            # FULL holds for a connection, not for the file.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            for vote in votes:
                kept = vote.in_order()
                try:
                    connection.execute(_INSERT, [getattr(kept, name) for name in COLUMNS])
                except sqlite3.IntegrityError:
                    raise _twice(vote) from None

    def votes(self, **where: str) -> list[Vote]:
        """Votes in the order of their time; where: columns and the values that they must have (run, suite, rater …)."""
        return read_table(self.path, **where)


def read_table(path: str | Path, **where: str) -> list[Vote]:
    """What a `VoteStore` holds, read without writing. See `VoteStore.votes`."""
    strangers = sorted(set(where) - set(COLUMNS))
    if strangers:
        raise ValueError(f"votes have no column {strangers[0]!r}")
    # Column names come from the list above, never from outside; values are bound.
    condition = " AND ".join(f"{name} = ?" for name in where) or "1"
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"votes {path}", "is not a file", "name the file of votes")
    address = f"{path.resolve().as_uri()}?mode=ro"
    with _explained(path), contextlib.closing(sqlite3.connect(address, uri=True, timeout=WAIT)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        _check_table(connection, path)
        found = connection.execute(
            f"{_SELECT} WHERE {condition} ORDER BY at, run, suite, item, model_a, model_b, rater LIMIT ?",
            [*where.values(), MOST_VOTES + 1],
        ).fetchall()
    if len(found) > MOST_VOTES:
        raise DataError(f"{path}", f"holds more than {MOST_VOTES:,} votes", "divide it by run or suite")
    return [_vote(dict(zip(COLUMNS, row, strict=True)), f"{path}: vote {n}") for n, row in enumerate(found, 1)]


def read_votes(path: str | Path) -> list[Vote]:
    """Votes of a SQLite file, or of a file of rows (.jsonl, .json, also .gz) with the same columns. Raises
    DataError with the place of a row that is no vote, or is a rater's second one on its pair."""
    path = Path(path)
    if not path.name.removesuffix(".gz").endswith((".jsonl", ".json")):
        return read_table(path)
    votes: dict[tuple[Any, ...], Vote] = {}
    for row in read_rows(path):
        vote = vote_of(row)
        key = (*vote.pair, vote.rater)
        if key in votes:
            raise DataError(row.where, _twice(vote).bound, "keep one of the two")
        if len(votes) >= MOST_VOTES:
            raise DataError(f"{path}", f"holds more than {MOST_VOTES:,} votes", "divide it by run or suite")
        votes[key] = vote
    return list(votes.values())


def write_votes(path: str | Path, votes: Iterable[Vote]) -> None:
    """Votes as rows of a JSONL file; `read_votes` gives them back."""
    write_jsonl(path, map(asdict, votes))


def vote_of(row: Row) -> Vote:
    """The vote of a row; further columns are left alone."""
    return _vote({name: row.values[name] for name in COLUMNS if row.values.get(name) is not None}, row.where)


def _vote(values: Mapping[str, Any], where: str) -> Vote:
    # Numbers are common as ids of items; they mean their text.
    made: dict[str, Any] = {
        k: str(v) if k == "item" and isinstance(v, int) and not isinstance(v, bool) else v for k, v in values.items()
    }
    absent = [name for name in COLUMNS if name not in made and name not in ("reason", "at")]
    if absent:
        raise DataError(where, f"has no {', '.join(absent)}", f"a vote has the columns {', '.join(COLUMNS)}")
    try:
        return Vote(**made)
    except DataError as error:
        raise DataError(f"{where}: {error.value}", error.bound, error.cure) from None


def _twice(vote: Vote) -> DataError:
    return DataError(
        f"item {vote.item!r} of suite {vote.suite!r}",
        f"{vote.rater!r} has voted on {vote.model_a!r} beside {vote.model_b!r} already",
        "one vote a pair and rater",
    )


def _check_table(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file whose `votes` is a view, or has other columns, or that would run statements of its own."""
    kinds = connection.execute("SELECT type, name FROM sqlite_master WHERE tbl_name = 'votes'").fetchall()
    columns = {row[1] for row in connection.execute("PRAGMA table_info(votes)")}
    if ("table", "votes") not in kinds or columns != set(COLUMNS) or any(kind == "trigger" for kind, _ in kinds):
        raise UsageError(
            f"{path}", "holds no table of votes of this form", "name a file that mnemos wrote, or a new one"
        )


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "not a database" in text or "malformed" in text:
            raise UsageError(f"{path}", f"is no file of votes ({text})", "name another file") from None
        if "full" in text:
            raise RunError(
                f"{path}", "the disk is full", "free some room: votes that were confirmed are kept"
            ) from None
        raise RunError(f"{path}", f"cannot be used ({text})", "see that it is writable and on a local disk") from None
