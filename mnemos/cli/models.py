"""`mnemos models` and `model show`: what lies in the caches, and what a model is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mnemos.cli.options import Group, JsonOption
from mnemos.cli.output import say, say_json

app = typer.Typer(cls=Group, help="Look at a model.", no_args_is_help=True)


def models_command(as_json: JsonOption = False) -> None:
    """List the models in the caches: converted GGUF files and downloads from the Hugging Face hub."""
    from mnemos.report.words import size
    from mnemos.study.commands.models import cached

    found = cached()
    if as_json:
        say_json([one.as_dict() for one in found])
        return
    for one in found:
        say(f"{size(one.size):>8}  {one.family or '-':<12} {one.dtype or '-':<9} {one.used[:16]}  {one.name}")
        say(f"{'':>8}  {one.path}")
    if not found:
        say("no model is in the caches yet")


@app.command("show")
def model_show_command(
    model: Annotated[str, typer.Argument(help="Hugging Face directory, GGUF file, adapter directory or hub id.")],
    as_json: JsonOption = False,
) -> None:
    """Print what a model is and what training it needs; reads no weights."""
    from mnemos.study.commands.models import describe
    from mnemos.study.paths import model_location

    found = describe(model_location(model, Path.cwd()))
    if as_json:
        say_json(found)
        return
    for name, text in _lines(found):
        say(f"{name:<12} {text}")


@app.command("export")
def model_export_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a finished study.")],
    arm: Annotated[str, typer.Option("--arm", help="Whose model.")],
    out: Annotated[Path, typer.Option("--out", help="The directory to write; must not be there.")],
    seed: Annotated[int | None, typer.Option("--seed", help="Of its training; the first unless given.")] = None,
    gguf: Annotated[
        str | None, typer.Option("--gguf", metavar="TYPE", help="Also OUT.gguf, by llama.cpp's converter: q8_0, bf16 …")
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option("--push-to-hub", metavar="OWNER/NAME", help="Repository that gets it with its card.")
    ] = None,
) -> None:
    """Write a model of a finished study on its own, with a card of its rows, methods, changes and hashes."""
    from mnemos.study.commands.export import export

    found = export(run, arm, out, seed=seed, gguf=gguf, push_to_hub=push_to_hub)
    say("\n".join(str(one) for one in (found.model, found.gguf, found.address) if one is not None))


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    from mnemos.report.words import size

    template, lora, memory = found["chat_template"], found["lora"], found["memory"]
    made = f" ({found['made_of']})" if found["made_of"] else ""
    special = ", ".join(f"{name} {one['text']!r} {one['id']}" for name, one in found["special_tokens"].items())
    stops = ", ".join(f"{one['text']!r} {one['id']}" for one in found["stop_tokens"])
    return [
        ("model", f"{found['model']}{made}"),
        ("family", f"{found['family']}, {found['architecture']}"),
        ("parameters", f"{found['parameters']:,}"),
        ("on disk", f"{size(found['bytes'])}, {found['dtype'] or 'no dtype'}: {found['path']}"),
        ("embeddings", "tied" if found["tied_embeddings"] else "not tied"),
        ("context", f"{found['context_length']:,} tokens" if found["context_length"] else "not said"),
        ("vocabulary", f"{found['vocabulary']['tokens']:,} tokens, {found['vocabulary']['rows']:,} rows"),
        ("special", special or "none"),
        ("stops at", stops or "nothing: an answer ends at its longest"),
        ("template", _template(template)),
        ("lora", f"{', '.join(lora['targets'])}; {lora['parameters']:,} parameters at rank {lora['rank']}"),
        (
            "training",
            f"about {size(memory['full_bytes'])} at its peak with AdamW in float32, {size(memory['lora_bytes'])} with "
            f"LoRA, one row of {memory['tokens']} tokens at a time",
        ),
    ]


def _template(template: dict[str, Any] | None) -> str:
    if template is None:
        return "none: chats need one, as chat_template.jinja beside the weights"
    takes = [name for name in ("system", "tools", "thinking") if template[name]]
    lacks = [name for name in ("system", "tools", "thinking") if not template[name]]
    text = f"{template['hash']}; takes {', '.join(takes) or 'turns alone'}"
    return f"{text}, not {', '.join(lacks)}" if lacks else text


def register(main: typer.Typer) -> None:
    """Add the commands to the command line."""
    main.command("models")(models_command)
    main.add_typer(app, name="model")
