"""`mnemos runs`: what lies in run directories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import Group
from mnemos.cli.output import say

app = typer.Typer(cls=Group, help="Look after run directories.", no_args_is_help=True)


@app.command("clean")
def clean_command(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, for example runs/my-study.")],
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only listed.")] = False,
) -> None:
    """List step folders that no arm needs any more, with their sizes; --yes removes them.

    What the last run planned, what results.json names, and a directory that is in use are never touched.
    """
    from mnemos.core.places import resolved
    from mnemos.report.words import size
    from mnemos.study.commands.clean import remove, stale, stale_words

    root = resolved(directory)
    found = remove(root) if yes else stale(root)
    for one in found:
        say(f"{size(one.size):>8}  {one.path.name}  {one.title}")
    if not found:
        say("nothing to remove: every step folder is needed")
    elif yes:
        say(f"removed {stale_words(found)}")
    else:
        say(f"{stale_words(found)}; add --yes to remove them")


def register(main: typer.Typer) -> None:
    """Add the group to the command line."""
    main.add_typer(app, name="runs")
