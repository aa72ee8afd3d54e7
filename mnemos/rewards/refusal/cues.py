"""A wording of refusals or of answers: what it speaks for, how strongly, and where it counts.

Written from general knowledge of how chat models decline. A cue that was added after reading the answers of one
model names it (`seen`), so that a benchmark can leave out whatever was learned from the model that it tests on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Where = Literal["start", "opening", "anywhere"]


@dataclass(frozen=True)
class Cue:
    """One wording. weight: above 0 it speaks for a refusal, below 0 for an answer. where: in the first sentence, in
    the opening, or anywhere. seen: the models whose answers each suggested it; empty for general knowledge.
    pattern: over folded text (`reading.folded`)."""

    name: str
    weight: float
    where: Where
    pattern: re.Pattern[str]
    seen: tuple[str, ...] = ()


def cue(name: str, weight: float, where: Where, *patterns: str, seen: tuple[str, ...] = ()) -> Cue:
    """A cue from alternative patterns; `^` is the beginning of a line."""
    return Cue(name, weight, where, re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.M), seen)


HARD, SOFT, WEAK = 4.0, 2.0, 0.5
"""Weights: a refusal in so many words; what a refusal gives as its reason; what is said beside one and elsewhere."""


def without(model: str, cues: Sequence[Cue]) -> tuple[Cue, ...]:
    """The cues that general knowledge or the answers of other models suggested."""
    # A cue that a second model suggested too would be known without the first.
    return tuple(cue for cue in cues if not cue.seen or set(cue.seen) - {model})
