"""Models that were asked the same suites and taught nothing, beside the model before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.core.names import EXTENDED
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
PIECES = ("Since their new pieces, before any training", "with new pieces")
"""Of arms against the models with new pieces from which they began: the heading, and what the first score is."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model on one suite, on the shown scale; numbers are None where nothing can be told. since: it is an arm, and
    before is this model, from which it began: the one that an earlier study taught, or the one with new pieces."""

    model: str
    suite: str
    unit: str
    value: float | None
    before: float | None
    delta: float | None
    low: float | None
    high: float | None
    items: int
    since: str = ""


def read(results: Mapping[str, Any], facts: Facts) -> tuple[Row, ...] | None:
    """The `beside` of results.json; None where there is none."""
    item = results.get(KEY)
    if not isinstance(item, Mapping):
        return None
    rows = [_row(name, one) for name, model in item.items() for one in model["comparisons"]]
    for name, model in item.items():
        rows += [_row(arm, one, clean(name)) for arm, found in (model.get("since") or {}).items() for one in found]
    return tuple(rows) or None


def _row(name: str, one: Mapping[str, Any], since: str = "") -> Row:
    unit = str(one["unit"])
    after, before, delta = (scaled(number(one[key]), unit) for key in ("after", "before", "delta"))
    low, high = (limit(number(one[key]), unit) for key in ("low", "high"))
    return Row(clean(name), clean(one["suite"]), unit, after, before, delta, low, high, int(one["items"]), since)


def words(facts: Facts, record: Sequence[Row]) -> list[str]:
    """None: a reference warns of nothing."""
    return []


def tables(facts: Facts, record: Sequence[Row]) -> Sequence[Table]:
    """Each model on each suite, and each arm since the model that it began from."""
    found = [_table(TITLE, "model", "before", [row for row in record if not row.since])]
    began = dict.fromkeys(row.since for row in record if row.since)
    extended = {f"{arm.name}{EXTENDED}" for arm in facts.arms}
    for heading, first, names in (
        (*PIECES, extended & set(began)),
        *((f"Since {name}", name, {name}) for name in began if name not in extended),
    ):
        rows = [row for row in record if row.since in names]
        found += [_table(heading, "arm", first, rows)] if rows else []
    return found


def _table(title: str, what: str, first: str, rows: Sequence[Row]) -> Table:
    cells = tuple(
        (
            f"{row.model}, {row.suite}",
            figure(row.value, row.unit),
            figure(row.before, row.unit),
            figure(row.delta, row.unit, sign=True),
            interval(row.low, row.high, row.unit, sign=True),
            f"{row.items:,}",
        )
        for row in rows
    )
    return Table(title, (f"{what}, suite", "score", first, "difference", "95 %", "items"), cells)


def figures(facts: Facts, record: Sequence[Row]) -> Sequence[Figure]:
    """The tables as lines."""
    return [
        Figure(
            Drawing("", ""),
            title="" if number == 0 else table.title,
            lines=tuple(
                (name, f"{score}, {table.heads[2]} {before}", f"{delta} {around}")
                for name, score, before, delta, around, _ in table.rows
            ),
        )
        for number, table in enumerate(tables(facts, record))
    ]
