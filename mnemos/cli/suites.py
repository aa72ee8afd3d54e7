"""`mnemos suites`: the suites that ship with mnemos, and the kinds that a suite may have."""

from __future__ import annotations

import json
from textwrap import fill
from typing import Annotated, Any

import typer

from mnemos.cli.options import JsonOption
from mnemos.cli.output import say, say_json


def suites_command(
    kind: Annotated[str | None, typer.Argument(help="One kind, with its settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Built-in suites, and the kinds of suite with their settings."""
    from mnemos.core.errors import UsageError, nearest
    from mnemos.measure.listing import built_in, by_name, kinds

    rows = kinds()
    if kind is not None:
        rows = [row for row in rows if row["name"] == kind]
        if not rows:
            raise UsageError(f"kind {kind!r}", "is not a known kind", nearest(kind, [row["name"] for row in kinds()]))
    shipped, named = (built_in(), by_name()) if kind is None else ([], [])
    if as_json:
        say_json({"suites": shipped, "by_name": named, "kinds": rows})
        return
    for row in shipped:
        say(f"{row['name']:<24} {row['kind']:<14} {row['items']:>5} items")
    for row in named:
        say(f"{row['name']:<24} {row['kind']:<14} reads {row['data']}")
    if shipped:
        say("")
    for row in rows:
        direction = "higher" if row["better"] == "higher" else "lower"
        say(f"{row['name']:<16} {row['summary']} ({row['unit']}, {direction} is better)")
        for setting in row["settings"] if kind is not None else ():
            say(fill(_words(setting), 100, initial_indent=" " * 17, subsequent_indent=" " * 21))
    if kind is None:
        say("\nmnemos suites KIND shows the settings of a kind; mnemos schema --suites has them for editors.")


def _words(setting: dict[str, Any]) -> str:
    limits = f", {setting['bounds']}" if setting["bounds"] else ""
    value = setting.get("default")
    default = (
        f", default {'none' if value is None else json.dumps(value, ensure_ascii=False)}"
        if "default" in setting
        else ", required"
    )
    return f"{setting['name']}: {setting['type']}{limits}{default}. {setting['description']}".rstrip()


def register(main: typer.Typer) -> None:
    """Add the command to the command line."""
    main.command("suites")(suites_command)
