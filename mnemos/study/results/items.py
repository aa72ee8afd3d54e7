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
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.nouns import Score
from mnemos.measure.ask import Measured, load_measured
from mnemos.study.experiment import Experiment
from mnemos.study.results.standing import unit_of

FORMAT = 1
FILE = "items.json.gz"


def scores_beside(results: Path) -> Path:
    """Where the scores behind a results.json, or behind a kept NAME.json, lie."""
    return results.with_name(FILE) if results.name == "results.json" else results.with_name(f"{results.stem}.{FILE}")


def item_scores(experiment: Experiment) -> dict[str, Any]:
    """suites: name -> items (ids), weights, clusters (null where no two items share one). sides: the model before,
    then what each run left after each of its stages and at each moment on the way: arm (null before), seed, order,
    stage (task), moment (null at the stage's end), last (whether comparisons are about it), scores (suite -> one
    number an item, null where it has none), notes (suite -> one an item, of the suites whose kind makes some). unit:
    what counts as a replicate. tasks: of a sequence, task -> its suites; orders: the tasks as each order teaches
    them."""
    before = load_measured(_answers(experiment, experiment.before_step.key))
    ids = {name: [score.item for score in side.scores] for name, side in before.items()}
    sides = [{"arm": None, **_values(ids, before)}]
    sides += [{**text, **_values(ids, side)} for text, side in _sides(experiment)]
    tasks = experiment.task_suites if experiment.study.is_sequence else {}
    orders = experiment.study.task_orders if experiment.study.is_sequence else ()
    return {
        "format": FORMAT,
        "unit": unit_of(experiment),
        "tasks": {name: list(suites) for name, suites in tasks.items()},
        "orders": [[str(task.name) for task in order] for order in orders],
        "suites": {name: _suite(side.scores) for name, side in before.items()},
        "sides": sides,
    }


def _sides(experiment: Experiment) -> Iterator[tuple[dict[str, Any], Mapping[str, Measured]]]:
    for run in experiment.runs:
        for stage in run.stages:
            steps = [(number, moment.measure) for number, moment in enumerate(stage.moments, 1)]
            for moment, step in [*steps, (None, stage.measure)]:
                text = {"arm": run.arm, "seed": run.seed, "order": run.order, "stage": stage.task, "moment": moment}
                last = moment is None and stage is run.last
                yield {**text, "last": last}, load_measured(_answers(experiment, step.key))


def _answers(experiment: Experiment, key: str) -> Path:
    return experiment.root / "steps" / key / "answers"


def _suite(scores: Sequence[Score]) -> dict[str, Any]:
    clusters = [score.cluster for score in scores]
    return {
        "items": [score.item for score in scores],
        "weights": [score.weight for score in scores],
        "clusters": clusters if any(cluster is not None for cluster in clusters) else None,
    }


def _values(ids: Mapping[str, Sequence[str]], side: Mapping[str, Measured]) -> dict[str, Any]:
    values, notes = {}, {}
    for name, measured in side.items():
        by_item = {score.item: score for score in measured.scores}
        own = [by_item[item] for item in ids[name]]
        values[name] = [None if math.isnan(score.value) else score.value for score in own]
        if any(score.note for score in own):
            notes[name] = [score.note for score in own]
    return {"scores": values, **({"notes": notes} if notes else {})}


def write_items(path: Path, kept: Mapping[str, Any]) -> None:
    """Write it, the same bytes for the same scores."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # gzip writes the time into its header; 0, or the same scores would be other bytes each time.
    temporary.write_bytes(gzip.compress(json.dumps(kept, separators=(",", ":")).encode(), mtime=0))
    os.replace(temporary, path)


def read_items(path: Path) -> dict[str, Any]:
    """What `write_items` wrote. Raises DataError for another file."""
    try:
        found: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}")
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}", f"holds no item scores ({error})", "run the study again") from None
    return found
