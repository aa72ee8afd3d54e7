"""How much each token counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.method import method
from mnemos.core.nouns import Tokens
from mnemos.core.plan import ModelHandle, Plan
from mnemos.core.settings import Seed


@dataclass(frozen=True)
class PromptWeight:
    """Multiplies the weight of every token that the model would not write itself."""

    by_role: ClassVar[bool] = True

    prompt_weight: float

    def __call__(self, rows: Sequence[Tokens], before: ModelHandle) -> list[Tokens]:
        """Row by row: weight[t] where output[t], prompt_weight * weight[t] elsewhere."""
        factor = np.float32(self.prompt_weight)
        return [
            dataclasses.replace(row, weight=np.where(row.output, row.weight, factor * row.weight).astype(np.float32))
            for row in rows
        ]


@dataclass(frozen=True)
class RoleWeights:
    """Multiplies the weight of every token, by whether the model would write it itself. `PromptWeight` stands for an
    answer_weight of 1, so that plans keep the fingerprints that they had."""

    by_role: ClassVar[bool] = True

    prompt_weight: float
    answer_weight: float

    def __call__(self, rows: Sequence[Tokens], before: ModelHandle) -> list[Tokens]:
        """Row by row: answer_weight * weight[t] where output[t], prompt_weight * weight[t] elsewhere."""
        prompt, answer = np.float32(self.prompt_weight), np.float32(self.answer_weight)
        return [
            dataclasses.replace(row, weight=(np.where(row.output, answer, prompt) * row.weight).astype(np.float32))
            for row in rows
        ]


@method(paper="arXiv:2401.13586", changes={"weigh"}, off={"prompt_weight": 1.0, "answer_weight": 1.0})
def output_only(
    plan: Plan,
    *,
    prompt_weight: Annotated[float, Field(ge=0, le=1)] = 0.0,
    answer_weight: Annotated[float, Field(ge=0, le=1)] = 1.0,
) -> Plan:
    """Learn only the tokens that the model would write itself when it is used.

    prompt_weight: how much each prompt token (system and user turns, tool results, the turns'
    markers) counts, in [0, 1]; 0 masks prompts, 1 learns them as fully as
    answers. The paper finds 0.01 to 0.1 of use where answers are shorter than prompts, and no
    effect elsewhere; learning prompts fully is instruction modelling (arXiv:2405.14394).
    answer_weight: how much each answer token counts, in [0, 1]; 0 learns prompts alone. Weighted
    instruction tuning (arXiv:2507.07817) sweeps both, and finds a low to moderate prompt weight beside
    a moderate to high answer weight better than answers alone.

    The mask comes from how the conversation was rendered, never from searching the text, and
    the end-of-turn token belongs to the output. Documents (kind text) are all output, so prompt_weight
    changes nothing for them.

    Deviations from the papers: 1. the loss is normalised by the sum of weights of a whole step
    (`core.plan.Likelihood`), so prompts take part of the answers' share instead of adding to it. 2. for
    the same reason only the ratio of the two weights says anything: 0.2 beside 0.4 is 0.5 beside 1. What
    a smaller answer weight does by itself in arXiv:2507.07817, a lower learning rate does here.

    Trap: the method holds once. Applied again, the later weights take the place of the
    earlier ones instead of multiplying with them (and 1.0 for both, being off, leaves the earlier ones).

    Raises UsageError where both weights are 0.
    """
    if prompt_weight == answer_weight == 0:
        raise UsageError("output_only.prompt_weight = 0 and answer_weight = 0", "learn nothing", "raise one of them")
    if prompt_weight == answer_weight == 1:
        return plan
    weighting = PromptWeight(prompt_weight) if answer_weight == 1 else RoleWeights(prompt_weight, answer_weight)
    ours = PromptWeight | RoleWeights
    if any(isinstance(step, ours) for step in plan.weigh):
        weigh = tuple(weighting if isinstance(step, ours) else step for step in plan.weigh)
    else:
        weigh = (*plan.weigh, weighting)
    return dataclasses.replace(plan, weigh=weigh)


@dataclass(frozen=True)
class TokenMask:
    """Takes the weight of some supervised tokens: `masked_share` of them, or as many as have a
    perplexity above `threshold` (the other is None)."""

    masked_share: float | None
    threshold: float | None
    select: Literal["highest", "random", "lowest"]
    seed: int

    def __call__(self, rows: Sequence[Tokens], before: ModelHandle) -> list[Tokens]:
        """The rows with weight 0 on the tokens chosen; the number chosen is the same for each `select`."""
        # The first token of a row is predicted by nothing: it neither counts nor can be masked.
        supervised = [np.flatnonzero(row.weight[1:]) + 1 for row in rows]
        total = sum(map(len, supervised))
        nats = np.zeros(total)
        # Only a random choice by share can do without asking the model.
        if self.threshold is not None or self.select != "random":
            nats = _nats(rows, supervised, before)
        if self.threshold is None:
            count = round((self.masked_share or 0.0) * total)
        else:
            # 1 / p above the threshold is -ln p above its logarithm. Controls take this number and other tokens.
            count = int((nats > np.log(self.threshold)).sum())
        # bool over all supervised tokens, row after row; cut back into rows below.
        masked = np.zeros(total, bool)
        masked[self._order(nats)[:count]] = True
        out = []
        for row, places, mask in zip(
            rows, supervised, np.split(masked, np.cumsum([len(p) for p in supervised])[:-1]), strict=True
        ):
            weight = row.weight.copy()
            weight[places[mask]] = 0
            out.append(dataclasses.replace(row, weight=weight))
        return out

    def _order(self, nats: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Places of the supervised tokens, the first to be masked first; equal ones as they stand."""
        if self.select == "random":
            return np.random.default_rng(self.seed).permutation(len(nats))
        return np.argsort(-nats if self.select == "highest" else nats, kind="stable")


def _nats(
    rows: Sequence[Tokens], supervised: Sequence[npt.NDArray[np.int64]], before: ModelHandle
) -> npt.NDArray[np.float64]:
    """float64: -ln p under the model before of each supervised token, row after row."""
    model = before.load()
    ask = getattr(model, "token_nats", None)
    if ask is None:
        raise ModelError(f"{before.path}", "tells no probabilities of given tokens", "name a model that runs here")
    nats = ask([row.ids.tolist() for row in rows])
    # given[t - 1] is that of token t: the model tells none of the first.
    return np.array([given[place - 1] for given, places in zip(nats, supervised, strict=True) for place in places])


@method(paper="arXiv:2501.14315", changes={"weigh"}, off={"masked_share": 0.0})
def token_mask(
    plan: Plan,
    *,
    masked_share: Annotated[float, Field(ge=0, lt=1)] = 0.22,
    threshold: Annotated[float, Field(ge=1)] | None = None,
    select: Literal["highest", "random", "lowest"] = "highest",
    seed: Seed = 0,
) -> Plan:
    """Do not learn from the gold tokens that the model before training finds least likely (STM).

    masked_share: share of all supervised tokens of the data that is masked, in [0, 1); 0 turns the
    method off, whatever else is set.
    threshold: perplexity (1 / p) of a token under the model before above which it is masked; takes
    the place of masked_share. The paper's 2.5 masks 20 to 24 % for Llama 3 and Gemma 2.
    select: which tokens are masked: highest perplexity, or for controls as many tokens drawn at
    random, or those of the lowest perplexity.
    seed: added to the arm's seed where tokens are drawn at random.

    Only tokens that carry weight count; put it behind `output_only` in the arm. The model before
    reads all rows once, as training begins; steps cost nothing more.

    Trap: a threshold does not transfer between model families (Qwen 2.5 needs 1.0125 to 1.025 for
    the same share). How many tokens were masked is in the counts of the training.

    Trap: what is really new is unlikely too. Where the point is to teach knowledge that the model
    lacks, the method hurts what is learned.

    Deviations from the paper: 1. the threshold is chosen by share unless given, over the whole set.
    2. an answer's first token is treated like the others; the authors' code always masks it. 3.
    rehearsed rows take part, and so do end-of-turn tokens.
    """
    if masked_share == 0:
        return plan
    share = masked_share if threshold is None else None
    # A seed that changes nothing must not change the fingerprint.
    drawn = plan.seed + seed if select == "random" else 0
    return dataclasses.replace(plan, weigh=(*plan.weigh, TokenMask(share, threshold, select, drawn)))
