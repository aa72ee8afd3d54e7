"""What a run says while it works: a bar line on a terminal, plain lines where stderr is piped.

Piped, a line says when a step begins and when it has ended, and at least every EVERY seconds how far it is, so
that a log shows at any time what is going on. Steps say how far they are by `say`, wherever they run.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

EVERY = 30.0
"""Seconds between two lines of a step that goes on, where stderr is no terminal."""

REDRAW = 0.1
"""Seconds between two changes of a terminal's line."""

_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("listener of progress", default=None)


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Within it, `say` calls `listener`."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def say(text: str) -> None:
    """How far the present step is, like ``step 12 of 96``."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(text)


class Progress:
    """What is done of `total` steps. reused: finished before. silent: say nothing.

    live: a terminal is there, on which one line is drawn again and again. Use it as a context: where it is piped,
    a thread of its own writes the lines that are due, since a step may be inside one long call.
    """

    def __init__(self, total: int, reused: int, silent: bool) -> None:
        self.total, self.silent, self.done = total, silent, 0
        self.began = time.monotonic()
        self.live = sys.stderr.isatty() and not silent
        self._running: dict[str, tuple[str, float, str]] = {}
        self._said = self._drawn = self.began
        self._lock, self._over = threading.Lock(), threading.Event()
        if not silent and reused:
            print(f"{reused} finished steps reused", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        if not self.live and not self.silent:
            threading.Thread(target=self._keep_saying, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self.live and self._running:
            print(file=sys.stderr)

    def start(self, key: str, title: str) -> None:
        """Say that a step begins."""
        with self._lock:
            self._running[key] = title, time.monotonic(), ""
            if self.live:
                self._draw()
            elif not self.silent:
                self._line(f"[{self.done}/{self.total}] {title} …")

    def at(self, key: str, text: str) -> None:
        """How far a step is; shown at once on a terminal, else when a line is due."""
        with self._lock:
            if key in self._running:
                self._running[key] = *self._running[key][:2], text
            if self.live and time.monotonic() - self._drawn >= REDRAW:
                self._draw()

    def finish(self, key: str) -> None:
        """Count a step that has ended."""
        with self._lock:
            title, began, _ = self._running.pop(key)
            self.done += 1
            left = f"  {self._left()}" if self.done < self.total else ""
            start = "\r\033[K" if self.live else ""
            if not self.silent:
                self._line(f"{start}[{self.done}/{self.total}] {title}  {time.monotonic() - began:.1f} s{left}")
            if self.live and self._running:
                self._draw()

    def _keep_saying(self) -> None:
        while not self._over.wait(min(1.0, EVERY / 2)):
            with self._lock:
                if time.monotonic() - self._said >= EVERY:
                    for line in self._lines():
                        self._line(line)

    def _lines(self) -> list[str]:
        now = time.monotonic()
        return [
            f"[{self.done}/{self.total}] {title}: {text + ', ' if text else ''}{clock(now - began)} so far"
            for title, began, text in self._running.values()
        ]

    def _line(self, text: str) -> None:
        self._said = time.monotonic()
        print(text, file=sys.stderr, flush=True)

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        now = [f"{title}: {text}" if text else f"{title} …" for title, _, text in self._running.values()]
        line = f"[{self.done}/{self.total}] {' | '.join(now)}  {self._left()}".rstrip()
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    def _left(self) -> str:
        if not self.done:
            return ""
        # By what ended in this call: reused steps took no time, and several jobs at once are in the rate already.
        return f"about {clock((time.monotonic() - self.began) / self.done * (self.total - self.done))} left"


def clock(seconds: float) -> str:
    """Minutes and seconds, like 1:05."""
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
