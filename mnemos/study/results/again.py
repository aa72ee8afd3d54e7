"""What results.json prints with an interval, once more from the items' scores that are kept beside it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from mnemos.core.nouns import Score
from mnemos.measure.ask import Measured
from mnemos.measure.compare import comparisons, summary, unmoved_in
from mnemos.measure.frontier import SuiteScores, contrasts, frontier
from mnemos.measure.kl_forgetting import kl_forgetting
from mnemos.measure.trajectory import NOTED, ArmCurves, SuiteCurves, trajectories
from mnemos.study.experiment import JOINT
from mnemos.study.results.sequence import of_accuracies, score_matrices, score_matrix
from mnemos.study.results.standing import Scores, mean_of

Side = Mapping[str, Measured]


def computed_again(results: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """`before`, each run's scores in `arms`, `comparisons`, `frontier`, `contrasts`, and where the study has them
    `matrix`, `kl_forgetting` and `trajectory`, by the functions of this version.

    results: for names, roles and units of the suites, and what training noted along a trajectory. kept: the content of
    items.json.gz. Reasons of missing scores are not kept and not in it.
    """
    suites = [SimpleNamespace(**one) for one in results["manifest"]["suites"]]
    names = [suite.name for suite in suites]
    before, runs = _side(kept, kept["sides"][0], names), _runs(kept)
    base = {name: found.scores for name, found in before.items()}
    arms: dict[str, dict[int, Scores]] = {}
    for arm, sides in runs.items():
        groups: dict[int, list[Side]] = {}
        for side in sides:
            key = side["order" if kept["unit"] == "order" else "seed"]
            groups.setdefault(key, []).append(_side(kept, side, names))
        arms[arm] = {
            key: {name: mean_of([one[name].scores for one in own]) for name in names} for key, own in groups.items()
        }
    roles = {suite.name: suite.role for suite in suites}
    unmoved = {one["arm"]: unmoved_in(run.get("as_before", ()) for run in one["runs"]) for one in results["arms"]}
    taught = [arm for arm in arms if arm != JOINT]
    scores = [_suite_scores(suite, base, {arm: arms[arm] for arm in taught}, unmoved) for suite in suites]
    curve = kl_forgetting(scores, _on_new_prompts(suites), taught)
    return {
        "before": _summaries(suites, before),
        "arms": [
            {"arm": arm, "runs": [{"scores": _summaries(suites, _side(kept, side, names))} for side in sides]}
            for arm, sides in runs.items()
        ],
        "comparisons": [
            comparison.as_dict()
            for arm, after in arms.items()
            for comparison in comparisons(suites, base, after, arm=arm, roles=roles, unmoved=unmoved[arm])  # type: ignore[arg-type]
        ],
        "frontier": frontier(scores, taught),
        "contrasts": contrasts(scores, taught),
        **({"matrix": _matrix(kept, before, suites)} if kept.get("orders") else {}),
        **({"kl_forgetting": curve} if curve else {}),
        **_trajectory(results, kept, suites),
    }


def _runs(kept: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Arm -> the sides that comparisons are about, one a run."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for side in kept["sides"][1:]:
        if side["last"]:
            found.setdefault(side["arm"], []).append(side)
    return found


def _side(kept: Mapping[str, Any], side: Mapping[str, Any], names: Sequence[str]) -> dict[str, Measured]:
    return {name: Measured(name, [], _scores(kept, name, side)) for name in names if name in side["scores"]}


def _scores(kept: Mapping[str, Any], name: str, side: Mapping[str, Any]) -> list[Score]:
    suite = kept["suites"][name]
    none = [None] * len(suite["items"])
    notes = (side.get("notes") or {}).get(name) or none
    rows = zip(suite["items"], side["scores"][name], suite["weights"], suite["clusters"] or none, notes, strict=True)
    return [
        Score(name, item, math.nan, "missing", weight, cluster, note)
        if value is None
        else Score(name, item, value, None, weight, cluster, note)
        for item, value, weight, cluster, note in rows
    ]


def _summaries(suites: Sequence[Any], side: Side) -> dict[str, Any]:
    made = {suite.name: summary(side[suite.name].scores, suite) for suite in suites}
    return {name: {key: one[key] for key in one if key != "reasons"} for name, one in made.items()}


def _suite_scores(
    suite: Any, base: Scores, arms: Mapping[str, Mapping[int, Scores]], unmoved: Mapping[str, Collection[str]]
) -> SuiteScores:
    first = base[suite.name]
    return SuiteScores(
        suite.name,
        suite.role,
        suite.unit,
        suite.better,
        np.array([score.value for score in first]),
        {arm: np.array([[one.value for one in side[suite.name]] for side in by.values()]) for arm, by in arms.items()},
        np.array([score.weight for score in first]),
        [score.cluster for score in first],
        [arm for arm in arms if suite.name in unmoved[arm]],
    )


def _on_new_prompts(suites: Sequence[Any]) -> list[str]:
    roles = {suite.name: suite.role for suite in suites}
    kl = [suite for suite in suites if suite.kind == "kl"]
    return [suite.name for suite in kl if "new" in (suite.role, roles.get(suite.settings.get("of") or ""))]


def _matrix(kept: Mapping[str, Any], before: Side, suites: Sequence[Any]) -> dict[str, Any] | None:
    """A run's stages follow one another among the sides as they were taught."""
    tasks, missing = of_accuracies(kept["tasks"], suites)
    if missing:
        return None
    names = sorted({name for suites in tasks.values() for name in suites})
    arms: dict[str, list[dict[int, list[Side]]]] = {}
    for side in kept["sides"][1:]:
        if side["moment"] is not None:
            continue
        orders = arms.setdefault(side["arm"], [])
        orders += [{} for _ in range(1 + side["order"] - len(orders))]
        orders[side["order"]].setdefault(side["seed"], []).append(_side(kept, side, names))
    if len(kept["orders"]) == 1:
        return score_matrix(tasks, before, {arm: by_order[0] for arm, by_order in arms.items()})
    return score_matrices(kept["orders"], tasks, before, arms, kept["unit"])


def _trajectory(results: Mapping[str, Any], kept: Mapping[str, Any], suites: Sequence[Any]) -> dict[str, Any]:
    trajectory = results.get("trajectory")
    if not trajectory:
        return {}
    asked = [suite for suite in suites if suite.name in trajectory["suites"]]
    curves = [_curves(kept, asked, entry) for entry in results["arms"]]
    return {"trajectory": {**trajectory, "arms": trajectories(curves)}}


def _curves(kept: Mapping[str, Any], suites: Sequence[Any], entry: Mapping[str, Any]) -> ArmCurves:
    """entry: the arm in results.json, whose runs say the steps and what training noted."""
    rows = [run["trajectory"] for run in entry["runs"]]
    sides: list[list[Mapping[str, Any]]] = []
    for last in _runs(kept)[entry["arm"]]:
        own = [
            side
            for side in kept["sides"][1:]
            if all(side[key] == last[key] for key in ("arm", "seed", "order", "stage")) and side["moment"] is not None
        ]
        sides.append([kept["sides"][0], *own, last])
    return ArmCurves(
        name=entry["arm"],
        steps=np.array([[row["step"] for row in own] for own in rows], dtype=float),
        noted={
            name: np.array([[row["noted"].get(name, math.nan) for row in own[1:]] for own in rows], dtype=float)
            for name in NOTED
        },
        suites=[_suite_curves(kept, suite, sides) for suite in suites],
    )


def _suite_curves(kept: Mapping[str, Any], suite: Any, sides: Sequence[Sequence[Mapping[str, Any]]]) -> SuiteCurves:
    first = _scores(kept, suite.name, kept["sides"][0])
    values = [[[score.value for score in _scores(kept, suite.name, side)] for side in own] for own in sides]
    return SuiteCurves(
        name=suite.name,
        role=suite.role,
        unit=suite.unit,
        better=suite.better,
        values=np.array(values, dtype=float),
        weight=np.array([score.weight for score in first], dtype=float),
        clusters=[score.cluster for score in first],
    )


def unlike(results: Any, again: Any, where: str = "") -> Iterator[str]:
    """Places where results.json says something else than what was computed again; keys that were not computed again
    are not looked at. Numbers may differ by rounding."""
    if isinstance(again, Mapping) and isinstance(results, Mapping):
        for key, value in again.items():
            yield from unlike(results.get(key), value, f"{where}.{key}" if where else str(key))
    elif isinstance(again, list | tuple) and isinstance(results, list | tuple):
        if len(results) != len(again):
            yield f"{where}: {len(results)} entries, computed again {len(again)}"
            return
        for place, (one, other) in enumerate(zip(results, again, strict=True)):
            yield from unlike(one, other, f"{where}[{place}]")
    elif not _same(results, again):
        yield f"{where}: {results!r}, computed again {again!r}"


def _same(one: Any, other: Any) -> bool:
    # True == 1 to Python, and in results.json they are different things.
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (one, other))
    return math.isclose(one, other, rel_tol=1e-7, abs_tol=1e-9) if numbers else bool(one == other)
