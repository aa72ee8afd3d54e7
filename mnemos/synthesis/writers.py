"""What writers of old rows share: answering, filtering and counting rows until a budget is full."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mnemos.core.nouns import Decoding, Example, Generation
from mnemos.core.plan import ModelHandle
from mnemos.sources.generated import SynthesisContext, too_few
from mnemos.sources.similarity import repeated_4grams

AnsweredBy = Literal["sampled", "latest", "task"]
"""Who says the answer of a row that a model made up: whoever sampled the row, the model before the
stage, or the model right after the row's task."""

SMALLEST_LOT = 16
"""Rows that are answered together at least, when a few are missing."""


@dataclass
class Tally:
    """Counts what becomes of a model's rows, in the context and for the refusal."""

    context: SynthesisContext
    dropped: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, number: int = 1) -> None:
        """Count rows that were left out."""
        if number:
            self.dropped[reason] += number
            self.context.count(f"dropped: {reason}", number)

    def keep(self, rows: Sequence[Example], wanted: int, least: float, *, what: str, cure: str) -> list[Example]:
        """The first `wanted` rows. Raises DataError, with the counts by reason, where fewer than the
        share `least` of them are there."""
        kept = list(rows[:wanted])
        too_few(self.dropped, len(kept), max(1, math.ceil(least * wanted)), what=what, cure=cure)
        self.context.count("kept", len(kept))
        if len(rows) > wanted:
            self.context.count("usable, not needed", len(rows) - wanted)
        self.context.note("share of the budget", len(kept) / wanted)
        return kept


def fill(
    candidates: Sequence[Example], wanted: int, improve: Callable[[list[Example]], list[Example]]
) -> list[Example]:
    """Improved candidates, in order, until `wanted` are there or none is left. improve: a lot of rows
    in, those that survive out. Candidates that are not needed are never improved."""
    done: list[Example] = []
    at = 0
    # `done` holds what came of candidates[:at], in their order; no candidate is improved twice.
    while at < len(candidates) and len(done) < wanted:
        # As many as are missing, but at least a lot: the last few would otherwise be answered one at a time.
        batch = list(candidates[at : at + max(wanted - len(done), SMALLEST_LOT if at else 0)])
        at += len(batch)
        done += improve(batch)
    return done


def answered(
    tally: Tally, handle: ModelHandle, rows: Sequence[Example], max_new_tokens: int, repetition: float = 1.0
) -> list[Example]:
    """The rows with their last turn written anew by a model, greedily. Rows without a question (kind
    text) stay as they are. Dropped: unfinished and empty answers, and those of whose 4-grams more
    than the share `repetition` repeat an earlier one."""
    asked = [row for row in rows if row.kind != "text"]
    prompts = [row.prompt for row in asked]
    text = tally.context.model(handle).generate(prompts, Decoding(max_new_tokens)) if asked else []
    answers = dict(zip([row.id for row in asked], text, strict=True))
    out = []
    for row in rows:
        answer = answers.get(row.id)
        if answer is None:
            out.append(row)
        elif (reason := fault(answer, "answer", repetition)) is not None:
            tally.drop(reason)
        else:
            out.append(with_answer(row, answer.text))
    return out


def fault(text: Generation, what: str, repetition: float) -> str | None:
    """Why what was written is not used; None where it may be. what: what it is called in the reason. repetition: share
    of its 4-grams that may repeat an earlier one."""
    if not text.finished:
        return f"the {what} has no end"
    if not text.text.strip():
        return f"empty {what}"
    # NaN, of fewer than four words, is above nothing.
    return f"the {what} repeats itself" if repeated_4grams(text.text) > repetition else None


def sure(tally: Tally, handle: ModelHandle, rows: Sequence[Example], confidence: float) -> list[Example]:
    """The rows whose answer has a mean probability per token (geometric) of at least `confidence`
    under a model; of a text, all of its tokens."""
    if confidence == 0 or not rows:
        return list(rows)
    model = tally.context.model(handle)
    asked = [row for row in rows if row.kind != "text"]
    texts = [row for row in rows if row.kind == "text"]
    found: dict[str, float] = {}
    if asked:
        options = model.choose([row.prompt for row in asked], [[row.turns[-1].text] for row in asked])
        for row, (score,) in zip(asked, options, strict=True):
            # (prod p_t)^(1 / T) = exp(ln p / T)
            found[row.id] = math.exp(score.log_prob / score.tokens) if score.tokens else 0.0
    if texts:
        for row, (nats, tokens) in zip(texts, model.nats([row.turns[0].text for row in texts]), strict=True):
            found[row.id] = math.exp(-nats / tokens) if tokens else 0.0
    # An answer that cannot be scored has probability NaN, which no comparison lets through.
    kept = [row for row in rows if found[row.id] >= confidence]
    tally.drop("the model is unsure of the answer", len(rows) - len(kept))
    return kept


def with_answer(row: Example, answer: str) -> Example:
    """The row with another last turn."""
    return dataclasses.replace(row, turns=(*row.turns[:-1], dataclasses.replace(row.turns[-1], content=answer)))


def share_out(total: int, parts: int) -> list[int]:
    """`total` in `parts` whole numbers that differ by one at most, larger ones first."""
    return [total // parts + (place < total % parts) for place in range(parts)]
