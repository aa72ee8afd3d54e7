"""Blind votes: which item comes next, which answer stands first, and what the votes come to.

Both orders are drawn by the server's seed and by names alone, so a rater cannot choose them, the same server started
again goes on where it was, and raters see a pair in orders of their own.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from mnemos.core.errors import UsageError
from mnemos.measure.agreement import krippendorff_alpha
from mnemos.measure.proportions import wilson
from mnemos.measure.votes import Side, Vote, VoteStore, VoteVerdict, read_table
from mnemos.serve.index import shuffled

FILE = "votes.sqlite"
"""In the served folder, beside the runs: votes cannot be made again."""

MOST_RATER = 80
MOST_RATINGS = 2_000_000
"""Raters times pairs, of which alpha is computed."""

CHOICES = ("first", "second", "tie", "both_bad")


@dataclass(frozen=True)
class Contest:
    """Two models on one suite of a run, in the order of their names."""

    run: str
    suite: str
    model_a: str
    model_b: str

    @classmethod
    def of(cls, run: str, suite: str, one: str, other: str) -> Contest:
        """Whichever way round the two were named."""
        return cls(run, suite, *sorted((one, other)))


def rater_named(text: str) -> str:
    """A rater's name as it is kept. Raises UsageError for none and for one that is too long."""
    name = " ".join(text.split())
    if not name or len(name) > MOST_RATER or not name.isprintable():
        raise UsageError(
            f"rater {name[:100]!r}", f"must be a name of at most {MOST_RATER} letters", "type another name"
        )
    return name


def shown_first(contest: Contest, item: str, rater: str, seed: int) -> Side:
    """Which model's answer stands first: a coin for each item and rater."""
    words = [str(seed), contest.run, contest.suite, contest.model_a, contest.model_b, item, rater]
    digest = hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).digest()
    return "a" if digest[0] & 1 else "b"


def verdict_of(choice: str, first: Side) -> VoteVerdict:
    """A choice by place as a verdict by model. Raises UsageError for a choice that is none."""
    if choice not in CHOICES:
        raise UsageError(f"choice {choice[:50]!r}", f"is none of {', '.join(CHOICES)}", "choose one of the four")
    if choice == "first":
        return first
    if choice == "second":
        return "b" if first == "a" else "a"
    return "tie" if choice == "tie" else "both_bad"


def in_order(items: Iterable[str], seed: int) -> list[str]:
    """The order in which items are voted on."""
    return sorted(items, key=lambda item: (shuffled(seed, item), item))


class Votes:
    """The votes of the served folder."""

    def __init__(self, root: Path) -> None:
        self.path = root / FILE
        self._store: VoteStore | None = None

    def add(self, vote: Vote) -> None:
        """Keep a vote; it is on the disk when this returns. Raises DataError for a rater's second one."""
        if self._store is None:
            # Made with the first vote: a folder that is only looked at stays as it is.
            self._store = VoteStore(self.path)
        self._store.add(vote)

    def of(self, contest: Contest | None = None, **where: str) -> list[Vote]:
        """Votes on two models, or all of them; where: further columns and their values."""
        if not self.path.is_file():
            return []
        if contest is not None:
            where |= {
                "run": contest.run,
                "suite": contest.suite,
                "model_a": contest.model_a,
                "model_b": contest.model_b,
            }
        return read_table(self.path, **where)


@dataclass(frozen=True)
class Tally:
    """What votes on two models come to. votes, items, raters: how many. wins: votes by verdict. share: of items that
    most votes decide, those that model_b wins, with Wilson's 95 % interval; None where no item is decided."""

    contest: Contest
    votes: int
    items: int
    raters: int
    wins: Counter[str]
    decided: int
    share: tuple[float, float, float] | None


@dataclass(frozen=True)
class Agreement:
    """How two raters agree on the items that both voted on. same: equal verdicts. plain: items where both prefer one of
    the two; plain_same: the same one."""

    raters: tuple[str, str]
    items: int
    same: int
    plain: int
    plain_same: int


def tallies(votes: Sequence[Vote]) -> list[Tally]:
    """One for each two models and suite, in the order of names."""
    groups: dict[Contest, list[Vote]] = defaultdict(list)
    for vote in votes:
        groups[Contest(vote.run, vote.suite, vote.model_a, vote.model_b)].append(vote)
    order = sorted(groups, key=lambda one: (one.run, one.suite, one.model_a, one.model_b))
    return [_tally(contest, groups[contest]) for contest in order]


def _tally(contest: Contest, votes: Sequence[Vote]) -> Tally:
    by_item: dict[str, Counter[str]] = defaultdict(Counter)
    for vote in votes:
        by_item[vote.item][vote.verdict] += 1
    # Items are the units, not votes: several raters of one item see the same two answers.
    leads = [counts["b"] - counts["a"] for counts in by_item.values()]
    won, decided = sum(lead > 0 for lead in leads), sum(lead != 0 for lead in leads)
    share = (won / decided, *wilson(won / decided, decided)) if decided else None
    wins: Counter[str] = Counter(vote.verdict for vote in votes)
    return Tally(contest, len(votes), len(by_item), len({vote.rater for vote in votes}), wins, decided, share)


def agreements(votes: Sequence[Vote]) -> list[Agreement]:
    """Every two raters who voted on the same pair at least once, the most common items first."""
    by_rater: dict[str, dict[tuple[str, ...], str]] = defaultdict(dict)
    for vote in votes:
        by_rater[vote.rater][vote.pair] = vote.verdict
    out = []
    for one, other in combinations(sorted(by_rater), 2):
        shared = by_rater[one].keys() & by_rater[other].keys()
        if not shared:
            continue
        pairs = [(by_rater[one][key], by_rater[other][key]) for key in shared]
        plain = [pair for pair in pairs if set(pair) <= {"a", "b"}]
        out.append(
            Agreement(
                (one, other), len(pairs), sum(x == y for x, y in pairs), len(plain), sum(x == y for x, y in plain)
            )
        )
    return sorted(out, key=lambda found: (-found.items, found.raters))


def alpha(votes: Sequence[Vote]) -> float | None:
    """Krippendorff's alpha of all raters over the pairs that they saw, verdicts as names; None without two votes on a
    pair or without variation, and beyond MOST_RATINGS."""
    raters = {name: place for place, name in enumerate(dict.fromkeys(vote.rater for vote in votes))}
    units = {pair: place for place, pair in enumerate(dict.fromkeys(vote.pair for vote in votes))}
    if len(raters) < 2 or len(raters) * len(units) > MOST_RATINGS:
        return None
    ratings: list[list[str | None]] = [[None] * len(units) for _ in raters]
    for vote in votes:
        ratings[raters[vote.rater]][units[vote.pair]] = vote.verdict
    found = krippendorff_alpha(ratings)
    return found if math.isfinite(found) else None
