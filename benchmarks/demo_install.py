"""What `make demo` installs beside what it installed when there was one lock for everything: seconds and bytes.

Both sides are made as the Makefile makes them, in fresh environments in a temporary folder: torch first, then the lock.
What pip has downloaded before stays in its cache, and a first pass that is not timed fills it.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Result, compared

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements-demo.lock", "requirements.lock")
BOUND = 0.7
"""At least 30 % less of both."""
REPETITIONS = 2


def run(items: int = REPETITIONS) -> Iterator[Result]:
    """Environments of both locks, made in turn. items: how often."""
    with tempfile.TemporaryDirectory() as folder:
        _wheels(Path(folder))
        pairs = [[made(ROOT / lock, Path(folder) / "venv") for lock in LOCKS] for _ in range(items)]
    for number, (name, unit) in enumerate((("demo-install", "s"), ("demo-install-size", "bytes"))):
        ours, peer = ([float(pair[side][number]) for pair in pairs] for side in (0, 1))
        yield compared(
            name,
            (ours, peer),
            unit=unit,
            direction="lower is better",
            bound=BOUND,
            details={
                "ours is": LOCKS[0],
                "peer is": LOCKS[1],
                "packages": [len((ROOT / lock).read_text().split()) for lock in LOCKS],
                "processor seconds": [[round(one[2], 1) for one in pair] for pair in pairs],
            },
        )


def made(lock: Path, place: Path) -> tuple[float, int, float]:
    """Seconds, bytes and processor seconds of an environment of a lock; it is removed again."""
    before, started = _processor(), time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    torch = next(line for line in lock.read_text().splitlines() if line.startswith("torch=="))
    for what in ([torch], ["-r", str(lock)]):
        _pip(place / "bin" / "python", "install", *what)
    seconds, processor = time.monotonic() - started, _processor() - before
    size = sum(file.lstat().st_size for file in place.rglob("*") if file.is_file() and not file.is_symlink())
    subprocess.run(["rm", "-rf", str(place)], check=True)
    return seconds, size, processor


def _wheels(folder: Path) -> None:
    """Have pip keep every wheel of the longer lock."""
    _pip(Path(sys.executable), "download", "--no-deps", "--dest", str(folder / "wheels"), "-r", str(ROOT / LOCKS[1]))
    subprocess.run(["rm", "-rf", str(folder / "wheels")], check=True)


def _pip(python: Path, *words: str) -> None:
    subprocess.run([str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *words], check=True)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
