"""Questions over several paragraphs: XQuAD's English part with three other paragraphs around the right one (the shape
of HotpotQA's distractor setting). Right is what equals one of the answers after SQuAD's normalisation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.reward import Rewarded
from mnemos.rewards import verifiers
from mnemos.stream.task import Row, Task, TaskSettings
from mnemos.stream.tasks._rows import object_rows, place_of, shipped_data
from mnemos.stream.tasks.jsonl import parse as parse_text

DISTRACTORS = 3
"""Other paragraphs beside the one that holds the answer."""
MOST_CHARS = 700
"""Characters of a paragraph, so that four of them and some shots fit into a small window; a row whose answer stands
behind them keeps the end instead."""
INSTRUCTION = "Answer the question with a few words from the paragraphs, as short as possible. Write the answer alone."


def task(settings: TaskSettings) -> Task:
    """Rows with question, context and answers. Which paragraphs stand beside it is drawn by seed."""
    path = shipped_data("xquad/en.jsonl.gz", settings.data)
    read = [(place_of(path, line), line, one) for line, one in object_rows(path)]
    for where, _, one in read:
        if not all(isinstance(one.get(name), str) for name in ("question", "context")) or not one.get("answers"):
            raise DataError(where, "has not question, context and answers", "give rows of SQuAD's format")
    contexts = sorted({one["context"] for _, _, one in read})
    rows = tuple(_row(one, line, contexts, settings.seed) for _, line, one in read)
    return Task("paragraphs", rows, parse, verify, max_new_tokens=32)


def _row(one: dict[str, Any], line: int, contexts: Sequence[str], seed: int) -> Row:
    name = str(one.get("id", line))
    draw = random.Random(f"{seed}/{name}")
    first = one["answers"][0]
    others = draw.sample([text for text in contexts if text != one["context"]], min(DISTRACTORS, len(contexts) - 1))
    parts = [
        _cut(one["context"], int(first.get("answer_start", 0)) + len(first["text"])),
        *(_cut(o, 0) for o in others),
    ]
    draw.shuffle(parts)
    paragraphs = "\n\n".join(f"Paragraph {number}: {text}" for number, text in enumerate(parts, 1))
    text = f"{paragraphs}\n\nQuestion: {one['question']}\nAnswer:"
    # Looked up by the question alone, never by paragraphs that would crowd it out.
    return Row(name, text, one["question"], first["text"], INSTRUCTION, [answer["text"] for answer in one["answers"]])


def _cut(text: str, needed: int) -> str:
    """At most MOST_CHARS, the first ones unless something up to `needed` would be lost."""
    if len(text) <= MOST_CHARS or needed <= MOST_CHARS:
        return text[:MOST_CHARS]
    return text[max(0, needed - MOST_CHARS + 100) : needed + 100]


def parse(text: str) -> str | None:
    """The last line that is not empty."""
    found = parse_text(text)
    lines = [line.strip() for line in (found or "").splitlines() if line.strip()]
    return lines[-1] if lines else None


def verify(rows: Sequence[Row], answers: Sequence[str]) -> list[Rewarded]:
    """1 where the answer is one of the row's."""
    return [
        verifiers.best([verifiers.score("normalised", answer, gold) for gold in row.check])
        for row, answer in zip(rows, answers, strict=True)
    ]
