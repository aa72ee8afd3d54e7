"""Where is kept what belongs to no run and can be made again."""

from __future__ import annotations

import os
from pathlib import Path

from mnemos.core.places import resolved

VARIABLE = "MNEMOS_CACHE"


def cache_folder() -> Path:
    """$MNEMOS_CACHE, else mnemos under $XDG_CACHE_HOME, else ~/.cache/mnemos. Nothing there is needed: what is
    removed is measured or converted again."""
    named = os.environ.get(VARIABLE)
    if named:
        return resolved(Path(named).expanduser())
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return resolved(Path(base).expanduser()) / "mnemos"


def models_folder() -> Path:
    """Where models lie that were written anew from another kind of file (`weights.gguf_convert`)."""
    return cache_folder() / "models"
