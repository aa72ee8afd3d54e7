"""Places as people write them: paths, shipped files, hub ids, servers.

A setting that names a place says so by its type (`core.settings`: ModelRef, AskedModelRef, DataRef, FileRef).
`located` finds these types in any settings record and makes the places absolute, so that nothing
is looked for in whatever directory the program happens to run in.
"""

from __future__ import annotations

import errno
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel

from mnemos.core.errors import UsageError
from mnemos.core.settings import Ref
from mnemos.core.shipped import verify_once

PACKAGE_PREFIX = "mnemos:"
RECIPES = Path(__file__).parents[1] / "recipes"
PATIENTS = RECIPES / "patients"
SERVERS = ("http://", "https://")
ENGINE = "vllm:"
"""What stands before a model that vLLM answers for."""


def resolve_path(text: str, folder: Path) -> Path:
    """`text` as an absolute path: ``mnemos:`` means the shipped recipes, ``$NAME`` the
    environment, a relative path the study's folder first and then the current one."""
    if "\0" in text:
        raise UsageError(f"{text!r}", "holds a NUL character, which no path has", "write the path without it")
    if not text.strip():
        raise UsageError(f"{text!r}", "names nothing: it is empty", "name a file, a directory or a hub id")
    if text.startswith(PACKAGE_PREFIX):
        return RECIPES / text.removeprefix(PACKAGE_PREFIX)
    expanded = os.path.expanduser(os.path.expandvars(text))
    if "$" in expanded:
        raise UsageError(f"{text}", "names an environment variable that is not set", "export it first")
    here = folder / expanded
    return resolved(here if here.exists() or not Path(expanded).exists() else Path(expanded))


def resolved(path: Path) -> Path:
    """The path, absolute and without symbolic links. Raises UsageError where these lead in a circle."""
    try:
        return path.resolve()
    except (RuntimeError, OSError) as error:  # RuntimeError: what Python calls a loop
        if isinstance(error, OSError) and error.errno != errno.ELOOP:
            raise
        raise UsageError(f"{path}", "is a loop of symbolic links", "remove the link, or name the file itself") from None


def shown(path: Path) -> str:
    """The path from the working directory, where it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def model_location(text: str, folder: Path, what: str = "model") -> str:
    """A local directory as an absolute path; anything else is left as a hub id. what: the setting, for messages."""
    if not text.strip():
        raise UsageError(f"{what} = {text!r}", "names nothing: it is empty", "name a file, a directory or a hub id")
    path = resolve_path(text, folder)
    if path.exists():
        _check_shipped(path)
        return str(path)
    looks_local = text.startswith((PACKAGE_PREFIX, "/", "./", "../", "~", "$")) or text.count("/") > 1
    if looks_local:
        kind = "file or directory" if what == "data" else "directory"
        raise UsageError(f"{what} = {text}", f"no such {kind} ({path})", f"give a {kind} or a hub id")
    return text


def _check_shipped(path: Path) -> None:
    """A patient that ships with the package must be the one that was built."""
    if path.parent == PATIENTS and path.is_dir():
        verify_once(path.parent, path.name)


def data_location(text: str, folder: Path, what: str = "data") -> str:
    """Data follow the same rule as models: a local path when there is one, a hub id otherwise."""
    return model_location(text, folder, what)


def author_location(text: str, folder: Path, what: str = "model") -> str:
    """A model that is asked for something: a server's address as it is, else like any other model,
    with `vllm:` before it or not."""
    # A server's address may stand in an environment variable as a directory may.
    expanded = os.path.expandvars(text)
    if expanded.startswith(SERVERS):
        return expanded
    engine, place = (ENGINE, text.removeprefix(ENGINE)) if text.startswith(ENGINE) else ("", text)
    return engine + model_location(place, folder, what)


def located(record: type[BaseModel], values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`values` of a settings record with every place in them made absolute, whatever setting it stands in:
    alone, beside null or words of a Literal, in lists, in mappings, in records inside.

    folder: what relative paths are relative to. Raises UsageError as `resolve_path`, and where a
    server stands for a model whose weights are needed.
    """
    out = dict(values)
    for name, info in record.model_fields.items():
        if name in out:
            out[name] = _located(info.annotation, info.metadata, out[name], folder, name)
    return out


def _located(kind: Any, marks: Sequence[Any], value: Any, folder: Path, name: str) -> Any:
    mark = next((one for one in marks if isinstance(one, Ref)), None)
    if mark is not None:
        return _place(mark, value, folder, name) if isinstance(value, str) else value
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _located(inner[0], inner[1:], value, folder, name)
    if origin in (typing.Union, types.UnionType):
        if any(typing.get_origin(one) is Literal and value in typing.get_args(one) for one in inner):
            return value
        for one in inner:
            value = _located(one, (), value, folder, name)
        return value
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return located(kind, value, folder) if isinstance(value, Mapping) else value
    if isinstance(value, Mapping) and len(inner) == 2:
        return {key: _located(inner[1], (), one, folder, f"{name}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple) and inner:
        return type(value)(_located(inner[0], (), one, folder, name) for one in value)
    return value


def _place(mark: Ref, text: str, folder: Path, name: str) -> str:
    if mark.kind == "file":
        return str(resolve_path(text, folder))
    if mark.kind == "asked":
        return author_location(text, folder, name)
    if mark.kind == "model" and text.startswith((*SERVERS, ENGINE)):
        raise UsageError(
            f"{name} = {text}", "is a model that is only asked, and its weights are needed here", "name a directory"
        )
    return model_location(text, folder, name)
