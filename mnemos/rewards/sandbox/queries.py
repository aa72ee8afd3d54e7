"""Two queries on a database, and whether they give the same rows."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Mapping
from typing import Any

MOST_ROWS = 100_000
"""Rows of a query's result that are compared at most."""
STEPS = 100_000_000
"""Instructions of SQLite's virtual machine that a query may take."""

_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_NO_SQL = ("syntax error", "incomplete input", "unrecognized token")
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/", re.DOTALL)


def sql(job: Mapping[str, Any]) -> bytes:
    """Run the reference and the answer on a database opened read-only, and compare what they give; what came of it:
    a word and, behind a space, details."""
    try:
        expected = query(job["database"], job["reference"])
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        return f"tests the reference query fails: {type(error).__name__}: {error}".encode(errors="replace")
    try:
        answers = (job["answer"], *job["others"])
        found = query(job["database"], next((one for one in answers if is_statement(one)), answers[0]))
    except MemoryError:
        return b"memory"
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        return f"failed {type(error).__name__}: {error}"[:500].encode(errors="replace")
    same = same_rows(found, expected, ordered=is_ordered(job["reference"]))
    return b"passed" if same else f"failed other rows: {len(found)} instead of {len(expected)}".encode()


def query(database: str, statement: str) -> list[tuple[Any, ...]]:
    """Rows of one SELECT. Everything but reading is refused by SQLite's authoriser: ATTACH, PRAGMA,
    writing, loading extensions. Raises sqlite3.Error."""
    # immutable: the file does not change while it is read, so sqlite takes no locks and looks for no journal.
    connection = sqlite3.connect(f"file:{_escaped(database)}?mode=ro&immutable=1", uri=True)
    steps = 0

    def authorise(action: int, first: str | None, second: str | None, *more: object) -> int:
        if action not in _ALLOWED or (action == sqlite3.SQLITE_FUNCTION and second == "load_extension"):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    def too_long() -> int:
        nonlocal steps
        steps += 10_000
        return int(steps > STEPS)

    try:
        connection.set_authorizer(authorise)
        connection.set_progress_handler(too_long, 10_000)
        # One row more than allowed tells that there are more.
        rows = connection.execute(statement).fetchmany(MOST_ROWS + 1)
    finally:
        connection.close()
    if len(rows) > MOST_ROWS:
        raise sqlite3.DataError(f"more than {MOST_ROWS} rows")
    return rows


def is_statement(text: str) -> bool:
    """Whether SQLite's parser reads the text, whatever it would do."""
    connection = sqlite3.connect(":memory:")
    try:
        # EXPLAIN compiles and does not run. A missing table or column is a fault of a statement, not of its form.
        connection.execute(f"explain {text}")
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        return not any(words in str(error) for words in _NO_SQL)
    finally:
        connection.close()
    # sqlite takes an empty text for a statement that does nothing.
    return bool(text.strip())


def _escaped(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def same_rows(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]], *, ordered: bool) -> bool:
    """Whether two results are equal: as lists where the order was asked for, else as multisets. Names of
    columns do not count, their order does. Numbers are compared as numbers; see `same_values`."""
    if len(found) != len(expected):
        return False
    if not ordered:
        found, expected = sorted(found, key=_place), sorted(expected, key=_place)
    return all(
        len(ours) == len(theirs) and all(map(same_values, ours, theirs))
        for ours, theirs in zip(found, expected, strict=True)
    )


def same_values(ours: Any, theirs: Any) -> bool:
    """Whether two values of SQLite are equal. Whole numbers are compared exactly, whether they are written 2000000000,
    2e9 or 2000000000.0; others to nine digits, since the order of a sum changes its last ones. 0.0 is -0.0. A text is
    no number."""
    if not isinstance(ours, int | float) or not isinstance(theirs, int | float):
        return type(ours) is type(theirs) and ours == theirs
    if ours == theirs:
        return True
    if _is_whole(ours) and _is_whole(theirs):
        return False
    return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-12)


def _is_whole(number: float) -> bool:
    # From 2^53 on every double is whole, and says nothing about the digits that it cannot hold.
    return isinstance(number, int) or (number.is_integer() and abs(number) < 2**53)


def _place(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sorts rows of every type: by what is compared exactly, then by numbers to nine digits, so that rows do not change
    places for the last digits of a sum, then by whole numbers."""
    numbers = [one for one in row if isinstance(one, int | float)]
    return (
        [isinstance(one, int | float) for one in row],
        [(type(one).__name__, "" if one is None else one) for one in row if not isinstance(one, int | float)],
        [float(f"{one:.9g}") for one in numbers],
        numbers,
    )


def is_ordered(statement: str) -> bool:
    """Whether the outermost query has an ORDER BY: not one in a subquery, a string or a comment."""
    bare = _QUOTED.sub(" ", statement)
    # Innermost parentheses first, until none is left: what remains is the outermost query.
    while (shorter := re.sub(r"\([^()]*\)", " ", bare)) != bare:
        bare = shorter
    return re.search(r"\border\s+by\b", bare, re.IGNORECASE) is not None
