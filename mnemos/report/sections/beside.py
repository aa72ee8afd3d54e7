"""Models that were asked the same suites and taught nothing, beside the model before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.svg import Drawing
from mnemos.report.words import clean, figure, interval, limit, number, scaled

KEY = "beside"
TITLE = "Other models"
LEAD = (
    "Models that were asked the same items and taught nothing, each against the model before, paired by item. Their "
    "chat templates and tokenizers are their own."
)
LOUD = False


@dataclass(frozen=True, slots=True)
class Row:
    """One model on one suite, on the shown scale; numbers are None where nothing can be told."""

    model: str
    suite: str
    unit: str
    value: float | None
    before: float | None
    delta: float | None
    low: float | None
    high: float | None
    items: int


def read(results: Mapping[str, Any], facts: Facts) -> tuple[Row, ...] | None:
    """The `beside` of results.json; None where there is none."""
    item = results.get(KEY)
    if not isinstance(item, Mapping):
        return None
    return tuple(_row(name, one) for name, model in item.items() for one in model["comparisons"]) or None


def _row(name: str, one: Mapping[str, Any]) -> Row:
    unit = str(one["unit"])
    after, before, delta = (scaled(number(one[key]), unit) for key in ("after", "before", "delta"))
    low, high = (limit(number(one[key]), unit) for key in ("low", "high"))
    return Row(clean(name), clean(one["suite"]), unit, after, before, delta, low, high, int(one["items"]))


def words(facts: Facts, record: Sequence[Row]) -> list[str]:
    """None: a reference warns of nothing."""
    return []


def tables(facts: Facts, record: Sequence[Row]) -> Sequence[Table]:
    """Each model on each suite."""
    heads = ("model, suite", "score", "before", "difference", "95 %", "items")
    rows = tuple(
        (
            f"{row.model}, {row.suite}",
            figure(row.value, row.unit),
            figure(row.before, row.unit),
            figure(row.delta, row.unit, sign=True),
            interval(row.low, row.high, row.unit, sign=True),
            f"{row.items:,}",
        )
        for row in record
    )
    return [Table(TITLE, heads, rows)]


def figures(facts: Facts, record: Sequence[Row]) -> Sequence[Figure]:
    """The table as lines."""
    [table] = tables(facts, record)
    lines = tuple(
        (name, f"{score}, before {before}", f"{delta} {around}") for name, score, before, delta, around, _ in table.rows
    )
    return [Figure(Drawing("", ""), lines=lines)]
