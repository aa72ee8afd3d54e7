"""Where suites are written: YAML files, shipped names, mappings, and suites like another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, UsageError, nearest
from mnemos.core.json_text import parse_json
from mnemos.core.places import located
from mnemos.core.yaml_text import read_utf8, read_yaml
from mnemos.measure.kinds import KINDS

BUILT_IN = Path(__file__).parents[1] / "recipes" / "suites"
"""Where suites that ship with mnemos live: a colon in a name is a hyphen in its file's name."""

JUDGED = BUILT_IN / "judged"
"""Suites by name that need a judge, and items that do not ship: both are named by environment variables."""

BENCHMARKS = BUILT_IN / "benchmarks"
"""Public benchmarks by name, whose items do not ship: they are read from $MNEMOS_DATA."""

FOLDERS = (BUILT_IN, JUDGED, BENCHMARKS)

LIKE = "like"
DEEPEST = 8
"""Suites that may be like one another in a row."""


def expanded(spec: Mapping[str, Any], base: Path, depth: int = 0) -> Mapping[str, Any]:
    """The definition itself, or, where it says ``like: name``, that of the suite of this name or file with the keys
    beside it in place of its own: ``{like: human-eval, samples: 20, pass_at: 10, temperature: 0.8}``.

    Paths are then absolute, since the two may lie in different folders. Raises UsageError where there is no one such
    suite.
    """
    if LIKE not in spec:
        return spec
    named, own = spec[LIKE], {key: value for key, value in spec.items() if key != LIKE}
    where = f"suite like {named!r}"
    if not isinstance(named, str) or depth >= DEEPEST:
        raise UsageError(
            where, "names no suite" if depth < DEEPEST else "is like itself", "name a shipped suite or a file"
        )
    if "kind" in own:
        raise UsageError(f"{where}: kind", "is that of the other suite", "take it out, or write the suite in full")
    found = definitions(named, base, depth + 1)
    if len(found) != 1:
        raise UsageError(where, f"is a file of {len(found)} suites", "name one that holds a single suite")
    [(values, folder)] = found
    kind = KINDS.get(str(values.get("kind")))
    if kind is None:
        return {**values, **own}
    return {**located(kind.settings, values, folder), **located(kind.settings, own, base)}


def definitions(spec: str | Mapping[str, Any], base: Path, depth: int = 0) -> Sequence[tuple[Mapping[str, Any], Path]]:
    """Each suite of a file, a shipped name or a mapping, with the folder that its paths are relative to. depth: how
    many suites are like one another on the way here. Raises UsageError, DataError."""
    if isinstance(spec, Mapping):
        return [(expanded(spec, base, depth), base)]
    path = _locate(str(spec), base)
    if path.suffix == ".json":
        value = parse_json(read_utf8(path, DataError), f"{path}")
    else:
        value = read_yaml(path, DataError)
    if isinstance(value, Mapping) and "suites" in value and "kind" not in value:
        strangers = set(value) - {"suites"}
        if strangers:
            raise UsageError(
                f"{path}: {min(strangers, key=str)}", "is not a known key", "beside suites: nothing may stand"
            )
        value = value["suites"]
    entries = value if isinstance(value, list) else [value]
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, Mapping):
            raise UsageError(
                f"{path}: suite {number} = {entry!r}", "must be a mapping", "write {name: …, kind: …, data: …}"
            )
    return [(expanded(entry, path.parent, depth), path.parent) for entry in entries]


def _locate(name: str, base: Path) -> Path:
    path = base / Path(name).expanduser()
    if path.is_file():
        return path
    for folder in FOLDERS:
        built_in = folder / f"{name.replace(':', '-')}.yaml"
        if built_in.parent == folder and built_in.is_file():
            return built_in
    there = sorted(p.stem for folder in FOLDERS for p in folder.glob("*.yaml"))
    raise UsageError(f"suite {name!r}", f"is neither a file under {base} nor a built-in suite", nearest(name, there))
