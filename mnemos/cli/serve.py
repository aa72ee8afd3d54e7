"""`mnemos serve`: the local page."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.output import say


def serve_command(
    directory: Annotated[Path, typer.Argument(metavar="RUNS", help="The folder that runs lie in, or one run.")] = Path(
        "runs"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of 127.0.0.1; 0: a free one.")] = 8642,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws the orders in which votes are asked for.")] = 0,
) -> None:
    """Show a page of your runs: progress, answers side by side, blind votes, a chat. For this machine alone.

    Prints an address with a token, which is drawn anew at each start. Ctrl-C ends it.
    """
    from mnemos.serve.server import serve

    def address(line: str) -> None:
        say(f"{line}\nOpen this address in a browser on this machine; Ctrl-C ends the page.")
        sys.stdout.flush()  # piped, it is wanted before the server ends

    # Ctrl-C in the middle of a request is an exception here; between two of them the server just returns.
    with contextlib.suppress(KeyboardInterrupt):
        serve(directory, port=port, seed=seed, say=address)
    say("The page has ended.")


def register(main: typer.Typer) -> None:
    """Add the command to the command line."""
    main.command("serve")(serve_command)
