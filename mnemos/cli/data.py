"""`mnemos data`: what lies in training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import Group

app = typer.Typer(cls=Group, help="Look at training data.", no_args_is_help=True)


@app.command("show")
def data_show_command(
    location: Annotated[str, typer.Argument(metavar="FILE", help="Rows: a file, a dataset directory or a hub id.")],
    model: Annotated[str, typer.Option("--model", help="Whose tokenizer and chat template render the rows.")],
    count: Annotated[int, typer.Option("--count", help="How many examples to print.", min=1)] = 1,
    format: Annotated[str | None, typer.Option("--format", help="Name the format instead of detecting it.")] = None,
    max_length: Annotated[int, typer.Option("--max-length", help="Count examples longer than this.", min=2)] = 1024,
) -> None:
    """Print examples coloured by how much each token counts in the loss."""
    from rich.console import Console

    from mnemos.sources.read import read
    from mnemos.sources.render import Renderer
    from mnemos.sources.show import show
    from mnemos.study.paths import data_location, model_location
    from mnemos.weights.checkpoint import load_tokenizer

    here = Path.cwd()
    renderer = Renderer(load_tokenizer(model_location(model, here)))
    source = read(data_location(location, here), format=format)
    Console(soft_wrap=True).print(show(source, renderer, count=count, max_length=max_length))


def register(main: typer.Typer) -> None:
    """Add the group to the command line."""
    main.add_typer(app, name="data")
