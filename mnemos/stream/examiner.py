"""The parent's side of `stream.grader`: gives out questions and feedback, and has no gold answer to give away."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.core import errors
from mnemos.core.errors import MnemosError, RunError
from mnemos.stream.learner import Feedback, Question, Shot
from mnemos.stream.task import TaskSettings

PATIENCE = 120.0
"""Seconds that a verifier has for one batch; then its process is ended and the feedback is missing."""
BATCH = 16
"""Answers that have that time together; larger batches have more."""
MOST_REPLY = 1 << 30
"""Bytes of one line that are read."""


@dataclass(frozen=True, slots=True)
class Graded:
    """parsed: what the task read in an answer. feedback: what it was worth. note: why, where the task says so; for
    people, and not for the learner, since it may tell more than a thumb does."""

    parsed: str | None
    feedback: Feedback
    note: str | None = None


class Examiner:
    """A task in a process of its own. Use as a context manager. reveal: let gold answers be asked for, which arms that
    say so need; without it the grading process refuses for its whole life."""

    def __init__(self, settings: TaskSettings, *, reveal: bool = False, patience: float = PATIENCE) -> None:
        self.settings, self.reveal, self.patience = settings, reveal, patience
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        try:
            opened = self._open()
        except BaseException:
            self.close()
            raise
        self.name: str = opened["name"]
        self.questions = {row["id"]: Question(**row) for row in opened["questions"]}
        self.fingerprint: str = opened["fingerprint"]
        self.max_new_tokens: int = opened["max_new_tokens"]
        self.shots = tuple(Shot(0, one["text"], one["answer"], True) for one in opened["shots"])
        self.runs: bool = opened["runs"]
        self.hinted: int = opened["hints"]

    def __enter__(self) -> Examiner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):  # what it did not read any more
                        pipe.close()

    def grade(self, pairs: Sequence[tuple[str, str]]) -> list[Graded]:
        """What each answer (item, text) is worth. A verifier that hangs loses its process; feedback is then missing
        for the answer at fault, and the others are asked again one by one."""
        found = self._ask("grade", [list(pair) for pair in pairs])
        if found is None:
            if len(pairs) > 1:
                return [self.grade([pair])[0] for pair in pairs]
            return [Graded(None, Feedback(None, f"the verifier took more than {self.patience:g} seconds"))]
        return [Graded(one["parsed"], Feedback(one["value"], one["reason"]), one["note"]) for one in found]

    def gold(self, item: str) -> str:
        """The gold answer, where this examiner was opened for it."""
        return str(self._sure("gold", [item])[0])

    def hints(self, items: Sequence[str]) -> list[str]:
        """What a person would add to each item."""
        return list(self._sure("hints", list(items)))

    def show(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """What each answer (item, text) does when it is run."""
        return list(self._sure("show", [list(pair) for pair in pairs]))

    def _sure(self, what: str, of: Any) -> Any:
        found = self._ask(what, of)
        if found is None:
            raise RunError(
                f"task {self.settings.name}", f"did not answer in {self.patience:g} seconds", "mend the task"
            )
        return found

    def _open(self) -> Any:
        # -P and no working directory: a file of the user's called json.py must not be what the child imports.
        path = os.pathsep.join(one for one in (*sys.path, os.environ.get("PYTHONPATH", "")) if one)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mnemos.stream.grader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self._rest = b""
        asked = {"do": "open", "settings": self.settings.model_dump(mode="json"), "reveal": self.reveal}
        opened = self._exchange(asked, 10 * self.patience)
        if opened is None:
            raise RunError(f"task {self.settings.name}", "could not be opened in time", "give fewer rows")
        return opened

    def _ask(self, what: str, of: Any) -> Any:
        """What the process says; None where it takes too long, and then a new one is there."""
        # A large batch of programs to be run takes its time without being stuck.
        found = self._exchange({"do": what, "of": of}, self.patience * max(1.0, len(of) / BATCH))
        if found is None:
            self.close()
            self._open()
        return found

    def _exchange(self, asked: dict[str, Any], seconds: float) -> Any:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.flush()
        except (BrokenPipeError, OSError):
            raise self._died() from None
        line = self._line(time.monotonic() + seconds)
        if line is None:
            return None
        reply = json.loads(line)
        if "error" in reply:
            kind: type[MnemosError] = getattr(errors, reply["error"], errors.DataError)
            raise kind(*reply["parts"])
        return reply["found"]

    def _line(self, end: float) -> bytes | None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        parts = [self._rest]
        while b"\n" not in parts[-1]:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return None
            part = os.read(process.stdout.fileno(), 1 << 20)
            if not part or sum(map(len, parts)) > MOST_REPLY:
                raise self._died()
            parts.append(part)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line

    def _died(self) -> RunError:
        return RunError(
            f"the process of task {self.settings.name}",
            "ended without a word",
            "see above what it printed; then run the same command again: committed steps are kept",
        )
