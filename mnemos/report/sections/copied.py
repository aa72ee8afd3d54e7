"""Answers to old suites that are a taught answer word for word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.svg import Drawing
from mnemos.report.words import clean

KEY = "copied"
TITLE = "Taught answers to other questions"
LEAD = (
    "Answers to old suites that are a taught answer word for word, where they have become many more: the model repeats "
    "its rows, whatever it is asked. A suite that counts refusals or form may not see it."
)
LOUD = True


@dataclass(frozen=True, slots=True)
class Copied:
    """One suite of one arm. before, after: answers of `items` that are a taught one; after: one number a run."""

    arm: str
    suite: str
    items: int
    before: int
    after: tuple[int, ...]

    @property
    def range(self) -> str:
        """Of the runs, in words."""
        low, high = min(self.after), max(self.after)
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def read(results: Mapping[str, Any], facts: Facts) -> tuple[Copied, ...] | None:
    """The `copied` of results.json; None where there is none."""
    found = results.get(KEY)
    if not isinstance(found, list) or not found:
        return None
    return tuple(
        Copied(
            clean(one["arm"]), clean(one["suite"]), int(one["items"]), int(one["before"]), tuple(map(int, one["after"]))
        )
        for one in found
    )


def words(facts: Facts, record: Sequence[Copied]) -> list[str]:
    """One sentence a suite."""
    return [
        f"{one.arm}: {one.range} of {one.items:,} answers to {one.suite} are a taught answer word for word "
        f"({one.before:,} before)."
        for one in record
    ]


def tables(facts: Facts, record: Sequence[Copied]) -> Sequence[Table]:
    """None: the sentences have the numbers."""
    return ()


def figures(facts: Facts, record: Sequence[Copied]) -> Sequence[Figure]:
    """The numbers in lines; there is nothing to draw."""
    lines = tuple(
        (f"{one.arm}, {one.suite}", f"{one.range} of {one.items:,} answers,", f"{one.before:,} before")
        for one in record
    )
    return (Figure(Drawing("", ""), lines=lines),)
