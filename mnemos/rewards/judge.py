"""A language model as judge of two answers: AI feedback (arXiv:2212.08073, arXiv:2309.00267).

Both orders of a pair are asked and averaged, so a liking for one place cancels out of the verdict; how
strong it was is kept. With option log-probabilities a verdict is soft: p(A) / (p(A) + p(B)), and half of what a
prompt with a tie gives to it. One answer on a scale: `rewards.grader`; several judges: `rewards.panel`.
"""

from __future__ import annotations

import itertools
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from mnemos.core.errors import UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, LanguageModel, Prompt
from mnemos.core.plan import ModelHandle
from mnemos.core.reward import Rewarded, missing
from mnemos.rewards.judge_asking import UNPARSED as UNPARSED
from mnemos.rewards.judge_asking import UNSCORED as UNSCORED
from mnemos.rewards.judge_asking import loaded as loaded
from mnemos.rewards.judge_asking import option_shares, read_pair, refuse_unread, written
from mnemos.rewards.judge_prompt import PAIR, Case, JudgePrompt, PromptSet, load_prompts

CONSTITUTION = Path(__file__).parents[1] / "recipes" / "constitution.txt"
"""The principles that ship with the package."""

Decision = Literal["a", "b", "tie"]
Reply = str | tuple[str, ...]
"""An answer, or one a turn; see `judge_prompt.Case`."""


@dataclass(frozen=True)
class Verdict:
    """What a judge thinks of two answers. first: probability that the first one is better, mean over both
    orders; NaN with a reason where it is missing. shown_first, shown_second: the same, asked with that
    answer as (A) and as (B)."""

    first: float
    shown_first: float = math.nan
    shown_second: float = math.nan
    reason: str | None = None

    @property
    def decision(self) -> Decision:
        """The winner where both orders agree on one, else a tie (arXiv:2306.05685). Trap: of a missing verdict, too."""
        if self.shown_first > 0.5 and self.shown_second > 0.5:
            return "a"
        return "b" if self.shown_first < 0.5 and self.shown_second < 0.5 else "tie"

    @property
    def agree(self) -> bool:
        """Whether both orders say the same: one answer, or a tie. Trap: a tie in one order alone is no agreement."""
        return _side(self.shown_first) == _side(self.shown_second)

    @property
    def turned(self) -> Verdict:
        """The verdict on the same pair with its answers exchanged."""
        return replace(self, first=1 - self.first, shown_first=1 - self.shown_second, shown_second=1 - self.shown_first)


def _side(p: float) -> int:
    return (p > 0.5) - (p < 0.5)


EVEN = Verdict(0.5, 0.5, 0.5)
"""Of two equal answers, without asking."""


def principles(path: str | Path) -> tuple[str, ...]:
    """The principles in a file: one a line; empty lines and lines that begin with # do not count."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"constitution {path}", f"cannot be read ({error})", "name a text file") from None
    found = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not found:
        raise UsageError(f"constitution {path}", "holds no principle", "write one a line")
    return found


@lru_cache(maxsize=1)
def pair_prompts() -> PromptSet:
    """The shipped prompts of a pair."""
    return load_prompts(PAIR)


class Comparer(ABC):
    """What compares two answers, as a reward: the probability that an answer is better than the row's gold answer,
    or among several answers that it is better than the others."""

    @abstractmethod
    def cases(self, cases: Sequence[Case]) -> list[Verdict]:
        """A verdict on each case of two answers. Raises DataError, with the rate, where too many cannot be read."""

    def compare(self, prompts: Sequence[Prompt], firsts: Sequence[str], seconds: Sequence[str]) -> list[Verdict]:
        """A verdict on each pair of answers. Raises DataError like `cases`."""
        return self.cases([Case(p, (a, b)) for p, a, b in zip(prompts, firsts, seconds, strict=True)])

    def among(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[list[Rewarded]]:
        """See `core.reward.Comparing`; each two different answers are compared once, in both orders, and
        equal ones are worth 1/2 beside each other. An answer is missing where all of its verdicts are.
        Raises DataError like `cases`."""
        duels = [
            (place, first, second)
            for place, batch in enumerate(answers)
            # k different answers make k (k - 1) / 2 duels of two questions each; equal ones need none.
            for first, second in itertools.combinations(dict.fromkeys(batch), 2)
        ]
        verdicts = self.compare(
            [prompts[place] for place, _, _ in duels], [a for _, a, _ in duels], [b for *_, b in duels]
        )
        found: dict[tuple[int, str, str], Verdict] = {}
        for (place, first, second), verdict in zip(duels, verdicts, strict=True):
            found[place, first, second] = verdict
            # p(second better) = 1 - p(first better), so that the two values of a duel sum to 1.
            found[place, second, first] = verdict.turned
        return [
            [
                # Beside each other answer of the batch, equal ones included: of k answers, mean_{j != i} p(i better
                # than j).
                _mean([found.get((place, one, other), EVEN) for j, other in enumerate(batch) if j != i])
                for i, one in enumerate(batch)
            ]
            for place, batch in enumerate(answers)
        ]

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[str], examples: Sequence[Example]
    ) -> list[Rewarded]:
        """One probability an answer. Raises DataError like `cases`."""
        verdicts = self.compare(prompts, answers, [row.turns[-1].text for row in examples])
        return [missing(one.reason) if one.reason else Rewarded(one.first) for one in verdicts]


@dataclass(frozen=True)
class Judge(Comparer):
    """One model as judge of pairs.

    judge: who judges. constitution: its principles; each pair is judged by one, drawn by seed. by:
    log_probs compares the probabilities of "(A)" and "(B)"; text reads the verdict that the judge
    writes (for servers that give no probabilities of options). raw: ask without a chat template; a
    server scores options of raw prompts only. max_unparsed: share of written verdicts that may be
    unreadable. prompts: what it is asked; the shipped ones unless given. models: where the judge's model comes from.
    """

    judge: ModelHandle
    constitution: tuple[str, ...]
    by: Literal["log_probs", "text"] = "log_probs"
    raw: bool = False
    seed: int = 0
    max_unparsed: float = 0.2
    prompts: PromptSet = field(default_factory=pair_prompts)
    models: Callable[[ModelHandle], LanguageModel] = field(default=loaded, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.prompts.kind != "pairwise":
            raise UsageError(
                f"prompt of kind {self.prompts.kind}", "shows one answer, and two are judged", "name another"
            )

    @property
    def fingerprint(self) -> str:
        """Of the judge, what it is asked and how."""
        settings = [self.judge, self.constitution, self.by, self.raw, self.seed, self.max_unparsed]
        return fingerprint({"is": "Judge", "settings": settings, "prompts": self.prompts})

    def describe(self) -> str:
        """Who judges."""
        return f"judge {self.judge.path}"

    def asking(self, models: Callable[[ModelHandle], LanguageModel]) -> Judge:
        """See `core.reward.Asking`."""
        return replace(self, models=models)

    def cases(self, cases: Sequence[Case]) -> list[Verdict]:
        """See `Comparer.cases`; both orders of each case are asked."""
        if not cases:
            return []
        # Both orders side by side, so that places 2k and 2k + 1 of what comes back belong to one pair.
        orders = [one for case in cases for one in (case, case.turned)]
        forms = [self.prompts.of(case) for case in orders]
        asked = [
            form.filled(case, raw=self.raw, principle=self._principle(case.prompt, *map(str, case.answers)))
            for form, case in zip(forms, orders, strict=True)
        ]
        model = self.models(self.judge)
        found = self._scored(model, asked, forms) if self.by == "log_probs" else written(model, asked, forms, read_pair)
        refuse_unread(self.describe(), found, self.max_unparsed)
        return [_verdict(found[at], found[at + 1]) for at in range(0, len(found), 2)]

    def _principle(self, prompt: Prompt, first: str, second: str) -> str:
        """The same one whichever order the two answers come in."""
        # Drawn by content, not by place in the batch: what else is judged beside a pair must not change its verdict.
        pair = sorted((first, second))
        return random.Random(f"{self.seed} {prompt} {pair}").choice(self.constitution)

    def _scored(self, model: LanguageModel, asked: Sequence[Prompt], forms: Sequence[JudgePrompt]) -> list[float | str]:
        """p(A), and half of a tie's, or why there is none, for each question."""
        shares = option_shares(model, asked, [form.verdicts.texts for form in forms], raw=self.raw)
        return [one if isinstance(one, str) else one[0] + sum(one[2:]) / 2 for one in shares]


def _verdict(first: float | str, second: float | str) -> Verdict:
    """first, second: p(A) with the first answer as (A), and with the second one as (A)."""
    if isinstance(first, str):
        return Verdict(math.nan, reason=first)
    if isinstance(second, str):
        return Verdict(math.nan, reason=second)
    # A liking for the place (A) adds as much to `first` as to `second`, and cancels in the difference.
    return Verdict((first + 1 - second) / 2, first, 1 - second)


def _mean(verdicts: Sequence[Verdict]) -> Rewarded:
    """Over those that there are; an answer beside which there is no other is worth 1/2."""
    there = [one.first for one in verdicts if one.reason is None]
    if not there:
        return missing(str(verdicts[0].reason)) if verdicts else Rewarded(EVEN.first)
    return Rewarded(math.fsum(there) / len(there))
