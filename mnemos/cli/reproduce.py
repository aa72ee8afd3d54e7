"""`mnemos reproduce`: walk published reproductions again and print whether each ordering holds here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mnemos.cli.options import (
    DOTTED,
    AddressOption,
    DryRunOption,
    EngineOption,
    JobsOption,
    QuietOption,
    SetOption,
    engine_of,
    overrides_of,
)
from mnemos.cli.output import say
from mnemos.core.errors import UsageError


def reproduce_command(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]…", help="Reproductions; see --list.")] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Name, minutes, papers and title of every reproduction.")
    ] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="Every reproduction, unattended; one that fails stops no other.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Each reproduction has a folder of its own in it.")] = Path(
        "runs/reproductions"
    ),
    part: Annotated[
        list[str] | None,
        typer.Option("--part", metavar="PART", help="Of one reproduction, this part alone; repeatable."),
    ] = None,
    jobs: JobsOption = None,
    engine: EngineOption = None,
    address: AddressOption = None,
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    reproductions: Annotated[
        Path | None, typer.Option("--registry", help="A registry of your own instead of the shipped.")
    ] = None,
) -> None:
    """Run published findings again and print, for each ordering, the paper's number, ours and whether it holds."""
    given = names or []
    # Any number of names takes what the parser does not know with them: dotted keys begin at the first option.
    first = next((place for place, word in enumerate(given) if word.startswith("--")), len(given))
    names, rest = given[:first], [*given[first:], *context.args]
    if list_ + all_ + bool(names) != 1:
        raise UsageError("mnemos reproduce", "needs one of NAME, --list and --all", "mnemos reproduce --list")
    if part and len(names) != 1:
        raise UsageError("--part", "needs one reproduction", "mnemos reproduce NAME --part PART; --dry-run names them")
    from mnemos.recipes.reproduce import dry_lines, reproduce, reproduction_lines
    from mnemos.recipes.reproductions.registry import REGISTRY, find_reproduction, load_reproductions

    registry = reproductions or REGISTRY
    overrides = overrides_of(set_, rest, "reproduce")
    if list_:
        say("\n".join(reproduction_lines(registry)))
    elif dry_run:
        known = load_reproductions(registry)
        for reproduction in known if all_ else [find_reproduction(name, known) for name in names]:
            say("\n".join(dry_lines(reproduction, out, overrides=overrides, registry=registry, only=part or ())))
    else:
        chosen = None if all_ else names
        asked = engine_of(engine, address)
        ways: dict[str, Any] = {"engine": asked, "jobs": jobs, "quiet": quiet, "registry": registry}
        raise typer.Exit(reproduce(chosen, out, overrides=overrides, only=part or (), **ways))


def register(app: typer.Typer) -> None:
    """Add it to the command line."""
    app.command("reproduce", context_settings=DOTTED)(reproduce_command)
