"""Rows that a method looks at beside the new ones, without learning from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mnemos.core.nouns import Decoding, Example, Prompt, Source, Turn
from mnemos.core.plan import ModelHandle, Plan
from mnemos.methods.examples.replay import PastRows, with_rows
from mnemos.sources.generated import NotGenerated, SynthesisContext, too_few
from mnemos.sources.mix import Joined
from mnemos.sources.read import read


def old_rows(plan: Plan, method: str, data: str | None, data_format: str | None) -> Source | None:
    """The file that `method` names in `data`, else the kept rows of all earlier tasks; None only at
    the first task of a sequence. Raises UsageError where there is neither."""
    if data is not None:
        return read(data, format=data_format)
    past = with_rows(plan, f"{method}.data = null", f"{method}.data")
    kept = tuple(PastRows(task.name, rows) for task, rows in past)
    return Joined(kept, name="the earlier tasks") if len(kept) > 1 else next(iter(kept), None)


@dataclass(frozen=True)
class SelfText(NotGenerated):
    """Documents that a model writes from nothing, drawn from its own distribution (temperature 1)."""

    author: ModelHandle
    count: int
    max_new_tokens: int
    seed: int

    def describe(self) -> str:
        """How many, and by whom."""
        return f"{self.count:,} texts that {self.author.path} writes"

    def write(self, context: SynthesisContext) -> list[Example]:
        """Texts that are not empty, in the order of writing."""
        decoding = Decoding(max_new_tokens=self.max_new_tokens, temperature=1.0, seed=self.seed)
        # An empty document is a prompt of nothing: what follows is drawn from the model's own distribution over texts.
        answers = context.model(self.author).generate([Prompt((Turn("text", ""),))] * self.count, decoding)
        kept = [answer.text for answer in answers if answer.text.strip()]
        counts = Counter({"empty": len(answers) - len(kept)})
        context.count("kept", len(kept))
        if counts["empty"]:
            context.count("left out: empty", counts["empty"])
        too_few(counts, len(kept), 1, cure="this model writes nothing without a prompt: give old rows in data instead")
        return [Example(f"self/{i}", "text", (Turn("text", text),), origin="self") for i, text in enumerate(kept)]
