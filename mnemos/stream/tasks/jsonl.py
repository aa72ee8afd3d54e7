"""Your own rows: a JSON Lines file with a question and a gold answer, and any verifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, MnemosError, UsageError, nearest
from mnemos.core.reward import Rewarded
from mnemos.rewards import checks, verifiers
from mnemos.stream.task import Row, Task, TaskSettings
from mnemos.stream.tasks._rows import object_rows, place_of


def task(settings: TaskSettings) -> Task:
    """One row a line. Raises UsageError without a file, and DataError with file and line for a row without a question
    or a gold answer, and for a gold answer that no answer could meet."""
    known = (*verifiers.VERIFIERS, *checks.CHECKS)
    if settings.verifier not in known:
        raise UsageError(f"verifier {settings.verifier!r}", "is not known", nearest(settings.verifier, known))
    if settings.data is None:
        raise UsageError("stream.task", "names no rows", "data: FILE.jsonl, with question and answer in each line")
    path = Path(settings.data)
    rows = [_row(one, place_of(path, line), line, settings) for line, one in object_rows(path)]
    return Task(path.stem, tuple(rows), parse, _verifier(settings), max_new_tokens=settings.max_new_tokens or 128)


def parse(text: str) -> str | None:
    """What stands behind the last "Final answer:", or all of it; None where it is empty."""
    return text.rpartition("Final answer:")[2].strip() or None


def _row(one: dict[str, Any], where: str, line: int, settings: TaskSettings) -> Row:
    question, gold = one.get(settings.question), one.get(settings.answer)
    several = gold if isinstance(gold, list) else [gold]
    for name, value in ((settings.question, question), *((settings.answer, each) for each in several or [None])):
        if not isinstance(value, str | int | float) or isinstance(value, bool) or not str(value).strip():
            there = ", ".join(sorted(one)) or "none"
            raise DataError(where, f"has no text under {name!r}", f"its columns: {there}; name them in stream.task")
    golds = [str(each) for each in several]
    try:
        for each in golds:
            if settings.verifier in checks.CHECKS:
                checks.check_reference(each, where=where)
            else:
                verifiers.check_reference(settings.verifier, each, where=where)
    except MnemosError as error:
        raise DataError(error.value, error.bound, error.cure) from None
    text = f"Question: {question}\nAnswer:"
    hint = one.get(settings.hint)
    return Row(
        str(one.get("id", line)), text, str(question), golds[0], settings.instruction, golds, str(hint) if hint else ""
    )


def _verifier(settings: TaskSettings) -> Any:
    def verify(rows: Sequence[Row], answers: Sequence[str]) -> list[Rewarded]:
        if settings.verifier in checks.CHECKS:
            return checks.scores(settings.verifier, answers, [row.check[0] for row in rows], settings.database)
        return [
            verifiers.best([verifiers.score(settings.verifier, answer, gold) for gold in row.check])
            for row, answer in zip(rows, answers, strict=True)
        ]

    return verify
