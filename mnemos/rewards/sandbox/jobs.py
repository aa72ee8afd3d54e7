"""What runs behind the walls, by kind of job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mnemos.rewards.sandbox import functions, programs, queries


def _alone(run: Callable[[dict[str, Any]], bytes], job: dict[str, Any]) -> bytes:
    """A program gets nothing of ours under a name that it could import."""
    package = __name__.split(".")[0]
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]
    return run(job)


JOBS: Mapping[str, Callable[[dict[str, Any]], bytes]] = {
    "code": partial(_alone, programs.code),
    "sql": queries.sql,
    "functions": partial(_alone, functions.functions),
}
"""Every kind of job by name: what it has to say is a word (passed, failed, memory, tests) and details behind it."""
