"""What a piece of work cost in memory."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def peak_memory_bytes() -> int:
    """The most memory that this process has held since `reset_peak_memory` (else its start), in
    bytes: allocated on the GPUs if torch uses one, else resident.

    Trap: resident memory counts whatever earlier work in the same process has not given back.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return sum(int(torch.cuda.max_memory_allocated(i)) for i in range(torch.cuda.device_count()))
    # Not ru_maxrss where it can be helped: on Linux a child process inherits its parent's.
    if STATUS.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())):
        return int(found[1]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def reset_peak_memory() -> bool:
    """Start counting the peak anew from what is held now; False where the system cannot."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        for i in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(i)
        return True
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True
