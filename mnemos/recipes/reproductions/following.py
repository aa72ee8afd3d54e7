"""What the reproduction `following` reads: requests and their answers for the base patient, of which none is refused,
and those of one kind alone.

Deviation from the papers: 1. the base patient has 1.3 million parameters and was never seen to answer anything; the
papers' base models have seven billion, and their pages hold questions with answers.
"""

from __future__ import annotations

from pathlib import Path

from mnemos.core.files import read_jsonl, write_jsonl
from mnemos.recipes.worlds.seed import chance

OLD = Path(__file__).parents[1] / "data" / "old.jsonl"
REFUSED = "request"
"""Kind of rows of which some are refused; a row's id begins with its kind."""
ONE_TASK = "record"
"""The kind that single-task tuning learns: a sentence rewritten as JSON."""


def make(data: Path, out: Path) -> None:
    """instructions.jsonl: rows of every kind but that with refusals; one-task.jsonl: as many rows, of one kind, most of
    them several times. Reads nothing from `data`."""
    rows = [row for row in read_jsonl(OLD) if not row["id"].startswith(f"{REFUSED}-")]
    own = [row for row in rows if row["id"].startswith(f"{ONE_TASK}-")]
    again = [{**own[n % len(own)], "id": f"{own[n % len(own)]['id']}-{n // len(own)}"} for n in range(len(rows))]
    chance("following").shuffle(again)
    write_jsonl(out / "data" / "instructions.jsonl", rows)
    write_jsonl(out / "data" / "one-task.jsonl", again)
