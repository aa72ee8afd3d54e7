"""What a section of the report is: a record read from results.json, said, tabled and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mnemos.report.facts import Facts
    from mnemos.report.svg import Drawing


@dataclass(frozen=True)
class Table:
    """Cells in words, and lines below them (name, words). title: of the table; heads: of its columns, the first one
    of the row's name."""

    title: str
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    lines: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Figure:
    """A drawing of the page. title, lead: above it. lines: (name, words, interval) below it."""

    drawing: Drawing
    title: str = ""
    lead: str = ""
    lines: tuple[tuple[str, str, str], ...] = ()


class Section(Protocol):
    """What a module of this package holds. Everything after `read` is called only with a record of it.

    KEY: the part's key in results.json (or a name of its own), and its id on the page. TITLE, LEAD: heading and first
    sentences on the page. LOUD: its words warn, and stand out in the terminal.
    """

    KEY: str
    TITLE: str
    LEAD: str
    LOUD: bool

    def read(self, results: Mapping[str, Any], facts: Facts) -> Any | None:
        """A frozen record, made of results.json and what every report has; None where there is none."""
        ...

    def words(self, facts: Facts, record: Any) -> list[str]:
        """Sentences of plain text."""
        ...

    def tables(self, facts: Facts, record: Any) -> Sequence[Table]:
        """For the terminal and Markdown; the page has figures."""
        ...

    def figures(self, facts: Facts, record: Any) -> Sequence[Figure]:
        """For the page."""
        ...
