"""One gigabyte of pages through FineWeb's filters and exact deduplication: the peak memory of the whole process.

    MNEMOS_DATA=… python -m benchmarks filter_memory      a quarter of an hour on one core

filter-memory: resident megabytes of `mnemos data filter --preset fineweb --dedup exact` at its highest, on C4's and
DCLM's pages over and over, each with a number of its own so that none is a duplicate. The peer is the bound, 1,000 MB.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import Result, compared
from benchmarks.schooling import pages

BYTES = 10**9
MEGABYTES = 1000.0
MEASURED = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"code": done.returncode, "kilobytes": usage.ru_maxrss, "seconds": usage.ru_utime + usage.ru_stime}))
"""
"""A small parent: a process's peak counts that of the one it was forked from."""


def run() -> Iterator[Result]:
    """The one result."""
    with tempfile.TemporaryDirectory() as folder:
        yield streamed(Path(folder), BYTES)


def streamed(folder: Path, size: int) -> Result:
    """Filter so many bytes of pages within a folder."""
    text = folder / "pages.jsonl"
    count = write(text, size)
    words = ["data", "filter", str(text), "--preset", "fineweb", "--dedup", "exact", "--out", str(folder / "filtered")]
    started = time.monotonic()
    command = [sys.executable, "-c", MEASURED, sys.executable, "-m", "mnemos", *words]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    if found["code"]:
        raise RuntimeError(f"mnemos data filter ended with {found['code']}")
    record = json.loads((folder / "filtered/filter.json").read_text())
    details: dict[str, Any] = {
        "bytes": text.stat().st_size, "pages": count, "kept": record["kept"], "processor seconds": found["seconds"],
        "seconds": time.monotonic() - started,
    }  # fmt: skip
    megabytes = found["kilobytes"] * 1024 / 1e6
    return compared("filter-memory", ([megabytes], [MEGABYTES]), unit="MB", direction="lower is better", bound=1.0,
                    details=details)  # fmt: skip


def write(path: Path, size: int) -> int:
    """Pages over and over until the file has so many bytes; returns how many there are."""
    texts, count, written = pages(), 0, 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            row = json.dumps({"text": f"{count} {texts[count % len(texts)]}"}, ensure_ascii=False) + "\n"
            written += len(row.encode())
            file.write(row)
            count += 1
    return count
