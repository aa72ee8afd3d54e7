"""Environments that hold a part of what is installed: a folder of links in the place of site-packages."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def linked(names: Iterable[str], folder: Path) -> Path:
    """Fill `folder` with links to all that the named distributions have in site-packages."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            place = Path(str(distribution.locate_file(top)))
            if place.exists() and not (folder / top).exists():
                (folder / top).symlink_to(place)
    return folder


def words(*command: str) -> list[str]:
    """What runs a command of mnemos with `variables`: -S keeps the tests' own environment out."""
    return [sys.executable, "-S", "-c", "import sys; from mnemos.cli import main; sys.exit(main())", *command]


def variables(folder: Path) -> dict[str, str]:
    """Those of this process, but that only `folder` and this repository can be imported."""
    kept = {name: value for name, value in os.environ.items() if not re.match(r"PYTHON|COV_|VIRTUAL_ENV", name)}
    return {**kept, "PYTHONPATH": f"{ROOT}:{folder}"}
