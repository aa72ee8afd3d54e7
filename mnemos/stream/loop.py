"""The prequential loop: answer, score, learn, commit; many streams in lockstep.

Each stream is a generator that yields what it needs: a model, its memory, a grade, a commit. `run` gathers what all
streams wait for and serves it in batches, so that independent streams (agents times orders) share forward passes. What
a stream does depends on nothing but itself: seeds come from its order and step, and its memory is its own.

A step is one transaction: the row of the step, the memories that it made, the learner's state. Killed at any moment,
the stream continues behind the last commit, with the same requests and so with the same numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mnemos.core.errors import RunError, UsageError
from mnemos.core.progress import counting
from mnemos.stream.ahead import AHEAD, ask_ahead
from mnemos.stream.encoders import Kept
from mnemos.stream.examiner import Examiner, Graded
from mnemos.stream.journal import Asked, Journal, Step
from mnemos.stream.learner import (
    Ask,
    Feedback,
    GoldShots,
    Learner,
    Question,
    Recall,
    Remember,
    Reply,
    Request,
    Reveal,
    Shot,
)
from mnemos.stream.memory import Memory
from mnemos.stream.models import Models, Served

MOST_REQUESTS = 200
"""Requests of one learner for one question; more is a loop that does not end."""


@dataclass(frozen=True, slots=True)
class Grade:
    """A stream waits for what an answer is worth."""

    item: str
    text: str


@dataclass(frozen=True, slots=True)
class Commit:
    """A stream waits for its step to be on disk."""

    step: Step | None
    remembered: tuple[Remember, ...]
    panel: tuple[Asked, ...] = ()


@dataclass(frozen=True)
class Panel:
    """A frozen panel. items: the first of each stream. every: steps between two askings; 0 asks never."""

    items: int = 30
    every: int = 0


@dataclass
class Stream:
    """One arm in one order. order: ids of items. learn_until: share of the stream in which it learns; 0 is the agent
    reset before every item. feedback: real, or a coin whose rate is that of the real feedback so far. seed: of
    everything that is drawn. gold: an examiner that may reveal, for arms that say so. pause: says after a
    step whether `run` shall return before the next one. steady: its agent learns nothing; ahead: so many questions of
    it, or of one that is reset, are asked at once."""

    name: str
    make: Any
    order: Sequence[str]
    journal: Journal
    memory: Memory
    learn_until: float = 1.0
    feedback: Literal["real", "coin"] = "real"
    seed: int = 0
    panel: Panel = field(default_factory=Panel)
    gold: Examiner | None = None
    pause: Callable[[Step], bool] | None = None
    steady: bool = False
    ahead: int = AHEAD

    @property
    def learns(self) -> int:
        """Steps after which it learns no more."""
        return round(self.learn_until * len(self.order))


class _Costs:
    """What one step cost so far."""

    def __init__(self) -> None:
        self.calls = self.prompt_tokens = self.tokens = self.dropped = 0
        self.seconds = 0.0
        self.failed: str | None = None

    def add(self, served: Served) -> None:
        self.calls += 1
        self.prompt_tokens += served.prompt_tokens
        self.tokens += served.tokens
        self.seconds += served.seconds
        self.dropped += served.written.dropped
        self.failed = self.failed or served.failed


Life = Generator[Any, Any, None]


def run(
    streams: Sequence[Stream],
    questions: Mapping[str, Question],
    examiner: Examiner,
    models: Models,
    encoder: Kept | None = None,
    *,
    together: bool = True,
) -> None:
    """Bring every stream to its end. together: in lockstep; False one after the other, with the same steps."""
    total = sum(len(stream.order) for stream in streams)
    groups = [list(streams)] if together else [[one] for one in streams]
    with counting(total, "steps") as count:
        done = 0
        for group in groups:
            lives = [_Living(stream, questions, count) for stream in group]
            done += sum(one.at for one in lives)
            count.to(done)
            _serve(lives, examiner, models, encoder, ahead=together and not models.temperature)
            done += sum(one.at - one.began for one in lives)


class _Living:
    """A stream in progress: its generator, and what that waits for."""

    def __init__(self, stream: Stream, questions: Mapping[str, Question], count: Any) -> None:
        self.stream, self.questions, self.count = stream, questions, count
        self.at = self.began = self.ahead = stream.journal.done()
        self.agent: Learner = stream.make()
        if stream.learn_until > 0:
            self.agent.state = copy.deepcopy(stream.journal.state)
        self.costs = _Costs()
        # Of the real feedback, for a coin of the same rate.
        past = stream.journal.steps() if stream.feedback == "coin" else []
        self.right = sum(step.value for step in past if step.value is not None)
        self.judged = sum(step.value is not None for step in past)
        self.life = self._life()
        self.waits: Any = None
        self.send(None)

    def send(self, value: Any) -> None:
        """Go on with what was waited for; `waits` is None at the end."""
        try:
            self.waits = self.life.send(value)
        except StopIteration:
            self.waits = None

    def next_ahead(self) -> list[tuple[Learner, Question]]:
        """What may be asked ahead of the steps from here on, where nothing is yet and the stream learns nothing."""
        if self.at < self.ahead or not (self.stream.steady or self.stream.learn_until == 0):
            return []
        self.ahead = self.at + self.stream.ahead
        return [(self.stream.make(), self.questions[name]) for name in self.stream.order[self.at : self.ahead]]

    def draw(self, purpose: int) -> np.random.Generator:
        """Numbers of this step alone."""
        return np.random.default_rng([self.stream.seed, self.at, purpose])

    def _life(self) -> Life:
        # Killed between a step and its panel: that panel is due first.
        if all(asked.step != self.at for asked in self.stream.journal.panels()):
            yield from self._due_panel()
        while self.at < len(self.stream.order):
            step = yield from self._step(self.questions[self.stream.order[self.at]])
            yield from self._due_panel()
            if self.stream.pause is not None and self.stream.pause(step):
                return

    def _step(self, question: Question) -> Generator[Any, Any, Step]:
        stream, learns = self.stream, self.at < self.stream.learns
        if stream.learn_until == 0:
            self.agent = stream.make()  # reset before every item, whatever `answer` may have left behind
        self.costs = _Costs()
        reply = yield from self._bounded(self.agent.answer(question))
        dropped, failed = self.costs.dropped, self.costs.failed
        graded: Graded = yield Grade(question.id, reply.text)
        real = Feedback(None, failed) if failed else graded.feedback
        reply = Reply(reply.text, graded.parsed, reply.shown, reply.notes)
        remembered: list[Remember] = []
        if learns:
            heard = self._heard(real)
            yield from self._bounded(self.agent.learn(question, reply, heard), remembered, question)
        costs = self.costs
        step = Step(
            self.at, question.id, reply.text, reply.parsed, real.value, real.reason, graded.note, costs.calls,
            costs.prompt_tokens, costs.tokens, costs.seconds, len(stream.memory) + len(remembered), reply.shown,
            dropped, reply.notes.get("model"),
        )  # fmt: skip
        yield Commit(step, tuple(remembered))
        if real.value is not None:
            self.right, self.judged = self.right + real.value, self.judged + 1
        self.at += 1
        self.count.to(self.count.done + 1)
        return step

    def _heard(self, real: Feedback) -> Feedback:
        """What the learner hears: the feedback, or a coin that comes up right as often as it was so far (Laplace's
        rule, so that the first tosses are fair)."""
        if self.stream.feedback == "real" or real.value is None:
            return real
        rate = (self.right + 1) / (self.judged + 2)
        return Feedback(float(self.draw(1).random() < rate))

    def _bounded(
        self,
        life: Generator[Request, Any, Any],
        remembered: list[Remember] | None = None,
        question: Question | None = None,
    ) -> Generator[Any, Any, Any]:
        """The requests of a learner, none that it may not make. remembered: takes what it stores; None where it
        answers, and stores nothing."""
        sent: Any = None
        for _ in range(MOST_REQUESTS):
            try:
                request = life.send(sent)
            except StopIteration as done:
                return done.value
            if isinstance(request, Remember):
                if remembered is None:
                    raise RunError(f"stream {self.stream.name}", "stored something while it answered", "store in learn")
                remembered.append(request)
                sent = None
            elif isinstance(request, Reveal):
                sent = self._gold(question)
            else:
                sent = yield request
                if isinstance(request, Ask):
                    self.costs.add(sent)
                    sent = sent.written
        bound = f"made more than {MOST_REQUESTS} requests for one question"
        raise RunError(f"stream {self.stream.name}", bound, "its agent does not end")

    def _gold(self, question: Question | None) -> str:
        if self.stream.gold is None or question is None:
            raise UsageError(
                f"stream {self.stream.name}", "asked for a gold answer, which only controls see", "use another agent"
            )
        return self.stream.gold.gold(question.id)

    def _due_panel(self) -> Life:
        """Ask the first items again, once all of them were seen; nothing is learned, and what it costs is not the
        stream's."""
        panel, step = self.stream.panel, self.at
        if not panel.every or not step or step % panel.every or step < panel.items:
            return
        kept, asked = self.costs, []
        for name in self.stream.order[: panel.items]:
            self.costs = _Costs()
            reply = yield from self._bounded(self.agent.answer(self.questions[name]))
            graded: Graded = yield Grade(name, reply.text)
            found = Feedback(None, self.costs.failed) if self.costs.failed else graded.feedback
            asked.append(Asked(step, name, reply.text, found.value, found.reason))
        self.costs = kept
        yield Commit(None, (), tuple(asked))


def _serve(lives: Sequence[_Living], examiner: Examiner, models: Models, encoder: Kept | None, *, ahead: bool) -> None:
    """Serve what the streams wait for: everything cheap first, and a batch of answers when all wait for one. ahead:
    whether streams that learn nothing ask for many steps at once."""
    active = [one for one in lives if one.waits is not None]
    while active:
        progressed = True
        while progressed:
            progressed = _serve_memories(active, examiner, encoder)
            progressed = _serve_commits(active, encoder) or progressed
            # Grades wait until nothing else is to be done, so that programs are checked many at a time.
            if not progressed:
                progressed = _serve_grades(active, examiner)
        active = [one for one in active if one.waits is not None]
        asking = [one for one in active if isinstance(one.waits, Ask)]
        if active and not asking:
            kind = type(active[0].waits).__name__
            raise RunError(
                f"stream {active[0].stream.name}", f"asked for {kind}, which is no request", "see learner.py"
            )
        if ahead and (wanted := [pair for one in asking for pair in one.next_ahead()]):
            ask_ahead(wanted, examiner.shots, models)
        if asking:
            found = models.answer([(one.waits, one.stream.seed) for one in asking])
            for one, served in zip(asking, found, strict=True):
                one.send(served)


def _serve_memories(active: Sequence[_Living], examiner: Examiner, encoder: Kept | None) -> bool:
    waiting = [one for one in active if isinstance(one.waits, Recall | GoldShots)]
    keys = [one.waits.key for one in waiting if isinstance(one.waits, Recall)]
    vectors = iter(encoder.encode(keys)) if encoder is not None and keys else iter(())
    for one in waiting:
        request = one.waits
        shots: tuple[Shot, ...] = ()
        if isinstance(request, GoldShots):
            shots = examiner.shots[: request.k]
        else:
            vector = next(vectors, None)
            shots = one.stream.memory.recall(request, vector, one.draw(2))
        one.send(tuple(shots))
    return bool(waiting)


def _serve_grades(active: Sequence[_Living], examiner: Examiner) -> bool:
    waiting = [one for one in active if isinstance(one.waits, Grade)]
    if waiting:
        found = examiner.grade([(one.waits.item, one.waits.text) for one in waiting])
        for one, graded in zip(waiting, found, strict=True):
            one.send(graded)
    return bool(waiting)


def _serve_commits(active: Sequence[_Living], encoder: Kept | None) -> bool:
    waiting = [one for one in active if isinstance(one.waits, Commit)]
    if not waiting:
        return False
    texts = [row.key for one in waiting for row in one.waits.remembered]
    vectors = iter(encoder.encode(texts)) if encoder is not None and texts else iter(())
    made = []
    # All streams of a run lie in one file: the steps that ended together are one transaction.
    with waiting[0].stream.journal.store.transaction():
        for one in waiting:
            commit: Commit = one.waits
            stream = one.stream
            rows = [(row, next(vectors, None)) for row in commit.remembered]
            if commit.step is not None:
                source = f"{stream.name}, step {commit.step.step}"
                made.append((stream, stream.memory.insert(commit.step.step, commit.step.item, rows, source)))
                stream.journal.write(commit.step, one.agent.state if stream.learn_until > 0 else {})
            stream.journal.write_panel(commit.panel)
    for stream, added in made:
        stream.memory.added(added)
    for one in waiting:
        one.send(None)
    return True


__all__ = ["Commit", "Grade", "Panel", "Shot", "Stream", "run"]
