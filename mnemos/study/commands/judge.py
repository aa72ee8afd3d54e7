"""`mnemos judge`: what a judge is worth, where it is biased, and verdicts and people's votes as rows to learn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.files import write_json
from mnemos.core.places import resolve_path
from mnemos.measure import bias
from mnemos.measure.calibration import calibrate
from mnemos.measure.human import read_pairs
from mnemos.rewards.by_name import RewardSettings, judge
from mnemos.rewards.grader import Grader
from mnemos.rewards.judge import Judge
from mnemos.rewards.judge_prompt import Case
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


DATA = "$MNEMOS_DATA/judge_bias"
"""Where the published pairs and twins are looked for."""


def probe_judge(
    settings: RewardSettings,
    out: Path,
    *,
    data: str = DATA,
    limit: int | None = None,
    human: str | Path | None = None,
    own: str | None = None,
) -> tuple[list[bias.Finding], bias.SelfPreference | None]:
    """Ask the judge every probe, all in one call, and write what was found to `out`. human, own: labelled pairs, and
    the judge's name among their models, for self-preference."""
    made = pair_judge(settings)
    if isinstance(made, Panel):
        raise UsageError("a panel", "has no bias of its own: its judges do", "probe them one by one")
    folder = resolve_path(data, Path())
    questions = bias.read_questions(folder, limit)
    plain = [Case(one.prompt, one.answers) for one in questions]
    built = {name: bias.duels(name, questions, folder) for name in bias.PROBES}
    pairs = read_pairs(human, limit=limit, seed=settings.seed) if human is not None and own is not None else []
    asked = [plain, *(bias.cases(several) for several, _ in built.values()), [pair.case for pair in pairs]]
    # One call for all: controls that several probes share are asked once.
    every = list(dict.fromkeys(case for part in asked for case in part))
    found = dict(zip(every, made.cases(every), strict=True))
    scheme: bias.Scheme = "probabilities"
    if made.by == "text":
        scheme = "three marks" if made.prompts.plain.verdicts.tie else "two marks"
    findings = [bias.position([found[case] for case in plain], scheme)]
    for name, (several, ruled) in built.items():
        if several:
            findings.append(bias.finding(name, several, [found[c] for c in bias.cases(several)], scheme, ruled))
    self_liking = bias.self_preference(pairs, [found[pair.case] for pair in pairs], own) if own and pairs else None
    record: dict[str, Any] = {
        "judge": about(made, settings),
        "data": data,
        "probes": [_plain(vars(one)) for one in findings],
    }
    record |= {"fit": bias.fit(findings), "self": None if self_liking is None else vars(self_liking)}
    write_json(out, record)
    return findings, self_liking


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(one, float) and math.isnan(one) else one for key, one in values.items()}
