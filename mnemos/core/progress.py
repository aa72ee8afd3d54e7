"""How far the present work is: counted where it is done, looked at by whoever shows it, at any time.

Code that takes long says what it does (`doing`), counts what is done of it (`counting`), and says lines that should
stay (`note`). A display makes a `Work`, runs the code within `working`, and asks for its `status` when it likes, from
a thread of its own. Where nobody looks, counts are kept and not read. Nothing of this may change a result.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from mnemos.core.errors import printable

WINDOW = 20.0
"""Seconds over which tokens a second are averaged."""

SETTLING = 1.0
"""Seconds at the start of a count that tell no rate: answers that a journal kept are counted in them."""


@dataclass(frozen=True)
class Status:
    """How far a step is. doing: what it does now, in words. done of total, in `unit`; total is 0 where it is not known.
    loss: of training, in nats per unit of weight. tokens_per_second: read or written, lately. seconds_left: of this
    count, at the pace so far."""

    doing: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    loss: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None

    def __str__(self) -> str:
        """Like ``120 of 960 steps, loss 2.345, 812 tokens/s, 1:05 left``; empty where nothing is known."""
        parts = [self.doing]
        if self.unit:
            parts.append(f"{self.done:,} of {self.total:,} {self.unit}" if self.total else f"{self.done:,} {self.unit}")
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:,.{0 if self.tokens_per_second >= 10 else 1}f} tokens/s")
        if self.seconds_left is not None:
            parts.append(f"{clock(self.seconds_left)} left")
        return ", ".join(part for part in parts if part)


def clock(seconds: float) -> str:
    """Minutes and seconds, like 1:05, or hours before them, like 2:01:05."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class Count:
    """What is done of one call's rows or steps. within: the count that it is a part of."""

    def __init__(self, total: int, unit: str, within: Count | None = None) -> None:
        self.total, self.unit, self.within = total, unit, within
        self.done, self.tokens = 0.0, 0
        self.loss: float | None = None
        self._start = within.done if within is not None else 0.0
        self._began = self._moved = time.monotonic()
        self._base = (self._began, 0.0)
        self._samples: deque[tuple[float, int]] = deque([(self._began, 0)])

    def to(self, done: float) -> None:
        """So much is done by now; an item whose parts are asked one by one counts in fractions."""
        self.done, self._moved = done, time.monotonic()
        if self._moved - self._began < SETTLING:
            self._base = (self._moved, done)
        if self.within is not None:
            self.within.to(min(self._start + done, self.within.total))

    def read(self, tokens: int) -> None:
        """So many tokens more were read or written."""
        self.tokens += tokens
        now = time.monotonic()
        # One a second is enough for a mean, and this is called for every token.
        if now - self._samples[-1][0] >= 1:
            self._samples.append((now, self.tokens))
            while now - self._samples[0][0] > WINDOW and len(self._samples) > 2:
                self._samples.popleft()
        if self.within is not None:
            self.within.read(tokens)

    def status(self, doing: str) -> Status:
        """How far it is now."""
        first, last = self._samples[0], self._samples[-1]
        rate = (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else None
        # A third of an item, three times, is not quite one.
        return Status(doing, int(self.done + 1e-6), self.total, self.unit, self.loss, rate, self._left())

    def _left(self) -> float | None:
        since, before = self._base
        if self.done <= before or self._moved <= since or self.done >= self.total:
            return None
        pace = (self._moved - since) / (self.done - before)
        # Counted down from the last move: done stands still within a batch, and the time does not.
        return max(0.0, pace * (self.total - self.done) - (time.monotonic() - self._moved))


class Work:
    """What one step is doing. notify: takes the lines that `note` says. count: the outermost one, which is shown.
    inner: the innermost one."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.notify = notify
        self.doing = ""
        self.count: Count | None = None
        self.inner: Count | None = None

    def status(self) -> Status:
        """How far it is; may be asked from any thread."""
        count = self.count
        return Status(self.doing) if count is None else count.status(self.doing)


_WORK: ContextVar[Work | None] = ContextVar("the step at work", default=None)


@contextmanager
def working(work: Work) -> Iterator[Work]:
    """Within it, `doing`, `counting` and `note` are about `work`."""
    token = _WORK.set(work)
    try:
        yield work
    finally:
        _WORK.reset(token)


def doing(words: str) -> None:
    """What the present step does from now on, like ``loading the model``."""
    work = _WORK.get()
    if work is not None:
        work.doing = words


@contextmanager
def counting(total: int, unit: str = "items") -> Iterator[Count]:
    """Count to `total`. Directly within another count of the same unit it is a part of that one, and moves it; within
    one of another unit (answers that are drawn within a training step) it is not shown."""
    work = _WORK.get()
    if work is None:
        yield Count(total, unit)
        return
    shown, outer = work.count, work.inner
    work.inner = Count(total, unit, outer if outer is not None and outer.unit == unit else None)
    work.count = shown or work.inner
    try:
        yield work.inner
    finally:
        work.count, work.inner = shown, outer


def read(tokens: int) -> None:
    """So many tokens more were read or written, for the innermost count."""
    work = _WORK.get()
    if work is not None and work.inner is not None:
        work.inner.read(tokens)


def note(text: str) -> None:
    """A line that should stay, beside the progress or, where nobody shows one, on the error stream."""
    work = _WORK.get()
    if work is not None:
        work.notify(text)
    else:
        print(printable(text), file=sys.stderr, flush=True)
