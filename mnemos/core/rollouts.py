"""Answers that the model in training draws itself, and what is known of them when they are learned from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from mnemos.core.reward import Reward

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RolloutBatch:
    """All answers of one batch of rollouts, over all processes. A answers, answer i of L_i tokens, its stop token
    included.

    rewards: float64[A], NaN where missing. groups: int64[A], answers to the same prompt share a number.
    now, before: ln p of each drawn token under the model that drew it and under the model before the
    stage, float64[L_i] an answer, at the temperature of drawing; values: the value head's; each empty
    unless the credit asks for it. past: mean and number of the rewards of earlier batches.
    """

    rewards: Floats
    groups: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    now: Sequence[Floats] = ()
    before: Sequence[Floats] = ()
    values: Sequence[Floats] = ()
    past: tuple[float, int] = (0.0, 0)


@dataclass(frozen=True)
class Advantages:
    """advantages: float64[L_i] an answer. returns: float64[L_i], what the values should have been;
    empty without a value head."""

    advantages: Sequence[Floats]
    returns: Sequence[Floats] = ()


@runtime_checkable
class AdvantageEstimator(Protocol):
    """Says how much better than expected each token was. Pure.

    asks: what it needs beside rewards: "before" for log-probabilities, "values" for a value head.
    """

    @property
    def asks(self) -> frozenset[str]:
        """A subset of {"before", "values"}."""
        ...

    def __call__(self, batch: RolloutBatch) -> Advantages:
        """Finite numbers; 0 for an answer whose reward is missing."""
        ...


@dataclass(frozen=True)
class Rollouts:
    """Answers are the model's own, drawn at the beginning of every `num_iterations` optimiser steps; rehearsed
    rows beside them are learned as they stand.

    max_new_tokens, temperature: of drawing. num_generations: answers a prompt. num_iterations: optimiser steps that
    learn from one batch. reward, credit: what answers are worth and what follows for their tokens; None
    where a term has another source (a teacher). per: whether every drawn token or every answer counts
    alike in the loss. keeps_before: a term asks for the model before's log-probabilities of drawn tokens.
    patience: batches without any difference in reward at the beginning after which training stops.
    max_missing: largest share of missing rewards.
    """

    max_new_tokens: int
    temperature: float
    num_generations: int = 1
    num_iterations: int = 1
    reward: Reward | None = None
    credit: Any = None
    per: Literal["token", "answer"] = "token"
    keeps_before: bool = False
    patience: int = 20
    max_missing: float = 0.5

    @property
    def asks(self) -> frozenset[str]:
        """What must be computed beside rewards when answers have been drawn."""
        credit = self.credit.asks if self.credit is not None else frozenset()
        return credit | ({"before"} if self.keeps_before else frozenset())


@dataclass
class RolloutView:
    """What a term sees of drawn tokens in a micro-batch; N as in `core.plan.StepView`.

    drawn: bool[N], False on rehearsed rows. answer: int64[N], which of the micro-batch's `answers` rows
    a token belongs to. advantage, old, before, returns, values: float[N], 0 where not drawn; old is ln p when
    drawn, or None where the answers are as new as the weights (it is then ln p itself, without gradient);
    before, returns and values are None unless asked for. value(): float[N] of the value head, with gradient.
    """

    temperature: float
    drawn: torch.Tensor
    answer: torch.Tensor
    answers: int
    advantage: torch.Tensor
    old: torch.Tensor | None
    before: torch.Tensor | None
    returns: torch.Tensor | None
    values: torch.Tensor | None
    value: Callable[[], torch.Tensor]

    def at(self, rows: Any) -> RolloutView:
        """The same at some positions (a slice or int64[n]); `answers` stays the number of the micro-batch."""

        def some(column: torch.Tensor | None) -> torch.Tensor | None:
            return column[rows] if column is not None else None

        return dataclasses.replace(
            self,
            drawn=self.drawn[rows],
            answer=self.answer[rows],
            advantage=self.advantage[rows],
            old=some(self.old),
            before=some(self.before),
            returns=some(self.returns),
            values=some(self.values),
            value=lambda: self.value()[rows],
        )
