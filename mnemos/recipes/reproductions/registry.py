"""The registry of roads: which study files are run in which order for which papers.

An entry of roads.yaml is a `Road`. Its parts are study files beside the registry (or ``mnemos:…`` for
one that ships elsewhere in the package), each run into a folder of its own below the road's; a part names
what an earlier one or `prepare` made as ``$MNEMOS_ROAD/…``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mnemos.core.errors import DataError, UsageError, nearest
from mnemos.core.method import validated
from mnemos.core.names import Name, one_file
from mnemos.core.settings import Settings
from mnemos.core.yaml_text import read_yaml

REGISTRY = Path(__file__).parent / "roads.yaml"


class Road(Settings):
    """One entry of the registry."""

    name: Annotated[Name, Field(pattern=r"^[a-z0-9-]+$")]
    """What `mnemos reproduce` calls it."""
    title: str
    """One line."""
    papers: list[str] = Field(min_length=1)
    """Whose findings it walks."""
    minutes: int = Field(gt=0)
    """Measured on two cores with two jobs."""
    prepare: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """module:function, called with (data, out): reads third-party data, writes files below out/data."""
    parts: list[str] = Field(min_length=1)
    """Study files in the order in which they are run."""


def load_roads(path: Path = REGISTRY) -> list[Road]:
    """The registry. Raises UsageError for a key that no road has or a missing study file, DataError for a
    road, part or study named twice."""
    if not path.is_file():
        raise UsageError(f"{path}", "does not exist", "give a registry of roads, or none for the shipped one")
    rows = read_yaml(path) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}", "must be a list of roads", "write - {name: …, title: …, papers: […], parts: […]}")
    roads: list[Road] = [validated(Road, row, where=f"road {row.get('name')}") for row in rows]
    studies = [study_name(part, path) for road in roads for part in road.parts]
    for road in roads:
        _once([Path(part).stem for part in road.parts], f"{path.name}: part of {road.name}")
    _once([road.name for road in roads], f"{path.name}: road")
    _once(studies, f"{path.name}: study")
    return roads


def _once(names: Sequence[str], what: str) -> None:
    files = [one_file(name) for name in names]
    twice = next((name for name, file in zip(names, files, strict=True) if files.count(file) > 1), None)
    if twice:
        raise DataError(f"{what} {twice}", "is there twice", "rename one")


def find_road(name: str, roads: Sequence[Road]) -> Road:
    """The road of this name; UsageError with the nearest one."""
    found = next((road for road in roads if road.name == name), None)
    if found is None:
        raise UsageError(f"road {name}", "is not in the registry", nearest(name, [road.name for road in roads]))
    return found


def part_path(part: str, registry: Path = REGISTRY) -> Path:
    """Where a part's study file lies."""
    from mnemos.study.paths import resolve_path

    return resolve_path(part, registry.parent)


def study_name(part: str, registry: Path = REGISTRY) -> str:
    """The name under which a part's results are known."""
    path = part_path(part, registry)
    if not path.is_file():
        raise UsageError(f"{registry.name}: {part}", f"does not exist ({path})", "write the study file first")
    raw: Any = read_yaml(path)
    return str(raw.get("name") or path.stem)
