"""A language model as judge of two answers: AI feedback (arXiv:2212.08073, arXiv:2309.00267).

Both orders of a pair are asked and averaged, so a liking for one place cancels out of the verdict; how
strong it was is kept. With option log-probabilities a verdict is soft: p(A) / (p(A) + p(B)).
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast

from mnemos.core.errors import DataError, UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Decoding, Example, LanguageModel, Prompt, Turn
from mnemos.core.plan import ModelHandle
from mnemos.core.reward import Rewarded, missing

CONSTITUTION = Path(__file__).parents[1] / "recipes" / "constitution.txt"
"""The principles that ship with the package."""

QUESTION = (
    "Here is a conversation and two possible answers to it.\n\n{conversation}\n\n{principle}\n\n"
    "(A) {first}\n\n(B) {second}\n\nReply with (A) or (B) only. The better answer is:"
)
OPTIONS = ("(A)", "(B)")
WRITTEN = Decoding(max_new_tokens=16)
_VERDICT = re.compile(r"\(?\b([AB])\b\)?")

UNPARSED, UNSCORED = "the judge's verdict cannot be read", "longer than the judge reads"


@dataclass(frozen=True)
class Verdict:
    """What a judge thinks of two answers. first: probability that the first one is better, mean over both
    orders; NaN with a reason where it is missing. shown_first, shown_second: the same, asked with that
    answer as (A) and as (B)."""

    first: float
    shown_first: float = math.nan
    shown_second: float = math.nan
    reason: str | None = None


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


def loaded(handle: ModelHandle) -> LanguageModel:
    """One copy of a judge however often it is asked."""
    # By content, too: a handle of the same path whose files changed is loaded anew.
    return _loaded(cast(Hashable, handle), handle.fingerprint)


@lru_cache(maxsize=2)
def _loaded(handle: Hashable, content: str) -> LanguageModel:
    """content: the fingerprint of the handle."""
    return cast(ModelHandle, handle).load()


@dataclass(frozen=True)
class Judge:
    """A judge, as a reward: the probability that an answer is better than the row's gold answer, or
    among several answers that it is better than the others.

    judge: who judges. constitution: its principles; each pair is judged by one, drawn by seed. by:
    log_probs compares the probabilities of "(A)" and "(B)"; text reads the verdict that the judge
    writes (for servers that give no probabilities of options). raw: ask without a chat template; a
    server scores options of raw prompts only. max_unparsed: share of written verdicts that may be
    unreadable. models: where the judge's model comes from.
    """

    judge: ModelHandle
    constitution: tuple[str, ...]
    by: Literal["log_probs", "text"] = "log_probs"
    raw: bool = False
    seed: int = 0
    max_unparsed: float = 0.2
    models: Callable[[ModelHandle], LanguageModel] = field(default=loaded, compare=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """Of the judge, what it is asked and how."""
        settings = [self.judge, self.constitution, self.by, self.raw, self.seed, self.max_unparsed]
        return fingerprint({"is": "Judge", "settings": settings, "question": QUESTION})

    def describe(self) -> str:
        """Who judges."""
        return f"judge {self.judge.path}"

    def asking(self, models: Callable[[ModelHandle], LanguageModel]) -> Judge:
        """See `core.reward.Asking`."""
        return replace(self, models=models)

    def among(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[list[Rewarded]]:
        """See `core.reward.Comparing`; each two different answers are compared once, in both orders, and
        equal ones are worth 1/2 beside each other. An answer is missing where all of its verdicts are.
        Raises DataError like a call."""
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
            found[place, second, first] = replace(verdict, first=1 - verdict.first)
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
        """One probability an answer. Raises DataError, with the rate, where too many verdicts cannot be
        read."""
        verdicts = self.compare(prompts, answers, [row.turns[-1].text for row in examples])
        return [missing(one.reason) if one.reason else Rewarded(one.first) for one in verdicts]

    def compare(self, prompts: Sequence[Prompt], firsts: Sequence[str], seconds: Sequence[str]) -> list[Verdict]:
        """A verdict on each pair of answers. Raises DataError like a call."""
        asked: list[Prompt] = []
        for prompt, first, second in zip(prompts, firsts, seconds, strict=True):
            principle = self._principle(prompt, first, second)
            # Both orders side by side, so that places 2k and 2k + 1 of what comes back belong to one pair.
            asked += [self._asked(prompt, principle, first, second), self._asked(prompt, principle, second, first)]
        if not asked:
            return []
        model = self.models(self.judge)
        found = self._scored(model, asked) if self.by == "log_probs" else self._written(model, asked)
        self._refuse_unread(found)
        return [_verdict(found[at], found[at + 1]) for at in range(0, len(found), 2)]

    def _principle(self, prompt: Prompt, first: str, second: str) -> str:
        """The same one whichever order the two answers come in."""
        # Drawn by content, not by place in the batch: what else is judged beside a pair must not change its verdict.
        pair = sorted((first, second))
        return random.Random(f"{self.seed} {prompt} {pair}").choice(self.constitution)

    def _asked(self, prompt: Prompt, principle: str, first: str, second: str) -> Prompt:
        conversation = "\n\n".join(f"{turn.role}: {turn.in_words()}" for turn in prompt.turns)
        text = QUESTION.format(conversation=conversation, principle=principle, first=first, second=second)
        return Prompt((Turn("prompt" if self.raw else "user", text),))

    def _scored(self, model: LanguageModel, asked: Sequence[Prompt]) -> list[float | str]:
        """p(A), or why there is none, for each question."""
        # A raw prompt ends in "is:", after which a text goes on with a space.
        options = [f" {option}" for option in OPTIONS] if self.raw else list(OPTIONS)
        out: list[float | str] = []
        for a, b in model.choose(asked, [options] * len(asked)):
            # p(A) / (p(A) + p(B)) = 1 / (1 + exp(-(ln p(A) - ln p(B)))). exp overflows beyond 709; -inf on both
            # sides gives NaN, no verdict.
            difference = a.log_prob - b.log_prob
            out.append(UNSCORED if math.isnan(difference) else 1 / (1 + math.exp(min(-difference, 700.0))))
        return out

    def _written(self, model: LanguageModel, asked: Sequence[Prompt]) -> list[float | str]:
        """1 for A, 0 for B, by the only one of both that the judge names."""
        out: list[float | str] = []
        for text in model.generate(asked, WRITTEN):
            # "(A) is better than (B)" names both and says neither to a parser: only one letter, however often, is a
            # verdict.
            named = set(_VERDICT.findall(text.text))
            out.append(float(named == {"A"}) if len(named) == 1 else UNPARSED)
        return out

    def _refuse_unread(self, found: Sequence[float | str]) -> None:
        reasons = Counter(one for one in found if isinstance(one, str))
        # Only what cannot be read counts: a pair that is too long is missing, but says nothing about how the judge
        # writes.
        share = reasons[UNPARSED] / len(found)
        if share > self.max_unparsed:
            raise DataError(
                f"{self.describe()}: {reasons[UNPARSED]:,} of {len(found):,} verdicts ({share:.1%}) cannot be read",
                f"at most {self.max_unparsed:.1%} may be",
                "name a larger judge, or let it be asked by log_probs, which always gives a verdict",
            )


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
