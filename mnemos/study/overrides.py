"""`--set key=value`: one key of a study replaced before it is checked."""

from __future__ import annotations

import itertools
import re
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.yaml_text import parse_yaml


def set_key(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Put `value` under a dotted key, in place. Sections that are missing are made; the items of a list have numbers
    from 0. Raises UsageError where the path leads through what is neither, or past the end of a list."""
    parts = dotted.split(".")
    here: Any = raw
    for part, following in itertools.pairwise(parts):
        if isinstance(here, list):
            here = here[_index(here, part, dotted)]
        else:
            if here.get(part) is None:
                here[part] = {}
            here = here[part]
        if not isinstance(here, dict | list):
            raise UsageError(f"--set {dotted}", f"{part} = {here!r} has no {following}", "check the path")
    if isinstance(here, list):
        here[_index(here, parts[-1], dotted)] = value
    else:
        here[parts[-1]] = value


def _index(items: list[Any], part: str, dotted: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", part) or int(part) >= len(items):
        raise UsageError(f"--set {dotted}", f"{part} must be an index below {len(items)}", "count from 0")
    return int(part)


def parse_override(text: str) -> tuple[str, Any]:
    """``key=value`` with the value read as YAML, so that 1e-4 is a number and [0, 1] a list."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UsageError(f"--set {text}", "must be key=value", "for example --set train.learning_rate=1e-4")
    return key, parse_yaml(value, f"--set {text}")
