"""Every item's score on every side of a study, in one small file: what each interval can be computed again from.

results.json holds what is printed; the answers behind it take megabytes and stay in the run. Scores alone
compress to a few kilobytes, so they can be kept beside results.json when a run is thrown away.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from mnemos.core.nouns import Score
from mnemos.measure.ask import Measured, load_measured
from mnemos.measure.compare import comparisons
from mnemos.measure.frontier import SuiteScores, contrasts, frontier
from mnemos.study.experiment import JOINT, Experiment
from mnemos.study.results.standing import mean_of, unit_of

FORMAT = 1
FILE = "items.json.gz"


def item_scores(experiment: Experiment) -> dict[str, Any]:
    """suites: name -> items (ids), weights, clusters (null where no two items share one). sides: the model before,
    then what each run left after each of its stages and at each moment on the way: arm (null before), seed, order,
    stage (task), moment (null at the stage's end), last (whether comparisons are about it), scores (suite -> one
    number an item, null where it has none). unit: what counts as a replicate."""
    before = load_measured(_answers(experiment, experiment.before_step.key))
    ids = {name: [score.item for score in side.scores] for name, side in before.items()}
    sides = [{"arm": None, "scores": _values(ids, before)}]
    sides += [{**said, "scores": _values(ids, side)} for said, side in _sides(experiment)]
    return {
        "format": FORMAT,
        "unit": unit_of(experiment),
        "suites": {name: _suite(side.scores) for name, side in before.items()},
        "sides": sides,
    }


def _sides(experiment: Experiment) -> Iterator[tuple[dict[str, Any], Mapping[str, Measured]]]:
    for run in experiment.runs:
        for stage in run.stages:
            steps = [(number, moment.measure) for number, moment in enumerate(stage.moments, 1)]
            for moment, step in [*steps, (None, stage.measure)]:
                said = {"arm": run.arm, "seed": run.seed, "order": run.order, "stage": stage.task, "moment": moment}
                last = moment is None and stage is run.last
                yield {**said, "last": last}, load_measured(_answers(experiment, step.key))


def _answers(experiment: Experiment, key: str) -> Path:
    return experiment.root / "steps" / key / "answers"


def _suite(scores: Sequence[Score]) -> dict[str, Any]:
    clusters = [score.cluster for score in scores]
    return {
        "items": [score.item for score in scores],
        "weights": [score.weight for score in scores],
        "clusters": clusters if any(cluster is not None for cluster in clusters) else None,
    }


def _values(ids: Mapping[str, Sequence[str]], side: Mapping[str, Measured]) -> dict[str, list[float | None]]:
    out = {}
    for name, measured in side.items():
        by_item = {score.item: score.value for score in measured.scores}
        values = [by_item[item] for item in ids[name]]
        out[name] = [None if math.isnan(value) else value for value in values]
    return out


def write_items(path: Path, kept: Mapping[str, Any]) -> None:
    """Write it, the same bytes for the same scores."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(gzip.compress(json.dumps(kept, separators=(",", ":")).encode(), mtime=0))
    os.replace(temporary, path)


def read_items(path: Path) -> dict[str, Any]:
    """What `write_items` wrote."""
    found: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return found


def computed_again(results: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """`comparisons`, `frontier` and `contrasts` of results.json from the scores alone, by the functions of this
    version. results: for names, roles and units of the suites."""
    suites = [SimpleNamespace(**one) for one in results["manifest"]["suites"]]
    roles = {suite.name: suite.role for suite in suites}
    before = {suite.name: _scores(kept, suite.name, kept["sides"][0]) for suite in suites}
    arms: dict[str, dict[int, dict[str, Sequence[Score]]]] = {}
    for arm, sides in _runs(kept).items():
        groups: dict[int, list[Mapping[str, Any]]] = {}
        for side in sides:
            groups.setdefault(side["order" if kept["unit"] == "order" else "seed"], []).append(side)
        arms[arm] = {
            key: {suite.name: mean_of([_scores(kept, suite.name, side) for side in own]) for suite in suites}
            for key, own in groups.items()
        }
    compared = [
        comparison.as_dict()
        for arm, after in arms.items()
        for comparison in comparisons(suites, before, after, arm=arm, roles=roles)  # type: ignore[arg-type]
    ]
    names = [arm for arm in arms if arm != JOINT]
    scores = [
        SuiteScores(
            suite.name,
            suite.role,
            suite.unit,
            suite.better,
            np.array([score.value for score in before[suite.name]]),
            {a: np.array([[one.value for one in side[suite.name]] for side in arms[a].values()]) for a in names},
            np.array([score.weight for score in before[suite.name]]),
            [score.cluster for score in before[suite.name]],
        )
        for suite in suites
    ]
    return {"comparisons": compared, "frontier": frontier(scores, names), "contrasts": contrasts(scores, names)}


def _runs(kept: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Arm -> the sides that comparisons are about, one a run."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for side in kept["sides"][1:]:
        if side["last"]:
            found.setdefault(side["arm"], []).append(side)
    return found


def _scores(kept: Mapping[str, Any], name: str, side: Mapping[str, Any]) -> list[Score]:
    suite = kept["suites"][name]
    clusters = suite["clusters"] or [None] * len(suite["items"])
    rows = zip(suite["items"], side["scores"][name], suite["weights"], clusters, strict=True)
    return [
        Score(name, item, math.nan, "missing", weight, cluster)
        if value is None
        else Score(name, item, value, None, weight, cluster)
        for item, value, weight, cluster in rows
    ]
