"""`mnemos judge`: what a judge is worth, where it is biased, and verdicts and people's votes as rows to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.files import write_json
from mnemos.measure.calibration import calibrate
from mnemos.measure.human import read_pairs
from mnemos.rewards.by_name import RewardSettings, judge
from mnemos.rewards.grader import Grader
from mnemos.rewards.judge import Judge
from mnemos.rewards.panel import Panel, members

REPEATED = 50
"""Pairs that a judge is asked a second time, to see its noise."""


def pair_judge(settings: RewardSettings) -> Judge | Panel:
    """The judge of pairs that the settings name. Raises UsageError for a prompt of single answers."""
    made = judge(settings)
    if isinstance(made, Grader):
        raise UsageError(
            f"prompt {settings.prompt}", "rates single answers, and pairs are compared here", "name another"
        )
    return made


def about(made: Judge | Panel, settings: RewardSettings) -> dict[str, Any]:
    """What names a judge in a record: a calibration holds for exactly this."""
    return {
        "name": made.describe(),
        "fingerprint": made.fingerprint,
        "settings": settings.model_dump(mode="json", exclude_none=True),
    }


def calibrate_judge(
    settings: RewardSettings,
    human: str | Path,
    out: Path,
    *,
    limit: int | None = None,
    width: float = 0.1,
    repeat: int = REPEATED,
) -> dict[str, Any]:
    """Ask the judge about pairs that people labelled, and write what it is worth to `out`."""
    made = pair_judge(settings)
    pairs = read_pairs(human, limit=limit, seed=settings.seed)
    cases = [pair.case for pair in pairs]
    extra: Mapping[str, Any] = {}
    if isinstance(made, Panel):
        ballots = made.ballots(cases)
        verdicts = made.joined(ballots)
        named = {one.judge.path: several for one, several in zip(made.judges, ballots, strict=True)}
        extra = {"panel": {name: vars(one) for name, one in members(named).items()}}
    else:
        verdicts = made.cases(cases)
    again = made.cases(cases[:repeat]) if repeat else []
    found = calibrate(pairs, verdicts, again, width=width, seed=settings.seed)
    record = {"judge": about(made, settings), "human": str(human), **found, **extra}
    write_json(out, record)
    return record
