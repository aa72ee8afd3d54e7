"""What the command line prints: names of files, rows and answers of models may stand in it, and steer no terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError, printable

_OUTSIDE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What steers a terminal, or cannot be written, and stands in JSON as it is."""


def say(text: str, *, as_json: bool = False) -> None:
    """Print lines of text, with escapes for what would steer a terminal. as_json: in JSON's way, so that the texts in
    it are the same when they are read again."""
    print(_OUTSIDE.sub(lambda found: f"\\u{ord(found[0]):04x}", text) if as_json else printable(text))


def say_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    say(json.dumps(value, indent=1, ensure_ascii=False), as_json=True)


def say_choices(rows: Sequence[Mapping[str, Any]], width: int) -> None:
    """Print what an arm can be: name, summary and paper in a line, then settings, then numbered deviations. width: of
    the column of names."""
    for row in rows:
        paper = f" ({row['paper']})" if row["paper"] else ""
        say(f"{row['name']:<{width}} {row['summary']}{paper}")
        settings = {**row["settings"], **row.get("control", {})}
        if settings:
            say(f"{'':<{width}} {', '.join(f'{key} = {value}' for key, value in settings.items())}")
        for number, text in enumerate(row.get("deviations", ()), 1):
            say(f"{'':<{width}} deviation {number}: {text}")


def warn(text: str) -> None:
    """Print a line on the error stream."""
    print(printable(text), file=sys.stderr)


def print_ledger(results: Mapping[str, Any]) -> None:
    """The ledger, in colour on a terminal."""
    from mnemos.report.ledger import show
    from mnemos.report.reading import read

    show(read(results))


def print_run(results: Mapping[str, Any], directory: Path) -> None:
    """The ledger of a run, and where its report lies."""
    from mnemos.core.places import shown

    print_ledger(results)
    say(f"report  {shown(directory / 'report.html')}")


def results_of(directory: Path) -> dict[str, Any]:
    """The results.json of a run directory, or the file itself."""
    from mnemos.core.files import read_json

    path = directory / "results.json" if directory.is_dir() else directory
    if not path.is_file():
        raise UsageError(f"{path}", "does not exist", "give the directory of a finished run")
    try:
        results: dict[str, Any] = read_json(path)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}", f"is not JSON: {error}", "run the study again: finished steps are kept") from None
    return results
