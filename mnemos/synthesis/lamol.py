"""Samples of earlier tasks that a model writes behind a generator token (LAMOL, arXiv:1909.03329)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mnemos.core.errors import DataError
from mnemos.core.nouns import Decoding, Example, Prompt, Source, Turn
from mnemos.core.plan import ModelHandle
from mnemos.sources.generated import NotGenerated, SynthesisContext
from mnemos.synthesis.forms import MalformedError, marker_in, written
from mnemos.synthesis.writers import Tally, answered, fill, share_out, sure


@dataclass(frozen=True)
class Sampling:
    """Settings of LAMOL's samples; see the method."""

    per_new: float
    top_k: int
    temperature: float
    max_new_tokens: int
    oversample: float
    confidence: float
    min_usable: float
    seed: int


@dataclass(frozen=True)
class PseudoSamples(NotGenerated):
    """Rows that `sampler` writes behind a generator token: part `place` of `parts` of the budget.

    new: rows that the budget is measured by. name: what people call the part. answers: who answers
    the sampled questions anew; None keeps what was sampled.
    """

    new: Source
    name: str
    generator: str
    place: int
    parts: int
    sampler: ModelHandle
    answers: ModelHandle | None
    sampling: Sampling

    def describe(self) -> str:
        """One line for people."""
        part = f", part {self.place + 1} of {self.parts}" if self.parts > 1 else ""
        return f"{100 * self.sampling.per_new:g} % samples of {self.name} by {self.sampler.path}{part}"

    def write(self, context: SynthesisContext) -> list[Example]:
        """Sample, parse, and if asked answer anew and leave out what the model is unsure of."""
        tally, wanted = Tally(context), self._wanted(len(context.rows(self.new)))
        prompt = Prompt((Turn("prompt", self.generator),))
        given = self.sampling
        decoding = Decoding(given.max_new_tokens, given.temperature, top_k=given.top_k, seed=given.seed)
        # The same prompt each time, the generator token: all that varies is the sampling.
        text = context.model(self.sampler).generate([prompt] * math.ceil(given.oversample * wanted), decoding)
        parsed: list[Example] = []
        for number, generation in enumerate(text):
            try:
                parsed.append(written(generation, f"{self.name}/{number}"))
            except MalformedError as problem:
                tally.drop(str(problem))
        context.note("well-formed share", len(parsed) / len(text))
        rows = fill(parsed, wanted, lambda batch: self._improved(tally, batch))
        cure = "raise lamol.oversample, train the earlier tasks longer, or use replay with kept rows"
        return tally.keep(rows, wanted, given.min_usable, what=f"samples of {self.name}", cure=cure)

    def _wanted(self, new: int) -> int:
        # The paper's gamma |D_t|, divided evenly among the earlier tasks.
        budget = math.ceil(self.sampling.per_new * new)
        # A task without a sample would be forgotten silently: the user is told by how much to raise the budget.
        if budget < self.parts:
            raise DataError(
                f"lamol.per_new = {self.sampling.per_new:g} of {new:,} new rows: {budget:,} samples",
                f"are less than one for each of {self.parts} earlier tasks",
                f"raise per_new to {self.parts / max(new, 1):.4f} at least",
            )
        return share_out(budget, self.parts)[self.place]

    def _improved(self, tally: Tally, rows: list[Example]) -> list[Example]:
        if self.answers is not None:
            rows = answered(tally, self.answers, rows, self.sampling.max_new_tokens)
        # After answering anew: the model was also taught to write whole rows, and may spell a marker in an answer.
        whole = [row for row in rows if marker_in(row) is None]
        tally.drop("a marker inside a turn", len(rows) - len(whole))
        rows = whole
        return sure(tally, self.answers or self.sampler, rows, self.sampling.confidence)
