"""The command line. Nothing heavy is imported before the arguments are parsed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mnemos.cli import reproduce as cli_reproduce
from mnemos.cli import reward as cli_reward
from mnemos.cli import runs as cli_runs
from mnemos.cli import suites as cli_suites
from mnemos.cli import weights as cli_weights
from mnemos.cli.errors import told
from mnemos.cli.options import DOTTED, JOBS, EngineOption, JobsOption, OutOption, SetOption, overrides_of
from mnemos.cli.output import say, say_json
from mnemos.core.errors import UsageError


class _Stoppable(TyperGroup):
    """typer ends an interrupted command without a word."""

    def invoke(self, context: Any) -> Any:
        """Run the command; say it when it was stopped. SIGTERM has an exit code of its own."""
        from mnemos.study.stopping import terminable

        try:
            with terminable():  # in every command, also those that start no run
                return super().invoke(context)
        except KeyboardInterrupt as stopped:
            print("\nmnemos: stopped; the same command continues where it was", file=sys.stderr)
            sys.exit(getattr(stopped, "exit_code", 130))


app = typer.Typer(
    name="mnemos",
    cls=_Stoppable,
    help="Post-training without forgetting: teach a model several ways, see what each gained, lost and cost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Look at training data.", no_args_is_help=True)
app.add_typer(data_app, name="data")


class Format(StrEnum):
    """Ways to print a report."""

    text = "text"
    json = "json"
    md = "md"
    html = "html"


class Plain(StrEnum):
    """Ways to print something short."""

    text = "text"
    json = "json"


SuitesOption = Annotated[list[str], typer.Option("--suites", help="Suite YAML file or built-in suite; repeatable.")]
NewOption = Annotated[
    list[str] | None, typer.Option("--new", help="A suite that measures what was taught; repeatable.")
]
HealthOption = Annotated[
    bool,
    typer.Option(
        "--health/--no-health", help="Also measure how answers stop, repeat and diverge; decides nothing either way."
    ),
]
TemplateOption = Annotated[bool, typer.Option("--allow-template-change", help="Compare across chat templates.")]
CodeOption = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with a model.")]
PickleOption = Annotated[bool, typer.Option("--allow-pickle", help="Read weights in pickle files.")]
DEBUG_HELP = "Show the traceback of an error."


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help=DEBUG_HELP)] = False,
) -> None:
    if version:
        from mnemos import __version__

        say(__version__)
        raise typer.Exit


@app.command("run", context_settings=DOTTED)
def run_command(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Study file, or mnemos:demo.yaml.")],
    out: OutOption = None,
    set_: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every plan; load no model.")] = False,
    jobs: JobsOption = JOBS,
    engine: EngineOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train and measure every arm of a study; --train.learning_rate 1e-4 overrides a key."""
    overrides = overrides_of(set_, context.args, "run")
    if dry_run:
        from mnemos.study.run import plan_lines

        say("\n".join(plan_lines(study, overrides)))
        return
    from mnemos.study import processes
    from mnemos.study.run import run

    record = run(study, out=out, overrides=overrides, engine=engine, jobs=jobs, quiet=quiet)
    if processes.is_main() and record.directory is not None:
        _print(record.results)
        say(f"report  {_shown(record.directory / 'report.html')}")


@app.command("sweep", context_settings=DOTTED)
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every plan; load no model.")] = False,
    jobs: JobsOption = JOBS,
    engine: EngineOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Vary a setting, one arm a value, and find the knee between learning and forgetting."""
    overrides = overrides_of(set_, context.args, "sweep")
    if dry_run:
        from mnemos.study.commands.sweep import sweep_lines

        say("\n".join(sweep_lines(study, over, arm=arm, overrides=overrides)))
        return
    from mnemos.study import processes
    from mnemos.study.commands.sweep import sweep

    record = sweep(study, over, arm=arm, out=out, overrides=overrides, engine=engine, jobs=jobs, quiet=quiet)
    if processes.is_main() and record.directory is not None:
        _print(record.results)
        say(f"report  {_shown(record.directory / 'report.html')}")


@app.command("recommend")
def recommend_command(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, or a results.json.")],
    format: Annotated[Plain, typer.Option("--format", help="text or json.")] = Plain.text,
) -> None:
    """Order the arms of a finished study and say in two sentences why."""
    from mnemos.report.advice import recommend, text

    advice = recommend(_results(directory))
    if format is Plain.json:
        say_json(advice.as_dict())
    else:
        say(text(advice))


@app.command("init")
def init_command(
    data: Annotated[str, typer.Argument(help="Rows to teach: a file, a dataset directory or a hub id.")],
    model: Annotated[str, typer.Option("--model", help="Hugging Face directory or hub id.")],
    out: Annotated[Path, typer.Option("--out", help="The study file to write.")] = Path("study.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite it.")] = False,
) -> None:
    """Write a commented study file for your own data."""
    from mnemos.study.commands.init import write_study

    for line in write_study(data, model, out, force=force):
        say(line)


@app.command("compare")
def compare_command(
    before: Annotated[str, typer.Argument(help="The model before: directory or hub id.")],
    after: Annotated[str, typer.Argument(help="The model after.")],
    suites: SuitesOption,
    format: Annotated[Format, typer.Option("--format", help="text, json, md or html.")] = Format.text,
    new: NewOption = None,
    out: OutOption = None,
    health: HealthOption = True,
    allow_template_change: TemplateOption = False,
    trust_remote_code: CodeOption = False,
    allow_pickle: PickleOption = False,
) -> None:
    """Compare two models trained anywhere: what was gained and lost, with intervals."""
    from mnemos.study.commands.compare import compare

    record = compare(
        before,
        after,
        suites,
        new=new or (),
        health=health,
        out=out,
        allow_template_change=allow_template_change,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        quiet=False,
    )
    if format is Format.text:
        _print(record.results)
    else:
        say(record.report(format.value), as_json=format is Format.json)


@app.command("gate")
def gate_command(
    before: Annotated[str, typer.Argument(help="The model before: directory or hub id.")],
    after: Annotated[str, typer.Argument(help="The model to be released.")],
    suites: SuitesOption,
    max_loss: Annotated[float, typer.Option("--max-loss", help="Largest loss allowed on any suite, in points.")] = 2.0,
    new: NewOption = None,
    card: Annotated[Path | None, typer.Option("--card", help="Also write a Markdown card for a pull request.")] = None,
    out: OutOption = None,
    health: HealthOption = True,
    allow_template_change: TemplateOption = False,
    trust_remote_code: CodeOption = False,
    allow_pickle: PickleOption = False,
) -> None:
    """Exit 0 when every suite is kept, 3 when a loss is proven, 4 when the sample cannot tell."""
    from mnemos.core.files import write_text
    from mnemos.measure.gate import gate
    from mnemos.report import card as render_card
    from mnemos.study.commands.compare import compare

    if not 0 <= max_loss < float("inf"):
        raise UsageError(f"--max-loss {max_loss:g}", "must be a number of points from 0", "2 allows two points")
    record = compare(
        before,
        after,
        suites,
        new=new or (),
        health=health,
        out=out,
        allow_template_change=allow_template_change,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        quiet=False,
    )
    decision = gate(record.comparisons, max_loss=max_loss)
    text = render_card(record.results, decision)
    say(text)
    if card is not None:
        write_text(card, text + "\n")
    raise typer.Exit(decision.exit_code)


@app.command("report")
def report_command(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, or a results.json.")],
    format: Annotated[Format, typer.Option("--format", help="text, json, md or html.")] = Format.text,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file instead of the terminal.")] = None,
) -> None:
    """Print the report of a run again, from its results.json alone."""
    from mnemos.core.files import write_text
    from mnemos.report import render

    results = _results(directory)
    if out is not None:
        write_text(out, render(results, format.value))
    elif format is Format.text:
        _print(results)
    else:
        say(render(results, format.value), as_json=format is Format.json)


@app.command("methods")
def methods_command(
    name: Annotated[str | None, typer.Argument(help="One method, in full.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """The catalogue: each method's name, what it changes, its paper and settings."""
    from mnemos.methods import listing

    rows = listing()
    if name is not None:
        from mnemos.core.method import find

        rows = [row for row in rows if row["name"] == find(name).name]
    if as_json:
        say_json(rows)
        return
    for row in rows:
        say(f"{row['name']:<14} changes {', '.join(row['changes']):<12} {row['paper']}")
        say(f"               {row['summary']}")
        for setting in row["settings"]:
            say(f"               --{setting['name']} {_setting(setting)}")


@app.command("schema")
def schema_command(
    suites: Annotated[bool, typer.Option("--suites", help="Of a suite file: every key of every kind.")] = False,
) -> None:
    """Print the JSON schema of a study file, or of a suite file, for editors."""
    from mnemos.measure import suite_schema
    from mnemos.study import config

    say_json(suite_schema.schema() if suites else config.schema())


@data_app.command("show")
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


def _print(results: Mapping[str, Any]) -> None:
    """The ledger, in colour on a terminal."""
    from mnemos.report.ledger import show
    from mnemos.report.reading import read

    show(read(results))


def _results(directory: Path) -> dict[str, Any]:
    """The results.json of a run directory, or the file itself."""
    from mnemos.core.files import read_json

    path = directory / "results.json" if directory.is_dir() else directory
    if not path.is_file():
        raise UsageError(f"{path}", "does not exist", "give the directory of a finished run")
    try:
        results: dict[str, Any] = read_json(path)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}", f"is not JSON: {error}", "run the study again: finished steps are kept") from None
    return results


def _setting(setting: dict[str, Any]) -> str:
    bounds = f" {setting['bounds']}" if setting.get("bounds") else ""
    default = f"default {setting['default']!r}" if "default" in setting else "required"
    words = f": {setting['description']}" if setting.get("description") else ""
    return f"({setting['type']}{bounds}, {default}){words}"


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


cli_weights.register(app)
cli_reproduce.register(app)
cli_reward.register(app)
cli_runs.register(app)
cli_suites.register(app)


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 failed, 2 usage, 3 lost, 4 cannot tell,
    130 interrupted, 143 terminated."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app()
    except KeyboardInterrupt as stopped:
        if debug:
            raise
        print("\nmnemos: stopped; the same command continues where it was", file=sys.stderr)
        sys.exit(getattr(stopped, "exit_code", 130))  # SIGTERM has one of its own
    except BrokenPipeError:
        # What reads our output has gone; the interpreter's last flush must not complain of it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        text, code = told(error)
        print(text, file=sys.stderr)
        sys.exit(code)
