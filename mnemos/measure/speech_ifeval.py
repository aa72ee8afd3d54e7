"""Suites of kind speech_ifeval: instructions on the form of an answer, where the question is about a sound.

The same rows are asked in three forms: with the sound, with what is known of it in a line of text (`seed`), and without
either. What a model that hears follows less often than in the form of text was unlearned, or is drowned by the sound
(Speech-IFEval, arXiv:2505.19037). The checkers are IFEval's.

Deviations from Speech-IFEval: 1. the reference is the same model on text, before and after, and not another one; 2. its
constraints on reasoning (chain of thought), which a judge reads, are left out; 3. strictly read, JSON within a fence of
code is none, where IFEval takes the fence off; loosely read it is; 4. an answer of fewer than 12 letters is in upper or
lower case whatever language it looks like, since short ones ("SEVEN") are told from English by chance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.nouns import Answer, Prompt, Turn
from mnemos.measure.heard import controlled
from mnemos.measure.ifeval import instructions_of
from mnemos.measure.items import Item
from mnemos.measure.sound_rows import rows_at, sound_in, text_in
from mnemos.rewards.fences import alone
from mnemos.rewards.instructions import followed, loosened
from mnemos.rewards.verifiers import LONGEST

JSON = "detectable_format:json_format"
CASES: Mapping[str, Callable[[str], bool]] = {
    "change_case:english_capital": str.isupper,
    "change_case:english_lowercase": str.islower,
}
LETTERS = 12
"""Letters of an answer from which its language is told."""
GROUPS = ("closed", "creative", "cot")
"""Categories of Speech-IFEval, whose means are averaged into its IFrate."""


def items_at(settings: Any, folder: Path, where: str) -> list[tuple[Item, str]]:
    """Items with their places: rows of prompt, instruction_id_list and kwargs, with audio for the form `audio` and seed
    for `description`; `text_prompt`, where a row has one, is what is asked in the form `text`."""
    found = []
    for row, name, place in rows_at(settings, folder, where):
        prompt = text_in(row, "prompt", place)
        if settings.form == "description":
            prompt = f"{text_in(row, 'seed', place)}\n\n{prompt}"
        elif settings.form == "text" and row.get("text_prompt") is not None:
            prompt = text_in(row, "text_prompt", place)
        # The other forms do without, but rows about one sound are one cluster in all of them.
        sound = sound_in(row, place) if settings.form == "audio" or row.get("audio") is not None else None
        if row.get("instruction_id_list") is None:
            raise DataError(place, "names no instructions", "instruction_id_list: [startend:quotation], kwargs: [{}]")
        system = (Turn("system", settings.system),) if settings.system else ()
        item = Item(
            name,
            Prompt((*system, Turn("user", prompt))),
            answers=(json.dumps([row["instruction_id_list"], row.get("kwargs")]),),
            cluster=None if row.get("cluster") is None else str(row["cluster"]),
            category=None if row.get("category") is None else str(row["category"]),
            sound=sound,
        )
        found.append((item, place))
    made = controlled(settings, found, where)
    return made if settings.form == "audio" else [(replace(item, sound=None), place) for item, place in made]


def readings(item: Item, text: str) -> dict[str, list[bool]]:
    """Which of the item's instructions an answer follows, in their order, read strictly and loosely."""
    # Where the whole answer is one fence of code, what stands in it.
    inner = alone(text)
    variants = [*loosened(text), *(() if inner is None else loosened(inner.strip()))]
    given = instructions_of(item, item.id)
    return {
        "strict": [_follows(name, one, text) and (name != JSON or inner is None) for name, one in given],
        "loose": [any(_follows(name, one, variant) for variant in variants) for name, one in given],
    }


def _follows(name: str, arguments: Mapping[str, Any], text: str) -> bool:
    if name in CASES and 0 < sum(c.isalpha() for c in text) < LETTERS:
        return CASES[name](text)
    return followed(name, arguments, text)


def score(settings: Any, item: Item, answer: Answer) -> tuple[float, str | None, float, str]:
    """1 where every instruction is followed as the suite reads it; the note has both readings."""
    text = answer.text or ""
    if len(text) > LONGEST:
        return math.nan, f"an answer of more than {LONGEST:,} characters", 1.0, ""
    found = readings(item, text)
    note = ", ".join(f"{name} {sum(one)} of {len(one)}" for name, one in found.items())
    return float(all(found[settings.reading])), None, 1.0, note


def if_rate(values: Sequence[float], categories: Sequence[str | None]) -> float:
    """Speech-IFEval's IFrate: the mean of the means of its categories, where every item has one of `GROUPS`; else the
    mean over items. NaN of none."""
    if not values:
        return math.nan
    if not all(name in GROUPS for name in categories):
        return math.fsum(values) / len(values)
    by_name: dict[str, list[float]] = {}
    for value, name in zip(values, categories, strict=True):
        by_name.setdefault(str(name), []).append(value)
    means = [math.fsum(own) / len(own) for own in by_name.values()]
    return math.fsum(means) / len(means)


def relative_change(rate: float, reference: float) -> float:
    """Speech-IFEval's delta in percent: 100 (IFrate - IFrate of the reference) / IFrate of the reference; NaN where the
    reference follows nothing."""
    return 100 * (rate - reference) / reference if reference else math.nan


def totals(items: Sequence[Item], answers: Sequence[Answer]) -> dict[str, Any] | None:
    """Rates of one side in both readings: {items, strict, loose, by: {instruction: [followed strictly, loosely, of]}};
    None where nothing was answered."""
    rows = [
        (item, readings(item, answer.text))
        for item, answer in zip(items, answers, strict=True)
        if answer.text is not None and len(answer.text) <= LONGEST
    ]
    if not rows:
        return None
    by: dict[str, list[int]] = {}
    for item, found in rows:
        for place, (name, _) in enumerate(instructions_of(item, item.id)):
            count = by.setdefault(name, [0, 0, 0])
            for at, one in enumerate((found["strict"][place], found["loose"][place], True)):
                count[at] += one
    categories = [item.category for item, _ in rows]
    rates: Mapping[str, float] = {
        name: if_rate([float(all(found[name])) for _, found in rows], categories) for name in ("strict", "loose")
    }
    return {"items": len(rows), **rates, "by": by}
