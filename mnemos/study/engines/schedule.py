"""Which step comes next, and the loop that several engines share: hand over what is ready, hear what has happened.

The loop knows neither processes nor clusters. A `Workplace` does, and `benchmarks/schedule_simulation.py` has one whose
clock is simulated.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from mnemos.core.errors import RunError
from mnemos.core.progress import Status
from mnemos.study.engines.failures import Failures
from mnemos.study.progress import Progress
from mnemos.study.steps import Step, distinct, is_done

WAVES = 2
"""Steps that are ready for each place from which on the rest counts as the last wave."""


class Schedule:
    """What is left of `steps`, in their order. Each finished step costs what stands behind it, whatever their number.

    A file system is asked once, in the beginning: one that is shared may show what another machine has just finished
    some seconds late, so from then on a step is done when its engine says so.
    """

    def __init__(self, steps: Sequence[Step], root: Path) -> None:
        every = distinct(steps)
        left = [step for step in every if not is_done(step.key, root)]
        self.steps = tuple(left)
        self.todo = tuple(step.key for step in left)
        self.reused = len(every) - len(left)
        planned = set(self.todo)
        self._steps = dict(enumerate(left))
        self._missing: dict[int, int] = {}
        self._behind: dict[str, list[int]] = {}
        for place, step in self._steps.items():
            # What is no step of this run has to be there already, as the model of an earlier one.
            needs = {key for key in step.needs if key in planned or not is_done(key, root)}
            self._missing[place] = len(needs)
            for key in needs:
                self._behind.setdefault(key, []).append(place)
        # Steps of the longest chain that begins with each; what is behind a step is listed behind it.
        self._chain: dict[int, int] = {}
        for place in reversed(self._steps):
            behind = self._behind.get(self._steps[place].key, ())
            self._chain[place] = 1 + max((self._chain.get(one, 0) for one in behind), default=0)
        self._ready = [place for place, missing in self._missing.items() if missing == 0]
        self._left = len(left)

    @property
    def over(self) -> bool:
        """Whether every step is done, or given up."""
        return self._left == 0

    def ready(self, most: int, running: int = 0) -> list[Step]:
        """Up to `most` steps that may begin beside those that run; they are the caller's now.

        The first listed first, so that the first arms are measured while others still train. In the last WAVES it is
        the longest chain first: a training that begins when all else is done would be waited for alone.
        """
        most = max(most, 0)
        if len(self._ready) > WAVES * (most + running):
            return [self._steps[heapq.heappop(self._ready)] for _ in range(most)]
        self._ready.sort(key=lambda place: (-self._chain[place], place))
        taken, self._ready = self._ready[:most], self._ready[most:]
        heapq.heapify(self._ready)
        return [self._steps[place] for place in taken]

    def finish(self, key: str) -> None:
        """Note a step as done: what waited for it alone is ready."""
        self._left -= 1
        for place in self._behind.pop(key, ()):
            self._missing[place] -= 1
            if self._missing[place] == 0:
                heapq.heappush(self._ready, place)

    def give_up(self, steps: int) -> None:
        """Wait no longer for so many steps: those that failed, and those behind them, which never become ready."""
        self._left -= steps

    def refuse_stuck(self) -> None:
        """Raise RunError where nothing is ready though nothing runs: a step waits for what nobody will do."""
        if not self._ready and self._left:
            place = next(place for place, missing in self._missing.items() if missing)
            step = self._steps[place]
            raise RunError(step.title, f"needs {', '.join(step.needs)}, which nobody does", "run the study again")


class Retries:
    """How often steps were lost with their nodes. most: as often may one be begun again."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.lost: Counter[str] = Counter()

    def count(self, step: Step, node: str) -> None:
        """Note a loss; raise RunError where it was one too many."""
        self.lost[step.key] += 1
        if self.lost[step.key] > self.most:
            raise RunError(
                step.title,
                f"was lost with its node {self.lost[step.key]} times, the last one {node}, and engine.max_retries is "
                f"{self.most}",
                "look at what ends these nodes, or raise engine.max_retries; finished steps are kept",
            )


class Workplace(Protocol):
    """Where steps are worked on."""

    def room(self) -> int:
        """How many more steps may be handed over now."""
        ...

    def begin(self, step: Step) -> Callable[[], Status]:
        """Hand a step over; returns what tells at any time how far it is."""
        ...

    def heard(self) -> Iterable[tuple[str, Status | str | Exception | None]]:
        """Wait until something is known of a step that was begun: its key, and how far it is, a line to show, None
        when it is done, or what it failed with. What keeps the workplace itself from working is raised."""
        ...


def bring_to_done(schedule: Schedule, workplace: Workplace, progress: Progress, *, keep_going: bool = False) -> None:
    """Hand every step over once its needs are done, and return when all are. The first failure is raised, or with
    `keep_going` all of them at the end (see `Failures`)."""
    failures = Failures(schedule.steps, keep_going)
    running: dict[str, Step] = {}
    while not schedule.over:
        # Anew each time: a step that has just ended may have made others ready.
        for step in schedule.ready(workplace.room(), len(running)):
            progress.start(step.key, step.title, workplace.begin(step))
            running[step.key] = step
        if not running:
            schedule.refuse_stuck()
        for key, word in workplace.heard():
            if isinstance(word, Status):
                progress.at(key, word)
            elif isinstance(word, str):
                progress.note(word)
            elif word is None:
                del running[key]
                schedule.finish(key)
                progress.finish(key)
            else:
                schedule.give_up(1 + len(failures.add(running.pop(key), word, progress)))
    failures.refuse()
