"""BIG-Bench Hard (arXiv:2210.09261): questions behind the worked examples of their task, and the answer behind its last
step.

A row of questions holds task, input and target; a row of prompts holds task and prompt, which are the authors' files
under cot-prompts: a warning with the canary up to a line of five hyphens, then instructions and examples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, nearest
from mnemos.core.nouns import Answer, Prompt, Turn
from mnemos.measure.items import Item, Row, read_rows
from mnemos.measure.settings import BBHSettings

FRONT = "\n-----\n"
"""Behind the warning of a prompt's file."""

_CONCLUSION = re.compile(r"the answer is (.*)")


def items_at(settings: BBHSettings, folder: Path, where: str) -> list[tuple[Item, str]]:
    """Items with their places. Raises DataError for a row without a text, a question asked twice, and a task without a
    prompt or with two."""
    assert settings.data is not None
    prompts = _prompts(Path(settings.prompts))
    found: dict[str, tuple[Item, str]] = {}
    for row in read_rows(Path(settings.data)):
        task = _text(row, "task")
        if task not in prompts:
            raise DataError(f"{row.where}: task {task!r}", "has no prompt", nearest(task, sorted(prompts)))
        name = str(row.values.get("id", f"{task}-{row.number}"))
        if name in found:
            raise DataError(f"{row.where}: id {name!r}", f"stands at {found[name][1]} already", "ids must differ")
        text = f"{examples(prompts[task])}\n\nQ: {_text(row, 'input')}\nA: Let's think step by step.\n"
        turn = Turn("user" if settings.chat else "prompt", text)
        start = (Turn("system", settings.system),) if settings.chat and settings.system else ()
        item = Item(name, Prompt((*start, turn)), answers=(_text(row, "target"),), category=task)
        found[name] = (item, row.where)
    if not found:
        raise DataError(where, "has no items", "a suite needs at least one")
    return list(found.values())


def _prompts(path: Path) -> dict[str, str]:
    """task -> its prompt. DataError for a task that stands twice: which prompt was meant cannot be known."""
    found: dict[str, tuple[str, str]] = {}
    for row in read_rows(path):
        task = _text(row, "task")
        if task in found:
            raise DataError(f"{row.where}: task {task!r}", f"stands at {found[task][1]} already", "keep one prompt")
        found[task] = (_text(row, "prompt"), row.where)
    return {task: prompt for task, (prompt, _) in found.items()}


def examples(prompt: str) -> str:
    """The instructions and worked examples of a prompt's file, without the warning before them."""
    return prompt.partition(FRONT)[2].strip() if FRONT in prompt else prompt.strip()


def _text(row: Row, key: str) -> str:
    values: Mapping[str, Any] = row.values
    if not isinstance(values.get(key), str) or not values[key].strip():
        raise DataError(f"{row.where}: {key}", "must be a text that is not empty", "rows have task, input and target")
    return str(values[key])


def conclusion(answer: str) -> str | None:
    """What stands behind the first "the answer is", to the end of its line, without a full stop; None without one."""
    found = _CONCLUSION.search(answer)
    return found[1].strip().removesuffix(".").strip() if found else None


def score(settings: BBHSettings, item: Item, answer: Answer) -> tuple[float, None, float, str]:
    """1 where the conclusion is the target, letter by letter. Its note is the conclusion."""
    found = conclusion(answer.text or "")
    return float(found == item.answers[0].strip()), None, 1.0, "no conclusion" if found is None else found


def balanced(items: Sequence[Item], own: Sequence[float]) -> list[float]:
    """Weights by which each category counts the same, however many items it has and whatever each weighs by itself;
    items without a category are one of their own.

    own: what each item weighs beside others of its category, such as the bytes of a text. The sum stays theirs. A
    category without any weight counts for nothing, and the others the same.
    """
    sizes: dict[str | None, float] = {}
    for item, weight in zip(items, own, strict=True):
        sizes[item.category] = sizes.get(item.category, 0.0) + weight
    sizes = {category: size for category, size in sizes.items() if size > 0}
    share = sum(sizes.values()) / len(sizes) if sizes else 0.0
    return [
        weight * share / sizes[item.category] if item.category in sizes else 0.0
        for item, weight in zip(items, own, strict=True)
    ]
