"""What makers of instructions share: the seeds that they go on from, the form of a row, what may not be in one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mnemos.core.nouns import Example, Prompt, Source, Turn
from mnemos.core.plan import ModelHandle
from mnemos.sources.dedup import Exact
from mnemos.sources.generated import NotGenerated, is_generated, materialize
from mnemos.sources.held_out import HeldOut
from mnemos.sources.mix import is_new
from mnemos.synthesis.self_generated import answerable
from mnemos.synthesis.writers import Tally

T = TypeVar("T")

SINGLE = (("user", "assistant"), ("system", "user", "assistant"), ("prompt", "completion"))
"""Roles of a row of one question and one answer."""


@dataclass(frozen=True)
class MadeInstructions(NotGenerated):
    """Rows whose questions a model makes up as well. seeds: the rows that it goes on from. author: who writes.
    held_out: items of suites, which no row may hold; a study fills it in, no method can."""

    seeds: Source
    author: ModelHandle
    held_out: HeldOut | None = field(default=None, kw_only=True)

    def leak(self, row: Example) -> str | None:
        """The reason for which a row is left out that holds a suite's item."""
        found = self.held_out.suite_in([turn.text for turn in row.turns]) if self.held_out is not None else None
        return f"holds an item of suite {found}" if found is not None else None

    def clean(self, tally: Tally, rows: Iterable[Example], exact: Exact) -> list[Example]:
        """The rows without those that were there before or that hold a suite's item. exact: rows that are there."""
        out = []
        for row in rows:
            reason = self.leak(row)
            if reason is not None:
                tally.drop(reason)
            elif exact.repeats("\n".join(turn.text for turn in row.turns)):
                tally.drop("a row that was there before")
            else:
                out.append(row)
        return out


def guarded(value: T, held_out: HeldOut) -> T:
    """The value (a plan) with `held_out` in every maker of instructions within it, however deep."""

    def filled(one: Any) -> Any:
        inner = {f.name: materialize(getattr(one, f.name), filled) for f in dataclasses.fields(one) if f.init}
        inner = {name: new for name, new in inner.items() if new is not getattr(one, name)}
        if isinstance(one, MadeInstructions):
            inner["held_out"] = held_out
        return dataclasses.replace(one, **inner) if inner else one

    return materialize(value, lambda one: filled(one) if is_generated(one) else one)


def single(rows: Sequence[Example]) -> list[Example]:
    """New rows of one question and one answer, nothing beside them that a maker could not write."""
    return [
        row
        for row in rows
        if is_new(row.origin)
        and answerable(row)
        and tuple(turn.role for turn in row.turns) in SINGLE
        and not row.variables
        and row.label is not False
    ]


def asked_as(text: str, raw: bool) -> Prompt:
    """A question to an author. raw: as a text to be continued, without a chat template."""
    return Prompt((Turn("prompt" if raw else "user", text),))


def like(seed: Example, id: str, question: str, answer: str, origin: str, **meta: Any) -> Example:
    """A row in the form of a seed: raw or a chat, under its system turn."""
    turns = (
        *seed.turns[:-2],
        Turn(seed.turns[-2].role, question),
        Turn(seed.turns[-1].role, answer),
    )
    return Example(id, seed.kind, turns, origin=origin, meta=meta)
