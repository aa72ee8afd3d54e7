"""`mnemos listen`: language models that learn to hear."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli import listen_units
from mnemos.cli.options import Group, JsonOption, SetOption
from mnemos.cli.output import say, say_choices, say_json

app = typer.Typer(cls=Group, help="Language models that learn to hear.", no_args_is_help=True)
app.add_typer(listen_units.app, name="units")


@app.command("new")
def new_command(
    language: Annotated[str, typer.Option("--language", help="A language model with a chat template.")],
    out: Annotated[Path, typer.Option("--out", help="Directory to write.")],
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="Whisper, wav2vec 2.0, HuBERT, WavLM or Data2Vec.")
    ] = None,
    bridge: Annotated[str, typer.Option("--bridge", help="mlp, conv, qformer, window_qformer or cif.")] = "mlp",
    set_: SetOption = None,
    recogniser: Annotated[
        str | None, typer.Option("--recogniser", help="Whose words stand beside the sound, or with --cascade alone.")
    ] = None,
    cascade: Annotated[bool, typer.Option("--cascade", help="No bridge: the recogniser's words alone.")] = False,
    window: Annotated[float, typer.Option("--window", help="Seconds that are heard at once, at most.")] = 30.0,
    before: Annotated[str, typer.Option("--before", help="Words before a sound.")] = "",
    behind: Annotated[str, typer.Option("--behind", help="Words behind it.")] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bridge's first weights.")] = 0,
) -> None:
    """Put an encoder, an untrained bridge and a language model into one directory, which can be trained and asked."""
    from mnemos.study.commands.listen import New, new
    from mnemos.study.config import parse_override

    settings = dict(parse_override(pair) for pair in set_ or [])
    say(new(New(language, out, encoder, bridge, settings, recogniser, cascade, window, (before, behind), seed)))


@app.command("ask")
def ask_command(
    model: Annotated[str, typer.Argument(help="A model that listens: a directory, or that of an adapter on one.")],
    audio: Annotated[str, typer.Argument(help="A file of sound.")],
    question: Annotated[str, typer.Argument(help="What is asked of it.")] = "What can you hear from the audio?",
    system: Annotated[str | None, typer.Option("--system", help="A system prompt.")] = None,
    transcript: Annotated[
        str | None, typer.Option("--transcript", help="A recogniser whose words are put beside the sound.")
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, max=100_000, help="Of the answer.")] = 128,
    lora_scale: Annotated[
        float | None, typer.Option("--lora-scale", min=0, help="How much an adapter counts; 1 is as trained.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a model answers to a question about a sound."""
    from mnemos.core.errors import printable
    from mnemos.study.commands.listen import ask

    found = ask(
        model, audio, question, system=system, transcript=transcript, max_tokens=max_tokens, lora_scale=lora_scale
    )
    if as_json:
        say_json({"audio": audio, "question": question, "answer": found.text, "finished": found.finished})
        return
    say(printable(found.text) or "(nothing)")


@app.command("sweep")
def sweep_command(
    model: Annotated[str, typer.Argument(help="The directory of an adapter that is not merged.")],
    suite: Annotated[list[str], typer.Option("--suite", help="A built-in suite, or the YAML file of one; repeatable.")],
    scale: Annotated[
        list[float] | None, typer.Option("--scale", min=0, help="Of the adapter; 0, 0.25, 0.5, 0.75, 1. Repeatable.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only so many items of each suite.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the table there, as JSON.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Draw it there: a line a suite.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model with adapters at several scales of them: what they taught against what they cost."""
    from mnemos.core.files import write_json, write_text
    from mnemos.report.plot_scales import scales_plot
    from mnemos.study.commands.listen import sweep, sweep_lines

    found = sweep(model, suite, scale or [0.0, 0.25, 0.5, 0.75, 1.0], limit)
    if out is not None:
        write_json(out, found)
    if svg is not None:
        write_text(svg, scales_plot(found))
    if as_json:
        say_json(found)
    else:
        say("\n".join(sweep_lines(found)))


@app.command("bridges")
def bridges_command(as_json: JsonOption = False) -> None:
    """The kinds of bridge, with their settings and where they deviate from their papers."""
    from mnemos.study.commands.listen import bridge_rows

    rows = bridge_rows()
    if as_json:
        say_json(rows)
        return
    say_choices(rows, 16)


class TargetName(StrEnum):
    """Who writes the answers."""

    self = "self"
    human = "human"
    other = "other"


class Questions(StrEnum):
    """What is asked of a clip."""

    attributes = "attributes"
    captions = "captions"
    both = "both"


@app.command("rows")
def rows_command(
    clips: Annotated[Path, typer.Argument(metavar="CLIPS", help="A folder with metadata.jsonl or metadata.csv.")],
    model: Annotated[str, typer.Option("--model", help="The language model that is to listen: directory or hub id.")],
    target: Annotated[
        list[TargetName] | None,
        typer.Option("--target", help="Whose answers: self (the model's own), human (labels), other; repeatable."),
    ] = None,
    other: Annotated[str | None, typer.Option("--other", help="With --target other, the model that answers.")] = None,
    questions: Annotated[
        Questions, typer.Option("--questions", help="About attributes, for captions, or both.")
    ] = Questions.both,
    per_clip: Annotated[int, typer.Option("--per-clip", min=1, max=100, help="Questions on attributes a clip.")] = 4,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", help="Ask about these alone (digit, speaker, …); repeatable.")
    ] = None,
    options: Annotated[
        float, typer.Option("--options", min=0, max=1, help="Share of the questions that name the possible labels.")
    ] = 0.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Of a written answer.")] = 128,
    system: Annotated[str | None, typer.Option("--system", help="System text of all prompts; '' for none.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the questions that are drawn.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Use only so many clips.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory of the rows and their journal.")] = Path("listening"),
    as_json: JsonOption = False,
) -> None:
    """Rows of clip, question and answer out of described clips: answers by the model itself, by people, by another."""
    from mnemos.core.places import author_location
    from mnemos.models.load import handle
    from mnemos.study.commands.listen_rows import lines, listen_rows
    from mnemos.synthesis.listening import SYSTEM, TARGETS, Asking

    here = Path.cwd()
    prompts = SYSTEM if system is None else system
    asking = Asking(questions.value, per_clip, max_new_tokens, prompts, seed, tuple(attribute or ()), options)
    wanted = [one for one in TARGETS if one in (target or [TargetName.self])]
    author = None if other is None else handle(author_location(other, here, "--other"))
    record = listen_rows(clips, handle(author_location(model, here, "--model")), out, asking, wanted, author, limit)
    if as_json:
        say_json(record)
    else:
        say("\n".join(lines(record, out)))


def register(main: typer.Typer) -> None:
    """Add the commands to the command line."""
    main.add_typer(app, name="listen")
