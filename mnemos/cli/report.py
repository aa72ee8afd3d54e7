"""`mnemos report` and `recommend`: finished studies, read again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import Format, FormatOption, Plain
from mnemos.cli.output import print_ledger, results_of, say, say_json


def report_command(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, or a results.json.")],
    format: FormatOption = Format.text,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file instead of the terminal.")] = None,
) -> None:
    """Print the report of a run again, from its results.json alone."""
    from mnemos.core.files import write_text
    from mnemos.report import render

    results = results_of(directory)
    if out is not None:
        write_text(out, render(results, format.value))
    elif format is Format.text:
        print_ledger(results)
    else:
        say(render(results, format.value), as_json=format is Format.json)


def recommend_command(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, or a results.json.")],
    format: Annotated[Plain, typer.Option("--format", help="text or json.")] = Plain.text,
) -> None:
    """Order the arms of a finished study and say in two sentences why."""
    from mnemos.report.advice import recommend, text

    advice = recommend(results_of(directory))
    if format is Plain.json:
        say_json(advice.as_dict())
    else:
        say(text(advice))


def register(main: typer.Typer) -> None:
    """Add the commands to the command line."""
    main.command("report")(report_command)
    main.command("recommend")(recommend_command)
