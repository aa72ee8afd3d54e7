"""How far a judge can be trusted: its liking for a place, and how easily it is misled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mnemos.measure.uncertainty import independent, paired, wilson
from mnemos.rewards.judge import Verdict

Preference = Literal["first", "tie", "second"]


@dataclass(frozen=True)
class PositionBias:
    """pairs: verdicts with both orders. lean: mean p(A) - 1/2 over both orders, so +0.5 always takes
    what stands first and -0.5 what stands second; lean_low, lean_high: 95 % interval over pairs.
    consistent: share of pairs where both orders prefer the same answer, or neither, with Wilson's interval."""

    pairs: int
    missing: int
    lean: float
    lean_low: float
    lean_high: float
    consistent: float
    consistent_low: float
    consistent_high: float


def position_bias(verdicts: Sequence[Verdict], clusters: Sequence[str | None] | None = None) -> PositionBias:
    """Measure it over verdicts; all figures are NaN where none is there. clusters: of each verdict's pair; pairs with
    the same name are not independent."""
    names = list(clusters) if clusters is not None else [None] * len(verdicts)
    kept = [(one, name) for one, name in zip(verdicts, names, strict=True) if one.reason is None]
    there, own = [one for one, _ in kept], [name for _, name in kept]
    if not there:
        return PositionBias(0, len(verdicts), *[math.nan] * 6)
    # (A) is the first answer in one order and the second one in the other.
    first_place = [(one.shown_first + 1 - one.shown_second) / 2 for one in there]
    # Beside a judge without a liking for a place, whose p(A) averages 1/2 over both orders.
    found = paired([0.5] * len(there), [first_place], clusters=own)
    low, high = (math.nan if bound is None else bound for bound in (found.low, found.high))
    agree = sum(one.agree for one in there) / len(there)
    bounds = wilson(agree, independent([one.agree for one in there], own))
    mean = sum(first_place) / len(there) - 0.5
    return PositionBias(len(there), len(verdicts) - len(there), mean, low, high, agree, *bounds)


def preference(votes: Sequence[float]) -> Preference:
    """Several votes on one pair: 0 for the first answer, 1/2 a tie, 1 for the second (arXiv:2402.10669)."""
    mean = sum(votes) / len(votes)
    return "first" if mean < 0.5 else "second" if mean > 0.5 else "tie"


def attack_success(
    control: Sequence[Preference], perturbed: Sequence[Preference], *, factual_error: bool
) -> tuple[float, int]:
    """Attack success rate of a perturbation of the second answer, and how many pairs it counts.

    control, perturbed: what was preferred between the plain answers, and with the second one perturbed.
    An embellishment succeeds where it wins: of pairs whose control preferred the first answer or neither,
    the share that now prefers the second. A factual error succeeds where it is not noticed: of pairs whose
    control preferred the second or neither, the share that still does. Lower is better; compare with a
    judge that answers at random (.40 and .60), not with 0. Formulas of arXiv:2402.10669.
    """
    if factual_error:
        eligible, success = {"second", "tie"}, {"second", "tie"}
    else:
        eligible, success = {"first", "tie"}, {"second"}
    after = [new for old, new in zip(control, perturbed, strict=True) if old in eligible]
    return (sum(new in success for new in after) / len(after) if after else math.nan), len(after)
