"""What happens behind a step that fails: the run ends at once, or goes on with what does not need it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from mnemos.core.errors import MnemosError, RunError
from mnemos.study.progress import Progress
from mnemos.study.steps import Step

SHOWN = 5
"""Failures that the last message names; the log has all."""


class StepsFailedError(RunError):
    """A run that went on behind failures has come to its end. failed: key of a step -> what it failed with. undone:
    keys of these, and of those that needed one of them, at first or second hand. record: the `Record` of the arms that
    are whole; None before it is made, and where no arm is."""

    record: Any = None

    def __init__(self, failed: Mapping[str, str], undone: frozenset[str], steps: int) -> None:
        self.failed, self.undone = dict(failed), undone
        waited = len(undone) - len(failed)
        words = list(failed.values())[:SHOWN]
        more = len(failed) - len(words)
        super().__init__(
            f"{len(failed)} of {steps} steps failed" + (f", and {waited} more needed them" if waited else ""),
            "; ".join(words) + (f"; and {more} more, which the log names" if more else ""),
            "the same command tries them again and keeps what is finished",
        )


class Failures:
    """Those of one run. steps: what is to be done, each behind its needs.

    keep_going: whether the rest is done all the same. Not where the run's directory or the disk is at fault (RunError,
    OSError), which every further step would meet, and where a worker ended without a word.
    """

    def __init__(self, steps: Sequence[Step], keep_going: bool) -> None:
        self.steps, self.keep_going = tuple(steps), keep_going
        self.undone: set[str] = set()
        self._words: dict[str, str] = {}

    def add(self, step: Step, error: Exception, progress: Progress) -> list[str]:
        """Keys of the steps that will now never begin, this one not among them; raises the error where nothing goes on
        behind it."""
        if not self.keep_going or isinstance(error, RunError | OSError):
            raise error
        self._words[step.key] = f"{step.title}: {_words(error)}"
        before = {*self.undone}
        self.undone.add(step.key)
        # In one pass: each stands behind what it needs.
        for one in self.steps:
            if not self.undone.isdisjoint(one.needs):
                self.undone.add(one.key)
        vain = sorted(self.undone - before - {step.key})
        progress.fail(step.key, _words(error), vain)
        if not isinstance(error, MnemosError):
            progress.log.write("".join(traceback.format_exception(error)))
        # A traceback holds the variables of its functions, and these the model.
        traceback.clear_frames(error.__traceback__)
        return vain

    def refuse(self) -> None:
        """Raise StepsFailedError where one failed."""
        if self._words:
            raise StepsFailedError(self._words, frozenset(self.undone), len(self.steps))


def _words(error: Exception) -> str:
    if not isinstance(error, MnemosError):
        return f"{type(error).__name__}: {error}"
    text = f"{error.value}: {error.bound}" if error.bound else error.value
    return f"{text} ({error.cure})" if error.cure else text
