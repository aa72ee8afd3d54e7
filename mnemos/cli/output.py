"""What the command line prints: names of files, rows and answers of models may stand in it, and steer no terminal."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from mnemos.core.errors import printable

_OUTSIDE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What steers a terminal, or cannot be written, and stands in JSON as it is."""


def say(text: str, *, as_json: bool = False) -> None:
    """Print lines of text, with escapes for what would steer a terminal. as_json: in JSON's way, so that the texts in
    it are the same when they are read again."""
    print(_OUTSIDE.sub(lambda found: f"\\u{ord(found[0]):04x}", text) if as_json else printable(text))


def say_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    say(json.dumps(value, indent=1, ensure_ascii=False), as_json=True)


def warn(text: str) -> None:
    """Print a line on the error stream."""
    print(printable(text), file=sys.stderr)
