"""A draw from outside the package: every row is read twice within a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnemos.train.draws import batches
from mnemos.train.rows import prepare as prepare


@dataclass(frozen=True)
class Twice:
    """Read every micro-batch twice. times: how often, for the test to count."""

    times: int = 2


class Batches(batches.Batches):
    """The step's micro-batches, one behind the other."""

    def of_step(self, taken: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """`taken`, `times` times over."""
        return taken * self.trainer.plan.draw.times

    def counted(self) -> dict[str, int]:
        """How often each row was read."""
        return {"times read": self.trainer.plan.draw.times}
