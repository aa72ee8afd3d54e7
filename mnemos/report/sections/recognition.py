"""Which errors a recogniser makes: words taken for others, left out, and made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.words import clean

KEY = "recognition"
TITLE = "Errors of recognition"
LEAD = (
    "The fewest substitutions, deletions and insertions that make the transcript of what was written, over all items; "
    "the rate is their sum over the words (or characters) of the transcripts. Intervals stand in the ledger."
)
LOUD = False


@dataclass(frozen=True, slots=True)
class Row:
    """Of one side on one suite. empty: answers without a word, of how many items."""

    suite: str
    side: str
    units: int
    substitutions: int
    deletions: int
    insertions: int
    empty: int
    items: int

    @property
    def rate(self) -> float:
        """Errors a word."""
        return (self.substitutions + self.deletions + self.insertions) / self.units


def read(results: Mapping[str, Any], facts: Facts) -> tuple[Row, ...] | None:
    """The `recognition` of results.json; None where there is none."""
    item = results.get(KEY)
    if not isinstance(item, Mapping):
        return None
    rows = [_row(suite, side, one) for suite, sides in item.items() for side, one in sides.items()]
    return tuple(row for row in rows if row.units) or None


def _row(suite: str, side: str, one: Mapping[str, Any]) -> Row:
    numbers = (int(one[name]) for name in ("units", "substitutions", "deletions", "insertions", "empty", "items"))
    return Row(clean(suite), clean(side), *numbers)


def words(facts: Facts, record: Sequence[Row]) -> list[str]:
    """A sentence where a side writes nothing for much of what it hears, which a rate alone does not show."""
    return [
        f"{row.side} on {row.suite}: nothing is written of {row.empty:,} of {row.items:,} sounds."
        for row in record
        if row.empty > 0.1 * row.items
    ]


def tables(facts: Facts, record: Sequence[Row]) -> Sequence[Table]:
    """Each side of each suite."""
    heads = ("suite, side", "rate", "substituted", "deleted", "inserted", "of", "empty")
    rows = tuple(
        (
            f"{row.suite}, {row.side}",
            f"{100 * row.rate:.1f} %",
            f"{row.substitutions:,}",
            f"{row.deletions:,}",
            f"{row.insertions:,}",
            f"{row.units:,}",
            f"{row.empty:,} of {row.items:,}",
        )
        for row in record
    )
    return [Table("Errors of recognition", heads, rows)]


def figures(facts: Facts, record: Sequence[Row]) -> Sequence[Figure]:
    """None: the numbers are few."""
    return ()
