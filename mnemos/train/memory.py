"""Peak memory of a stretch of work, phase by phase."""

from __future__ import annotations

import ctypes
import gc
import re
import resource
import sys
from pathlib import Path

import torch


class Peak:
    """Watches from the moment it is made, which is the first phase's beginning. On a GPU: memory that tensors
    took there. On a CPU: resident memory of this process, which Linux lets start anew; elsewhere its highest
    since it began.

    What earlier work left behind is given back first (see `trim`), so that no phase is charged with it.
    """

    def __init__(self, phase: str) -> None:
        self._phases: dict[str, int] = {}
        self._begin(phase)

    def phase(self, name: str) -> None:
        """End the present phase and begin another one; one that comes again keeps the higher of its peaks."""
        self._close()
        self._begin(name)

    def phases(self) -> dict[str, int]:
        """Phase -> its highest, in bytes; ends the present one."""
        self._close()
        _reset()
        return dict(self._phases)

    def _begin(self, name: str) -> None:
        self._name = name
        trim()
        _reset()

    def _close(self) -> None:
        self._phases[self._name] = max(self._phases.get(self._name, 0), _highest())


def trim() -> None:
    """Collect what nobody refers to, and give free memory back to the system: glibc keeps it otherwise, and
    whatever is measured next would seem to need it."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if give_back is not None:
            give_back(0)


def _reset() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.reset_peak_memory_stats()
    try:
        # 5 sets the high-water mark of resident memory (VmHWM) back to what is resident now.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _highest() -> int:
    """The highest since the last reset, in bytes."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024
    # macOS counts in bytes, Linux in kilobytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
