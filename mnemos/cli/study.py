"""`mnemos run`, `sweep` and `init`: studies, carried out or begun."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import (
    DOTTED,
    AddressOption,
    DryRunOption,
    EngineOption,
    JobsOption,
    OutOption,
    QuietOption,
    SetOption,
    engine_of,
    overrides_of,
)
from mnemos.cli.output import print_run, say


def run_command(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Study file, or mnemos:demo.yaml.")],
    out: OutOption = None,
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    jobs: JobsOption = None,
    engine: EngineOption = None,
    address: AddressOption = None,
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
    from mnemos.study import processes
    from mnemos.study.run import run

    record = run(study, out=out, overrides=overrides, engine=engine_of(engine, address), jobs=jobs, quiet=quiet)
    if processes.is_main() and record.directory is not None:
        print_run(record.results, record.directory)


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
    quiet: QuietOption = False,
) -> None:
    """Vary a setting, one arm a value, and find the knee between learning and forgetting."""
    overrides = overrides_of(set_, context.args, "sweep")
    if dry_run:
        from mnemos.study.commands.sweep import sweep_lines

        say("\n".join(sweep_lines(study, over, arm=arm, overrides=overrides)))
        return
    from mnemos.study import processes
    from mnemos.study.commands.sweep import sweep

    record = sweep(
        study, over, arm=arm, out=out, overrides=overrides, engine=engine_of(engine, address), jobs=jobs, quiet=quiet
    )
    if processes.is_main() and record.directory is not None:
        print_run(record.results, record.directory)


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
