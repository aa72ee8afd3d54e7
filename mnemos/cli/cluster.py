"""`mnemos cluster`: the machines behind `--engine ray`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import AddressOption, Group
from mnemos.cli.output import say

app = typer.Typer(cls=Group, help="A Ray cluster that steps can run on: what its nodes have.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """A group of its own, though it has one command."""


@app.command("check")
def check_command(
    address: AddressOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A directory of runs: say whether every node sees it.")
    ] = None,
) -> None:
    """What each node has, and whether it can work on runs that are started here.

    Exit 0 when all can, 1 when a node cannot.
    """
    from mnemos.study.commands.cluster import check

    lines, fine = check(address, out)
    say("\n".join(lines))
    raise typer.Exit(0 if fine else 1)


def register(main: typer.Typer) -> None:
    """Add the commands to the command line."""
    main.add_typer(app, name="cluster")
