"""What is read: rows chosen by what the model before knows."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mnemos.core.method import method
from mnemos.core.plan import Plan
from mnemos.core.settings import Seed
from mnemos.synthesis.aligning import Aligned, Labels
from mnemos.synthesis.classified import Classified, OfClasses
from mnemos.synthesis.knowledge import Asking
from mnemos.synthesis.slick import CLASSES

Class = Literal["HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown"]
Share = Annotated[float, Field(ge=0, lt=1)]


class AskingSettings(BaseModel):
    """Of methods that ask the model before what it knows.

    num_prompts: few-shot prompts to each question; 0 asks nothing and is plain fine-tuning.
    num_shots: examples in each prompt: other rows of the same relation, with their gold answers.
    max_new_tokens: longest answer, in tokens.
    verifier: when an answer is right: normalised, exact or number.
    relation: column with the kind of fact (capital of, born in …), within which examples are drawn; without it all
    rows are one kind.
    aliases: column with further right answers, a text or a list.
    raw: ask as "Question: … Answer:", without a chat template; rows of prompt and completion are always asked as they
    are written.
    seed: of examples and samples, the same for all seeds of a study, so that classes are asked for once; added to
    the arm's seed where rows are drawn.
    """

    num_prompts: Annotated[int, Field(ge=0, le=1000)] = 10
    num_shots: Annotated[int, Field(ge=0, le=100)] = 4
    max_new_tokens: Annotated[int, Field(ge=1, le=100_000)] = 32
    verifier: Literal["normalised", "exact", "number"] = "normalised"
    relation: str = "relation"
    aliases: str = "aliases"
    raw: bool = False
    seed: Seed = 0

    def asking(self, samples: int = 0, temperature: float = 0.0, top_k: int = 0, early_stop: bool = True) -> Asking:
        """How the facts are asked. samples, temperature, top_k: of answers beside the greedy ones."""
        return Asking(
            self.num_prompts, self.num_shots, samples, temperature, top_k, self.max_new_tokens, self.verifier,
            self.relation, self.aliases, self.raw, early_stop, self.seed,
        )  # fmt: skip


class SamplingSettings(BaseModel):
    """Of methods that also sample answers.

    num_generations: answers sampled with each prompt where no greedy one is right.
    temperature: of sampling, above 0.
    top_k: most likely tokens that are sampled from; 0 takes all.
    early_stop: stop sampling in each half of the prompts once a sample is right; false samples them all.
    """

    num_generations: Annotated[int, Field(ge=1, le=1024)] = 16
    temperature: Annotated[float, Field(gt=0)] = 0.5
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] = 40
    early_stop: bool = True

    def of(self, asked: AskingSettings) -> Asking:
        """How the facts are asked, samples included."""
        return asked.asking(self.num_generations, self.temperature, self.top_k, self.early_stop)


FIVE_SHOTS = AskingSettings(num_shots=5)
"""How arXiv:2402.18243 asks."""


@method(paper="arXiv:2405.05904", changes={"examples"}, off={"num_prompts": 0})
def slick(
    plan: Plan,
    asked: AskingSettings,
    sampling: SamplingSettings,
    *,
    keep: Annotated[tuple[Class, ...], Field(min_length=1)] = ("MaybeKnown",),
    rows: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None,
    unknown_answer: str | None = None,
) -> Plan:
    """Learn only the facts that the model before knows this well: highly, maybe, weakly, or not at all (SliCK).

    keep: classes whose rows are learned: HighlyKnown (every greedy answer is right), MaybeKnown (some are),
    WeaklyKnown (none is, a sampled one is) and Unknown. All four are the data's natural mixture.
    rows: how many of them, drawn by seed; all unless given. Arms can be compared only at equal size.
    unknown_answer: what takes the place of the gold answer of Unknown rows, such as "I don't know."; the gold
    answer stays unless given.

    Arms with the same settings but keep, rows and unknown_answer ask once. Rows that cannot be asked about (no
    question, no answer, too few of their relation, longer than the context) are counted and not learned; rows
    that are not new stay.

    Trap: on rows as they are, Unknown facts are learned last, and harm as they are: stop early, or
    measure at equal steps and at convergence.

    Trap: with ten prompts the classes are estimates. `mnemos know` says how many would change.

    Deviations from the paper: 1. examples are rows of the data themselves. 2. sampling stops early, which
    changes no class. 3. rows that ask the same have one class, and any of their answers is right.
    """
    if asked.num_prompts == 0:
        return plan
    known = Classified(plan.examples, plan.before, sampling.of(asked))
    # In the order of the classes: the same choice has one fingerprint.
    chosen = tuple(name for name in CLASSES if name in keep)
    return dataclasses.replace(plan, examples=OfClasses(known, chosen, rows, plan.seed + asked.seed, unknown_answer))


@method(paper="arXiv:2402.18243", changes={"examples"}, off={"num_prompts": 0})
def self_aligning(
    plan: Plan,
    asked: AskingSettings = FIVE_SHOTS,
    *,
    labels: Labels = "har",
    min_confidence: Share = 0.5,
    rows: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None,
) -> Plan:
    """Learn what agrees with the model before, or contradicts it: its own right answers, gold where it is wrong, or its
    own wrong ones (HAR, INC, SELF).

    labels: har (questions that the model answers right, with its own answers), inc (those that it answers wrong, with
    the gold ones) or self (the same questions, with its own wrong answers).
    min_confidence: share of the prompts, in [0, 1), above which the answer that most of them give is the model's own;
    questions without one are left out.
    rows: how many of them, drawn by seed; all unless given. inc and self of one seed draw the same questions. Arms can
    be compared only at equal size.

    The three arms ask once. Rows that cannot be asked about are counted and not learned; rows that are not new stay.

    Trap: the model's own answers are likely to it from the start, so equal steps are not equal learning. Read the
    training loss and a suite of kind kl beside accuracy.

    Trap: self teaches falsehoods, to show what consistency alone does. It is a control, not a remedy.

    Deviations from the paper: 1. questions are asked freely, not as multiple choice, and confidence is agreement
    between prompts, not the probability of an option. 2. mixing with other instructions is left to the arm
    (`replay`).
    """
    if asked.num_prompts == 0:
        return plan
    known = Classified(plan.examples, plan.before, asked.asking())
    aligned = Aligned(known, labels, min_confidence, rows, plan.seed + asked.seed)
    return dataclasses.replace(plan, examples=aligned)
