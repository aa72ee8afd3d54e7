"""`mnemos asr`: recognisers of speech, and how they adapt while they listen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import Group, JsonOption, SetOption
from mnemos.cli.output import say, say_choices, say_json

app = typer.Typer(cls=Group, help="Recognisers of speech: adapt while listening.", no_args_is_help=True)


@app.command("adapt")
def adapt_command(
    audio: Annotated[list[str], typer.Argument(help="Files of sound, or folders, in the order they are heard.")],
    model: Annotated[str, typer.Option("--model", help="A recogniser with a CTC head: directory or hub id.")],
    method: Annotated[str, typer.Option("--method", help="How it adapts; mnemos asr methods lists them.")] = "dsuta",
    set_: SetOption = None,
    language_model: Annotated[
        str | None,
        typer.Option("--language-model", help="For suta-lm: texts (.txt, .jsonl) or the directory of a model."),
    ] = None,
    longest: Annotated[float, typer.Option("--longest", min=0.1, help="Seconds; longer files are left out.")] = 20.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what a method draws.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Transcribe sounds one after the other, adapting to each; print what that changed against the model as it came."""
    from mnemos.core.errors import printable
    from mnemos.core.places import shown
    from mnemos.study.commands.adapt import adapted, last_lines
    from mnemos.study.config import parse_override

    given = dict(parse_override(pair) for pair in set_ or [])
    found, announced = [], False
    for one in adapted(audio, model, method, given, language_model=language_model, longest=longest, seed=seed):
        found.append(one)
        if as_json:
            say_json(
                {"path": one.path, "text": one.text, "source": one.source, "reason": one.reason, "reset": one.reset}
            )
            continue
        name = shown(Path(one.path))
        if one.text is None:
            say(f"{name}  left out: {printable(one.reason or '')}")
            continue
        say(f"{name}  {printable(one.text) or '(nothing)'}")
        if one.changed:
            say(f"{'':<{len(name)}}  without adapting: {printable(one.source or '') or '(nothing)'}")
        if one.reset:
            say(f"{'':<{len(name)}}  the method begins again from the model as it came")
        if one.collapsed and not announced:
            announced = True
            say(f"collapsed: {one.collapsed}")
    if not as_json:
        for line in last_lines(found):
            say(line)


@app.command("head")
def head_command(
    whisper: Annotated[str, typer.Argument(help="A Whisper model: directory or hub id.")],
    out: Annotated[Path, typer.Option("--out", help="Directory to write.")],
    characters: Annotated[
        str | None, typer.Option("--characters", help="What the head can write; a to z and the apostrophe.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the head's first weights.")] = 0,
) -> None:
    """Give a Whisper encoder a CTC head for single characters: a model to be trained, and then one that adapts."""
    from mnemos.study.commands.asr_head import give

    say(give(whisper, out, characters=characters, seed=seed))


@app.command("methods")
def methods_command(as_json: JsonOption = False) -> None:
    """The methods that adapt a recogniser, with their settings and where they deviate from their papers."""
    from mnemos.study.commands.adapt import method_rows

    rows = method_rows()
    if as_json:
        say_json(rows)
        return
    say_choices(rows, 14)


def register(main: typer.Typer) -> None:
    """Add the commands to the command line."""
    main.add_typer(app, name="asr")
