"""`mnemos data`: what lies in training data, what filters make of it, and classifiers that filter."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import AddressOption, EngineOption, Group, JobsOption, JsonOption, SetOption, engine_of
from mnemos.cli.output import say, say_json
from mnemos.core.errors import UsageError

app = typer.Typer(cls=Group, help="Look at training data; filter pages.", no_args_is_help=True)


class Ordering(StrEnum):
    """In which order texts are written."""

    random = "random"
    length = "length"
    in_context = "in-context"


class KeptSide(StrEnum):
    """Which pages a classifier keeps."""

    above = "above"
    below = "below"


@app.command("show")
def data_show_command(
    location: Annotated[str, typer.Argument(metavar="FILE", help="Rows: a file, a dataset directory or a hub id.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Whose tokenizer and chat template render the rows; sounds need none.")
    ] = None,
    count: Annotated[int, typer.Option("--count", help="How many examples to print.", min=1)] = 1,
    format: Annotated[str | None, typer.Option("--format", help="Name the format instead of detecting it.")] = None,
    max_length: Annotated[int, typer.Option("--max-length", help="Count examples longer than this.", min=2)] = 1024,
    svg: Annotated[Path | None, typer.Option("--svg", help="Of sounds: write their waves there, as a drawing.")] = None,
) -> None:
    """Print examples coloured by how much each token counts in the loss; of rows of sound, waves and what they are."""
    from rich.console import Console

    from mnemos.core.files import write_text
    from mnemos.models.load import Checkpoint
    from mnemos.models.renderer import renderer_of
    from mnemos.sources import show_sound
    from mnemos.sources.read import read
    from mnemos.sources.show import show
    from mnemos.sources.speech import HEARD, SPEECH
    from mnemos.study.paths import data_location, model_location

    here = Path.cwd()
    source = read(data_location(location, here), format=format)
    if source.format in (SPEECH, HEARD):
        Console(soft_wrap=True).print(show_sound.show(source, count))
        if svg is not None:
            write_text(svg, show_sound.svg(source, count))
            say(str(svg))
        return
    if svg is not None:
        raise UsageError(f"--svg {svg}", f"draws sounds, and {location} holds text", "leave it out")
    if model is None:
        raise UsageError("--model", "is missing: it says whose tokenizer and chat template render text", "name a model")
    renderer = renderer_of(Checkpoint(model_location(model, here)))
    Console(soft_wrap=True).print(show(source, renderer, count=count, max_length=max_length))


@app.command("filter")
def data_filter_command(
    location: Annotated[str, typer.Argument(metavar="PAGES", help="Pages: a file, folder or hub id.")],
    preset: Annotated[str, typer.Option("--preset", help="fineweb, dclm or none.")] = "fineweb",
    filters: Annotated[list[str] | None, typer.Option("--filter", help="One more filter by name; repeatable.")] = None,
    set_: SetOption = None,
    language: Annotated[str | None, typer.Option("--language", help="Keep pages in this language, such as en.")] = None,
    dedup: Annotated[
        list[str] | None, typer.Option("--dedup", help="exact, paragraphs or minhash; repeatable.")
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option("--against", help="Items of a suite that must not be in the text; repeatable.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="Text: pages unlike it are dropped by perplexity.")
    ] = None,
    classifier: Annotated[
        list[str] | None, typer.Option("--classifier", help="A file of `mnemos data classifier`; repeatable.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Column of human labels (0 or 1) to compare filters with.")
    ] = None,
    text: Annotated[str, typer.Option("--text-column", help="The column that holds the page.")] = "text",
    url: Annotated[str, typer.Option("--url-column", help="The column that holds where it came from.")] = "url",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Read only so many rows.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory of what is kept, dropped and counted.")] = Path(
        "filtered"
    ),
    jobs: JobsOption = None,
    engine: EngineOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pre-training pages through published filters and deduplication: each drop has a reason, each filter its share."""
    from mnemos.study.commands.filter import filter_pages, lines
    from mnemos.study.commands.filter_parts import Asked
    from mnemos.study.config import parse_override
    from mnemos.study.paths import data_location, resolve_path

    here = Path.cwd()
    asked = Asked(
        (preset, *(filters or ())), dict(parse_override(pair) for pair in set_ or []), language, tuple(dedup or ()),
        tuple(data_location(one, here) for one in against or ()),
        data_location(reference, here) if reference else None,
        tuple(str(resolve_path(one, here)) for one in classifier or ()), text, url, label, limit,
    )  # fmt: skip
    record = filter_pages(data_location(location, here), out, asked, engine=engine_of(engine, address), jobs=jobs)
    if as_json:
        say_json(record)
    else:
        say("\n".join([*lines(record), str(out / "filter.html")]))


@app.command("classifier")
def data_classifier_command(
    location: Annotated[str, typer.Argument(metavar="ROWS", help="Labelled pages: a file, folder or hub id.")],
    label: Annotated[
        str, typer.Option("--label", help="Column of labels: 0 and 1, or numbers such as 0 to 5.")
    ] = "label",
    embeddings: Annotated[
        str | None,
        typer.Option("--embeddings", help="A sentence-transformers directory; without one, words and pairs of words."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Score that tells pages apart; found in held-out rows without.")
    ] = None,
    keep: Annotated[KeptSide, typer.Option("--keep", help="Pages above or below the threshold.")] = KeptSide.above,
    text: Annotated[str, typer.Option("--text-column", help="The column that holds the page.")] = "text",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Read only so many rows.")] = None,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("classifier.json"),
    as_json: JsonOption = False,
) -> None:
    """Train a classifier of pages, of quality or of anything that is labelled, for `data filter`."""
    from mnemos.study.commands.classifier import Learning, lines, train_classifier
    from mnemos.study.paths import data_location, model_location

    here = Path.cwd()
    encoder = model_location(embeddings, here) if embeddings else None
    asked = Learning(label, encoder, threshold, keep.value, text, limit)
    record = train_classifier(data_location(location, here), out, asked)
    if as_json:
        say_json(record)
    else:
        say("\n".join([*lines(record), str(out)]))


@app.command("mix")
def data_mix_command(
    sources: Annotated[list[str], typer.Argument(metavar="NAME=FILE...", help="Texts by name.")],
    total: Annotated[float | None, typer.Option("--total", help="Tokens, or characters, in the mixture.")] = None,
    weight: Annotated[
        list[str] | None, typer.Option("--weight", metavar="NAME=NUMBER", help="Weight of a source; repeatable.")
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="Weights are size^(1/T).")] = 1.0,
    max_epochs: Annotated[float, typer.Option("--max-epochs", help="How often a source may be read.")] = 4.0,
    tokenizer: Annotated[str | None, typer.Option("--tokenizer", help="Count its tokens, not characters.")] = None,
    order: Annotated[Ordering, typer.Option("--order", help="random, length or in-context.")] = Ordering.random,
    seed: Annotated[int, typer.Option("--seed", help="Of draw and order.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="The file to write; .gz packs it.")] = Path("mixed.jsonl"),
    as_json: JsonOption = False,
) -> None:
    """One file from several sources: by weight, temperature and caps, with the epochs of each, in an order."""
    from mnemos.sources.plain import texts_at
    from mnemos.study.commands.mix import lines, mix
    from mnemos.study.paths import data_location

    here = Path.cwd()
    places = _pairs(sources)
    weights = {name: _number(name, value) for name, value in _pairs(weight or ()).items()} or None
    record = mix(
        {name: texts_at(data_location(place, here)) for name, place in places.items()}, out, total=total,
        weights=weights, temperature=temperature, max_epochs=max_epochs, tokenizer=tokenizer, order=order.value,
        seed=seed,
    )  # fmt: skip
    if as_json:
        say_json(record)
    else:
        say("\n".join(lines(record)))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise UsageError(f"{text}", "must be NAME=VALUE", "for example wiki=wiki.jsonl")
    return name, value


def _pairs(given: Sequence[str]) -> dict[str, str]:
    """By name. UsageError for a name that is given twice: of two files one would be left out without a word."""
    found: dict[str, str] = {}
    for name, value in map(_pair, given):
        if name in found:
            bound = f"is given twice, first as {name}={found[name]}"
            raise UsageError(f"{name}={value}", bound, "give each its own name")
        found[name] = value
    return found


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"--weight {name}={value}", "is no number", f"write {name}=0.5") from None


def register(main: typer.Typer) -> None:
    """Add the group to the command line."""
    main.add_typer(app, name="data")
