"""A draw from outside the package: the answer that is learned is the prompt itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mnemos.core.nouns import Example, Source
from mnemos.core.plan import Plan
from mnemos.train import rows
from mnemos.train.draws import batches


@dataclass(frozen=True)
class Echo:
    """Repeat what was asked."""


@dataclass(frozen=True)
class Echoed:
    """Rows whose answers are their prompts."""

    source: Source
    fingerprint: str = "echoed"

    def describe(self) -> str:
        """One line."""
        return f"echoes of {self.source.describe()}"

    def __iter__(self) -> Iterator[Example]:
        for example in self.source:
            *before, last = example.turns
            turns = (*before, dataclasses.replace(last, content=before[-1].text))
            yield dataclasses.replace(example, turns=turns)


def prepare(plan: Plan, renderer: Any) -> rows.Prepared:
    """As for rows of data, of the echoed ones."""
    return rows.prepare(dataclasses.replace(plan, examples=Echoed(plan.examples)), renderer)


class Batches(batches.Batches):
    """Counts the steps that it was asked for."""

    steps = 0

    def of_step(self, taken: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The micro-batches as they are."""
        self.steps += 1
        return taken

    def counted(self) -> dict[str, int]:
        """Beside what preparing the rows counted."""
        return {"steps echoed": self.steps}
