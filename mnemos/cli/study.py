"""`mnemos run`, `sweep` and `init`: studies, carried out or begun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnemos.cli.options import (
    DOTTED,
    AddressOption,
    DryRunOption,
    EngineOption,
    JobsOption,
    KeepGoingOption,
    OutOption,
    QuietOption,
    SetOption,
    engine_of,
    overrides_of,
)
from mnemos.cli.output import print_run, say

if TYPE_CHECKING:
    from mnemos.study.run import Record


def run_command(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Study file, or mnemos:demo.yaml.")],
    out: OutOption = None,
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    jobs: JobsOption = None,
    engine: EngineOption = None,
    address: AddressOption = None,
    keep_going: KeepGoingOption = False,
    quiet: QuietOption = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="With --dry-run: train a few steps of every arm and say how long it takes.")
    ] = False,
) -> None:
    """Train and measure every arm of a study; --train.learning_rate 1e-4 overrides a key."""
    overrides = overrides_of(set_, context.args, "run")
    if probe and not dry_run:
        from mnemos.core.errors import UsageError

        raise UsageError("--probe", "says how long a run would take", "give it together with --dry-run")
    if dry_run:
        from mnemos.study.run import plan_lines

        say("\n".join(plan_lines(study, overrides, out=out, probe=probe)))
        return
    from mnemos.study.run import run

    asked = engine_of(engine, address, keep_going)
    _printed(lambda: run(study, out=out, overrides=overrides, engine=asked, jobs=jobs, quiet=quiet))


def sweep_command(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Study file, or mnemos:demo.yaml.")],
    over: Annotated[
        list[str],
        typer.Option("--over", metavar="METHOD.SETTING=VALUE,…", help="What to vary; several give the grid."),
    ],
    arm: Annotated[str | None, typer.Option("--arm", help="The arm to vary, where several use the method.")] = None,
    out: OutOption = None,
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    jobs: JobsOption = None,
    engine: EngineOption = None,
    address: AddressOption = None,
    keep_going: KeepGoingOption = False,
    quiet: QuietOption = False,
) -> None:
    """Vary a setting, one arm a value, and find the knee between learning and forgetting."""
    overrides = overrides_of(set_, context.args, "sweep")
    if dry_run:
        from mnemos.study.commands.sweep import sweep_lines

        say("\n".join(sweep_lines(study, over, arm=arm, overrides=overrides)))
        return
    from mnemos.study.commands.sweep import sweep

    asked = engine_of(engine, address, keep_going)
    _printed(lambda: sweep(study, over, arm=arm, out=out, overrides=overrides, engine=asked, jobs=jobs, quiet=quiet))


def _printed(carry_out: Callable[[], Record]) -> None:
    """Print the ledger of what is carried out; with --keep-going that of the arms that are whole, before the error."""
    from mnemos.study import processes
    from mnemos.study.engines.failures import StepsFailedError

    failure = None
    try:
        record = carry_out()
    except StepsFailedError as error:
        record, failure = error.record, error
    if record is not None and record.directory is not None and processes.is_main():
        print_run(record.results, record.directory)
    if failure is not None:
        raise failure


def init_command(
    data: Annotated[str, typer.Argument(help="Rows to teach: a file, a dataset directory or a hub id.")],
    model: Annotated[str, typer.Option("--model", help="Hugging Face directory, GGUF file or hub id.")],
    out: Annotated[Path, typer.Option("--out", help="The study file to write.")] = Path("study.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite it.")] = False,
    probe: Annotated[
        bool | None,
        typer.Option(
            "--probe/--no-probe",
            help="Ask the model what it can do today, a few minutes; done where its weights are here.",
        ),
    ] = None,
) -> None:
    """Write a commented study file for your own data, with defaults that fit the model."""
    from mnemos.study.commands.init import write_study

    for line in write_study(data, model, out, force=force, probe=probe):
        say(line)


def register(main: typer.Typer) -> None:
    """Add the commands to the command line."""
    main.command("run", context_settings=DOTTED)(run_command)
    main.command("sweep", context_settings=DOTTED)(sweep_command)
    main.command("init")(init_command)
