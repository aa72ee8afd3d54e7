"""IFEval's score of an item: all of its instructions followed, strictly or loosely (arXiv:2311.07911)."""

from __future__ import annotations

import json
import math
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.nouns import Answer
from mnemos.measure.items import Item
from mnemos.measure.settings import IFEvalSettings
from mnemos.rewards.instructions import check_instruction, followed, loosened
from mnemos.rewards.verifiers import LONGEST


def instructions_of(item: Item, where: str) -> list[tuple[str, dict[str, Any]]]:
    """The item's instructions with their arguments. Raises DataError for what cannot be checked."""
    if len(item.answers) != 1:
        raise DataError(where, "names no instructions", "instruction_id_list: [punctuation:no_comma], kwargs: [{}]")
    try:
        names, arguments = json.loads(item.answers[0])
    except (ValueError, TypeError):
        raise DataError(where, "names no instructions", "write instruction_id_list and kwargs, not answer") from None
    if not isinstance(names, list) or not isinstance(arguments, list) or len(names) != len(arguments) or not names:
        raise DataError(
            f"{where}: instruction_id_list and kwargs", "must be lists of one length", "one object for each"
        )
    return [(name, check_instruction(name, given, where=where)) for name, given in zip(names, arguments, strict=True)]


def check(settings: IFEvalSettings, item: Item, where: str) -> None:
    """Raise DataError for an item whose instructions cannot be checked."""
    instructions_of(item, where)


def readings(item: Item, text: str) -> dict[str, list[bool]]:
    """Which of the item's instructions an answer follows, in their order, read strictly and loosely."""
    variants = loosened(text)
    asked = instructions_of(item, item.id)
    return {
        "strict": [followed(name, given, text) for name, given in asked],
        "loose": [any(followed(name, given, one) for one in variants) for name, given in asked],
    }


def score(settings: IFEvalSettings, item: Item, answer: Answer) -> tuple[float, str | None, float, str]:
    """1 where every instruction is followed as the suite reads it. The note counts instructions in both readings and
    names those that are not followed."""
    text = answer.text or ""
    if len(text) > LONGEST:
        return math.nan, f"an answer of more than {LONGEST:,} characters", 1.0, ""
    found = readings(item, text)
    kept = found[settings.reading]
    names = [name for (name, _), one in zip(instructions_of(item, item.id), kept, strict=True) if not one]
    counts = ", ".join(f"{name} {sum(one)} of {len(one)}" for name, one in found.items())
    return float(all(kept)), None, 1.0, counts + (f"; not followed: {', '.join(names)}" if names else "")
