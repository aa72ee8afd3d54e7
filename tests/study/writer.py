"""A method whose rows a model writes, for tests of the study; a subprocess imports it too."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnemos.core.method import REGISTRY, method
from mnemos.core.nouns import Decoding, Example, Prompt, Source, Turn
from mnemos.core.plan import ModelHandle, Plan
from mnemos.sources.generated import NotGenerated, SynthesisContext
from mnemos.sources.mix import Mixture
from mnemos.study import synthesis as synthesis

if rows := os.environ.get("MNEMOS_TEST_PIECE_ROWS"):
    # Workers of a cluster come here with the step that they are sent, and hear nothing of a driver's memory.
    synthesis.PIECE_ROWS = int(rows)


@dataclass(frozen=True)
class Continued(NotGenerated):
    """What a model says to the questions of `asked`, `times` over."""

    author: ModelHandle
    asked: Source
    times: int

    def describe(self) -> str:
        return f"{self.times} answers to each question"

    def write(self, context: SynthesisContext) -> list[Example]:
        rows, out = context.rows(self.asked), []
        decoding = Decoding(max_new_tokens=8, temperature=1.0, seed=1)
        for turn in range(self.times):
            answers = context.model(self.author).generate([Prompt(row.turns[:1]) for row in rows], decoding)
            for row, answer in zip(rows, answers, strict=True):
                if not answer.text.strip():
                    context.count("empty")
                    continue
                context.count("kept")
                text = (*row.turns[:1], Turn("assistant", answer.text))
                out.append(dataclasses.replace(row, id=f"{row.id}/{turn}", turns=text))
        context.note("answers a question", len(out) / len(rows))
        return out


@method(paper="none", changes={"examples"}, off={"share": 0.0})
def continued(plan: Plan, *, share: float = 0.5, times: int = 2, twice: bool = False) -> Plan:
    """Rehearse what the model before says.

    share: of all rows.
    times: answers to each question.
    twice: write from rows that were written.
    """
    if share == 0:
        return plan
    written = Continued(plan.before, plan.examples, times)
    if twice:
        written = Continued(plan.before, written, 1)
    return dataclasses.replace(plan, examples=Mixture(plan.examples, written, share, plan.seed, repeat=True))


REGISTRY.pop("continued")  # only studies of these tests may use it


def main(study: str, out: str, piece_rows: int, engine: Mapping[str, Any] | None = None) -> None:
    """Run a study that uses the method, in a process of its own."""
    import mnemos

    synthesis.PIECE_ROWS = piece_rows
    REGISTRY["continued"] = continued
    mnemos.run(study, out=out, engine=engine, quiet=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
