"""`mnemos know`: what a model knows of the facts that it is to be taught."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import JsonOption
from mnemos.cli.output import say, say_json


def know_command(
    location: Annotated[str, typer.Argument(metavar="DATA", help="Rows of question and answer: a file or a hub id.")],
    model: Annotated[
        str, typer.Option("--model", help="Who is asked: a directory, hub id or http://host:port/v1#name.")
    ],
    keep: Annotated[
        list[str] | None, typer.Option("--keep", metavar="CLASS", help="Write the rows of this class; repeatable.")
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="CLASS=NUMBER", help="Write its rows so often, on average; repeatable."),
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Write only so many of them, drawn.")] = None,
    prompts: Annotated[int, typer.Option("--prompts", min=1, max=1000, help="Few-shot prompts a question.")] = 10,
    shots: Annotated[int, typer.Option("--shots", min=0, max=100, help="Examples in each prompt.")] = 4,
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=1024, help="Answers sampled to each prompt, where needed.")
    ] = 16,
    all_samples: Annotated[bool, typer.Option("--all-samples", help="Sample them all; do not stop early.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="max_new_tokens, verifier, relation, aliases, temperature, top_k, seed; repeatable.",
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Ask as text, without a chat template.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Read only so many rows.")] = None,
    format: Annotated[str | None, typer.Option("--format", help="Name the format instead of detecting it.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory of the classes and the rows.")] = Path("known"),
    as_json: JsonOption = False,
) -> None:
    """Which facts of a file a model knows highly, maybe, weakly or not (SliCK), and the file of those to learn."""
    from mnemos.core.errors import UsageError
    from mnemos.core.method import validated
    from mnemos.core.places import author_location
    from mnemos.methods.examples.knowledge import AskingSettings, SamplingSettings
    from mnemos.models.load import handle
    from mnemos.sources.read import read
    from mnemos.study.commands.know import Wanted, know, lines, weights_of
    from mnemos.study.config import parse_override
    from mnemos.study.paths import data_location

    given = dict(parse_override(pair) for pair in set_ or [])
    own = {name: given.pop(name) for name in [*given] if name in SamplingSettings.model_fields}
    beside = {"num_prompts": prompts, "num_shots": shots, "raw": raw}
    asked = validated(AskingSettings, {**given, **beside}, where="know")
    sampling = validated(
        SamplingSettings, {**own, "num_generations": samples, "early_stop": not all_samples}, where="know"
    )
    wanted = Wanted(weights_of(keep or (), weight or ()), rows)
    if rows is not None and not wanted.weights:
        raise UsageError("--rows", "says how many rows are written, and none are", "name classes with --keep")
    here = Path.cwd()
    source = read(data_location(location, here), format=format, limit=limit, on_bad="skip")
    record = know(source, handle(author_location(model, here, "--model")), out, sampling.of(asked), wanted)
    if as_json:
        say_json(record)
    else:
        say("\n".join(lines(record, out)))


def register(main: typer.Typer) -> None:
    """Add the command to the command line."""
    main.command("know")(know_command)
