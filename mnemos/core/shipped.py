"""Whether the models that ship with the package are the files that were built.

A folder of shipped models holds a `manifest.json` whose `files` maps paths below it to SHA-256.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from mnemos.core.errors import ModelError
from mnemos.core.files import read_json

MANIFEST = "manifest.json"


def hashes(folder: Path, *names: str) -> dict[str, str]:
    """Path below `folder` -> SHA-256 (hex), of every file in its folders `names`."""
    files = sorted(path for name in names for path in (folder / name).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def verify(folder: Path, name: str) -> None:
    """Raise ModelError when a file of `folder`/`name` is missing, changed or not in the manifest."""
    if not (folder / MANIFEST).is_file():
        raise ModelError(f"{folder / MANIFEST}", "is missing", "build the patients: make patient")
    listed = {key: value for key, value in read_json(folder / MANIFEST)["files"].items() if key.startswith(f"{name}/")}
    there = hashes(folder, name)
    wrong = sorted(key for key in listed.keys() | there.keys() if listed.get(key) != there.get(key))
    if wrong or not listed:
        raise ModelError(
            f"{folder / (wrong[0] if wrong else name)}",
            "is not the file that was built (SHA-256 differs from the manifest's)",
            "install mnemos again, or rebuild with: make patient",
        )


@lru_cache(maxsize=64)
def verify_once(folder: Path, name: str) -> None:
    """`verify`, once per process and model: a few milliseconds the first time, nothing after."""
    verify(folder, name)
