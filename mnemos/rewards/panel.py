"""Several judges of different families: the majority's verdict, and how far each carries it (arXiv:2404.18796)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mnemos.core.errors import UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import LanguageModel
from mnemos.core.plan import ModelHandle
from mnemos.rewards.judge import Comparer, Decision, Judge, Verdict
from mnemos.rewards.judge_prompt import Case

TOO_FEW = "fewer than half of the panel gave a verdict"


@dataclass(frozen=True)
class Panel(Comparer):
    """judges: two or more, all different. A pair's winner is whom more of them call the winner in both orders than
    call the other one so or a tie; without such a majority it is a tie."""

    judges: tuple[Judge, ...]

    def __post_init__(self) -> None:
        if len(self.judges) < 2 or len({one.fingerprint for one in self.judges}) < len(self.judges):
            raise UsageError(f"panel of {len(self.judges)} judges", "must be two or more, all different", "name others")

    @property
    def fingerprint(self) -> str:
        """Of all judges."""
        return fingerprint({"is": "Panel", "judges": self.judges})

    def describe(self) -> str:
        """Who judges."""
        return f"panel of {len(self.judges)} judges ({', '.join(one.judge.path for one in self.judges)})"

    def asking(self, models: Callable[[ModelHandle], LanguageModel]) -> Panel:
        """See `core.reward.Asking`."""
        return Panel(tuple(replace(one, models=models) for one in self.judges))

    def cases(self, cases: Sequence[Case]) -> list[Verdict]:
        """The majority's verdict on each case. Raises DataError like `judge.Judge.cases`."""
        return self.joined(self.ballots(cases))

    @staticmethod
    def joined(ballots: Sequence[Sequence[Verdict]]) -> list[Verdict]:
        """The majority's verdict on each case, from each judge's own."""
        return [majority(several) for several in zip(*ballots, strict=True)]

    def ballots(self, cases: Sequence[Case]) -> list[list[Verdict]]:
        """Each judge's own verdicts, in the order of the judges."""
        return [judge.cases(cases) for judge in self.judges]


def majority(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of several; missing where fewer than half are there, with a reason. Its probabilities are the
    decision itself: 1, 0, or 1/2."""
    there = [one.decision for one in verdicts if one.reason is None]
    if 2 * len(there) < len(verdicts):
        return Verdict(math.nan, reason=TOO_FEW)
    value = {"a": 1.0, "b": 0.0, "tie": 0.5}[winner(there)]
    return Verdict(value, value, value)


def winner(decisions: Sequence[Decision]) -> Decision:
    """What is said more often than anything else; a tie where nothing is."""
    ranked = Counter(decisions).most_common(2)
    return ranked[0][0] if len(ranked) == 1 or ranked[0][1] > ranked[1][1] else "tie"


@dataclass
class Member:
    """agree: share of cases on which a judge says what the panel says. without: share of cases whose verdict stays
    when this judge is left out. Both NaN where it gave no verdict."""

    agree: float
    without: float


def members(ballots: Mapping[str, Sequence[Verdict]]) -> dict[str, Member]:
    """How far each judge carries the panel, by its name; over the cases on which all gave a verdict.

    Trap: a judge is part of the panel that it is compared with, so that of two judges each agrees with many ties.
    """
    rows = [several for several in zip(*ballots.values(), strict=True) if all(one.reason is None for one in several)]
    decided = [[one.decision for one in several] for several in rows]
    whole = [winner(one) for one in decided]
    out = {}
    for place, name in enumerate(ballots):
        own = [one[place] == every for one, every in zip(decided, whole, strict=True)]
        rest = [winner([*one[:place], *one[place + 1 :]]) for one in decided]
        stays = [one == every for one, every in zip(rest, whole, strict=True)]
        n = len(rows)
        out[name] = Member(sum(own) / n, sum(stays) / n) if n else Member(math.nan, math.nan)
    return out
