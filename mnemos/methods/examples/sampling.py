"""Settings that methods share whose rows a model writes: which rows, how texts are sampled, what is kept of them."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from mnemos.core.nouns import Decoding, Source
from mnemos.core.plan import Plan
from mnemos.core.settings import Seed
from mnemos.sources.mix import Joined
from mnemos.synthesis.self_generated import Check

Share = Annotated[float, Field(ge=0, le=1)]
Seeds = Literal["learn", "leave_out"]
"""Whether the rows that a model goes on from are learned beside what it makes of them."""
TopP = Annotated[float, Field(gt=0, le=1)]


class AnswerSettings(BaseModel):
    """Of methods that have the new rows answered anew.

    share: of the new rows that are asked about, drawn by seed; 0 is plain fine-tuning.
    max_new_tokens: longest text that is written, in tokens.
    min_acceptance: share of the rows asked about that must give something to learn, else the study stops with
    the counts by reason.
    seed: added to the arm's seed where rows are drawn and texts are sampled.
    """

    share: Share = 1.0
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    min_acceptance: Share = 0.05
    seed: Seed = 0

    def decoding(self, plan: Plan, temperature: float = 0.0, top_p: float = 1.0) -> Decoding:
        """How texts are written. Greedy answers to every row need no seed: arms of all seeds then share them."""
        drawn = temperature > 0 or self.share < 1
        return Decoding(self.max_new_tokens, temperature, top_p, seed=plan.seed + self.seed if drawn else 0)


class CheckSettings(BaseModel):
    """Of methods whose texts must pass a verifier.

    min_score: what the verifier must give at least; below 1 for the graded ones.
    reference: column of the data that holds what the verifier compares with; the gold answer unless
    given.
    """

    min_score: Share = 1.0
    reference: str | None = None

    def by(self, verifier: str, **more: Any) -> Check:
        """The check by a verifier of that name. more: further fields of it."""
        return Check(verifier, self.min_score, self.reference, **more)


class TextSampling(BaseModel):
    """How one text is drawn.

    temperature: of sampling; 0 is greedy.
    top_p: nucleus of sampling.
    """

    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: TopP = 1.0


class Sampling(BaseModel):
    """How several texts are drawn where one would be, which at temperature 0 are the same.

    temperature: of sampling, above 0.
    top_p: nucleus of sampling: the smallest set of likeliest tokens with this probability is drawn from.
    """

    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_p: TopP = 1.0


class BudgetSettings(BaseModel):
    """Of methods that fill a budget of rows with what a model makes up.

    oversample: samples drawn per row wanted, so that the budget is full after filtering.
    min_usable: refuse when less than this share of the budget is usable.
    seed: added to the arm's seed where samples, and what they are drawn from, are drawn.
    """

    oversample: Annotated[float, Field(ge=1, le=1000)] = 1.0
    min_usable: Share = 0.5
    seed: Seed = 0


def learned_with(plan: Plan, made: Source, seeds: Seeds) -> Plan:
    """The plan whose rows are what a model makes of them, beside them or in their place."""
    return dataclasses.replace(plan, examples=Joined((plan.examples, made)) if seeds == "learn" else made)
