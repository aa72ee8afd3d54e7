"""Places as people write them in a study, and how they are shown; `core.places` has the rules."""

from __future__ import annotations

from pathlib import Path

from mnemos.core.places import PACKAGE_PREFIX as PACKAGE_PREFIX
from mnemos.core.places import PATIENTS as PATIENTS
from mnemos.core.places import RECIPES as RECIPES
from mnemos.core.places import author_location as author_location
from mnemos.core.places import data_location as data_location
from mnemos.core.places import located as located
from mnemos.core.places import model_location as model_location
from mnemos.core.places import resolve_path as resolve_path


def shown_path(text: str, folder: Path) -> str:
    """A path as people write it, the inverse of `resolve_path`: ``mnemos:…`` for what ships with the
    package, relative below the study's folder, ``~/…`` below home; anything else as it is."""
    path = Path(text)
    if not path.is_absolute():
        return text
    for start, prefix in ((RECIPES, PACKAGE_PREFIX), (folder.resolve(), ""), (Path.home(), "~/")):
        if path.is_relative_to(start) and path != start:
            return prefix + path.relative_to(start).as_posix()
    return text
