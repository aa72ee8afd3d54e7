"""The process that holds the gold answers: it gives questions out, takes answers, and says what they are worth.

Lines of JSON on standard input and output; what a task prints goes to standard error. It ends with its parent. What a
learner can reach lies in the parent, where no gold answer ever was, unless the study has an arm that says that it sees
them (`reveal`).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from mnemos.core.errors import MnemosError
from mnemos.core.fingerprint import canonical, file_fingerprint, fingerprint
from mnemos.core.reward import Rewarded, missing
from mnemos.stream.task import Row, Task, TaskSettings
from mnemos.stream.tasks import open_task

LONGEST = 200_000
"""Characters of an answer that is read; the feedback of a longer one is missing."""


class Grader:
    """One open task. reveal: whether gold answers may be asked for. settings: what it was opened by, part of which
    decides what answers are worth without standing in any row."""

    def __init__(self, task: Task, reveal: bool, settings: TaskSettings | None = None) -> None:
        self.task, self.reveal, self.settings = task, reveal, settings or TaskSettings()
        self.rows = {row.id: row for row in task.rows}

    def opened(self) -> dict[str, Any]:
        """What the parent may know."""
        rows = [
            {"id": row.id, "text": row.text, "instruction": row.instruction, "key": row.key} for row in self.task.rows
        ]
        everything = [[r.id, r.text, r.key, r.gold, r.instruction, _shown(r.check), r.hint] for r in self.task.rows]
        held = [[r.id, r.gold] for r in self.task.shots]
        judged = _judged_by(self.settings)
        return {
            "name": self.task.name,
            "questions": rows,
            "max_new_tokens": self.task.max_new_tokens,
            "fingerprint": fingerprint([everything, held, self.task.max_new_tokens, *([judged] if judged else [])]),
            "shots": [{"text": row.text, "answer": row.gold} for row in self.task.shots],
            "runs": self.task.show is not None,
            "hints": sum(bool(row.hint) for row in self.task.rows),
        }

    def grade(self, pairs: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """For each (item, text): what was read in it, and its reward or why there is none."""
        rows = [self.rows[item] for item, _ in pairs]
        parsed = [self._parsed(text) for _, text in pairs]
        found: list[Rewarded] = [Rewarded(0.0, note="no answer can be read in it")] * len(pairs)
        for place, (one, (_, text)) in enumerate(zip(parsed, pairs, strict=True)):
            if isinstance(one, Rewarded):
                found[place] = one
            elif len(text) > LONGEST:
                found[place] = missing(f"an answer of more than {LONGEST:,} characters")
        asked = [i for i, one in enumerate(parsed) if isinstance(one, str) and found[i].reason is None]
        for i, reward in zip(asked, self._verified(rows, parsed, asked), strict=True):
            found[i] = reward
        return [
            {
                "parsed": one if isinstance(one, str) else None,
                "value": None if math.isnan(reward.value) else min(1.0, max(0.0, reward.value)),
                "reason": reward.reason,
                "note": reward.note,
            }
            for one, reward in zip(parsed, found, strict=True)
        ]

    def _parsed(self, text: str) -> str | Rewarded | None:
        try:
            return self.task.parse(text[: LONGEST + 1])
        except Exception as error:  # whatever a model wrote must not end a stream
            return missing(f"the parser failed: {type(error).__name__}")

    def _verified(self, rows: Sequence[Row], parsed: Sequence[Any], asked: Sequence[int]) -> list[Rewarded]:
        if not asked:
            return []
        try:
            return list(self.task.verify([rows[i] for i in asked], [parsed[i] for i in asked]))
        except MnemosError:
            raise
        except Exception as error:
            if len(asked) == 1:
                return [missing(f"the verifier failed: {type(error).__name__}")]
        # One by one: the answer at fault must not take the others' feedback away.
        return [self._verified(rows, parsed, [i])[0] for i in asked]

    def gold(self, items: Sequence[str]) -> list[str]:
        """Gold answers, for a control that sees them."""
        if not self.reveal:
            raise PermissionError("gold answers were not asked for when this task was opened")
        return [self.rows[item].gold for item in items]

    def hints(self, items: Sequence[str]) -> list[str]:
        """What a person would add."""
        return [self.rows[item].hint for item in items]

    def show(self, pairs: Sequence[Sequence[str]]) -> list[str]:
        """What each answer does when it is run; empty where tasks run nothing."""
        if self.task.show is None:
            return [""] * len(pairs)
        rows = [self.rows[item] for item, _ in pairs]
        parsed = [self._parsed(text) for _, text in pairs]
        return self.task.show(rows, [one if isinstance(one, str) else "" for one in parsed])


def _judged_by(settings: TaskSettings) -> dict[str, Any]:
    """What changes the worth of an answer and no row: empty by default, so that such a stream keeps its name.

    A module that a task file imports is not seen; a note in the file itself makes the stream another.
    """
    changed = settings.model_dump(mode="json", exclude_defaults=True, exclude={"name", "data", "items", "database"})
    if settings.name.endswith(".py"):
        # Its `verify` and `parse` are in the file, and what they read of the settings is not known here.
        found = {"source": file_fingerprint(settings.name), **changed}
    elif settings.name == "jsonl" and "verifier" in changed:
        found = {"verifier": settings.verifier}
    else:
        return {}
    if settings.database is not None and Path(settings.database).is_file():
        found["database"] = file_fingerprint(settings.database)
    return found


def _shown(check: Any) -> str:
    """A text of a row's `check` that is the same in every process: a set's order and an object's address are not.
    What holds neither keeps its `repr`, by which streams that were begun are found again."""
    return repr(check) if _has_steady_repr(check) else json.dumps(_steady(check))


def _has_steady_repr(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_has_steady_repr, value))
    if isinstance(value, dict):
        return all(_has_steady_repr(one) for pair in value.items() for one in pair)
    return value is None or isinstance(value, bool | int | float | str | bytes)


def _steady(value: Any) -> Any:
    if _has_steady_repr(value):
        return repr(value)
    if isinstance(value, list | tuple):
        return [_steady(one) for one in value]
    if isinstance(value, dict):
        return [[_steady(key), _steady(one)] for key, one in value.items()]
    if isinstance(value, set | frozenset):
        return {"set": sorted((_steady(one) for one in value), key=json.dumps)}
    try:
        return canonical(value)
    except TypeError:
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def serve(lines: IO[str], out: IO[str]) -> None:
    """Answer one line with one line until the other side closes."""
    grader: Grader | None = None
    for line in lines:
        asked = json.loads(line)
        try:
            if asked["do"] == "open":
                settings = TaskSettings(**asked["settings"])
                grader = Grader(open_task(settings), asked["reveal"], settings)
                found: Any = grader.opened()
            else:
                assert grader is not None
                calls: dict[str, Callable[[Any], Any]] = {
                    "grade": grader.grade, "gold": grader.gold, "hints": grader.hints, "show": grader.show
                }  # fmt: skip
                found = calls[asked["do"]](asked["of"])
            reply: dict[str, Any] = {"found": found}
        except MnemosError as error:
            reply = {"error": type(error).__name__, "parts": [error.value, error.bound, error.cure]}
        except Exception as error:
            text = f"the task failed: {type(error).__name__}: {error}"
            reply = {"error": "DataError", "parts": [text[:1000], "", "mend the task's file"]}
        out.write(json.dumps(reply) + "\n")
        out.flush()


def main() -> None:
    """Serve on the pipes that this process was started with."""
    # The pipe to the parent gets another number, so that a task that prints writes to standard error.
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with contextlib.suppress(BrokenPipeError):  # the parent was killed
        serve(sys.stdin, pipe)


if __name__ == "__main__":
    main()
