"""What a run shows while it works: a line a running step, drawn again in place on a terminal, plain lines where stderr
is piped, and the same lines with their time in the run's log.

Piped and in the log, a line says when a step begins and when it has ended, and at least every EVERY seconds how far it
is, so that it shows at any time what is going on. What steps do and count is said by `core.progress`; a thread asks
for it, since a step may be inside one long call.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from textwrap import indent

from mnemos.core.errors import printable
from mnemos.core.progress import Status, Work, clock, working

EVERY = 30.0
"""Seconds between two lines of a step that goes on, where stderr is no terminal, and in the log."""

EARLY = 5.0
"""Seconds before EVERY is over at which a line is written: a busy machine wakes a thread late."""

REDRAW = 0.5
"""Seconds between two drawings of a terminal's lines."""

SHORT = 2.0
"""Seconds within which what is no step (planning, comparing) is not worth a line."""

LOG = "log.txt"
"""The file in a run's directory."""


class Log:
    """Lines with their time, at the end of a file that several runs share. path: None for no file."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, text: str) -> None:
        """Add a line. Further lines of the text stand below it, indented."""
        if self.path is None:
            return
        stamp = datetime.now().astimezone().isoformat(timespec="seconds")
        # Opened anew for each line: a directory that was removed or moved meanwhile is none of the log's business,
        # and what the run itself cannot write is said elsewhere.
        with suppress(OSError), open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{stamp}  {printable(text)}".replace("\n", "\n    ") + "\n")


@contextmanager
def logged(log: Log, words: str) -> Iterator[None]:
    """Say in the log that a run begins, in `words`, and how it ended."""
    log.write(words)
    try:
        yield
    except KeyboardInterrupt:
        log.write("stopped; the same command continues")
        raise
    except BaseException as error:
        log.write(f"failed: {error}")
        raise
    log.write("done")


@dataclass
class _Running:
    title: str
    began: float
    status: Callable[[], Status]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


class Progress:
    """What is done of the steps `todo`, by key. reused: finished before. silent: nothing on stderr. log: gets every
    line that is shown where stderr is piped.

    live: a terminal is there, on which one line for each running step is drawn again and again. Use it as a context.
    """

    def __init__(self, todo: Sequence[str], reused: int = 0, *, silent: bool, log: Log | None = None) -> None:
        self.todo, self.reused, self.silent, self.log = tuple(todo), reused, silent, log or Log(None)
        self.live = not silent and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.seconds: dict[str, tuple[int, float]] = {}
        self._done = 0
        self._rest = Counter(map(_kind, self.todo))
        self._running: dict[str, _Running] = {}
        self._most = 1
        self._drawn: list[str] = []
        self._written = time.monotonic()
        # An RLock: what interrupts the thread that holds it may say a line too.
        self._lock, self._over = threading.RLock(), threading.Event()
        self._thread = threading.Thread(target=self._keep_reporting, daemon=True)

    def __enter__(self) -> Progress:
        if self.reused:
            self._line(f"{self.reused} finished steps reused")
        if self.live or not self.silent or self.log.path is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._drawn:
            self._print("\n")

    def start(self, key: str, title: str, status: Callable[[], Status] = Status) -> None:
        """Say that a step begins. status: tells how far it is, at any time."""
        with self._lock:
            self._running[key] = _Running(title, time.monotonic(), status)
            self._most = max(self._most, len(self._running))
            if self.todo:
                self._line(f"{self._place()}{title} …", begins=True)

    def at(self, key: str, status: Status) -> None:
        """How far a step was when it said so; for steps of other processes."""
        with self._lock:
            if key in self._running:
                self._running[key].status = lambda: status

    def note(self, text: str) -> None:
        """A line, or several, that stay where they are."""
        with self._lock:
            self._line(text)

    def finish(self, key: str) -> None:
        """Count a step that has ended."""
        with self._lock:
            one = self._running.pop(key)
            self._done += 1
            self._rest[_kind(key)] -= 1
            count, total = self.seconds.get(_kind(key), (0, 0.0))
            self.seconds[_kind(key)] = count + 1, total + one.seconds
            if self.todo or one.seconds >= SHORT:
                took = f"{one.seconds:.1f} s" if one.seconds < 60 else clock(one.seconds)
                self._line(f"{self._place()}{one.title}  {took}{self._left()}")

    def fail(self, key: str, why: str, vain: Sequence[str] = ()) -> None:
        """Say that a step failed, and that the run goes on without it and without `vain`, which needed it."""
        with self._lock:
            one = self._running.pop(key)
            self._rest.subtract(map(_kind, (key, *vain)))
            behind = " and what needs it" if vain else ""
            self._line(f"{self._place()}{one.title}: failed; the run goes on without it{behind}\n{indent(why, '  ')}")

    def _keep_reporting(self) -> None:
        while not self._over.wait(REDRAW if self.live else min(1.0, EVERY / 2)):
            with self._lock:
                if time.monotonic() - self._written >= EVERY - EARLY:
                    for line in self._lines():
                        self._write(line, terminal=False)
                    self._written = time.monotonic()
                if self.live:
                    self._draw()

    def _lines(self) -> list[str]:
        lines = []
        for one in self._running.values():
            if self.todo or one.seconds >= SHORT:
                known = str(one.status())
                lines.append(f"{self._place()}{one.title}: {known + ', ' if known else ''}{clock(one.seconds)} so far")
        return lines

    def _line(self, text: str, *, begins: bool = False) -> None:
        """A line for stderr and log. begins: that of a step, which a terminal draws anyway."""
        self._written = time.monotonic()
        self._write(text, terminal=not begins)
        if self.live:
            self._draw()

    def _write(self, text: str, *, terminal: bool) -> None:
        self.log.write(text)
        if not self.silent and (terminal or not self.live):
            self._print(f"{self._erased()}{printable(text)}\n")

    def _draw(self) -> None:
        """One line a running step, none of them wider than the terminal: a line that wraps could not be erased."""
        width, height = shutil.get_terminal_size()
        lines = self._lines()
        if len(lines) > height - 1:
            lines = [*lines[: height - 2], f"… and {len(lines) - height + 2} more"]
        lines = [_cut(printable(line), width - 1) for line in lines]
        if lines != self._drawn:
            self._print(self._erased() + "\n".join(lines))
            self._drawn = lines

    def _erased(self) -> str:
        """What takes the lines that were drawn last off the terminal."""
        lines, self._drawn = len(self._drawn), []
        return "\r" + "\033[A" * (lines - 1) + "\033[J" if lines else ""

    def _print(self, text: str) -> None:
        # A terminal that is gone, as behind nohup, ends no run.
        with suppress(OSError, ValueError):
            print(text, end="", file=sys.stderr, flush=True)

    def _place(self) -> str:
        return f"[{self._done}/{len(self.todo)}] " if self.todo else ""

    def _left(self) -> str:
        """How long the rest takes if steps of each kind go on to take what they took; unknown before each kind that
        is left has ended once."""
        # Counted by kind: a run may have ten thousand steps, and this is asked whenever one ends.
        rest = {kind: count for kind, count in self._rest.items() if count > 0}
        if not rest or any(kind not in self.seconds for kind in rest):
            return ""
        means = {kind: total / count for kind, (count, total) in self.seconds.items()}
        seconds = sum(count * means[kind] for kind, count in rest.items())
        seconds -= sum(min(means[_kind(key)], one.seconds) for key, one in self._running.items() if _kind(key) in rest)
        return f", about {clock(seconds / self._most)} left of the run"


def _kind(key: str) -> str:
    """What a step does: train, measure, write, weights."""
    return key.split("-", 1)[0]


def _cut(text: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)).rstrip() + "…"


@contextmanager
def phase(title: str, *, silent: bool, log: Log | None = None) -> Iterator[None]:
    """A part of a run that is no step. Shown where it takes longer than SHORT seconds."""
    with Progress((), silent=silent, log=log) as progress:
        work = Work(progress.note)
        progress.start(title, title, work.status)
        with working(work):
            yield
        progress.finish(title)
