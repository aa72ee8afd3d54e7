"""`mnemos reward`: train a reward model on preference pairs and test it on others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnemos.cli.options import Group, QuietOption
from mnemos.cli.output import say

app = typer.Typer(cls=Group, help="Reward models: what an answer is worth, learned from pairs.", no_args_is_help=True)


@app.command("train")
def train_command(
    data: Annotated[str, typer.Argument(help="Pairs: rows with chosen and rejected; a file, folder or hub id.")],
    model: Annotated[str, typer.Option("--model", help="The language model to begin with.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the reward model.")] = Path("reward-model"),
    held_out: Annotated[
        float, typer.Option("--held-out", min=0.01, max=0.99, help="Share of questions to test on.")
    ] = 0.2,
    limit: Annotated[int | None, typer.Option("--limit", min=2, help="Read only so many pairs.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of training; repeatable.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Train on most of the pairs; print accuracy on the others beside what length alone would give."""
    from mnemos.core.method import validated
    from mnemos.study.commands.reward import lines, train_and_test
    from mnemos.study.config import parse_override
    from mnemos.study.paths import data_location, model_location
    from mnemos.train.reward_model import RewardTraining

    settings = validated(RewardTraining, dict(parse_override(pair) for pair in set_ or []), where="reward")
    record = train_and_test(
        model_location(model, Path()),
        data_location(data, Path()),
        out,
        settings,
        held_out=held_out,
        limit=limit,
        quiet=quiet,
    )
    say("\n".join([*lines(record), str(out)]))


@app.command("judge")
def judge_command(
    data: Annotated[str, typer.Argument(help="Pairs: rows with chosen and rejected; a file, folder or hub id.")],
    judge: Annotated[str, typer.Option("--judge", help="Directory, hub id or http://host:port/v1#name.")],
    out: Annotated[Path, typer.Option("--out", help="File of the labelled pairs.")] = Path("judged.jsonl"),
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Read only so many pairs.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="constitution, verdict, raw, max_unparsed, seed; repeatable."),
    ] = None,
) -> None:
    """Let a model label pairs, both orders asked; print its agreement and its liking for a place."""
    from mnemos.core.method import validated
    from mnemos.rewards.by_name import RewardSettings
    from mnemos.study.commands.reward import judge_lines, judge_pairs
    from mnemos.study.config import parse_override
    from mnemos.study.paths import data_location, model_location

    place = judge if judge.startswith(("http://", "https://")) else model_location(judge, Path())
    values = {**dict(parse_override(pair) for pair in set_ or []), "judge": place}
    settings = validated(RewardSettings, values, where="judge")
    say("\n".join([*judge_lines(judge_pairs(settings, data_location(data, Path()), out, limit=limit)), str(out)]))


def register(main: typer.Typer) -> None:
    """Add it to the command line."""
    main.add_typer(app, name="reward")
