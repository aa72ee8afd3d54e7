"""Python by unit tests, run in the sandbox: HumanEval (arXiv:2107.03374), or rows of the same columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.reward import Rewarded
from mnemos.rewards import checks, fences
from mnemos.stream.task import Row, Task, TaskSettings
from mnemos.stream.tasks._rows import object_rows, place_of, shipped_data

INSTRUCTION = "Complete this Python function. Answer with the whole function and nothing else."


def task(settings: TaskSettings) -> Task:
    """Rows with task_id, prompt, entry_point, test and canonical_solution."""
    path = shipped_data("human_eval/human_eval.jsonl.gz", settings.data)
    rows = [_row(one, place_of(path, line)) for line, one in object_rows(path)]
    return Task("python", tuple(rows), parse, verify, max_new_tokens=320)


def _row(one: dict[str, Any], where: str) -> Row:
    for name in ("task_id", "prompt", "entry_point", "test", "canonical_solution"):
        if not isinstance(one.get(name), str) or not one[name].strip():
            raise DataError(where, f"has no text under {name!r}", "give rows with HumanEval's columns")
    gold = one["prompt"] + one["canonical_solution"]
    text = f"```python\n{one['prompt'].rstrip()}\n```"
    # Looked up by what the function shall do, without the fence.
    return Row(
        one["task_id"], text, one["prompt"], f"```python\n{gold.strip()}\n```", INSTRUCTION,
        f"{one['test']}\n\ncheck({one['entry_point']})",
    )  # fmt: skip


def parse(text: str) -> str | None:
    """The program in a fence; the whole text without one. Kept in a fence, as the next prompt shows it."""
    text = text.rpartition("Final answer:")[2]
    fenced = fences.ranked(text, checks.PYTHON)
    program = (fenced[0] if fenced else text).strip("\n")
    return f"```python\n{program}\n```" if program.strip() else None


def verify(rows: Sequence[Row], answers: Sequence[str]) -> list[Rewarded]:
    """1 where the tests pass."""
    return checks.scores("code", answers, [row.check for row in rows])
