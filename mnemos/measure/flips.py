"""Answers side by side, chosen by rule and never by hand: largest losses, largest gains, then random."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from typing import Any

from mnemos.core.nouns import Answer, Prompt, Score
from mnemos.measure.ask import Measured
from mnemos.measure.items import Item
from mnemos.measure.suite import Suite

LONGEST = 2000
"""Characters kept of a prompt or an answer."""


def flips(
    suites: Iterable[Suite],
    before: Mapping[str, Measured],
    after: Mapping[str, Measured],
    *,
    arm: str,
    seed: int,
    each: int = 3,
) -> list[dict[str, Any]]:
    """Per suite that shows answers: the `each` largest losses, as many largest gains, and as many
    random items among the rest, drawn by `seed`; so are ties, so that the file's order decides
    nothing. Suites that look at another's answers (`of:`) are left out. Entries as in results.json;
    a missing score is None."""
    out = []
    for suite in suites:
        if (
            suite.of is None
            and suite.ask in ("generate", "compare", "act", "choose", "transcribe")
            and suite.name in before
            and suite.name in after
        ):
            for index, why in _chosen(suite, before[suite.name].scores, after[suite.name].scores, seed, each):
                out.append(_entry(suite, before[suite.name], after[suite.name], index, why, arm, seed))
    return out


def _chosen(suite: Suite, x: list[Score], y: list[Score], seed: int, each: int) -> list[tuple[int, str]]:
    rng = random.Random(f"{seed}/{suite.name}")
    # Sorting is stable, so the random order decides among equal changes: right-or-wrong items all change by 1.
    order = rng.sample(range(len(x)), len(x))
    sign = 1.0 if suite.better == "higher" else -1.0
    gain = {i: sign * (y[i].value - x[i].value) for i in order}
    # NaN is less than nothing and more than nothing, and would leave a sort without an order.
    known = [i for i in order if not math.isnan(gain[i])]
    losses = sorted((i for i in known if gain[i] < 0), key=lambda i: gain[i])[:each]
    gains = sorted((i for i in known if gain[i] > 0), key=lambda i: -gain[i])[:each]
    rest = [i for i in order if i not in {*losses, *gains}][:each]
    labels = ("largest loss", losses), ("largest gain", gains), ("random", rest)
    return [(i, why) for why, indices in labels for i in indices]


def _entry(
    suite: Suite, before: Measured, after: Measured, index: int, why: str, arm: str, seed: int
) -> dict[str, Any]:
    item = suite.items[index]
    sides = [_side(side.answers[index], side.scores[index]) for side in (before, after)]
    return {
        "arm": arm,
        "seed": seed,
        "suite": suite.name,
        "item": item.id,
        "prompt": _short(_asked(item)),
        "gold": _short(gold_words(item)),
        "before": sides[0],
        "after": sides[1],
        "why": why,
    }


def _side(answer: Answer, score: Score) -> dict[str, Any]:
    value = None if math.isnan(score.value) else score.value
    return {"text": None if answer.text is None else _short(answer.text), "score": value}


def _asked(item: Item) -> str:
    """What was asked, behind which file of sound if there is one; a recogniser is asked nothing but the sound."""
    if item.sound is None:
        return prompt_words(item.prompt)
    question = item.prompt.turns[-1].text.strip() if item.prompt is not None else ""
    return f"{question} [{item.sound.path}]" if question else item.sound.path


def prompt_words(prompt: Prompt | None) -> str:
    """What was asked, turn by turn; empty for a text to be predicted."""
    if prompt is None:
        return ""
    if len(prompt.turns) == 1:
        return prompt.turns[0].text
    return "\n".join(f"{turn.role}: {turn.in_words()}" for turn in prompt.turns)


def gold_words(item: Item) -> str:
    """What counts as right, where an item says it."""
    # Questions about sounds name the right option in words.
    if item.options and item.true:
        return " | ".join(item.options[index] for index in item.true)
    return " | ".join(item.answers) or item.expect or ""


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
