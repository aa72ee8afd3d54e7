"""Peak memory of a stretch of work."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import torch


class Peak:
    """Starts watching when made. On a GPU: memory that tensors took there. On a CPU: resident
    memory of this process, which Linux lets start anew; elsewhere its highest since it began."""

    def __init__(self) -> None:
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.reset_peak_memory_stats()
        _reset_resident()

    def bytes(self) -> int:
        """The highest since the start, in bytes."""
        if torch.cuda.is_available():
            return int(torch.cuda.max_memory_allocated())
        return _highest_resident()


def _reset_resident() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _highest_resident() -> int:
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024
    # macOS counts in bytes, Linux in kilobytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
