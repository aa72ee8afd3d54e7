"""How far a run is, read from its own files: its log, its lock's owner and, on Linux, the memory of its processes.

The runner writes a line into its log when a step begins and ends and at least every half a minute between; nothing is
asked of it. Only the last part of a log is read, however long it is.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from mnemos.study.progress import LOG

MOST_READ = 256 << 10
"""Bytes of a log's end that are read."""

SILENT = 300.0
"""Seconds without a line after which a run whose process is there is called silent: it writes ten times as often."""

State = Literal["running", "silent", "done", "failed", "stopped", "ended", "unknown"]

_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\S+)  (.*)")
_BEGINS = re.compile(r"mnemos \S+: (?:.*, \d+ steps|(?:stream|adapt) .*)")
_PLACE = re.compile(r"\[(\d+)/(\d+)\] (.*)")
_AMOUNT = re.compile(r"(\d[\d,]*) of (\d[\d,]*) (\w+)")
_LOSS = re.compile(r"\bloss (-?\d+(?:\.\d+)?)")
_RATE = re.compile(r"(\d[\d,.]*) tokens/s")
_LEFT = re.compile(r"([\d:]+) left\b")
_RUN_LEFT = re.compile(r"about ([\d:]+) left of the run")
_SO_FAR = re.compile(r", ([\d:]+) so far$")


@dataclass(frozen=True)
class Step:
    """One step of the present attempt. done of total, in `unit`; rate: tokens a second; left, took: as the log says
    them. losses: (step, loss) of the log's lines, newest last."""

    title: str
    running: bool = True
    doing: str = ""
    done: int | None = None
    total: int | None = None
    unit: str = ""
    loss: float | None = None
    rate: str = ""
    left: str = ""
    took: str = ""
    losses: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Live:
    """How far a run is. words: what it says itself at its end. done of total: steps, those reused included. left: of
    the run. quiet: seconds since its last line. memory: bytes that its processes hold; None where that is not known."""

    state: State = "unknown"
    words: str = ""
    done: int = 0
    total: int = 0
    left: str = ""
    quiet: float | None = None
    memory: int | None = None
    steps: tuple[Step, ...] = field(default=())

    @property
    def moves(self) -> bool:
        """Whether more is to be expected."""
        return self.state in ("running", "silent")


def live(path: Path) -> Live:
    """How far the run in `path` is now."""
    lines = _attempt(path / LOG)
    found = _read(lines)
    if found.state != "unknown" or not lines:
        return found
    pid = _owner(path)
    quiet = max(0.0, time.time() - lines[-1][0])
    if pid is None or not _alive(pid):
        return replace(found, state="ended", words="its process is gone; the same command continues it", quiet=quiet)
    state: State = "silent" if quiet > SILENT else "running"
    return replace(found, state=state, quiet=quiet, memory=memory_of(pid))


def version(path: Path) -> str:
    """Changes when what `live` says may have changed."""
    parts = []
    for name in (LOG, "results.json", "steps.json", ".lock.owner"):
        try:
            found = (path / name).stat()
            parts.append(f"{found.st_mtime_ns}-{found.st_size}")
        except OSError:
            parts.append("none")
    return "/".join(parts)


def _attempt(path: Path) -> list[tuple[float, str]]:
    """Time and text of the lines of the last attempt, without what stands indented below a line."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - MOST_READ))
            text = file.read(MOST_READ).decode("utf-8", "replace")
    except OSError:
        return []
    lines: list[tuple[float, str]] = []
    for line in text.split("\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        try:
            when = datetime.fromisoformat(match[1]).timestamp()
        except (ValueError, OverflowError):
            continue
        if _BEGINS.fullmatch(match[2]):
            lines = []
        lines.append((when, match[2]))
    return lines


def _read(lines: list[tuple[float, str]]) -> Live:
    steps: dict[str, Step] = {}
    done = total = reused = 0
    state: State = "unknown"
    words = left = ""
    for _, text in lines:
        place = _PLACE.fullmatch(text)
        if place:
            done, total = int(place[1]), int(place[2])
            left = _found(_RUN_LEFT, place[3]) or left
            _take(steps, place[3])
        elif text == "done":
            state = "done"
        elif text.startswith(("failed: ", "stopped")):
            state = "failed" if text.startswith("failed") else "stopped"
            words = text.removeprefix("failed: ")
        elif match := re.fullmatch(r"(\d+) finished steps reused", text):
            reused = int(match[1])
    ended = state != "unknown"
    kept = tuple(replace(step, running=step.running and not ended) for step in steps.values())
    return Live(state, words, done + reused, total + reused, "" if ended else left, steps=kept)


def _take(steps: dict[str, Step], text: str) -> None:
    """One line of a step: that it begins, how far it is, or that it has ended."""
    if text.endswith(" …"):
        steps[text[:-2]] = Step(text[:-2])
        return
    # A title may hold colons and whatever else an arm is called, so it is known by its beginning alone.
    known = [title for title in steps if text.startswith((f"{title}: ", f"{title}  "))]
    if not known:
        return
    title = max(known, key=len)
    step, rest = steps[title], text[len(title) :]
    if rest.startswith("  "):
        steps[title] = replace(step, running=False, took=rest.strip().split(",")[0], left="", rate="")
        return
    amount, loss = _AMOUNT.search(rest), _LOSS.search(rest)
    done = int(amount[1].replace(",", "")) if amount else step.done
    value = float(loss[1]) if loss else None
    losses = step.losses if value is None or done is None else (*step.losses, (done, value))
    steps[title] = replace(
        step,
        doing=rest[2:],
        done=done,
        total=int(amount[2].replace(",", "")) if amount else step.total,
        unit=amount[3] if amount else step.unit,
        loss=step.loss if value is None else value,
        rate=_found(_RATE, rest),
        left=_found(_LEFT, rest),
        took=_found(_SO_FAR, rest),
        losses=losses,
    )


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""


def _owner(path: Path) -> int | None:
    try:
        with open(path / ".lock.owner", encoding="ascii", errors="replace") as file:
            match = re.search(r"\d{1,9}", file.read(100))
    except OSError:
        return None
    return int(match[0]) if match else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return pid > 0


def memory_of(pid: int) -> int | None:
    """Resident bytes of a process and those that it started; None without Linux's /proc."""
    waiting, total, seen = [pid], 0, 0
    while waiting and seen < 1000:
        one = waiting.pop()
        seen += 1
        try:
            status = Path(f"/proc/{one}/status").read_text(encoding="utf-8", errors="replace")
            for children in Path(f"/proc/{one}/task").glob("*/children"):
                waiting += [int(child) for child in children.read_text().split()]
        except (OSError, ValueError):
            continue
        match = re.search(r"^VmRSS:\s+(\d+) kB", status, flags=re.M)
        total += 1024 * int(match[1]) if match else 0
    return total or None
