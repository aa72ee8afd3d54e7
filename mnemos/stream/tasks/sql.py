"""Text to SQL: at least 300 questions over a real database, answered by running the query that was written.

The rows of the answer are compared with those of the gold query, as multisets, and in order where the gold query
orders (`rewards.sandbox.queries`); an empty result may be right, and duplicates count. Deviation from StreamBench
(arXiv:2406.08747), whose checker compares sets and fails on empty results.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mnemos.core.cache import unpacked
from mnemos.core.errors import DataError, UsageError
from mnemos.core.reward import Rewarded
from mnemos.rewards import checks, fences
from mnemos.rewards.sandbox.queries import query
from mnemos.stream.task import Row, Task, TaskSettings
from mnemos.stream.tasks import _chinook
from mnemos.stream.tasks._rows import shipped_data

SHOWN_ROWS = 10
"""Rows of a result that are shown."""
_QUERY = re.compile(r"(?is)\b(?:select|with)\b.*")


def task(settings: TaskSettings) -> Task:
    """Chinook, or another database with Chinook's schema. Raises UsageError where the file is not there."""
    database = _database(shipped_data("chinook/Chinook_Sqlite.sqlite.gz", settings.data))
    instruction = (
        "Write one SQLite query that answers the question about this database. Write the query alone, without any "
        f"explanation.\n\n{_chinook.schema(database)}"
    )
    rows = _chinook.rows(database, settings.seed, instruction)
    if len(rows) < 2:
        raise DataError(f"{database}", "gives no questions", "name a database with Chinook's schema")

    def verify(some: Sequence[Row], answers: Sequence[str]) -> list[Rewarded]:
        return checks.scores("sql", answers, [row.check for row in some], database)

    def show(some: Sequence[Row], answers: Sequence[str]) -> list[str]:
        return [_shown(database, answer) for answer in answers]

    return Task("sql", tuple(rows), parse, verify, max_new_tokens=160, show=show)


def parse(text: str) -> str | None:
    """The query: in a fence of SQL, else from the first SELECT or WITH on, up to a semicolon or an empty line."""
    text = text.rpartition("Final answer:")[2]
    fenced = fences.ranked(text, checks.SQL)
    found = _QUERY.search(fenced[0] if fenced else text)
    if found is None:
        return None
    statement = re.split(r";|\n\s*\n", found[0])[0]
    return " ".join(statement.split()) or None


def _shown(database: str, answer: str) -> str:
    """The first rows or the error, as a person would see it. Trap: run in the grading process, read-only, with the
    authoriser and step limit of `queries.query`; a query that takes longer is stopped by that limit."""
    if not answer:
        return "no query"
    try:
        rows = query(database, answer)
    except Exception as error:  # whatever SQLite says of what a model wrote is what is shown
        return f"error: {error}"[:500]
    lines = [str(row)[:300] for row in rows[:SHOWN_ROWS]]
    more = f"\n({len(rows):,} rows in all)" if len(rows) > SHOWN_ROWS else ""
    return "\n".join(lines) + more if rows else "no rows"


def _database(path: Path) -> str:
    """The file, unpacked beside the cache where it is compressed."""
    if not path.is_file():
        raise UsageError(f"stream.task.data = {path}", "does not exist", "give Chinook's SQLite file")
    return str(unpacked(path, ".sqlite"))
