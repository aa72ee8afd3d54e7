"""What runs behind the walls, by kind of job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from mnemos.rewards.sandbox import programs, queries


def _alone(job: dict[str, Any]) -> bytes:
    """A program gets nothing of ours under a name that it could import."""
    package = __name__.split(".")[0]
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]
    return programs.code(job)


JOBS: Mapping[str, Callable[[dict[str, Any]], bytes]] = {"code": _alone, "sql": queries.sql}
"""Every kind of job by name: what it has to say is a word (passed, failed, memory, tests) and details behind it."""
