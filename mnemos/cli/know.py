"""`mnemos know`: what a model knows of the facts that it is to be taught."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import JsonOption
from mnemos.cli.output import say, say_json


class Symbols(StrEnum):
    """What stands for the labels of a task."""

    letters = "letters"
    numbers = "numbers"


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


def labels_command(
    location: Annotated[str, typer.Argument(metavar="DATA", help="Rows of a text and its label: a file or a hub id.")],
    model: Annotated[
        str, typer.Option("--model", help="Who is asked: a directory, hub id or http://host:port/v1#name.")
    ],
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Keep only the rows of this label; repeatable.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", metavar="OURS=THEIRS", help="prompt or completion; repeatable.")
    ] = None,
    shots: Annotated[
        list[int] | None, typer.Option("--shots", min=0, max=1000, help="Examples in context; repeatable.")
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, max=1000, help="Draws of the examples.")] = 5,
    items: Annotated[int, typer.Option("--items", min=2, help="Texts asked about, as many of each label.")] = 100,
    template: Annotated[
        str | None, typer.Option("--template", help="Of an example, with {text} and {label}; may name the task.")
    ] = None,
    symbols: Annotated[Symbols, typer.Option("--symbols", help="What stands for labels.")] = Symbols.letters,
    max_characters: Annotated[int, typer.Option("--max-characters", min=1, help="Leave longer texts out.")] = 400,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of items, examples and symbols.")] = 0,
    learn: Annotated[
        list[int] | None,
        typer.Option("--learn", min=1, help="Write a study that trains on so many rows, and ask nothing; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory of labels.json, or of the study.")] = Path("labels"),
    as_json: JsonOption = False,
) -> None:
    """Is a task recognised or learned? Right, random and abstract labels in context, or as rows to train on."""
    from mnemos.core.places import author_location
    from mnemos.measure.in_context import NATURAL, Asked
    from mnemos.models.load import handle
    from mnemos.sources.read import read
    from mnemos.study.commands.labels import ask_labels, labelled_rows, lines, write_study
    from mnemos.study.paths import data_location

    shown = NATURAL if template is None else template
    asked = Asked(tuple(shots or (0, 4, 8, 16)), draws, shown, symbols=symbols.value, seed=seed)
    here = Path.cwd()
    columns = dict(pair.partition("=")[::2] for pair in column or [])
    source = read(data_location(location, here), columns=columns, on_bad="skip")
    rows, left = labelled_rows(source, max_characters, label or ())
    if learn:
        say(f"mnemos run {write_study(rows, author_location(model, here, '--model'), out, asked, items, learn)}")
        return
    record = ask_labels(rows, handle(author_location(model, here, "--model")), out, asked, items) | {"left_out": left}
    if as_json:
        say_json(record)
    else:
        say("\n".join([*lines(record), *(f"left out: {count:,} {reason}" for reason, count in left.items())]))


def memorised_command(
    location: Annotated[str, typer.Argument(metavar="DATA", help="Rows of text: a file, folder or hub id.")],
    model: Annotated[str, typer.Option("--model", help="Who is asked: a directory or hub id.")],
    prefix: Annotated[
        list[int] | None, typer.Option("--prefix", min=1, max=100_000, help="Tokens of a beginning; repeatable.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Tokens that are compared.")] = 32,
    search: Annotated[
        int, typer.Option("--search", min=0, max=8, help="Try all prompts of up to so many tokens; 0 tries none.")
    ] = 0,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Of each text, that a prompt is to give.")] = 12,
    random: Annotated[int, typer.Option("--random", min=0, help="Random texts beside them.")] = 0,
    column: Annotated[str | None, typer.Option("--column", help="Column of the text.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Read only so many rows.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory of the record and the texts.")] = Path("memorised"),
    as_json: JsonOption = False,
) -> None:
    """Which texts a model goes on with word for word, and which a prompt shorter than themselves gives."""
    from mnemos.core.places import author_location
    from mnemos.models.load import handle
    from mnemos.sources.plain import texts_at
    from mnemos.study.commands.memorised import lines, memorised
    from mnemos.study.paths import data_location

    here = Path.cwd()
    texts = list(texts_at(data_location(location, here), column=column, limit=limit))
    asked = handle(author_location(model, here, "--model"))
    record = memorised(texts, asked, out, prefix or (8, 16, 32), max_new_tokens, search, tokens, random)
    if as_json:
        say_json(record)
    else:
        say("\n".join(lines(record)))


def register(main: typer.Typer) -> None:
    """Add the commands to the command line."""
    main.command("know")(know_command)
    main.command("labels")(labels_command)
    main.command("memorised")(memorised_command)
