"""A measurement that the processes of a launch share: each asks the model some suites, and one scores all answers.

They meet in journals, as where they write rows together (`study.synthesis`): the main process finds the answers of the
others there, batch by batch. Judges and sandboxes come behind, in the scoring, so that nobody asks them twice. What
hangs on other answers, on a second model or on a harness is not shared out: the main process asks it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.progress import doing
from mnemos.measure.ask import ALONE, answers_of
from mnemos.measure.suite import Suite
from mnemos.models.forward import kept_batches
from mnemos.study import processes
from mnemos.study.synthesis import Journal, KeptBatches


def shares(suites: Sequence[Suite], count: int) -> list[list[Suite]]:
    """Of the suites that are asked by themselves, those of each of `count` processes: the largest ones first, each to
    whoever has the fewest items so far."""
    out: list[list[Suite]] = [[] for _ in range(count)]
    load = [(0, rank) for rank in range(count)]
    alone = [suite for suite in suites if suite.of is None and suite.ask in ALONE]
    for suite in sorted(alone, key=lambda suite: -len(suite.items)):
        items, rank = heapq.heappop(load)
        out[rank].append(suite)
        heapq.heappush(load, (items + len(suite.items), rank))
    return out


def journal_in(directory: Path) -> Journal:
    """The journal of this process in a step's directory, beside those of the others."""
    return Journal(directory / "journal.jsonl", processes.rank(), processes.count())


def ask_share(load: Callable[[], Any], suites: Sequence[Suite], journal: Journal) -> None:
    """Ask the model that `load` gives this process's suites; it is not called where there are none."""
    own = shares(suites, journal.count)[journal.rank]
    if own:
        model = load()
        with kept_batches(KeptBatches(journal)):
            for suite in own:
                answers_of(model, suite)
    journal.answered(_mark(journal.rank, journal.count), lambda: (True, 0))


def await_shares(journal: Journal) -> None:
    """Wait until every process has asked its suites; the launcher ends all where one fails."""
    doing("waiting for the suites that other processes ask")
    for rank in range(journal.count):
        journal.await_key(_mark(rank, journal.count))


def _mark(rank: int, count: int) -> str:
    return f"process {rank} of {count} has asked its suites"
