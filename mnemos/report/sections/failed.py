"""Arms that could not be done, of a run that went on behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.svg import Drawing
from mnemos.report.words import clean

KEY = "failed"
TITLE = "Not done"
LEAD = (
    "Steps of these failed, and the run went on with what did not need them. Nothing on this page is about them; the "
    "command that made it tries them again."
)
LOUD = True


@dataclass(frozen=True, slots=True)
class Failed:
    """One arm, or model beside the arms. whole of its runs were measured; why: what its steps failed with."""

    name: str
    runs: int
    whole: int
    why: tuple[str, ...]

    @property
    def count(self) -> str:
        """How much of it is there, in words; empty where it has one run."""
        return f" ({self.whole} of {self.runs} runs are whole)" if self.runs > 1 else ""


def read(results: Mapping[str, Any], facts: Facts) -> tuple[Failed, ...] | None:
    """The `failed` of results.json; None where there is none."""
    found = results.get(KEY)
    if not isinstance(found, list) or not found:
        return None
    return tuple(
        Failed(clean(one["arm"]), int(one["runs"]), int(one["whole"]), tuple(clean(why) for why in one["why"]))
        for one in found
    )


def words(facts: Facts, record: Sequence[Failed]) -> list[str]:
    """One sentence an arm."""
    return [f"{one.name}{one.count}: {'; '.join(one.why)}." for one in record]


def tables(facts: Facts, record: Sequence[Failed]) -> Sequence[Table]:
    """None: the sentences say it."""
    return ()


def figures(facts: Facts, record: Sequence[Failed]) -> Sequence[Figure]:
    """Lines; there is nothing to draw."""
    lines = tuple((f"{one.name}{one.count}", "; ".join(one.why), "") for one in record)
    return (Figure(Drawing("", ""), lines=lines),)
