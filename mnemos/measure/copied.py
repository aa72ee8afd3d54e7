"""Answers to old suites that are a taught answer word for word: the model repeats its rows, whatever it is asked.

A few rows taught for long can leave a model that gives one of their answers to everything. A count of refusals does not
see that ("I am your agent. The lamp is on." refuses nothing), nor does any suite of form.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mnemos.core.nouns import Answer, Example
from mnemos.measure.ask import Measured
from mnemos.measure.suite import Suite

SHARE, FEWEST = 0.10, 3
"""Of a suite's answers: the rise in their share, and in their number, from which on it is worth a sentence."""

LEAST = 20
"""Characters from which on an answer that was cut off counts where a taught one begins with it."""


class Taught:
    """The answers of the rows that are taught, compared without regard to white space."""

    def __init__(self, rows: Iterable[Example]) -> None:
        answers = {_plain(row.turns[-1].text) for row in rows if row.turns and row.turns[-1].role == "assistant"}
        self._answers = sorted(answers - {""})
        self._whole = frozenset(self._answers)

    def hold(self, answer: Answer) -> bool:
        """Whether the answer is one of them, or, where it was cut off at its longest, the beginning of one."""
        text = _plain(answer.text or "")
        if text in self._whole:
            return True
        if answer.finished is not False or len(text) < LEAST:
            return False
        # Sorted, so that all which begin with a text stand together from its place on.
        place = bisect_left(self._answers, text)
        return place < len(self._answers) and self._answers[place].startswith(text)


def _plain(text: str) -> str:
    return " ".join(text.split())


def copied(
    suites: Iterable[Suite],
    roles: Mapping[str, str],
    before: Mapping[str, Measured],
    runs: Sequence[Mapping[str, Measured]],
    taught: Taught,
) -> list[dict[str, Any]]:
    """The old suites to which the runs of an arm answer with taught answers, more often than the model before did:
    {suite, items, before, after: one count a run}. An answer that is missing counts as none."""
    found = []
    for suite in suites:
        if roles.get(suite.name) != "old" or suite.ask != "generate" or suite.of is not None:
            continue
        first = sum(map(taught.hold, before[suite.name].answers))
        after = [sum(map(taught.hold, run[suite.name].answers)) for run in runs]
        rise = sum(after) / len(after) - first
        if rise >= FEWEST and rise >= SHARE * len(suite.items):
            found.append({"suite": suite.name, "items": len(suite.items), "before": first, "after": after})
    return found
