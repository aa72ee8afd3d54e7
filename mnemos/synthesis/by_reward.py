"""New rows chosen by a reward: of several answers of the model's own the best one, or the best and the
worst one as a pair."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mnemos.core.nouns import Example, Generation
from mnemos.core.reward import Asking, Comparing, Reward, Rewarded, facts, missing, refuse_useless
from mnemos.sources.generated import SynthesisContext
from mnemos.synthesis.self_generated import Replacement, SelfGenerated, answered, drawn, most

EQUAL = 1e-9
"""Rewards that differ by no more are the same: what is left of rounding, where a judge takes the first
place in both orders."""


@dataclass(frozen=True)
class Rated(SelfGenerated):
    """What both rules share. num_generations: answers to each question. reward: what they are worth.
    max_missing: share of rewards that may be missing, else writing stops."""

    num_generations: int = field(kw_only=True)
    reward: Reward = field(kw_only=True)
    max_missing: float = field(kw_only=True)

    def rated(self, context: SynthesisContext, rows: Sequence[Example]) -> tuple[list[Generation], list[Rewarded]]:
        """`num_generations` answers to each row, side by side, and what each is worth; missing, with its fault,
        for an answer that is not to be learned. Raises DataError for a reward that is missing too
        often, or the same for all."""
        answers, faults = drawn(self, context, rows, self.num_generations)
        asked = [i for i, fault in enumerate(faults) if fault is None]
        reward = self.reward.asking(context.model) if isinstance(self.reward, Asking) else self.reward
        found = self.values(reward, rows, asked, [answers[i].text.strip() for i in asked])
        # Samples with a fault are never shown to the reward: they keep their place, so that sample i is of question
        # i // num_generations.
        rewards: list[Rewarded] = [missing(fault or "no answer") for fault in faults]
        for i, one in zip(asked, found, strict=True):
            rewards[i] = one
            if one.reason is not None:
                context.count(f"reward missing: {one.reason}")
        if asked:
            # Before a row is made of them: a reward that is missing too often, or the same for all, chooses nothing.
            refuse_useless(facts(found, 1), self.reward, max_missing=self.max_missing)
        text = facts(rewards, self.num_generations)
        context.note("reward of samples", text.mean)
        context.note("questions whose samples are worth the same", text.flat / text.groups if text.groups else math.nan)
        return answers, rewards

    def values(
        self, reward: Reward, rows: Sequence[Example], asked: Sequence[int], texts: Sequence[str]
    ) -> list[Rewarded]:
        """One reward for each of `texts`; asked[k], which grows, says which sample texts[k] is."""
        owners = [rows[i // self.num_generations] for i in asked]
        return list(reward([row.prompt for row in owners], texts, owners))

    def groups(self, rewards: Sequence[Rewarded]) -> list[list[int]]:
        """For each question, which of its samples have a reward."""
        starts = range(0, len(rewards), self.num_generations)
        return [[i for i in range(at, at + self.num_generations) if rewards[i].reason is None] for at in starts]


@dataclass(frozen=True)
class BestSamples(Rated):
    """Of several sampled answers, the one with the highest reward. least: the reward that it must have."""

    least: float | None = field(kw_only=True)

    @property
    def rule(self) -> str:
        """In words."""
        return f"with the best of {self.num_generations} own answers by {self.reward.describe()}"

    def replacements(self, context: SynthesisContext, rows: Sequence[Example]) -> list[Replacement]:
        """The best sample; the first of equals. Raises DataError as `rated` does."""
        answers, rewards = self.rated(context, rows)
        out: list[Replacement] = []
        values = []
        for place, batch in enumerate(self.groups(rewards)):
            # -i: of equals the first
            best = max(batch, key=lambda i: (rewards[i].value, -i), default=None)
            if best is None:
                out.append((None, f"no sample with a reward, mostly {_fault(rewards, place, self.num_generations)}"))
            elif self.least is not None and rewards[best].value < self.least:
                out.append((None, f"no sample with a reward of {self.least:g}"))
            else:
                out.append((answered(rows[place], answers[best].text), "best sample"))
                values.append(rewards[best].value)
        context.note("reward of best samples", _mean(values))
        return out


@dataclass(frozen=True)
class JudgedPairs(Rated):
    """Of several sampled answers, the best one as chosen and the worst one as rejected. min_gap: by how
    much their rewards must differ at least; they always differ.

    A reward that can compare answers compares a question's samples with each other; any other one says
    what each is worth alone.
    """

    min_gap: float = field(kw_only=True)

    wanted = "pairs of own answers"
    cure = (
        "samples that are all worth the same, or that have no reward, make no pair. Sample more answers, at a higher "
        "temperature, to questions that the model sometimes answers better; or name another reward"
    )

    @property
    def rule(self) -> str:
        """In words."""
        return f"as pairs, the best and the worst of {self.num_generations} own answers by {self.reward.describe()}"

    def replacements(self, context: SynthesisContext, rows: Sequence[Example]) -> list[Replacement]:
        """A pair with both rewards in its columns `reward_chosen` and `reward_rejected`; of equals the
        first is the best and the last the worst. Raises DataError as `rated` does."""
        answers, rewards = self.rated(context, rows)
        out: list[Replacement] = []
        gaps = []
        for place, batch in enumerate(self.groups(rewards)):
            if len(batch) < 2:
                out.append(
                    (
                        None,
                        f"fewer than two samples with a reward, mostly {_fault(rewards, place, self.num_generations)}",
                    )
                )
                continue
            best = max(batch, key=lambda i: (rewards[i].value, -i))
            # Also by -i: of equals the last, so that the two differ wherever there are two.
            worst = min(batch, key=lambda i: (rewards[i].value, -i))
            gap = rewards[best].value - rewards[worst].value
            # Below rounding the order of the two is chance, and a pair would teach it.
            if gap <= EQUAL:
                out.append((None, "samples that are worth the same"))
            elif gap < self.min_gap:
                out.append((None, f"rewards that differ by less than {self.min_gap:g}"))
            else:
                texts = answers[best].text, answers[worst].text
                out.append((paired(rows[place], *texts, rewards[best].value, rewards[worst].value), "pair"))
                gaps.append(gap)
        context.note("difference of rewards in a pair", _mean(gaps))
        return out

    def values(
        self, reward: Reward, rows: Sequence[Example], asked: Sequence[int], texts: Sequence[str]
    ) -> list[Rewarded]:
        """As in `Rated`, but of samples beside each other where the reward compares them."""
        if not isinstance(reward, Comparing):
            return super().values(reward, rows, asked, texts)
        batches: list[list[str]] = [[] for _ in rows]
        for i, text in zip(asked, texts, strict=True):
            # `asked` grows, so the samples of each question stand together and in order: joining the batches gives
            # the order of `texts` back.
            batches[i // self.num_generations].append(text)
        return [one for batch in reward.among([row.prompt for row in rows], batches) for one in batch]


def paired(row: Example, chosen: str, rejected: str, high: float, low: float) -> Example:
    """The row as a preference between two answers, which are worth `high` and `low`."""
    best, worst = answered(row, chosen), answered(row, rejected)
    meta = {**row.meta, "reward_chosen": high, "reward_rejected": low}
    return dataclasses.replace(best, kind="preference", rejected=worst.turns[-1:], meta=meta)


def _fault(rewards: Sequence[Rewarded], place: int, num_generations: int) -> str:
    """Why most of a question's samples have no reward."""
    return most(
        str(one.reason)
        for one in rewards[place * num_generations : (place + 1) * num_generations]
        if one.reason is not None
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
