"""Names for values and files that change exactly when their content does."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mnemos.core.inputs import LENGTH as LENGTH
from mnemos.core.inputs import file_hash


def canonical(value: Any) -> Any:
    """A JSON value that is equal exactly when `value` means the same.

    An object with a ``fingerprint`` (a source, a model handle) stands for itself through it; a
    dataclass is its class name and its fields; sets are sorted. Anything else that JSON has no
    word for is refused: a fingerprint that silently ignored a setting would reuse a wrong step.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else f"float:{value}"
    own = getattr(value, "fingerprint", None)
    if isinstance(own, str):
        return {"fingerprint": own}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        return {"is": kind.__qualname__, **{name: canonical(getattr(value, name)) for name in _compared(kind)}}
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((canonical(item) for item in value), key=json.dumps)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"no fingerprint for {type(value).__name__}: {value!r}")


@lru_cache(maxsize=1024)
def _compared(kind: type[Any]) -> tuple[str, ...]:
    """The fields of a dataclass that tell its values apart; asked once for a class, not once for each of many rows."""
    return tuple(field.name for field in dataclasses.fields(kind) if field.compare)


def fingerprint(value: Any) -> str:
    """The first 16 hex digits of the SHA-256 of `canonical(value)` as sorted JSON."""
    text = json.dumps(canonical(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:LENGTH]


def file_fingerprint(path: str | os.PathLike[str]) -> str:
    """SHA-256 (16 hex digits) of a file's bytes; re-read whenever its size, mtime or ctime changed."""
    return file_hash(path)


def directory_fingerprint(path: str | os.PathLike[str], *, suffixes: tuple[str, ...]) -> str:
    """One fingerprint over every file directly in `path` whose name ends in one of `suffixes`."""
    files = sorted(p for p in Path(path).iterdir() if p.is_file() and p.name.endswith(suffixes))
    return fingerprint({p.name: file_fingerprint(p) for p in files})
