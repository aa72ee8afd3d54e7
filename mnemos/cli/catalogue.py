"""`mnemos methods` and `schema`: what may be written in a study."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mnemos.cli.options import JsonOption
from mnemos.cli.output import say, say_json


def methods_command(
    name: Annotated[str | None, typer.Argument(help="One method, in full.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The catalogue: each method's name, what it changes, its paper and settings."""
    from mnemos.methods import listing

    rows = listing()
    if name is not None:
        from mnemos.core.method import find

        rows = [row for row in rows if row["name"] == find(name).name]
    if as_json:
        say_json(rows)
        return
    for row in rows:
        say(f"{row['name']:<14} changes {', '.join(row['changes']):<12} {row['paper']}")
        say(f"               {row['summary']}")
        for setting in row["settings"]:
            say(f"               --{setting['name']} {_setting(setting)}")


def schema_command(
    suites: Annotated[bool, typer.Option("--suites", help="Of a suite file: every key of every kind.")] = False,
) -> None:
    """Print the JSON schema of a study file, or of a suite file, for editors."""
    from mnemos.measure import suite_schema
    from mnemos.study import config

    say_json(suite_schema.schema() if suites else config.schema())


def _setting(setting: dict[str, Any]) -> str:
    bounds = f" {setting['bounds']}" if setting.get("bounds") else ""
    default = f"default {setting['default']!r}" if "default" in setting else "required"
    words = f": {setting['description']}" if setting.get("description") else ""
    return f"({setting['type']}{bounds}, {default}){words}"


def register(main: typer.Typer) -> None:
    """Add the commands to the command line."""
    main.command("methods")(methods_command)
    main.command("schema")(schema_command)
