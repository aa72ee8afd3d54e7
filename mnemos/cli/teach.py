"""`mnemos teach`: one command from rows to a model whose gains and losses are proven."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import AddressOption, EngineOption, JobsOption, OutOption, QuietOption, engine_of
from mnemos.cli.output import say


def teach_command(
    data: Annotated[str, typer.Argument(help="Rows to teach: a file, a dataset directory or a hub id.")],
    model: Annotated[str | None, typer.Option("--model", help="The model before: directory or hub id.")] = None,
    after: Annotated[
        Path | None, typer.Option("--after", help="Go on from an earlier teaching, and keep what it learned.")
    ] = None,
    budget: Annotated[str, typer.Option("--budget", help="Time, tokens or money: 90m, '2M tokens', '5 USD'.")] = "2h",
    price: Annotated[
        float | None, typer.Option("--price", help="Of an hour of this machine, to spend money by.")
    ] = None,
    suites: Annotated[
        list[str] | None, typer.Option("--suites", help="What must not be lost, beside what is found; repeatable.")
    ] = None,
    new: Annotated[
        list[str] | None,
        typer.Option("--new", help="A suite that measures what is taught, in place of held-out rows; repeatable."),
    ] = None,
    old_rows: Annotated[str | None, typer.Option("--old-rows", help="Old rows, to be rehearsed by an arm.")] = None,
    max_loss: Annotated[float, typer.Option("--max-loss", help="Largest loss allowed on any suite, in points.")] = 5.0,
    items: Annotated[int, typer.Option("--items", help="Items of each suite at most; half choose, half prove.")] = 800,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="An edited plan.yaml: race its arms, not those proposed.")
    ] = None,
    out: OutOption = None,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Look, write the plan as a study file, stop.")] = False,
    push_to_hub: Annotated[
        str | None, typer.Option("--push-to-hub", help="Repository that gets the model and its card, if proven.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every training.")] = 0,
    jobs: JobsOption = None,
    engine: EngineOption = None,
    address: AddressOption = None,
    quiet: QuietOption = False,
) -> None:
    """Teach rows, race the remedies, and hand over a model whose gains and losses are proven.

    Exit 0 when a model is handed over whose old suites are all kept, 3 when a loss is proven, 4 when the items cannot
    tell.
    """
    from mnemos.study.commands.teach import teach

    found = teach(
        data,
        model,
        after=after,
        budget=budget,
        price=price,
        suites=suites or (),
        new=new or (),
        old_rows=old_rows,
        max_loss=max_loss,
        items=items,
        plan=plan,
        out=out,
        plan_only=plan_only,
        push_to_hub=push_to_hub,
        seed=seed,
        engine=engine_of(engine, address),
        jobs=jobs,
        quiet=quiet,
        say=say,
    )
    raise typer.Exit(found.exit_code)


def register(main: typer.Typer) -> None:
    """Add the command to the command line."""
    main.command("teach")(teach_command)
