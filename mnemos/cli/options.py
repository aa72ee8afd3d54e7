"""Options that several commands have: one meaning, one default."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mnemos.core.errors import UsageError

DOTTED = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Context settings of a command that takes --some.key VALUE beside its own options."""

JobsOption = Annotated[
    int | None,
    typer.Option("--jobs", min=1, max=10_000, help="Steps at a time: 1; of a cluster, what it has room for."),
]
EngineOption = Annotated[
    str | None,
    typer.Option("--engine", help="Who executes the steps: local, pool or ray; by the study or --jobs unless given."),
]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="HOST:PORT of a Ray cluster; the one that runs here unless given.")
]
KeepGoingOption = Annotated[
    bool, typer.Option("--keep-going", help="Behind a step that fails, do all that does not need it.")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key; repeatable.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print every plan; load no model.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The same as JSON.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Where results are kept.")]


class Group(TyperGroup):
    """A group of commands whose listing says each one's first sentence whole; typer cuts it."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the listing."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, _sentence(one.help or "")) for name, one in commands if one is not None and not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _sentence(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


class Format(StrEnum):
    """Ways to print a report."""

    text = "text"
    json = "json"
    md = "md"
    html = "html"


FormatOption = Annotated[Format, typer.Option("--format", help="text, json, md or html.")]


def engine_of(engine: str | None, address: str | None, keep_going: bool = False) -> dict[str, Any] | None:
    """What --engine, --address and --keep-going ask for, in the keys of a study's `engine`; None for none of them."""
    given = {"name": engine, "address": address, "keep_going": keep_going or None}
    return {key: value for key, value in given.items() if value is not None} or None


class Plain(StrEnum):
    """Ways to print something short."""

    text = "text"
    json = "json"


def overrides_of(pairs: list[str] | None, rest: list[str], verb: str) -> dict[str, Any]:
    """Dotted keys and their values, of --set KEY=VALUE and of options with a dot in their name.

    rest: what the parser left, e.g. ["--train.learning_rate", "1e-4"]. Raises UsageError for anything else in it."""
    from mnemos.study.config import parse_override

    out = dict(parse_override(pair) for pair in pairs or [])
    while rest:
        key, *rest = rest
        if not key.startswith("--") or "." not in key.split("=")[0]:
            raise UsageError(
                f"{key}", f"is not an option of mnemos {verb}", f"see mnemos {verb} --help; keys are --set key=value"
            )
        if "=" not in key:
            if not rest:
                raise UsageError(f"{key}", "has no value", f"write {key} VALUE")
            value, *rest = rest
            key = f"{key}={value}"
        name, value = parse_override(key.removeprefix("--"))
        out[name] = value
    return out
