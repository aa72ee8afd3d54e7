"""Who executes the steps of a run: one module each, and one row in ENGINES."""

from __future__ import annotations

import importlib

from mnemos.core.errors import UsageError, nearest
from mnemos.study.engines.engine import Engine

ENGINES = {
    "local": "mnemos.study.engines.local",
    "pool": "mnemos.study.engines.pool",
}
"""Name -> module with a function `make(jobs, quiet) -> Engine`, imported when it is asked for: an engine may need a
package that is not installed."""


def engine(name: str | None = None, *, jobs: int = 1, quiet: bool = False) -> Engine:
    """The engine called `name`; without a name, local for one job and pool for several. Raises UsageError."""
    chosen = name if name is not None else "local" if jobs == 1 else "pool"
    if chosen not in ENGINES:
        raise UsageError(f"engine {chosen!r}", "is not known", nearest(chosen, ENGINES))
    made: Engine = importlib.import_module(ENGINES[chosen]).make(jobs, quiet)
    return made
