"""The command line. Nothing heavy is imported before the arguments are parsed."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from mnemos.cli import (
    asr,
    catalogue,
    cluster,
    compare,
    data,
    judge,
    know,
    laws,
    listen,
    models,
    pretrain,
    report,
    reproduce,
    reward,
    runs,
    serve,
    stream,
    study,
    suites,
    teach,
    tokenizer,
    weights,
)
from mnemos.cli.errors import message_and_code
from mnemos.cli.options import Group
from mnemos.cli.output import say


class _Stoppable(Group):
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


# In the order of `mnemos --help`.
for _group in (
    teach,
    study,
    stream,
    asr,
    listen,
    compare,
    report,
    catalogue,
    suites,
    data,
    know,
    models,
    weights,
    tokenizer,
    pretrain,
    laws,
    reproduce,
    reward,
    judge,
    runs,
    cluster,
    serve,
):
    _group.register(app)


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 failed, 2 usage, 3 lost, 4 cannot tell,
    130 interrupted, 143 terminated."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    if not sys.stderr.isatty():
        # Bars of the libraries underneath, here and in the processes of steps: a log would hold each of their states.
        for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
            os.environ.setdefault(name, "1")
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
        text, code = message_and_code(error)
        print(text, file=sys.stderr)
        sys.exit(code)
