"""What a newcomer waits for: `mnemos --help`, and the demo from a fresh clone.

There is no peer to compare with, so "peer" is the limit that we set ourselves: half a second for
the help text, eight minutes and 4 GB for `make demo` with the installation. The demo runs in a
clone of the committed tree in a temporary folder, in an environment of its own.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Result, compared

ROOT = Path(__file__).parents[1]
HELP_SECONDS, DEMO_SECONDS, DEMO_BYTES = 0.5, 480.0, 4e9
REPETITIONS = 7


def run() -> Iterator[Result]:
    """Start-up first, then the demo."""
    yield start_up()
    yield from demo()


def start_up() -> Result:
    """Seconds of `mnemos --help`, the first and cold one left out."""
    command = [str(Path(sys.executable).with_name("mnemos")), "--help"]
    seconds = [_seconds(command, ROOT) for _ in range(REPETITIONS + 1)][1:]
    return compared(
        "mnemos-help", (seconds, [HELP_SECONDS]), unit="s", direction="lower is better", bound=1.0, details={}
    )


def demo() -> Iterator[Result]:
    """Seconds of `make demo` in a fresh clone, and the largest resident size of any of its processes."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "mnemos"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        seconds = _seconds(["make", "demo"], clone)
        # The demo that was timed is the one that the README shows.
        shutil.rmtree(ROOT / "runs" / "demo", ignore_errors=True)
        shutil.copytree(clone / "runs" / "demo", ROOT / "runs" / "demo", symlinks=True)
    limit = "the limit, for want of a peer"
    yield compared(
        "make-demo",
        ([seconds], [DEMO_SECONDS]),
        unit="s",
        direction="lower is better",
        bound=1.0,
        details={"peer is": limit, "includes": "making the environment"},
    )
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024.0
    yield compared(
        "make-demo-memory",
        ([memory], [DEMO_BYTES]),
        unit="bytes",
        direction="lower is better",
        bound=1.0,
        details={"peer is": limit},
    )


def _seconds(command: list[str], folder: Path) -> float:
    started = time.monotonic()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started
