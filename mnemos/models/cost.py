"""What a piece of work cost in memory."""

from __future__ import annotations

import resource
import sys


def peak_memory_bytes() -> int:
    """The most memory this process has held so far, in bytes: of the GPUs if torch uses one,
    else resident memory.

    Trap: it never falls, so a later piece of work in the same process reports at least the peak
    of an earlier one; run what you compare in processes of their own.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return sum(int(torch.cuda.max_memory_allocated(i)) for i in range(torch.cuda.device_count()))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
