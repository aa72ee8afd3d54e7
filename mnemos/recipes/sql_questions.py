"""The items of the suite `sql`: questions over the Chinook database with their right queries.

    python -m mnemos.recipes.sql_questions      writes recipes/suites/benchmarks/sql.jsonl

They are the questions of the stream task of the same name with seed 0. The database itself does not ship: it is read
from $MNEMOS_DATA, and its schema stands in the suite's prompt.
"""

from __future__ import annotations

from typing import Any

from mnemos.core.files import write_jsonl
from mnemos.measure.suite import BENCHMARKS
from mnemos.stream.task import TaskSettings
from mnemos.stream.tasks import sql

FILE = BENCHMARKS / "sql.jsonl"


def items() -> list[dict[str, Any]]:
    """One row a question: id, template (its kind of question), question, query (the right one). Raises UsageError
    where the database is not there."""
    return [
        {"id": row.id, "template": row.id.partition(":")[0], "question": row.key, "query": row.gold}
        for row in sql.task(TaskSettings(name="sql")).rows
    ]


if __name__ == "__main__":
    write_jsonl(FILE, items())
