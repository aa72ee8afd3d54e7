"""The registry of reproductions: which study files are run in which order for which papers.

An entry of reproductions.yaml is a `Reproduction`. Its parts are study files beside the registry (or ``mnemos:…`` for
one that ships elsewhere in the package), each run into a folder of its own below the reproduction's; a part names
what an earlier one or `prepare` made as ``$MNEMOS_REPRODUCTION/…``. What no study makes, such as a fit of laws, is a
function that returns a table (`Reproduction.table`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from mnemos.core.errors import DataError, UsageError, nearest
from mnemos.core.method import validated
from mnemos.core.names import Name, one_file
from mnemos.core.settings import Settings
from mnemos.core.yaml_text import read_yaml

REGISTRY = Path(__file__).parent / "reproductions.yaml"


class Reproduction(Settings):
    """One entry of the registry."""

    name: Annotated[Name, Field(pattern=r"^[a-z0-9-]+$")]
    """What `mnemos reproduce` calls it."""
    title: str
    """One line."""
    papers: list[str] = Field(min_length=1)
    """Whose findings it walks."""
    minutes: int = Field(gt=0)
    """On two cores with two jobs: measured, or estimated where the registry says so."""
    prepare: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """module:function, called with (data, out): reads third-party data, writes files below out/data."""
    make: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """module:function, called behind `prepare` with the same: what a model writes or learns. Left out by a dry run."""
    models: list[Annotated[str, Field(pattern=r"^[\w.-]+$")]] = Field(default=[])
    """Real models that it needs: directories below $MNEMOS_MODELS, named ``$MNEMOS_MODELS/…`` in its study files."""
    parts: list[str] = Field(default=[])
    """Study files in the order in which they are run."""
    table: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """module:function, called behind the parts with (data, out): what no study makes. Writes below out, and returns the
    lines of its table. Left out by a dry run."""

    @model_validator(mode="after")
    def _walks(self) -> Reproduction:
        if not self.parts and self.table is None:
            raise ValueError("has neither parts nor a table, so nothing would be walked")
        return self


def load_reproductions(path: Path = REGISTRY) -> list[Reproduction]:
    """The registry. Raises UsageError for a key that no reproduction has or a missing study file, DataError for a
    reproduction, part or study named twice."""
    if not path.is_file():
        raise UsageError(f"{path}", "does not exist", "give a registry of reproductions, or none for the shipped one")
    rows = read_yaml(path) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(
            f"{path}", "must be a list of reproductions", "write - {name: …, title: …, papers: […], parts: […]}"
        )
    reproductions: list[Reproduction] = [
        validated(Reproduction, row, where=f"reproduction {row.get('name')}") for row in rows
    ]
    studies = [study_name(part, path) for reproduction in reproductions for part in reproduction.parts]
    for reproduction in reproductions:
        _once([Path(part).stem for part in reproduction.parts], f"{path.name}: part of {reproduction.name}")
    _once([reproduction.name for reproduction in reproductions], f"{path.name}: reproduction")
    _once(studies, f"{path.name}: study")
    return reproductions


def _once(names: Sequence[str], what: str) -> None:
    files = [one_file(name) for name in names]
    twice = next((name for name, file in zip(names, files, strict=True) if files.count(file) > 1), None)
    if twice:
        raise DataError(f"{what} {twice}", "is there twice", "rename one")


def find_reproduction(name: str, reproductions: Sequence[Reproduction]) -> Reproduction:
    """The reproduction of this name; UsageError with the nearest one."""
    found = next((reproduction for reproduction in reproductions if reproduction.name == name), None)
    if found is None:
        raise UsageError(
            f"reproduction {name}",
            "is not in the registry",
            nearest(name, [reproduction.name for reproduction in reproductions]),
        )
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
