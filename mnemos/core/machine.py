"""Memory of this machine, as far as this process may have it. Nothing here needs torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
UNLIMITED = 1 << 60
"""Where no limit is set, version 1 of cgroups says a number near 2**63."""


def total_memory() -> int:
    """Bytes of memory: of the machine, or of the control group that this process runs in where that has a limit, as
    containers and batch systems set it."""
    found = _meminfo("MemTotal")
    whole = found if found is not None else int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min([whole, *(limit for limit, _ in _groups())])


def free_memory() -> int:
    """Bytes that can be taken now without anything being written to disk or killed."""
    found = _meminfo("MemAvailable")
    free = total_memory() if found is None else found
    return max(0, min([free, *(limit - used for limit, used in _groups())]))


def resident_memory() -> int:
    """Bytes of memory that this process holds now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        if sys.platform == "darwin":
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return 0
    return pages * int(os.sysconf("SC_PAGE_SIZE"))


def _meminfo(name: str) -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        return 1024 * int(lines[name].split()[0])
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _groups() -> Iterator[tuple[int, int]]:
    """(limit, used) of every control group with a limit that this process is in, its parents among them."""
    try:
        lines = OWN.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:
            root, names = CGROUPS, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = CGROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        # A container may see the tree from its own group on, and its path from the machine's.
        place = root / path.lstrip("/")
        for folder in (place, *place.parents):
            if not folder.is_relative_to(root):
                break
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and limit < UNLIMITED:
                yield limit, max(0, (used or 0) - _reclaimable(folder))


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max" is no number
        return None


def _reclaimable(folder: Path) -> int:
    """What is charged to the group for files that were read and can be read again."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = dict(line.rsplit(" ", 1) for line in lines if " " in line)
    return int(found.get("total_inactive_file", found.get("inactive_file", 0)))
