"""`mnemos judge`: calibrate a judge on human labels, probe its biases, and turn verdicts and votes into rows."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mnemos.cli.options import Group
from mnemos.cli.output import say

app = typer.Typer(cls=Group, help="Judges: what a model's verdicts on answers are worth.", no_args_is_help=True)

JudgeOption = Annotated[
    list[str],
    typer.Option("--judge", help="Directory, hub id or http://host:port/v1#name; several are a panel."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="constitution, verdict, raw, max_unparsed, seed; repeatable."),
]
PromptOption = Annotated[
    str | None, typer.Option("--prompt", help="A file of prompts; FILE.jsonl#NAME for FastChat's.")
]


def _settings(judge: list[str], prompt: str | None, set_: list[str] | None) -> Any:
    from mnemos.core.method import validated
    from mnemos.core.places import author_location, resolve_path
    from mnemos.rewards.by_name import RewardSettings
    from mnemos.study.config import parse_override

    places = [author_location(one, Path(), "--judge") for one in judge]
    values = {**dict(parse_override(pair) for pair in set_ or []), "judge": places if len(places) > 1 else places[0]}
    if prompt is not None:
        values["prompt"] = str(resolve_path(prompt, Path()))
    return validated(RewardSettings, values, where="judge")


@app.command("calibrate")
def calibrate_command(
    judge: JudgeOption,
    human: Annotated[
        Path,
        typer.Option("--human", help="Pairs that people labelled: answer_a, answer_b, verdict; or chosen, rejected."),
    ],
    prompt: PromptOption = None,
    out: Annotated[Path, typer.Option("--out", help="File of the calibration.")] = Path("calibration.json"),
    limit: Annotated[
        int | None, typer.Option("--limit", min=2, help="Judge only so many pairs, drawn by seed.")
    ] = None,
    width: Annotated[
        float, typer.Option("--width", min=0.001, max=0.999, help="Interval that a budget of labels is told for.")
    ] = 0.1,
    repeat: Annotated[int, typer.Option("--repeat", min=0, help="Pairs asked a second time, to see noise.")] = 50,
    set_: SetOption = None,
) -> None:
    """How far a judge agrees with people, and what its errors do to a win rate."""
    from mnemos.measure.calibration import lines
    from mnemos.study.commands.judge import calibrate_judge

    settings = _settings(judge, prompt, set_)
    record = calibrate_judge(settings, human, out, limit=limit, width=width, repeat=repeat)
    say("\n".join([record["judge"]["name"], *lines(record), str(out)]))


@app.command("probe")
def probe_command(
    judge: JudgeOption,
    data: Annotated[
        str, typer.Option("--data", help="Folder with raw.jsonl and twins of it; the rest is made by rule.")
    ] = "$MNEMOS_DATA/judge_bias",
    prompt: PromptOption = None,
    out: Annotated[Path, typer.Option("--out", help="File of what was found.")] = Path("probes.json"),
    limit: Annotated[int | None, typer.Option("--limit", min=2, help="Ask about only so many questions.")] = None,
    human: Annotated[Path | None, typer.Option("--human", help="Labelled pairs, for self-preference.")] = None,
    own: Annotated[str | None, typer.Option("--own", help="With --human: the judge's name among their models.")] = None,
    set_: SetOption = None,
) -> None:
    """How easily a judge is misled, beside a judge that answers at random; fit if it beats that on every probe."""
    from mnemos.core.errors import UsageError
    from mnemos.measure.bias import lines
    from mnemos.study.commands.judge import probe_judge

    if (human is None) != (own is None):
        raise UsageError("--human and --own", "go together", "name the labelled pairs, and the judge's name in them")
    settings = _settings(judge, prompt, set_)
    findings, self_liking = probe_judge(settings, out, data=data, limit=limit, human=human, own=own)
    say("\n".join([*lines(findings, self_liking), str(out)]))


RunsOption = Annotated[
    Path | None, typer.Option("--runs", help="Folder below which the runs of votes without answers are.")
]
FilesArgument = Annotated[
    list[Path], typer.Argument(help="Votes (SQLite or JSONL), or rows with answers and verdicts.")
]


@app.command("vote")
def vote_command(
    judge: JudgeOption,
    suite: Annotated[str, typer.Option("--suite", help="The suite that was answered: a file, or a shipped one.")],
    answers: Annotated[
        list[str], typer.Option("--answers", metavar="NAME=FILE", help="A model's name and its answers; repeatable.")
    ],
    prompt: PromptOption = None,
    out: Annotated[Path, typer.Option("--out", help="File of the verdicts, with answers.")] = Path("verdicts.jsonl"),
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first items.")] = None,
    votes: Annotated[
        Path | None, typer.Option("--votes", help="Add its votes to people's, so that the page sets them side by side.")
    ] = None,
    run: Annotated[str | None, typer.Option("--run", help="With --votes: the run, as the page names it.")] = None,
    set_: SetOption = None,
) -> None:
    """Let a judge vote on every two models' answers, as one more rater."""
    from mnemos.core.errors import UsageError
    from mnemos.study.commands.judge import pair_judge
    from mnemos.study.commands.judge_rows import judge_votes

    named = dict(one.partition("=")[::2] for one in answers)
    if len(named) < 2 or not all(named.values()):
        raise UsageError(
            "--answers", "needs two models or more, each as NAME=FILE", "before=runs/x/before/answers/s.jsonl"
        )
    if len(named) < len(answers):
        raise UsageError("--answers", "names a model twice", "give each file a name of its own")
    if (votes is None) != (run is None):
        raise UsageError("--votes and --run", "go together", "--votes runs/votes.sqlite --run x")
    places = {name: Path(place) for name, place in named.items()}
    made = pair_judge(_settings(judge, prompt, set_))
    counts = judge_votes(made, suite, places, out, limit=limit, votes=votes, run=run)
    say("\n".join([_counted(counts), str(out)]))


@app.command("table")
def table_command(
    files: FilesArgument,
    runs: RunsOption = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Of the judge whose verdicts these are: takes its errors off.")
    ] = None,
) -> None:
    """Models by strength from votes and verdicts (Bradley-Terry), and their win rates at equal length."""
    from mnemos.study.commands.judge_rows import table

    say("\n".join(table(files, runs, calibration)))


@app.command("rates")
def rates_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run, its results.json, or a kept one.")],
    suite: Annotated[str, typer.Option("--suite", help="Its pairwise suite.")],
    checked_by: Annotated[
        str | None, typer.Option("--checked-by", help="A suite of the same items whose scores label the pairs.")
    ] = None,
    votes: Annotated[Path | None, typer.Option("--votes", help="People's votes, which label the pairs.")] = None,
    run_name: Annotated[
        str | None, typer.Option("--run", help="With --votes on several runs: which one this is.")
    ] = None,
    labels: Annotated[
        int | None, typer.Option("--labels", min=2, help="Use so many labels, drawn by seed; show what all say.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Of the same judge on other pairs: its error rates.")
    ] = None,
    as_: Annotated[
        str | None, typer.Option("--as", help="Whose error rates of it stand for models that it does not name.")
    ] = None,
    probes: Annotated[Path | None, typer.Option("--probes", help="Of the same judge: says whether it is fit.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of --labels.")] = 0,
) -> None:
    """Win rates of a run's pairwise suite beside those without the judge's errors; asks nobody."""
    from mnemos.study.commands.judge_rates import rates

    say("\n".join(rates(
        run, suite, checked_by=checked_by, votes=votes, run=run_name, labels=labels, seed=seed,
        calibration=calibration, as_=as_, probes=probes,
    )))  # fmt: skip


@app.command("categories")
def categories_command(
    suite: Annotated[str, typer.Option("--suite", help="The judged suite: a file, or a shipped one.")],
    before: Annotated[Path, typer.Option("--before", help="A run's answers to it before.")],
    after: Annotated[Path, typer.Option("--after", help="A run's answers to it after.")],
) -> None:
    """Kept scores of a judged suite by category, before and after, with intervals; asks nobody."""
    from mnemos.study.commands.judge_rows import categories

    say("\n".join(categories(suite, before, after)))


class _Form(StrEnum):
    pairs = "pairs"
    kto = "kto"


@app.command("export")
def export_command(
    files: FilesArgument,
    format_: Annotated[_Form, typer.Option("--format", help="pairs: chosen and rejected; kto: answers with a thumb.")],
    out: Annotated[Path, typer.Option("--out", help="File of the rows.")] = Path("preferences.jsonl"),
    runs: RunsOption = None,
) -> None:
    """Votes and verdicts as rows to learn from."""
    from mnemos.study.commands.judge_rows import export

    say("\n".join([_counted(export(files, runs, out, format_.value)), str(out)]))


def _counted(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{name}: {number:,}" for name, number in counts.items())


def register(main: typer.Typer) -> None:
    """Add it to the command line."""
    main.add_typer(app, name="judge")
