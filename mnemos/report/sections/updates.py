"""Weights that changed along a stream: every update, what the old suites said of it, and whether it was kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.svg import Drawing
from mnemos.report.words import clean, counted, figure, interval, number, scaled

KEY = "updates"
TITLE = "Updates of the weights"
LEAD = (
    "After so many right answers the model was trained on them, with earlier ones beside them, and old suites were "
    "measured against the model before the stream. A proven loss rolls a guarded arm back to the last weights kept."
)
LOUD = False


@dataclass(frozen=True, slots=True)
class Update:
    """One update. suites: (name, change in words, verdict)."""

    arm: str
    order: str
    number: int
    step: int
    rows: int
    kept: bool
    guard: bool
    suites: tuple[tuple[str, str, str], ...]

    @property
    def lost(self) -> tuple[str, ...]:
        """Suites that are proven lost."""
        return tuple(name for name, _, verdict in self.suites if verdict == "lost")


def read(results: Mapping[str, Any], facts: Facts) -> tuple[Update, ...] | None:
    """The `updates` of results.json; None where there is none."""
    found = results.get(KEY)
    return tuple(_update(one) for one in found) if isinstance(found, list) and found else None


def _update(one: Mapping[str, Any]) -> Update:
    return Update(
        clean(one["arm"]),
        clean(one["order"]),
        int(one["number"]),
        int(one["step"]),
        int(one["rows"]),
        bool(one["kept"]),
        bool(one["guard"]),
        tuple(_suite(suite) for suite in one["suites"]),
    )


def _suite(one: Mapping[str, Any]) -> tuple[str, str, str]:
    unit = str(one.get("unit") or "points")
    delta, low, high = (scaled(number(one.get(part)), unit) for part in ("delta", "low", "high"))
    words = f"{figure(delta, unit, sign=True)} {interval(low, high, unit, sign=True)}".strip()
    return clean(one["suite"]), words, clean(one["verdict"])


def words(facts: Facts, record: Sequence[Update]) -> list[str]:
    """One sentence an arm."""
    out = []
    for arm in dict.fromkeys(update.arm for update in record):
        own = [update for update in record if update.arm == arm]
        lost = [update for update in own if update.lost]
        back = sum(not update.kept for update in own)
        text = f"{arm}: {counted(len(own), 'update')}, {back} rolled back"
        names = ", ".join(dict.fromkeys(name for update in lost for name in update.lost))
        out.append(f"{text}; proven lost in {len(lost)}: {names}." if lost else f"{text}; no old suite proven lost.")
    return out


def tables(facts: Facts, record: Sequence[Update]) -> Sequence[Table]:
    """One row an update."""
    suites = tuple(dict.fromkeys(name for update in record for name, _, _ in update.suites))
    rows = []
    for update in record:
        found = {name: f"{verdict} {change}" for name, change, verdict in update.suites}
        fate = "kept" if update.kept else "rolled back"
        cells = (f"{update.step:,}", f"{update.rows:,}", fate, *(found.get(name, "") for name in suites))
        rows.append((f"{update.arm}, order {update.order}, {update.number}", *cells))
    return (Table("Updates of the weights", ("", "after step", "rows", "", *suites), tuple(rows)),)


def figures(facts: Facts, record: Sequence[Update]) -> Sequence[Figure]:
    """The ledger in lines; there is nothing to draw."""
    lines = []
    for update in record:
        name = f"{update.arm}, order {update.order}, after step {update.step:,}"
        fate = "kept" if update.kept else "rolled back"
        lines.append((name, fate, "; ".join(f"{suite} {verdict} {change}" for suite, change, verdict in update.suites)))
    return (Figure(Drawing("", ""), lines=tuple(lines)),)
