"""`mnemos compare` and `gate`: two models that were trained anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnemos.cli.options import Format, FormatOption, OutOption
from mnemos.cli.output import print_ledger, say
from mnemos.core.errors import UsageError

if TYPE_CHECKING:
    from mnemos.sources.chat_settings import ChatSettings

BeforeArgument = Annotated[str, typer.Argument(help="The model before: directory, GGUF file or hub id.")]
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
FileOption = Annotated[str | None, typer.Option("--chat-template", help="A chat template (Jinja file) for both.")]
KwargsOption = Annotated[
    str | None, typer.Option("--chat-template-kwargs", metavar="JSON", help="Its variables, for both models.")
]
SystemOption = Annotated[str | None, typer.Option("--system", help="System prompt of chats that have none.")]
CodeOption = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with a model.")]
PickleOption = Annotated[bool, typer.Option("--allow-pickle", help="Read weights in pickle files.")]


def compare_command(
    before: BeforeArgument,
    after: Annotated[str, typer.Argument(help="The model after.")],
    suites: SuitesOption,
    format: FormatOption = Format.text,
    new: NewOption = None,
    out: OutOption = None,
    health: HealthOption = True,
    allow_template_change: TemplateOption = False,
    chat_template: FileOption = None,
    chat_template_kwargs: KwargsOption = None,
    system: SystemOption = None,
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
        chat=_chat(chat_template, chat_template_kwargs, system),
        quiet=False,
    )
    if format is Format.text:
        print_ledger(record.results)
    else:
        say(record.report(format.value), as_json=format is Format.json)


def gate_command(
    before: BeforeArgument,
    after: Annotated[str, typer.Argument(help="The model to be released.")],
    suites: SuitesOption,
    max_loss: Annotated[float, typer.Option("--max-loss", help="Largest loss allowed on any suite, in points.")] = 2.0,
    new: NewOption = None,
    card: Annotated[Path | None, typer.Option("--card", help="Also write a Markdown card for a pull request.")] = None,
    out: OutOption = None,
    health: HealthOption = True,
    allow_template_change: TemplateOption = False,
    chat_template: FileOption = None,
    chat_template_kwargs: KwargsOption = None,
    system: SystemOption = None,
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
        chat=_chat(chat_template, chat_template_kwargs, system),
        quiet=False,
    )
    decision = gate(record.comparisons, max_loss=max_loss)
    text = render_card(record.results, decision)
    say(text)
    if card is not None:
        write_text(card, text + "\n")
    raise typer.Exit(decision.exit_code)


def _chat(template: str | None, variables: str | None, system: str | None) -> ChatSettings | None:
    """What the options give to both models' chat templates."""
    from mnemos.core.json_text import parse_json
    from mnemos.study.config import chat_settings

    given = {} if variables is None else parse_json(variables, "--chat-template-kwargs", UsageError)
    if not isinstance(given, dict):
        raise UsageError(
            f"--chat-template-kwargs {variables}", "must be a JSON object", """'{"enable_thinking": false}'"""
        )
    return chat_settings(template, given, system)


def register(main: typer.Typer) -> None:
    """Add the commands to the command line."""
    main.command("compare")(compare_command)
    main.command("gate")(gate_command)
