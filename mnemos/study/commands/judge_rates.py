"""Win rates of a run's pairwise suite without the judge's errors: from kept scores, asking nobody.

What a suite of kind pairwise reports is the judge's opinion. Beside it stands what is left without its errors, by
labels of the same pairs (people's votes, or another suite of the same items that a program scores), or by the error
rates of a calibration on other pairs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, NotComparable, UsageError, nearest
from mnemos.core.files import read_json
from mnemos.core.json_text import parse_json
from mnemos.core.yaml_text import read_utf8
from mnemos.measure.calibration import corrected_rates, percent, read_calibration, share
from mnemos.measure.correction import Rates, prediction_powered, rogan_gladen
from mnemos.measure.human import HALF, majority
from mnemos.measure.votes import VoteVerdict, read_votes
from mnemos.rewards.judge import Decision
from mnemos.study.results.items import FILE, read_items, scores_beside

OF_SCORE: Mapping[float, Decision] = {1.0: "a", 0.5: "tie", 0.0: "b"}
"""A score of a pairwise suite as the verdict on (after, before)."""

WORDS: Mapping[Decision, str] = {"a": "better", "b": "worse", "tie": "as good"}

HEAD = (
    "| | pairs | labels | judge: wins | corrected | judge: win rate | corrected | labels alone |",
    "|---|---:|---:|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Run:
    """What one training left beside the model before. name: as votes call it. decisions: item -> the judge's, with the
    answer after as a. labels: item -> the label, of those that are known."""

    name: str
    decisions: Mapping[str, Decision]
    labels: Mapping[str, Decision]


@dataclass(frozen=True)
class Study:
    """The kept scores of a study and the manifest's word about one of its suites."""

    kept: Mapping[str, Any]
    suite: Mapping[str, Any]

    def scores(self, side: Mapping[str, Any], name: str) -> dict[str, float]:
        """Item -> score of a suite, without those that have none."""
        items = self.kept["suites"][name]["items"]
        return {item: value for item, value in zip(items, side["scores"][name], strict=True) if value is not None}


def open_study(place: Path, suite: str) -> Study:
    """A run's directory, its results.json, or a kept NAME.json with its scores beside it. Raises UsageError for a suite
    that is not of it or not pairwise against the model before."""
    path = place / "results.json" if place.is_dir() else place
    if not path.is_file():
        raise UsageError(f"{path}", "does not exist", "name the directory of a finished run, or a kept results.json")
    kept = read_items(scores_beside(path))
    try:
        suites = {one["name"]: one for one in read_json(path)["manifest"]["suites"]}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}", f"is no results.json ({error!r})", f"name a run that holds {FILE}") from None
    if suite not in suites:
        raise UsageError(f"suite {suite}", f"is not of {path}", nearest(suite, sorted(suites)))
    if suites[suite]["kind"] != "pairwise" or suites[suite]["settings"].get("against", "before") != "before":
        raise UsageError(f"suite {suite}", "does not compare with the model before", "name a suite of kind pairwise")
    return Study(kept, suites[suite])


def runs_of(study: Study, checked_by: str | None) -> Iterator[Run]:
    """One for each training. checked_by: a suite of the same items: of two answers the better is the one with the
    higher score. Raises UsageError for a suite of other items."""
    suite = study.suite["name"]
    if checked_by is not None:
        found = study.kept["suites"].get(checked_by)
        if found is None:
            raise UsageError(
                f"suite {checked_by}", "is not of this run", nearest(checked_by, sorted(study.kept["suites"]))
            )
        if set(found["items"]) != set(study.kept["suites"][suite]["items"]):
            raise UsageError(
                f"suite {checked_by}", f"has other items than {suite}", f"name the suite that {suite} is `of`"
            )
    first = study.scores(study.kept["sides"][0], checked_by) if checked_by else {}
    for side in study.kept["sides"][1:]:
        if not side["last"]:
            continue
        decisions = {item: OF_SCORE[value] for item, value in study.scores(side, suite).items()}
        own = study.scores(side, checked_by) if checked_by else {}
        labels = {item: _better(own[item], first[item]) for item in decisions if item in own and item in first}
        order = "" if side["order"] in (None, 0) else f"/order-{side['order']}"
        yield Run(f"{side['arm']}{order}/seed-{side['seed']}", decisions, labels)


def _better(after: float, before: float) -> Decision:
    if math.isclose(after, before, abs_tol=1e-9):
        return "tie"
    return "a" if after > before else "b"


def voted(path: Path, suite: str, run: str | None) -> Mapping[tuple[str, str], Decision]:
    """(model, item) -> what most raters say of it beside the model before, the model as a. run: of which run, where the
    file holds votes on several. Raises UsageError where there are several and none is named, or no vote at all."""
    ballots: dict[tuple[str, str], list[VoteVerdict]] = {}
    found = [vote for vote in read_votes(path) if vote.suite == suite and "before" in (vote.model_a, vote.model_b)]
    runs = sorted({vote.run for vote in found})
    if run is None and len(runs) > 1:
        raise UsageError(f"{path}", f"holds votes on {len(runs)} runs ({', '.join(runs[:5])})", "--run: one of them")
    for vote in found:
        if run is not None and vote.run != run:
            continue
        turned = vote if vote.model_b == "before" else vote.turned()
        ballots.setdefault((turned.model_a, turned.item), []).append(turned.verdict)
    if not ballots:
        raise UsageError(f"{path}", f"holds no vote on {suite!r} beside the model before", f"it has runs {runs}")
    return {key: label for key, several in ballots.items() if (label := majority(several)) is not None}


def rates(
    place: Path,
    suite: str,
    *,
    checked_by: str | None = None,
    votes: Path | None = None,
    run: str | None = None,
    labels: int | None = None,
    seed: int = 0,
    calibration: Path | None = None,
    as_: str | None = None,
    probes: Path | None = None,
) -> list[str]:
    """A table, one row a training: the judge's wins and win rate (ties as halves) over the model before, each with what
    is left without its errors.

    checked_by, votes: where labels of these very pairs come from. labels: use only so many, drawn by seed; what all of
    them say is then told beside. calibration: of the same judge, on other pairs; as_: whose error rates of it stand for
    models that it does not name, such as a, where it was made from pairs without names. probes: of the same judge.

    Raises NotComparable for a calibration or probes of another judge.
    """
    if checked_by is not None and votes is not None:
        raise UsageError("--checked-by and --votes", "both label the pairs", "give one of them")
    study = open_study(place, suite)
    found = list(runs_of(study, checked_by))
    if votes is not None:
        known = voted(votes, suite, run)
        found = [
            Run(one.name, one.decisions, {i: known[one.name, i] for i in one.decisions if (one.name, i) in known})
            for one in found
        ]
    judge = study.suite["judged"]["judge"][0]
    elsewhere = read_calibration(calibration, judge) if calibration is not None else {}
    if as_ is not None and as_ not in elsewhere:
        raise UsageError(f"--as {as_}", "is no model of the calibration", nearest(as_, sorted(elsewhere)))
    out = [_standing(probes, judge)] if probes is not None else []
    out += [_calibrated(calibration, judge)] if calibration is not None else []
    out += ["", *HEAD] if out else list(HEAD)
    for one in found:
        out.append(_row(one, _drawn(one.labels, labels, seed), elsewhere.get(one.name, elsewhere.get(as_ or ""))))
    if labels is not None:
        out += ["", *(f"{one.name}: {_whole(one.labels)}" for one in found)]
    return out


def _drawn(labels: Mapping[str, Decision], number: int | None, seed: int) -> Mapping[str, Decision]:
    """So many of the labels: a random part, or prediction-powered inference would correct something else."""
    if number is None or number >= len(labels):
        return labels
    # By item and seed alone, so that the same items are looked at in each run.
    kept = sorted(sorted(labels), key=lambda item: random.Random(f"{seed} {item}").random())[:number]
    return {item: labels[item] for item in kept}


def _row(one: Run, labels: Mapping[str, Decision], elsewhere: Rates | None) -> str:
    rows = [(labels.get(item), decision) for item, decision in one.decisions.items()]
    if not rows:
        return f"| {one.name} | 0 | 0 | no verdict | - | - | - | - |"
    found = corrected_rates(rows)
    wins, win_rate = found["wins"], found["win_rate"]
    if elsewhere is not None:
        naive = sum(decision == "a" for _, decision in rows) / len(rows)
        wins = vars(rogan_gladen(naive, len(rows), elsewhere))
    alone = vars(prediction_powered([HALF[label] for label in labels.values()], [0.0] * len(labels), []))
    cells = [
        share(wins, "naive", "naive_"), _corrected(wins),
        share(win_rate, "naive", "naive_"), _corrected(win_rate), _corrected(alone),
    ]  # fmt: skip
    return f"| {one.name} | {len(rows)} | {len(labels)} | {' | '.join(cells)} |"


def _corrected(value: Mapping[str, Any]) -> str:
    if value["value"] is None or math.isnan(value["value"]):
        return f"not possible: {value['reason']}"
    return share(value, "value")


def _whole(labels: Mapping[str, Decision]) -> str:
    if not labels:
        return "no label"
    values = list(labels.values())
    counts = ", ".join(f"{word} {sum(one == key for one in values)}" for key, word in WORDS.items())
    mean = sum(HALF[one] for one in values) / len(values)
    return f"by all {len(values)} labels the win rate is {percent(mean)} ({counts})"


def _standing(probes: Path, judge: str) -> str:
    """Whether the judge is fit, from what `mnemos judge probe` wrote."""

    def words(value: Mapping[str, Any]) -> str:
        if value["fit"]:
            return f"{value['judge']['name']} is fit: it beats a random judge on every probe"
        worst = [one["probe"] for one in value["probes"] if one["standing"] != "beats random"]
        return f"{value['judge']['name']} is NOT FIT: a random judge is not beaten on {', '.join(worst)}"

    return _from_record(probes, judge, words, "mnemos judge probe writes one")


def _calibrated(calibration: Path, judge: str) -> str:
    """How far people agree with the judge, from its calibration."""

    def words(value: Mapping[str, Any]) -> str:
        right = share(value["soft"], "right")
        return (
            f"on {value['labelled']} pairs that people labelled it is on their side of {right} of the decided ones (a "
            f"coin: 50 %); both orders agree on {percent(value['position']['consistent'])}"
        )

    return _from_record(calibration, judge, words, "mnemos judge calibrate writes one")


def _from_record(path: Path, judge: str, words: Callable[[Mapping[str, Any]], str], cure: str) -> str:
    """What a record of this judge says. Raises NotComparable for one of another judge, DataError for a file that is
    none."""
    value = parse_json(read_utf8(path, DataError), f"{path}")
    try:
        if value["judge"]["fingerprint"] != judge:
            raise NotComparable(
                f"{path}", f"is of {value['judge']['name']}, and another judge gave these verdicts", cure
            )
        return words(value)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}", f"is no record of a judge ({error!r})", cure) from None
