"""A learner whose weights change, under a guard.

The bare question is asked, and the answers that were right are kept; every `every` of them the model is trained a
little on the new ones, with some of the earlier ones beside them (rejection-sampled fine-tuning: one-bit feedback
leaves nothing but the learner's own right answers to imitate). Then old suites are measured: what is proven lost rolls
the model back to the last weights that were kept. Every update stands in the ledger, rolled back ones too.

A guard compares two measurements, so that measuring must repeat itself: the model is scored twice before anything is
learned, and any difference is refused.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, Score, Turn
from mnemos.core.plan import ModelHandle
from mnemos.core.progress import doing
from mnemos.core.settings import Settings
from mnemos.stream.examiner import Examiner
from mnemos.stream.journal import Step
from mnemos.stream.learner import Question
from mnemos.stream.loop import Stream
from mnemos.stream.loop import run as run_streams
from mnemos.stream.models import Models

TABLE = (
    "create table if not exists updates (stream integer not null, number integer not null, step integer not null, "
    "kept integer not null, record text not null, unique (stream, number))"
)


def _lora() -> list[dict[str, dict[str, Any] | None]]:
    return [{"lora": {"rank": 16}}]


class WeightSettings(Settings):
    """An arm whose weights change."""

    every: int = Field(default=20, ge=1, le=100_000)
    """Right answers between two updates."""
    replay: float = Field(default=0.5, ge=0, lt=1)
    """Share of earlier right answers in each update, as far as there are enough."""
    guard: bool = True
    """Roll an update back where an old suite is proven lost against the model before the stream. False keeps it, and
    says what was lost all the same."""
    methods: list[dict[str, dict[str, Any] | None]] = Field(default_factory=_lora)
    """Methods of training, as those of an arm; LoRA unless given."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Settings of training, as `train` of a study."""


class Trainer(Protocol):
    """What an update needs of the house around it; tests have one without weights."""

    def train(self, rows: Sequence[Example], before: ModelHandle, folder: Path) -> ModelHandle:
        """The model after learning rows; continues after a kill."""
        ...

    def scores(self, handle: ModelHandle) -> Mapping[str, Sequence[Score]]:
        """Of every guarding suite."""
        ...

    def compared(
        self, before: Mapping[str, Sequence[Score]], after: Mapping[str, Sequence[Score]], same: bool
    ) -> list[dict[str, Any]]:
        """One comparison a suite, with its verdict. same: one model measured twice; raises RunError where it differs
        from itself."""
        ...

    def handle(self, path: str) -> ModelHandle:
        """A model that was trained earlier."""
        ...


@dataclass(frozen=True)
class Update:
    """One step of the weights. step: of the stream, behind which it was made. rows, replayed: learned. suites: what
    the guard saw."""

    number: int
    step: int
    kept: bool
    rows: int
    replayed: int
    path: str
    suites: Sequence[Mapping[str, Any]]


@dataclass
class Weights:
    """One stream with its updates. base: the model before the stream. ask: the models of a handle, ready to answer.
    measured: scores of models before their streams, by fingerprint; streams with the same suites share it."""

    stream: Stream
    settings: WeightSettings
    base: ModelHandle
    trainer: Trainer
    ask: Callable[[ModelHandle], Models]
    folder: Path
    questions: Mapping[str, Question]
    prompt: str
    measured: dict[str, Mapping[str, Sequence[Score]]] = field(default_factory=dict)

    def run(self, examiner: Examiner) -> None:
        """Bring the stream to its end, updates included; a killed one continues where it was."""
        with self.stream.journal.store.transaction() as run:
            run.execute(TABLE)
        before: Mapping[str, Sequence[Score]] | None = None
        while True:
            steps = self.stream.journal.steps()
            if len(steps) >= len(self.stream.order):
                return
            if self._due(steps):
                before = self._baseline() if before is None else before
                self._update(steps, before)
                continue
            since = self._since(steps)
            counted = [len(since)]
            # The weights stay as they are for as many questions at least as right answers are missing.
            self.stream.ahead = self.settings.every - len(since)

            def pause(step: Step, counted: list[int] = counted) -> bool:
                counted[0] += is_right(step)
                self.stream.ahead = self.settings.every - counted[0]
                return counted[0] >= self.settings.every

            self.stream.pause = pause
            run_streams([self.stream], self.questions, examiner, self.ask(self.current()))

    # what is known -----------------------------------------------------------------------

    def updates(self) -> list[Update]:
        """Every update that was made."""
        rows: list[Any] = self.stream.journal.store.rows(
            "select record, kept from updates where stream = ? order by number", self.stream.journal.number
        )
        return [Update(**{**json.loads(text), "kept": bool(kept)}) for text, kept in rows]

    def current(self) -> ModelHandle:
        """The last weights that were kept."""
        kept = [one for one in self.updates() if one.kept]
        return self.trainer.handle(kept[-1].path) if kept else self.base

    def _since(self, steps: Sequence[Step]) -> list[Step]:
        done = self.updates()
        start = done[-1].step if done else 0
        return [step for step in steps if step.step >= start and is_right(step)]

    def _due(self, steps: Sequence[Step]) -> bool:
        return len(self._since(steps)) >= self.settings.every

    # an update ---------------------------------------------------------------------------

    def _baseline(self) -> Mapping[str, Sequence[Score]]:
        """The scores of the model before the stream, measured twice. Raises RunError where they differ: what does not
        repeat itself cannot tell a loss from its own noise."""
        name = self.base.fingerprint
        if name not in self.measured:
            doing("measuring the old suites twice")
            first = self.trainer.scores(self.base)
            self.trainer.compared(first, self.trainer.scores(self.base), True)
            self.measured[name] = first
        return self.measured[name]

    def _update(self, steps: Sequence[Step], before: Mapping[str, Sequence[Score]]) -> None:
        number, end = len(self.updates()) + 1, steps[-1].step + 1
        fresh = self._since(steps)
        known = {step.item for step in fresh}
        earlier = [step for step in steps if is_right(step) and step.item not in known]
        wanted = round(len(fresh) * self.settings.replay / (1 - self.settings.replay))
        # By update alone, so that a killed one learns the same rows.
        old = random.Random(f"{self.stream.seed}/{number}").sample(earlier, min(wanted, len(earlier)))
        rows = [self._row(step, "new") for step in fresh] + [self._row(step, "replay") for step in old]
        folder = self.folder / f"update-{number}"
        doing(f"update {number}: training on {len(rows)} answers")
        trained = self.trainer.train(rows, self.current(), folder)
        doing(f"update {number}: measuring the old suites")
        found = self.trainer.compared(before, self.trainer.scores(trained), False)
        lost = any(one["verdict"] == "lost" for one in found)
        kept = not (self.settings.guard and lost)
        record = Update(number, end, kept, len(rows), len(old), trained.path, found)
        with self.stream.journal.store.transaction() as run:
            run.execute(
                "insert into updates values (?, ?, ?, ?, ?)",
                (self.stream.journal.number, number, end, int(kept), json.dumps(vars(record))),
            )
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)

    def _row(self, step: Step, origin: str) -> Example:
        from mnemos.stream.prompts import filled

        question = self.questions[step.item]
        fields = {"instruction": question.instruction, "question": question.text}
        turns = (Turn("user", filled(self.prompt, fields)), Turn("assistant", step.parsed or step.answer))
        return Example(f"{step.item}@{step.step}", "messages", turns, origin=origin)

    @property
    def fingerprint(self) -> str:
        """Of what decides the updates beside the stream's own."""
        return fingerprint([self.settings.fingerprint, self.base.fingerprint])


def is_right(step: Step) -> bool:
    """Whether there is an answer to imitate."""
    return step.value is not None and step.value >= 1 and step.parsed is not None
