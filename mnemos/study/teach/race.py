"""The race itself: studies on growing shares of the rows, each with the arms that are left.

A rung is a study as any other, carried out by `study.run` in a folder of its own; all of them, and the proof, share one
folder of steps. Nothing is remembered of a race but these steps: killed and started again, it makes the same decisions
from the same scores and goes on where it was.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, ModelError
from mnemos.measure.frontier import SuiteScores
from mnemos.measure.race import Place, Rules, choice, look
from mnemos.study.config import load_study
from mnemos.study.engines import AskedEngine
from mnemos.study.experiment import Experiment
from mnemos.study.results.standing import suite_scores
from mnemos.study.run import Record, carry_out
from mnemos.study.steps import result_of
from mnemos.study.teach.look import Look
from mnemos.study.teach.propose import Arm, Proposal, combined, half_way, rank, study_of


@dataclass(frozen=True)
class Means:
    """How steps are carried out. root: the teaching's folder."""

    root: Path
    engine: AskedEngine
    jobs: int | None
    quiet: bool


@dataclass(frozen=True)
class Carried:
    """A finished study: its record and its experiment."""

    record: Record
    experiment: Experiment

    def scores(self, arms: Sequence[str]) -> list[SuiteScores]:
        """Every suite's scores of these arms."""
        return suite_scores(self.experiment, arms)

    @property
    def trained(self) -> dict[str, int]:
        """Key of each training -> tokens read; arms that differ in arithmetic alone share one."""
        keys = {run.last.steps[0].key for run in self.experiment.runs}
        return {key: int(result_of(key, self.experiment.root)["tokens"]) for key in keys}


def carry(study: Mapping[str, Any], place: Path, means: Means) -> Carried:
    """Carry out a study in `place`, with the steps of the whole teaching. `plain` is run only where it is named."""
    link, steps = place / "steps", means.root / "steps"
    for folder in (place, steps):
        folder.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(os.path.relpath(steps, place))
    loaded, folder = load_study(study)
    loaded = loaded.model_copy(update={"arms": {arm: loaded.arms[arm] for arm in study["arms"]}})
    kept: list[Experiment] = []

    def more(experiment: Experiment) -> dict[str, Any]:
        kept.append(experiment)
        return {}

    record = carry_out(loaded, folder, out=place, engine=means.engine, jobs=means.jobs, quiet=means.quiet, more=more)
    return Carried(record, kept[0])


@dataclass(frozen=True)
class Rung:
    """One look. rows: taught. arms: that ran. places: where each stood; proven decisions are theirs. left: for want of
    budget. failed: arm -> why it could not be trained."""

    rows: int
    places: tuple[Place, ...]
    left: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Raced:
    """How it went. chosen: the arm to prove. rungs: in their order. arms: all that ran, by name. trained: key of each
    training -> tokens. scores: of the last rung's development items."""

    chosen: Arm
    rungs: tuple[Rung, ...]
    arms: Mapping[str, Arm]
    trained: Mapping[str, int]
    scores: tuple[SuiteScores, ...]

    @property
    def tokens(self) -> int:
        """Trained in the race."""
        return sum(self.trained.values())


def race(
    proposal: Proposal,
    look_: Look,
    model: str,
    means: Means,
    *,
    max_loss: float,
    seed: int,
    say: Callable[[str], None],
) -> Raced:
    """Race the proposed arms and choose one. max_loss: in points. seed: of every training.

    Raises DataError where no arm can be trained.
    """
    layout = proposal.schedule
    rules = Rules(
        arms=layout.arms[0] + layout.arms[-1] + 2,
        rungs=len(layout.shares),
        suites=sum(1 for spec in look_.old),
        max_loss=max_loss / 100,
    )
    running = list(proposal.arms[: layout.arms[0]])
    known: dict[str, Arm] = {}
    rungs: list[Rung] = []
    trained: dict[str, int] = {}
    for number, share in enumerate(layout.shares, 1):
        last = number == len(layout.shares)
        if last and layout.arms[0] > 1:
            running = with_combinations(running, rungs, known)
        known.update({arm.name: arm for arm in running})
        rows = look_.rows.taught if last else math.ceil(share * look_.rows.taught)
        say(f"race    rung {number} of {len(layout.shares)}: {len(running)} arms on {rows:,} rows")
        carried, running, failed = _rung(proposal, look_, model, running, rows, number, means, last=last, seed=seed)
        names = [arm.name for arm in running]
        scores = carried.scores(names)
        trained |= carried.trained
        places = look([scores], names, rules)
        for line in places_lines(places, failed):
            say(line)
        alive = standing(places, known)
        if not last and not any(place.proven for place in places):
            say("        nobody is proven to have learned on so few rows: nobody is behind, and who trains less waits")
        most = len(alive) if last else layout.arms[number]
        rungs.append(Rung(rows, tuple(places), tuple(place.arm for place in alive[most:]), failed))
        running = [known[place.arm] for place in alive[:most]]
    chosen = choice(
        scores, [arm.name for arm in running], max_loss=max_loss / 100, ranks={a.name: rank(a) for a in running}
    )
    return Raced(known[chosen], tuple(rungs), known, trained, tuple(scores))


def standing(places: Sequence[Place], arms: Mapping[str, Arm]) -> list[Place]:
    """Who is left after a rung, in the order in which a small budget keeps them: by balance; where nobody is proven to
    have learned, plain training that was only braked stands last, because of what was lost on the way to nothing only
    like can be compared with like."""
    silent = not any(place.proven for place in places)
    left = (place for place in places if not place.dropped)
    return sorted(left, key=lambda place: (silent and arms[place.arm].brakes, -place.balance))


def with_combinations(running: list[Arm], rungs: Sequence[Rung], arms: Mapping[str, Arm]) -> list[Arm]:
    """The arms of the last rung: those that are left, best first, the two best kinds together, and every one of them
    half-way back. An arm that was dropped for what it lost may still be the second of the two: beside one that
    rehearses, say, it may lose less."""
    out = list(running)
    names = [arm.name for arm in running]
    places = sorted(rungs[-1].places if rungs else (), key=lambda place: -place.balance)
    others = [arms[place.arm] for place in places if place.arm not in names and not place.beaten_by]
    pairs = ((a, b) for place, a in enumerate(running) for b in [*running[place + 1 :], *others])
    pair = next((made for a, b in pairs if rungs and (made := combined(a, b)) is not None), None)
    if pair is not None:
        out.append(pair)
    plain = [(arm.steps, dict(arm.train)) for arm in out]
    for arm in [*out]:
        half = half_way(arm)
        if half is not None and (half.steps, dict(half.train)) not in plain:
            out.append(half)
    return out


def _rung(
    proposal: Proposal,
    look_: Look,
    model: str,
    running: list[Arm],
    rows: int,
    number: int,
    means: Means,
    *,
    last: bool,
    seed: int,
) -> tuple[Carried, list[Arm], dict[str, str]]:
    """Run one rung; an arm that cannot be trained on these rows is left out with its reason."""
    place = means.root / "rungs" / str(number)

    def carried(arms: Sequence[Arm]) -> Carried:
        # All rows are no limit, so that the proof finds this training done.
        limit = None if last else rows
        study = study_of(
            look_, model, arms, proposal.train, proposal.items, "development", name=f"rung-{number}", limit=limit,
            seeds=[seed],
        )  # fmt: skip
        return carry(study, place, means)

    try:
        return carried(running), running, {}
    except (DataError, ModelError) as error:
        if len(running) == 1:
            raise
        first = error
    failed: dict[str, str] = {}
    for arm in running:
        try:
            carried([arm])
        except (DataError, ModelError) as error:
            failed[arm.name] = f"{error.value}: {error.bound}"
    able = [arm for arm in running if arm.name not in failed]
    if not able:
        raise first
    return carried(able), able, failed


def places_lines(places: Sequence[Place], failed: Mapping[str, str]) -> list[str]:
    """Where each arm stands, best first."""
    width = max(len(name) for name in (*(place.arm for place in places), *failed))
    lines = []
    for place in sorted(places, key=lambda place: -place.balance):
        why = ""
        if place.dropped and place.beaten_by:
            why = f"; dropped: proven behind {place.beaten_by[0]}"
        elif place.dropped:
            why = f"; dropped: proven to lose too much of {place.lost[0]}"
        elif place.lost:
            why = f"; proven to lose too much of {place.lost[0]}, as every arm is"
        numbers = f"learned {100 * place.learned:+6.1f}, lost {100 * place.forgotten:+6.1f}"
        lines.append(f"        {place.arm:<{width}}  {numbers}{why}")
    return lines + [f"        {arm:<{width}}  could not be trained: {why}" for arm, why in failed.items()]
