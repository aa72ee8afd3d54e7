"""What the machine has: its GPU and how fast that could be, and which packages are missing."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]

PEAK = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "4090": 165e12,
    "3090": 71e12,
}
"""Dense bfloat16 operations a second with float32 sums, from the makers' data sheets; names with more letters first."""

PEERS = ("trl", "peft", "datasets", "lm-eval")
"""Beside what mnemos needs: the other side of each comparison, and what it stands on."""


def peak(name: str) -> float | None:
    """Operations a second that the data sheet of the GPU `name` promises, None where it is not in the table."""
    return next((value for word, value in PEAK.items() if word in name), None)


def missing() -> list[str]:
    """Packages that this interpreter lacks, as ``name==version`` of the lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [re.split(r"[^A-Za-z0-9._-]", entry, maxsplit=1)[0] for entry in project["dependencies"]]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    versions = {_plain(line.split("==")[0]): line.strip() for line in lock if "==" in line}
    return [versions.get(_plain(name), name) for name in [*needed, *PEERS] if not _installed(name)]


def how_to_carry(packages: list[str]) -> str:
    """What brings missing packages to a machine without a network, in words and commands."""
    names = " ".join(packages)
    return (
        f"this machine lacks {', '.join(packages)}. Where there is a network:\n"
        f"  python -m pip download --only-binary :all: --dest wheels {names}\n"
        "and here, with the directory wheels/ beside this one:\n"
        f"  python -m pip install --no-index --find-links wheels {names}"
    )


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
