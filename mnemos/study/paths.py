"""Places as people write them in a study: paths, shipped files, hub ids."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.shipped import verify_once

PACKAGE_PREFIX = "mnemos:"
RECIPES = Path(__file__).parents[1] / "recipes"
PATIENTS = RECIPES / "patients"


def resolve_path(text: str, folder: Path) -> Path:
    """`text` as an absolute path: ``mnemos:`` means the shipped recipes, ``$NAME`` the
    environment, a relative path the study's folder first and then the current one."""
    if text.startswith(PACKAGE_PREFIX):
        return RECIPES / text.removeprefix(PACKAGE_PREFIX)
    expanded = os.path.expanduser(os.path.expandvars(text))
    if "$" in expanded:
        raise UsageError(f"{text}", "names an environment variable that is not set", "export it first")
    here = folder / expanded
    return here.resolve() if here.exists() or not Path(expanded).exists() else Path(expanded).resolve()


def model_location(text: str, folder: Path) -> str:
    """A local directory as an absolute path; anything else is left as a hub id."""
    path = resolve_path(text, folder)
    if path.exists():
        _check_shipped(path)
        return str(path)
    looks_local = text.startswith((PACKAGE_PREFIX, "/", "./", "../", "~", "$")) or text.count("/") > 1
    if looks_local:
        raise UsageError(f"model = {text}", f"no such directory ({path})", "give a Hugging Face directory or a hub id")
    return text


def _check_shipped(path: Path) -> None:
    """A patient that ships with the package must be the one that was built."""
    if path.parent == PATIENTS and path.is_dir():
        verify_once(path.parent, path.name)


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


data_location = model_location
"""Data follow the same rule as models: a local path when there is one, a hub id otherwise."""


def author_location(text: str, folder: Path) -> str:
    """A model that is asked for something: a server's address as it is, else like any other model,
    with `vllm:` before it or not."""
    if text.startswith(("http://", "https://")):
        return text
    engine, place = ("vllm:", text.removeprefix("vllm:")) if text.startswith("vllm:") else ("", text)
    return engine + model_location(place, folder)


def reward_locations(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A reward's settings with the places that they name."""
    out = dict(settings)
    if isinstance(out.get("model"), str):
        out["model"] = model_location(out["model"], folder)
    if isinstance(out.get("judge"), str) and out["judge"] != "self":
        out["judge"] = author_location(out["judge"], folder)
    for name in ("constitution", "database"):
        if isinstance(out.get(name), str):
            out[name] = str(resolve_path(out[name], folder))
    return out
