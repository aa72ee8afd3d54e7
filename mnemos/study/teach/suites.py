"""The suites of a teaching, each in two parts: one to choose by, one to prove on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, MnemosError, UsageError
from mnemos.core.nouns import Example
from mnemos.measure.items import Item
from mnemos.measure.split import PARTS, Part, in_part
from mnemos.measure.suite import Suite
from mnemos.sources.read import read
from mnemos.study.paths import PACKAGE_PREFIX, RECIPES

FEWEST = 10
"""Items of each part below which a suite proves nothing."""


def can_part(suite: Suite) -> bool:
    """Whether a suite has items of its own to divide, enough of them in each part."""
    return suite.ask != "harness" and suite.of is None and all(len(in_part(suite.items, p)) >= FEWEST for p in PARTS)


def spec_of(suite: Suite, part: Part | None = None, limit: int | None = None) -> dict[str, Any]:
    """A suite, or one part of it, as a study file writes it. limit: of its items, both parts together.

    Raises UsageError for a suite that has no items of its own: a harness task's, or another suite's.
    """
    if suite.ask == "harness" or suite.of is not None:
        own = "brings its own documents" if suite.ask == "harness" else f"looks at the answers to {suite.of}"
        raise UsageError(
            f"suite {suite.name!r}", f"{own}, so that none can be held out", "leave it out, or give it data or items"
        )
    given: Mapping[str, Any] = suite.settings.model_dump(mode="json", exclude_defaults=True)
    spec = {"name": suite.name, "kind": suite.kind, **given}
    if "data" in spec:
        spec["data"] = _place(spec["data"])
    if limit is not None and limit < len(suite.items):
        spec["limit"] = limit
    return {**spec, **({} if part is None else {"part": part})}


def _place(text: str) -> str:
    """Absolute, or `mnemos:…` for what ships with the package, which lies elsewhere on another machine."""
    path = Path(text)
    return PACKAGE_PREFIX + path.relative_to(RECIPES).as_posix() if path.is_relative_to(RECIPES) else text


def question(item: Item) -> str:
    """What an item asks, in words, with white space and case alike."""
    turns = item.prompt.turns if item.prompt is not None else ()
    text = next((turn.text for turn in reversed(turns) if turn.role in ("user", "prompt")), item.text or "")
    return plain(text)


def asked(example: Example) -> str:
    """What a row asks, in the same form as `question`."""
    turns = example.turns[:-1] or example.turns
    return plain(next((turn.text for turn in reversed(turns) if turn.role in ("user", "prompt")), turns[-1].text))


def plain(text: str) -> str:
    """Case and white space alike."""
    return " ".join(text.casefold().split())


def refuse_leaks(suites: Iterable[Suite], rows: Mapping[str, str]) -> None:
    """Raise DataError where a suite asks what a row teaches, be it new or rehearsed. rows: `asked` of a row -> its
    place."""
    for suite in suites:
        found = [item for item in suite.items if question(item) in rows]
        if found:
            first = found[0]
            raise DataError(
                f"suite {suite.name!r}",
                f"asks {len(found)} of its {len(suite.items)} items in the words of rows that are trained on, such as "
                f"item {first.id!r} and {rows[question(first)]}: it would measure what was learned by heart",
                "take these rows out, or these items",
            )


def rehearsed(steps: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What the rows that an arm's methods read beside the taught ones ask -> their places.

    A file that cannot be read as rows adds nothing here: the method that names it refuses it, or reads texts in it.
    """
    found: dict[str, str] = {}
    for step in steps:
        for settings in step.values():
            if settings.get("data"):
                with contextlib.suppress(MnemosError):
                    rows = read(settings["data"], format=settings.get("data_format"), on_bad="skip")
                    found |= {asked(row): row.place or f"{settings['data']}, row {row.id}" for row in rows}
    return found
