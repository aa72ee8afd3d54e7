"""Classification with many labels: SLURP's spoken commands and their intents (the shape of StreamBench's DDXPlus)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.reward import Rewarded
from mnemos.stream.task import Row, Task, TaskSettings
from mnemos.stream.tasks._rows import object_rows, place_of, shipped_data

LEAST = 2
"""Rows that a label must have: one that comes once can be learned from nothing."""
_LABEL = re.compile(r"[a-z]+(?:_[a-z]+)*")


def task(settings: TaskSettings) -> Task:
    """Rows with sentence and intent."""
    path = shipped_data("slurp_text/devel.jsonl.gz", settings.data)
    read = [(place_of(path, line), line, one) for line, one in object_rows(path)]
    for where, _, one in read:
        for name in ("sentence", "intent"):
            if not isinstance(one.get(name), str) or not one[name].strip():
                raise DataError(where, f"has no text under {name!r}", "give rows with sentence and intent")
    counts = Counter(one["intent"] for _, _, one in read)
    labels = sorted(name for name, number in counts.items() if number >= LEAST)
    instruction = (
        "Say which intent a command to a voice assistant has. Answer with one of these labels and nothing else:\n"
        + ", ".join(labels)
    )
    rows = tuple(_row(one, line, instruction) for _, line, one in read if one["intent"] in set(labels))
    return Task("intents", _distinct(rows), _parser(labels), verify, max_new_tokens=16)


def _row(one: dict[str, Any], line: int, instruction: str) -> Row:
    text = f"Command: {one['sentence']}\nIntent:"
    return Row(str(one.get("slurp_id", line)), text, one["sentence"], one["intent"], instruction, one["intent"])


def _distinct(rows: Sequence[Row]) -> tuple[Row, ...]:
    """One row for each id."""
    return tuple({row.id: row for row in rows}.values())


def _parser(labels: Sequence[str]) -> Any:
    known = set(labels)

    def parse(text: str) -> str | None:
        """The last label that stands in the answer, so that one may think first; None without any."""
        found = [word for word in _LABEL.findall(text.lower()[-20_000:]) if word in known]
        return found[-1] if found else None

    return parse


def verify(rows: Sequence[Row], answers: Sequence[str]) -> list[Rewarded]:
    """1 where the label is the row's."""
    return [Rewarded(float(answer == row.check)) for row, answer in zip(rows, answers, strict=True)]
