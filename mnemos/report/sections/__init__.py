"""Analyses that a report may hold: one module each, and one row in SECTIONS.

A section reads its part of results.json into a record of its own, says it in sentences and tables, and draws it. The
renderers (terminal, Markdown, HTML) loop over SECTIONS and know none of them by name. What stands in every report
(ledger, verdicts, answers, cost) is no section.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Section
from mnemos.report.sections import (
    adaptation,
    beside,
    copied,
    failed,
    help,
    kl_forgetting,
    listening,
    losses,
    recognition,
    replay,
    sequence,
    stream,
    token_shift,
    training,
    trajectory,
    updates,
)

SECTIONS: list[Section] = [
    failed,
    copied,
    stream,
    adaptation,
    updates,
    help,
    replay,
    sequence,
    trajectory,
    kl_forgetting,
    token_shift,
    recognition,
    listening,
    beside,
    losses,
    training,
]
"""In the order in which they stand."""


def read_sections(results: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Key -> record of the sections that this results.json has."""
    found = ((section.KEY, section.read(results, facts)) for section in SECTIONS)
    return {key: record for key, record in found if record is not None}


def present(facts: Facts) -> list[tuple[Section, Any]]:
    """The sections of a report with their records."""
    return [(section, facts.sections[section.KEY]) for section in SECTIONS if section.KEY in facts.sections]
