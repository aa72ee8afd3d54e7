"""How well a model knows a fact, from counts of right answers: SliCK (arXiv:2405.05904), and how sure its classes are.

A fact is asked with several few-shot prompts, once greedily and several times by sampling with each:

    HighlyKnown   every greedy answer is right
    MaybeKnown    some greedy answers are right
    WeaklyKnown   no greedy answer is right, some sampled one is
    Unknown       none is

The classes are borders of two probabilities that are only estimated: with ten prompts the standard error of the first
is up to 0.16. So each class comes with the probability that a second probing of the same size gives it again. It is
that of a beta-binomial: the probability of a right answer has a Beta prior, which is fitted to all facts of the data
(most facts lie at 0 or at 1, where a uniform prior expects hardly any).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

HIGHLY, MAYBE, WEAKLY, UNKNOWN = CLASSES = ("HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown")
"""From the best known to the least."""

UNIFORM = (1.0, 1.0)
"""The Beta prior where there are too few facts to fit one."""
FEWEST = 30
"""Facts below which no prior is fitted."""
BOUNDS = (0.01, 100.0)
"""Of both numbers of a fitted prior: where all counts are equal the likelihood has no maximum."""


@dataclass(frozen=True)
class Known:
    """What was found of one fact. greedy: bool[P], whether the greedy answer to each prompt is right. sampled: (right,
    asked)[P] of the sampled answers to each prompt; asked is 0 where sampling had stopped."""

    greedy: tuple[bool, ...]
    sampled: tuple[tuple[int, int], ...]

    @property
    def name(self) -> str:
        """The class of the whole."""
        return class_of(self.greedy, sum(right for right, _ in self.sampled))

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Greedy answers right and asked, sampled answers right and asked."""
        right, asked = (sum(side) for side in zip(*self.sampled, strict=True))
        return sum(self.greedy), len(self.greedy), right, asked

    @property
    def same_halves(self) -> bool | None:
        """Whether the odd and the even prompts, each for itself, give one class; None with a single prompt."""
        if len(self.greedy) < 2:
            return None
        halves = [(self.greedy[at::2], sum(right for right, _ in self.sampled[at::2])) for at in (0, 1)]
        # Where one half has a right greedy answer and the other has none, they differ whatever was sampled.
        if any(any(greedy) for greedy, _ in halves) and not all(any(greedy) for greedy, _ in halves):
            return False
        return class_of(*halves[0]) == class_of(*halves[1])


def class_of(greedy: Sequence[bool], sampled_right: int) -> str:
    """The class of a fact. greedy: whether each greedy answer is right; sampled_right: how many sampled ones are."""
    if any(greedy):
        return HIGHLY if all(greedy) else MAYBE
    return WEAKLY if sampled_right else UNKNOWN


@dataclass(frozen=True)
class Priors:
    """Beta(a, b) of the probability that a greedy answer is right, and that a sampled one is where no greedy one was.
    fitted: whether each comes from the data, or is uniform."""

    greedy: tuple[float, float]
    sampled: tuple[float, float]
    fitted: tuple[bool, bool]


def priors(facts: Sequence[Known]) -> Priors:
    """Both priors by maximum likelihood over the facts (empirical Bayes); uniform with fewer than `FEWEST`.

    Sampling that stops at the first right answer leaves the likelihood as it is: p^right (1 - p)^wrong.
    """
    counts = [fact.counts for fact in facts]
    greedy = [(right, asked - right) for right, asked, _, _ in counts]
    sampled = [(right, asked - right) for hit, _, right, asked in counts if not hit and asked]
    found = [beta_prior(greedy), beta_prior(sampled)]
    return Priors(found[0] or UNIFORM, found[1] or UNIFORM, (found[0] is not None, found[1] is not None))


def beta_prior(counts: Sequence[tuple[int, int]]) -> tuple[float, float] | None:
    """(a, b) of the Beta under which (right, wrong) counts are likeliest; None with fewer than `FEWEST` of them."""
    if len(counts) < FEWEST:
        return None
    from scipy.optimize import minimize
    from scipy.special import betaln

    right, wrong = np.array(counts, dtype=np.float64).T

    def nats(log_numbers: npt.NDArray[np.float64]) -> float:
        a, b = np.exp(log_numbers)
        # -sum ln [B(a + right, b + wrong) / B(a, b)]; which of the answers were right says nothing about a and b.
        return float(len(right) * betaln(a, b) - betaln(a + right, b + wrong).sum())

    bounds = [tuple(map(math.log, BOUNDS))] * 2
    # The likelihood may have its maximum at a border, where it is flat in one direction: several starts, the best kept.
    starts = [np.log([a, b]) for a, b in ((1.0, 1.0), (0.2, 0.2), (0.2, 2.0), (2.0, 0.2))]
    found = [minimize(nats, start, method="L-BFGS-B", bounds=bounds) for start in starts]
    a, b = np.exp(min(found, key=lambda one: float(one.fun)).x)
    return float(a), float(b)


def again(fact: Known, prior: Priors, samples: int) -> dict[str, float]:
    """Class -> the probability that a second probing gives it: as many prompts, `samples` sampled answers to each.

    The two probabilities are taken to be independent, and answers to one prompt as independent as answers to several:
    samples of one prompt are more alike, so that what is said of WeaklyKnown and Unknown is too sure.
    """
    right, asked, sampled_right, sampled = fact.counts
    a, b = prior.greedy[0] + right, prior.greedy[1] + asked - right
    none, every = _none(a, b, asked), _none(b, a, asked)
    c, d = prior.sampled[0] + sampled_right, prior.sampled[1] + sampled - sampled_right
    unknown = none * _none(c, d, asked * samples)
    maybe = max(0.0, 1 - none - every)
    return dict(zip(CLASSES, (every, maybe, none - unknown, unknown), strict=True))


def _none(a: float, b: float, n: int) -> float:
    """P(no right answer among n) where the probability of one is Beta(a, b): B(a, b + n) / B(a, b)."""
    return math.exp(math.lgamma(b + n) - math.lgamma(b) + math.lgamma(a + b) - math.lgamma(a + b + n))


def fitted_risk(shares: dict[str, float]) -> float:
    """Points of test accuracy by which fitting all rows moves a model, by the paper's linear model: accuracy = 36.9 +
    7.3 known - 8.3 unknown, both as shares of the rows. It was fitted to PaLM 2-M on EntityQuestions alone."""
    unknown = shares.get(UNKNOWN, 0.0)
    return 7.3 * (1 - unknown) - 8.3 * unknown
