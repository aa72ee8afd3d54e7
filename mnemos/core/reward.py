"""Reward: what an answer is worth, as a value of the plan.

A reward is a frozen dataclass, so that it has a fingerprint; a model that it needs is held as a
handle and loaded at the first call. Verifiers are in `rewards.verified`, reward models in
`rewards.reward_model`, judges in `rewards.judge`; `rewards.by_name.make` builds any of them from settings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example, LanguageModel, Prompt


@dataclass(frozen=True, slots=True)
class Rewarded:
    """The reward of one answer. value: NaN when missing, and then `reason` says why; never 0 for it. note: why a value
    that is there is what it is, where a verifier can say."""

    value: float
    reason: str | None = None
    note: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if math.isnan(self.value) != (self.reason is not None):
            raise ValueError("a missing reward needs a reason, a present one none")


def missing(reason: str) -> Rewarded:
    """No reward, because of `reason` (a few words without names of rows, so that equal ones add up)."""
    return Rewarded(math.nan, reason)


@runtime_checkable
class Reward(Protocol):
    """Says what answers are worth. Calls are batched, keep the order, and do not depend on batching."""

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change when its values could; loads nothing."""
        ...

    def describe(self) -> str:
        """One line for people."""
        ...

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[str], examples: Sequence[Example]
    ) -> Sequence[Rewarded]:
        """One reward an answer. prompts[i] is what answers[i] replies to; examples[i] is the row that it
        came from (gold answer, further columns). Nothing is raised for a single bad answer."""
        ...


@runtime_checkable
class Comparing(Protocol):
    """A reward that can also compare several answers to one prompt with each other."""

    def among(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[list[Rewarded]]:
        """For each prompt, each of its answers' mean probability of being better than its others."""
        ...


@runtime_checkable
class Asking(Protocol):
    """A reward that asks a language model."""

    def asking(self, models: Callable[[Any], LanguageModel]) -> Reward:
        """The same reward, of equal fingerprint, that gets the model of a handle from `models`, so that
        one copy serves all and its answers are kept where other answers are."""
        ...


@dataclass(frozen=True)
class RewardFacts:
    """What a batch of rewards looks like.

    number: rewards, missing ones included. mean, spread: of those present; spread is the population
    standard deviation; NaN where none is present. missing: count by reason. groups: of answers to one
    prompt. flat: groups without two different rewards, which teach nothing to methods that compare
    answers.
    """

    number: int
    mean: float
    spread: float
    missing: Mapping[str, int]
    groups: int
    flat: int

    @property
    def missing_share(self) -> float:
        """Share of rewards that are missing; 0 of none."""
        return sum(self.missing.values()) / self.number if self.number else 0.0


def facts(rewards: Sequence[Rewarded], group: int) -> RewardFacts:
    """Count what is there. group: answers to one prompt, which stand side by side."""
    if group < 1 or len(rewards) % group:
        raise ValueError(f"{len(rewards)} rewards in groups of {group}")
    batches = [rewards[at : at + group] for at in range(0, len(rewards), group)]
    there = [one.value for one in rewards if one.reason is None]
    mean = math.fsum(there) / len(there) if there else math.nan
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in there) / len(there)) if there else math.nan
    reasons = Counter(one.reason for one in rewards if one.reason is not None)
    flat = sum(len({one.value for one in batch if one.reason is None}) < 2 for batch in batches)
    return RewardFacts(len(rewards), mean, spread, dict(reasons), len(batches), flat)


def refuse_useless(found: RewardFacts, reward: Reward, *, max_missing: float) -> None:
    """Raise DataError where too many rewards are missing, or all those present are equal.

    max_missing: share in [0, 1] that may be missing. A reward that gives every answer the same has no
    gradient: training on it would move the weights by noise alone.
    """
    text = ", ".join(f"{reason}: {number:,}" for reason, number in sorted(found.missing.items()))
    if found.missing_share > max_missing or (found.number and math.isnan(found.mean)):
        raise DataError(
            f"reward {reward.describe()}: {found.missing_share:.1%} of {found.number:,} are missing ({text})",
            f"at most {max_missing:.1%} may be",
            "look at the answers under the reasons, or raise the limit",
        )
    if found.groups and found.flat == found.groups and not found.spread > 0:
        raise DataError(
            f"reward {reward.describe()}: {found.mean:g} for each of {found.number:,} answers",
            "a constant reward has no gradient",
            "sample at a higher temperature, give easier prompts, or another reward",
        )
