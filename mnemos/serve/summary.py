"""What a run comes to in a line, and its results as facts. A results.json that cannot be read is named, and no other
run is kept from being shown."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from mnemos.core.errors import DataError, MnemosError
from mnemos.report.facts import Facts
from mnemos.report.headlines import headline
from mnemos.report.reading import read
from mnemos.report.words import clean
from mnemos.serve.index import Index, stamp_of
from mnemos.serve.live import Live, live
from mnemos.serve.places import RESULTS, Run

MOST_BYTES = 256 << 20
"""Bytes of a results.json that are read."""


@dataclass(frozen=True)
class Line:
    """One run of the list. kind: study, sweep, compare, …; empty while there are no results. words: what was found, or
    why it cannot be read (then `broken`)."""

    id: str
    name: str
    kind: str = ""
    words: str = ""
    arms: int = 0
    broken: bool = False
    live: Live | None = None


class Results:
    """results.json of runs, a few of them kept as facts, and a line of each in the index."""

    def __init__(self, index: Index, most: int = 8) -> None:
        self.index, self.most = index, most
        self._facts: OrderedDict[tuple[Path, str], Facts] = OrderedDict()
        self._lock = Lock()

    def facts(self, run: Run) -> Facts | None:
        """The facts of its results; None where there are none yet. Raises DataError for results that cannot be read."""
        path = run.path / RESULTS
        stamp = stamp_of(path)
        if stamp is None:
            return None
        with self._lock:
            if (path, stamp) in self._facts:
                self._facts.move_to_end((path, stamp))
                return self._facts[path, stamp]
        facts = _facts(path)
        with self._lock:
            self._facts[path, stamp] = facts
            while len(self._facts) > self.most:
                self._facts.popitem(last=False)
        return facts

    def line(self, run: Run) -> Line:
        """The run in a line, with how far it is."""
        path = run.path / RESULTS
        stamp = stamp_of(path)
        now = live(run.path)
        name = clean(run.path.name)[:200] or "run"
        if stamp is None:
            return Line(run.id, name, words="" if now.moves else now.words, live=now)
        kept = self.index.kept(path, stamp)
        if kept is None:
            kept = asdict(self._summed(run, name))
            self.index.keep(path, stamp, kept)
        return replace(Line(**kept), id=run.id, live=now)

    def _summed(self, run: Run, name: str) -> Line:
        try:
            facts = _facts(run.path / RESULTS)
            kind = "sweep" if facts.sweep else facts.kind
            return Line(run.id, name, kind, headline(facts), len(facts.arms))
        except MnemosError as error:
            return Line(run.id, name, words=f"{error.bound or error}", broken=True)


def results_of(path: Path) -> Any:
    """The content of a results.json. Raises DataError."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}", f"is larger than {MOST_BYTES >> 20} MiB", "it is no results.json of mnemos")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}", f"{path.name} cannot be read ({error.strerror})", "the run may be gone") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}", f"{path.name} is not JSON ({error})", "run the study again") from None


def _facts(path: Path) -> Facts:
    results = results_of(path)
    try:
        facts = read(results)
        headline(facts)  # what the list says must be sayable
    except MnemosError:
        raise
    except Exception as error:  # whatever a file that somebody wrote by hand makes of the reading
        words = f"{path.name} is not what mnemos wrote ({type(error).__name__}: {error})"
        raise DataError(f"{path}", words[:500], "run the study again") from error
    return facts
