"""Items that are tried before the model is asked: tests that no answer can meet, or that every answer does."""

from __future__ import annotations

from collections.abc import Sequence

from mnemos.measure.items import Item
from mnemos.measure.settings import GeneratedSettings
from mnemos.rewards import checks

NAMED = 5
"""Items that a line names."""


def tried(settings: GeneratedSettings, items: Sequence[Item]) -> list[str]:
    """A line for each fault of tests and right queries: how many items will be missing for it, and which. Raises
    UsageError where they must be run and this machine gives no sandbox."""
    if settings.match not in checks.CHECKS:
        return []
    pairs = [(item, reference) for item in items for reference in item.answers]
    solutions = [item.solution for item, _ in pairs] if settings.match == "code" else None
    found = checks.trials(settings.match, [reference for _, reference in pairs], settings.database, solutions)
    lines: dict[str, dict[str, None]] = {}
    for (item, _), trial in zip(pairs, found, strict=True):
        if trial.fault is not None:
            # A mapping as an ordered set: an item with two references of one fault is named once.
            lines.setdefault(f"will be missing: {trial.fault}", {})[item.id] = None
        elif trial.empty_passes:
            lines.setdefault("are right whatever the answer is: their tests accept an empty one", {})[item.id] = None
    return [f"{len(names)} of {len(items)} items {words} ({_named(list(names))})" for words, names in lines.items()]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
