"""A section of the report from outside the package: how much longer the answers have become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.svg import both, draw

KEY = "answer_length"
TITLE = "Longer answers"
LEAD = "Words of an answer, after over before."
LOUD = False


def read(results: Mapping[str, Any], facts: Facts) -> Mapping[str, float] | None:
    return results.get(KEY)


def words(facts: Facts, record: Mapping[str, float]) -> list[str]:
    return [f"Answers of {arm} are {ratio:.1f} times as long." for arm, ratio in record.items()]


def tables(facts: Facts, record: Mapping[str, float]) -> Sequence[Table]:
    return [Table("Length by arm", ("arm", "times"), tuple((arm, f"{ratio:.1f}") for arm, ratio in record.items()))]


def figures(facts: Facts, record: Mapping[str, float]) -> Sequence[Figure]:
    return [Figure(both(partial(_plot, record), KEY))]


def _plot(record: Mapping[str, float], *, width: float, name: str) -> str:
    return draw(
        lambda sheet: [sheet.write(8, 20 + 20 * row, arm) for row, arm in enumerate(record)],
        width,
        60,
        name=name,
        title="Longer answers",
        desc="One line an arm",
    )
