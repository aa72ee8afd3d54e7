"""`mnemos listen units`: sound as discrete units of an encoder's layer, which a language model reads as tokens."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import Group, JsonOption
from mnemos.cli.output import say, say_json

app = typer.Typer(cls=Group, help="Sound as discrete units: fit them, write rows of them.", no_args_is_help=True)


class NormaliseOption(StrEnum):
    """What is done to states before they are compared."""

    none = "none"
    standard = "standard"


class FormOption(StrEnum):
    """Rows that a clip becomes; `sources.units.FORMS` says what each is."""

    transcribe = "transcribe"
    speak = "speak"
    continue_ = "continue"


ClipsArgument = Annotated[str, typer.Argument(metavar="CLIPS", help="Rows of sound, a folder of sounds, or a sound.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Read only so many clips.")]


@app.command("fit")
def fit_command(
    clips: ClipsArgument,
    encoder: Annotated[str, typer.Option("--encoder", help="Whisper, HuBERT, WavLM, wav2vec2, …: directory or id.")],
    layer: Annotated[int, typer.Option("--layer", min=1, help="Its hidden layer; 1 is the first.")],
    clusters: Annotated[int, typer.Option("--clusters", min=2, help="Units.")] = 100,
    normalise: Annotated[
        NormaliseOption, typer.Option("--normalise", help="standard: by mean and deviation of each dimension.")
    ] = NormaliseOption.none,
    frames: Annotated[int, typer.Option("--frames", min=2, help="Sampled from all, at most.")] = 200_000,
    limit: LimitOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of sample and first centres.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="The directory to write.")] = Path("units"),
    as_json: JsonOption = False,
) -> None:
    """Cluster one hidden layer of an encoder by k-means, and write the units."""
    from mnemos.study.commands.units import fit_units, fitted_lines

    record = fit_units(
        clips, encoder, out, layer=layer, clusters=clusters, normalisation=normalise.value, frames=frames, limit=limit,
        seed=seed,
    )  # fmt: skip
    if as_json:
        say_json(record)
    else:
        say("\n".join(fitted_lines(record)))


@app.command("encode")
def encode_command(
    clips: ClipsArgument,
    units: Annotated[Path, typer.Option("--units", help="The directory that fit wrote.")],
    encoder: Annotated[str | None, typer.Option("--encoder", help="Where their encoder lies now.")] = None,
    form: Annotated[
        FormOption, typer.Option("--form", help="transcribe: units to text; speak: text to units; continue: units.")
    ] = FormOption.transcribe,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="What is asked, with {input} where units (speak: text) stand.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Turns for a chat template instead of raw text.")] = False,
    counts: Annotated[bool, typer.Option("--counts", help="A column counts: how long each unit lasts.")] = False,
    limit: LimitOption = None,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("rows.jsonl"),
    as_json: JsonOption = False,
) -> None:
    """Write sounds as rows of units that any study trains on, consecutive repeats merged."""
    from mnemos.study.commands.units import encode_units, encoded_lines

    record = encode_units(
        clips, units, out, encoder=encoder, form=form.value, prompt=prompt, chat=chat, with_counts=counts, limit=limit
    )
    if as_json:
        say_json(record)
    else:
        say("\n".join(encoded_lines(record)))
