"""`mnemos tokenizer`: train, compare by language, extend by a new language."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnemos.cli.options import Group, JsonOption
from mnemos.cli.output import say, say_json
from mnemos.core.errors import UsageError

if TYPE_CHECKING:
    from mnemos.sources.plain import Texts

app = typer.Typer(cls=Group, help="Tokenizers: train, compare by language, extend.", no_args_is_help=True)


class KindOption(StrEnum):
    """Ways to train; `sources.tokenizer.train.KINDS` says what each is."""

    byte_bpe = "byte-bpe"
    byte_fallback = "bpe-byte-fallback"
    bpe = "bpe"
    wordpiece = "wordpiece"
    wordpiece_count = "wordpiece-count"
    unigram = "unigram"
    word = "word"
    character = "character"


class Init(StrEnum):
    """What new rows begin as."""

    random = "random"
    mean = "mean"
    sub_pieces = "sub-pieces"
    focus = "focus"


ColumnOption = Annotated[str | None, typer.Option("--column", help="The column that holds the text.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Read only so many rows.")]


@app.command("train")
def train_command(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A file, folder or hub id.")],
    kind: Annotated[KindOption, typer.Option("--kind", help="How pieces are learned.")] = KindOption.byte_bpe,
    vocabulary: Annotated[int, typer.Option("--vocabulary", min=2, help="Pieces at most.")] = 8000,
    special: Annotated[list[str] | None, typer.Option("--special", help="A special token; repeatable.")] = None,
    sentencepiece: Annotated[bool, typer.Option("--sentencepiece", help="Write tokenizer.model too.")] = False,
    column: ColumnOption = None,
    limit: LimitOption = None,
    out: Annotated[Path, typer.Option("--out", help="The directory to write.")] = Path("tokenizer"),
) -> None:
    """Train a tokenizer on text, and try on other texts whether they come back."""
    from mnemos.study.commands.tokenizer import train_tokenizer, trained_lines

    texts = _texts(text, column, limit)
    record = train_tokenizer(texts, kind.value, vocabulary, out, special=special or (), as_sentencepiece=sentencepiece)
    say("\n".join(trained_lines(record)))


@app.command("compare")
def compare_command(
    tokenizers: Annotated[list[str], typer.Argument(metavar="TOKENIZER...", help="tokenizer.json, .model, model.")],
    text: Annotated[list[str], typer.Option("--text", metavar="LANGUAGE=FILE", help="Held-out text; repeatable.")],
    column: ColumnOption = None,
    limit: LimitOption = None,
    alpha: Annotated[float, typer.Option("--alpha", min=0.0, max=100.0, help="Of the Renyi efficiency.")] = 2.5,
    out: Annotated[Path, typer.Option("--out", help="Directory of table and figures.")] = Path("tokenizers"),
    as_json: JsonOption = False,
) -> None:
    """Fertility, compression, unknown and byte shares, Renyi efficiency and round trip, by language."""
    from mnemos.study.commands.tokenizer import compare, lines, open_tokenizer
    from mnemos.study.paths import model_location

    languages = {}
    for one in text:
        name, _, place = one.rpartition("=")
        name = name or Path(place).name.split(".")[0]
        if name in languages:
            raise UsageError(f"--text {one}", f"names {name} a second time", "write OTHER_NAME=FILE")
        languages[name] = _texts(place, column, limit)
    opened = {}
    for one in tokenizers:
        name = next(n for n in (Path(one).name, one, f"{one} again") if n not in opened)
        opened[name] = open_tokenizer(one if Path(one).exists() else model_location(one, Path()))
    record = compare(opened, languages, out, alpha=alpha)
    if as_json:
        say_json(record)
    else:
        say("\n".join([*lines(record), str(out / "compare.html")]))


@app.command("extend")
def extend_command(
    model: Annotated[str, typer.Option("--model", help="Whose vocabulary is extended.")],
    text: Annotated[
        str | None, typer.Option("--text", help="Text of the new language: a file, folder or hub id.")
    ] = None,
    script: Annotated[
        list[str] | None, typer.Option("--script", help="Script of new pieces, such as Han; repeatable.")
    ] = None,
    tokens: Annotated[Path | None, typer.Option("--tokens", help="Add the tokens in this file instead.")] = None,
    suppress: Annotated[bool, typer.Option("--suppress", help="With --tokens: the model never writes one.")] = False,
    pieces: Annotated[int, typer.Option("--pieces", min=1, help="New pieces at most.")] = 500,
    init: Annotated[Init, typer.Option("--init", help="What new rows begin as.")] = Init.sub_pieces,
    old: Annotated[str | None, typer.Option("--old", help="Text of the old language, whose ids must stay.")] = None,
    allow_changed: Annotated[bool, typer.Option("--allow-changed", help="Let old ids change.")] = False,
    column: ColumnOption = None,
    limit: LimitOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Of random rows.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="The directory to write.")] = Path("extended"),
) -> None:
    """Add pieces of a new language to a model, or tokens that a file names, and rows for them."""
    from mnemos.study.commands.tokenizer import add_tokens, extend_model, extended_lines, read_tokens
    from mnemos.study.paths import model_location

    if (tokens is None) == (text is None):
        raise UsageError("--text and --tokens", "name one of the two", "--text TEXT --script Han, or --tokens FILE")
    place, stays = model_location(model, Path()), _texts(old, None, limit) if old else None
    if tokens is not None:
        if script or allow_changed:
            raise UsageError("--script, --allow-changed", "go with --text", "leave them out beside --tokens")
        record = add_tokens(place, read_tokens(tokens), stays, out, how=init.value, suppress=suppress, seed=seed)
    else:
        if suppress:
            raise UsageError("--suppress", "goes with --tokens", "pieces of a language are there to be written")
        record = extend_model(
            place, _texts(str(text), column, limit), stays, out,
            pieces=pieces, scripts=script or (), how=init.value, allow_changed=allow_changed, seed=seed,
        )  # fmt: skip
    say("\n".join(extended_lines(record)))


def _texts(location: str, column: str | None, limit: int | None) -> Texts:
    from mnemos.sources.plain import texts_at
    from mnemos.study.paths import data_location

    return texts_at(data_location(location, Path()), column=column, limit=limit)


def register(main: typer.Typer) -> None:
    """Add the group to the command line."""
    main.add_typer(app, name="tokenizer")
