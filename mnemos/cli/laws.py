"""`mnemos laws`: how the loss follows from size and tokens, and whether a jump is the model's."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import Group, JsonOption
from mnemos.cli.output import say, say_json
from mnemos.core.errors import UsageError

app = typer.Typer(cls=Group, help="Laws of loss by size, tokens and repetition.", no_args_is_help=True)


class Approach(StrEnum):
    """What is fitted."""

    one = "1"
    two = "2"
    three = "3"
    repetition = "repetition"


@app.command("fit")
def fit_command(
    points: Annotated[Path, typer.Argument(metavar="POINTS.csv", help="Runs: parameters, tokens (or FLOP), loss.")],
    approach: Annotated[
        list[Approach] | None,
        typer.Option("--approach", help="1 envelope, 2 IsoFLOP, 3 law of the loss, repetition; repeatable."),
    ] = None,
    without_highest: Annotated[
        int, typer.Option("--without-highest", min=0, help="Fit again without so many points of highest loss.")
    ] = 0,
    draws: Annotated[int, typer.Option("--draws", min=0, max=100_000, help="Draws of the bootstrap over runs.")] = 1000,
    compute: Annotated[float, typer.Option("--compute", help="FLOP for which the optimum is printed.")] = 5.76e23,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="OURS=THEIRS", help="n, d, c, loss, unique, run; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory of laws.json, laws.html and the figures.")] = Path(
        "laws"
    ),
    as_json: JsonOption = False,
) -> None:
    """Fit the laws to runs, with intervals from a bootstrap over runs, and draw them."""
    from mnemos.study.commands.laws import Asked, fit_laws, lines

    approaches = tuple(one.value for one in approach or ()) or ("1", "2", "3")
    asked = Asked(approaches, without_highest, draws, compute)
    record = fit_laws(points, out, asked, _columns(column or []))
    if as_json:
        say_json(record)
    else:
        say("\n".join([*lines(record), "", str(out / "laws.html")]))


def _columns(pairs: list[str]) -> dict[str, str]:
    from mnemos.core.errors import nearest
    from mnemos.measure.laws.points import COLUMNS

    found = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or ours not in COLUMNS:
            raise UsageError(f"--column {pair}", "must be OURS=THEIRS", nearest(ours, COLUMNS))
        found[ours] = theirs
    return found


@app.command("emergence")
def emergence_command(
    outputs: Annotated[Path, typer.Argument(metavar="OUTPUTS.jsonl", help="size, item, answer, output, …")],
    out: Annotated[Path, typer.Option("--out", help="Directory of emergence.json and .html.")] = Path("emergence"),
    as_json: JsonOption = False,
) -> None:
    """Score the same outputs by several metrics, and say whether a jump is the model's or the metric's."""
    from mnemos.study.commands.laws import emergence_lines, judge_emergence

    record = judge_emergence(outputs, out)
    if as_json:
        say_json(record)
    else:
        say("\n".join([*emergence_lines(record), "", str(out / "emergence.html")]))


def register(main: typer.Typer) -> None:
    """Add the group to the command line."""
    main.add_typer(app, name="laws")
