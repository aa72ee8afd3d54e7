"""`mnemos reproduce`: walk published roads again and print whether each ordering holds here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.output import say
from mnemos.core.errors import UsageError


def reproduce_command(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]…", help="Roads; see --list.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Name, minutes, papers and title of every road.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="Every road, unattended; one that fails stops no other.")] = False,
    out: Annotated[Path, typer.Option("--out", help="Each road has a folder of its own in it.")] = Path("runs/roads"),
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, max=256, help="Steps at a time, each in a process of its own.")
    ] = 2,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of each part; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every plan; load no model.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    roads: Annotated[
        Path | None, typer.Option("--roads", help="A registry of your own instead of the shipped.")
    ] = None,
) -> None:
    """Run published findings again and print, for each ordering, the paper's number, ours and whether it holds."""
    if list_ + all_ + bool(names) != 1:
        raise UsageError("mnemos reproduce", "needs one of NAME, --list and --all", "mnemos reproduce --list")
    from mnemos.recipes.reproduce import dry_lines, reproduce, road_lines
    from mnemos.recipes.reproductions.registry import REGISTRY, find_road, load_roads
    from mnemos.study.config import parse_override

    registry = roads or REGISTRY
    overrides = dict(parse_override(pair) for pair in set_ or [])
    if list_:
        say("\n".join(road_lines(registry)))
    elif dry_run:
        known = load_roads(registry)
        for road in known if all_ else [find_road(name, known) for name in names or ()]:
            say("\n".join(dry_lines(road, out, overrides=overrides, registry=registry)))
    else:
        chosen = None if all_ else names
        raise typer.Exit(reproduce(chosen, out, overrides=overrides, jobs=jobs, quiet=quiet, registry=registry))


def register(app: typer.Typer) -> None:
    """Add it to the command line."""
    app.command("reproduce")(reproduce_command)
