"""`mnemos pretrain`: a small language model from nothing but text."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import QuietOption
from mnemos.cli.output import print_ledger, say
from mnemos.cli.tokenizer import ColumnOption, KindOption, LimitOption


class Schedule(StrEnum):
    """How the learning rate goes, by transformers' names."""

    cosine = "cosine"
    wsd = "warmup_stable_decay"
    linear = "linear"
    constant = "constant_with_warmup"


def pretrain_command(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Documents: a file, folder or hub id.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the tokenizer, the study and the model.")] = Path(
        "pretrained"
    ),
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="A tokenizer's directory; one is trained unless given.")
    ] = None,
    kind: Annotated[KindOption, typer.Option("--kind", help="How its pieces are learned.")] = KindOption.byte_bpe,
    vocabulary: Annotated[int, typer.Option("--vocabulary", min=2, help="Its pieces at most.")] = 4096,
    width: Annotated[int, typer.Option("--width", min=1, max=65536, help="Of the model's hidden states.")] = 128,
    layers: Annotated[int, typer.Option("--layers", min=1, max=1000, help="Of the model.")] = 4,
    context: Annotated[
        int, typer.Option("--context", min=8, max=1_000_000, help="Tokens that it reads at once.")
    ] = 256,
    config: Annotated[
        list[str] | None, typer.Option("--config", metavar="KEY=VALUE", help="Another key of LlamaConfig; repeatable.")
    ] = None,
    epochs: Annotated[float, typer.Option("--epochs", min=0.001, max=10_000, help="Passes over the text.")] = 1.0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Rows of --context tokens a step.")] = 8,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="At its peak; by the width unless given.")
    ] = None,
    schedule: Annotated[Schedule, typer.Option("--schedule", help="How it rises and falls.")] = Schedule.cosine,
    moments: Annotated[int, typer.Option("--moments", min=2, max=1000, help="Times it is measured on the way.")] = 4,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="What a sample begins with; repeatable.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the weights and of the order of rows.")] = 0,
    column: ColumnOption = None,
    limit: LimitOption = None,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Make the files and the study, and stop.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Pre-train a small Llama from random weights: tokenizer, training, bits per byte on the way, samples."""
    from mnemos.sources.plain import texts_at
    from mnemos.study.commands.pretrain import STUDY, School, outcome, prepare
    from mnemos.study.config import parse_override
    from mnemos.study.paths import data_location
    from mnemos.study.run import run

    shape = dict(parse_override(pair) for pair in config or [])
    school = School(
        tokenizer, kind.value, vocabulary, width, layers, context, shape, epochs, batch, learning_rate,
        schedule.value, moments, tuple(prompt or ()), seed,
    )  # fmt: skip
    for line in prepare(texts_at(data_location(text, Path.cwd()), column=column, limit=limit), school, out):
        say(line)
    if plan_only:
        say(f"next    mnemos run {out / STUDY} --out {out / 'run'}")
        return
    record = run(out / STUDY, out=out / "run", quiet=quiet)
    print_ledger(record.results)
    for line in outcome(record.results, out, out / "run"):
        say(line)


def register(main: typer.Typer) -> None:
    """Add the command to the command line."""
    main.command("pretrain")(pretrain_command)
