"""Evolves seeds in a process of its own, slowly enough to be killed: `python -m tests.methods.writing_maker FOLDER`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mnemos.core.files import write_jsonl
from mnemos.core.nouns import Decoding, Example, Generation, Prompt, Turn
from mnemos.methods.examples.instructions import evol_instruct
from mnemos.sources.generated import generated_in
from mnemos.sources.mix import Rows
from mnemos.sources.write import row_of
from mnemos.study import synthesis
from tests.laws import base_plan
from tests.methods.contexts import Scripted


class Slow(Scripted):
    """Rewrites by what it was asked and by the seed of sampling, after a while."""

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        time.sleep(0.05)
        return [Generation(f"bridge {decoding.seed} {len(prompt.turns[-1].text)}", (), True) for prompt in prompts]


@dataclass(frozen=True)
class Author:
    """A handle whose model needs no weights."""

    path: str = "author"
    fingerprint: str = "0123456789abcdef"

    def load(self) -> Slow:
        return Slow()


def main(folder: Path) -> None:
    synthesis.PIECE_ROWS = 2
    rows = [Example(f"{i}", "messages", (Turn("user", f"Ask {i}?"), Turn("assistant", "Yes."))) for i in range(12)]
    plan = base_plan(examples=Rows(tuple(rows)), before=Author(), past=(), sequence=False)
    (maker,) = generated_in(evol_instruct(plan, rounds=4, judge_gain=False))
    context = synthesis.JournaledContext(folder, lambda source: Rows(()))
    write_jsonl(folder / "rows.jsonl", [{**row_of(row), "id": row.id} for row in maker.write(context)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
