"""A method is one file in a folder of `methods`: it is found by walking and keeps the laws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mnemos.methods

FILE = '''
"""Keep every second row."""

import dataclasses
from typing import Annotated

from pydantic import Field

from mnemos.core.method import method
from mnemos.core.plan import Plan
from mnemos.methods.examples.replay import PastRows


@method(paper="none", changes={"examples"}, off={"every": 1})
def thin(plan: Plan, *, every: Annotated[int, Field(ge=1)] = 1) -> Plan:
    """Keep one row of several.

    every: of how many rows one is kept.
    """
    return plan
'''


def test_a_file_in_a_folder_is_found(tmp_path: Path) -> None:
    """In a copy of the package, so that the real one stays as it is."""
    import shutil

    source = Path(mnemos.__file__).parent
    shutil.copytree(source, tmp_path / "mnemos", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    (tmp_path / "mnemos" / "methods" / "examples" / "thin.py").write_text(FILE, encoding="utf-8")
    script = "from mnemos.methods import listing; print([row['name'] for row in listing() if row['name'] == 'thin'])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stdout.strip() == "['thin']", done.stderr
