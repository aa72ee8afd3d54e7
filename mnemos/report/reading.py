"""results.json -> Facts. With `standing` and the sections, the only modules of the room that know the file's keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.report.claims import CLAIMS
from mnemos.report.facts import (
    ROLES,
    VERDICTS,
    Applied,
    Arm,
    Change,
    Facts,
    Flip,
    Grid,
    Run,
    Suite,
    Writing,
)
from mnemos.report.sections import read_sections
from mnemos.report.standing import read_frontier, read_sweep
from mnemos.report.words import clean, limit, number, scaled

RENAMED = {"along": "trajectory", "along_seconds": "trajectory_seconds", "razor": "kl_forgetting"}
"""Keys that results.json had in earlier versions."""

AS_BEFORE = "not asked again: nothing that reads text was trained, so these are the answers of the model before"


def read(results: Mapping[str, Any]) -> Facts:
    """The facts of one results.json.

    Raises UsageError when it is not one of format 1. Absent parts are empty, so that a study
    that was stopped early still has a report.
    """
    if not isinstance(results, Mapping) or not ({"comparisons", "arms"} & set(results)):
        raise UsageError("results", "is not the content of a results.json", "give the file that `mnemos run` wrote")
    if results.get("format", 1) != 1:
        raise UsageError(
            f"results.json format {results['format']!r}", "must be 1", "use the version of mnemos that wrote it"
        )
    results = {RENAMED.get(key, key): part for key, part in results.items()}
    suites = _suites(results)
    flips = tuple(_flip(flip) for flip in _list(results.get("flips")))
    arms = _arms(results, suites)
    facts = Facts(
        study=clean(results.get("study") or ("comparison" if results.get("kind") == "compare" else "study")),
        created=clean(results.get("created") or ""),
        kind=clean(results.get("kind") or "study"),
        manifest=_map(results.get("manifest")),
        suites=tuple(suites.values()),
        arms=arms,
        grids=_grids(_map(results.get("matrix"))),
        flips=flips,
        frontier=read_frontier(results.get("frontier")),
        sweep=read_sweep(results.get("sweep")),
    )
    return replace(facts, sections=read_sections(results, facts))


def _map(item: Any) -> Mapping[str, Any]:
    return item if isinstance(item, Mapping) else {}


def _list(item: Any) -> list[Any]:
    return list(item) if isinstance(item, Sequence) and not isinstance(item, str) else []


def _reasons(item: Any) -> tuple[tuple[str, int], ...]:
    return tuple((clean(name), int(n)) for name, n in _map(item).items() if n)


def _suites(results: Mapping[str, Any]) -> dict[str, Suite]:
    """Suites in reading order: by role, then as the manifest (else the comparisons) lists them."""
    listed = {str(entry["name"]): entry for entry in _list(_map(results.get("manifest")).get("suites"))}
    for row in _list(results.get("comparisons")):
        listed.setdefault(str(row["suite"]), {"name": row["suite"], **{k: row.get(k) for k in ("role", "unit")}})
    # Reversed, so that the first comparison of a suite is the one that stays.
    first = {str(row["suite"]): row for row in reversed(_list(results.get("comparisons")))}
    suites = [
        _suite(entry, first.get(name, {}), _map(_map(results.get("before")).get(name)))
        for name, entry in listed.items()
    ]
    order = list(ROLES)
    suites.sort(key=lambda suite: order.index(suite.role) if suite.role in order else len(order))
    return {suite.name: suite for suite in suites}


def _suite(entry: Mapping[str, Any], row: Mapping[str, Any], before: Mapping[str, Any]) -> Suite:
    unit = str(entry.get("unit") or row.get("unit") or "points")
    items = entry.get("items", row.get("items"))
    tolerance = entry.get("tolerance")
    return Suite(
        name=clean(entry["name"]),
        role=clean(row.get("role") or entry.get("role") or "old"),
        kind=clean(entry.get("kind") or ""),
        unit=unit,
        better=str(entry.get("better") or row.get("better") or "higher"),
        items=len(items) if isinstance(items, list) else items if isinstance(items, int) else None,
        tolerance=number(row.get("tolerance") if tolerance is None else tolerance),
        fingerprint=clean(entry.get("fingerprint") or ""),
        settings=_map(entry.get("settings")),
        before=(
            scaled(number(before.get("mean")), unit),
            scaled(number(before.get("low")), unit),
            scaled(number(before.get("high")), unit),
        ),
        missing=int(before.get("missing") or 0),
        reasons=_reasons(before.get("reasons")),
    )


def _arms(results: Mapping[str, Any], suites: Mapping[str, Suite]) -> tuple[Arm, ...]:
    entries = {str(entry["arm"]): entry for entry in _list(results.get("arms"))}
    rows: dict[str, list[Mapping[str, Any]]] = {name: [] for name in entries}
    for row in _list(results.get("comparisons")):
        rows.setdefault(str(row["arm"]), []).append(row)
    order = {name: place for place, name in enumerate(suites)}
    arms = []
    for name, own in rows.items():
        entry = _map(entries.get(name))
        runs = _list(entry.get("runs"))
        changes = sorted((_change(row, suites, runs) for row in own), key=lambda change: order[change.suite])
        history = tuple(
            Applied(
                clean(step.get("method")),
                clean(step.get("paper") or ""),
                _map(step.get("settings")),
                bool(step.get("off")),
            )
            for step in _list(entry.get("history"))
        )
        arms.append(
            Arm(clean(name), history, tuple(_run(run, place) for place, run in enumerate(runs)), tuple(changes))
        )
    return tuple(arms)


def _run(run: Mapping[str, Any], place: int) -> Run:
    return Run(
        seed=clean(run.get("seed", place)) + _order_words(run.get("order")),
        fingerprint=clean(run.get("fingerprint") or ""),
        scores={clean(name): number(_map(score).get("mean")) for name, score in _map(run.get("scores")).items()},
        cost={RENAMED.get(str(key), str(key)): number(value) for key, value in _map(run.get("cost")).items()},
        losses=_curve(run.get("losses")),
        counts={clean(key): int(n) for key, n in _map(run.get("counts")).items() if isinstance(n, int)},
        written=tuple(_writing(_map(one)) for one in _list(run.get("written"))),
        noted={clean(name): _curve(points) for name, points in _map(run.get("noted")).items()},
    )


def _curve(item: Any) -> tuple[tuple[float, float], ...]:
    points = ((number(pair[0]), number(pair[1])) for pair in _list(item))
    return tuple((step, value) for step, value in points if step is not None and value is not None)


def _writing(one: Mapping[str, Any]) -> Writing:
    return Writing(
        source=clean(one.get("source") or "written rows"),
        rows=int(one.get("rows") or 0),
        seconds=number(one.get("seconds")),
        tokens=int(one.get("tokens") or 0),
        counts={clean(key): int(n) for key, n in _map(one.get("counts")).items() if isinstance(n, int)},
        notes={clean(key): number(value) for key, value in _map(one.get("notes")).items()},
    )


def _as_before(suite: Any, runs: list[Any]) -> tuple[str, ...]:
    """The notice of a suite that no run of an arm was asked again."""
    return (AS_BEFORE,) if runs and all(suite in _list(_map(run).get("as_before")) for run in runs) else ()


def _change(row: Mapping[str, Any], suites: Mapping[str, Suite], runs: list[Any]) -> Change:
    suite = suites[clean(row["suite"])]
    why: Counter[str] = Counter(dict(suite.reasons))
    for run in runs:
        why.update(dict(_reasons(_map(_map(_map(run).get("scores")).get(row["suite"])).get("reasons"))))
    missing, seeds = row.get("missing") or 0, row.get("seeds")
    seeds = len(seeds) if isinstance(seeds, list | tuple) else int(seeds or 1)
    if isinstance(missing, Mapping):
        why, missing = Counter(dict(_reasons(missing))), sum(missing.values())
    delta = scaled(number(row.get("delta")), suite.unit)
    verdict = str(row.get("verdict") or "cannot tell")
    tolerance = number(row.get("tolerance"))
    return Change(
        arm=clean(row["arm"]),
        suite=suite.name,
        role=suite.role,
        unit=suite.unit,
        better=suite.better,
        verdict=verdict if verdict in VERDICTS else "cannot tell",
        before=scaled(number(row.get("before")), suite.unit),
        after=scaled(number(row.get("after")), suite.unit),
        delta=delta,
        low=limit(number(row.get("low")), suite.unit),
        high=limit(number(row.get("high")), suite.unit),
        minimum_detectable=scaled(number(row.get("minimum_detectable")), suite.unit),
        p=number(row.get("p")),
        p_holm=number(row.get("p_holm")),
        tolerance=suite.tolerance if tolerance is None else tolerance,
        seeds=seeds,
        items=int(row.get("items") or 0),
        missing=int(missing),
        reasons=tuple(why.items()) if missing else (),
        method=clean(row.get("method") or ""),
        # Files of earlier versions do not say it: one seed is about the checkpoint, several about the training.
        claim=clean(row.get("claim") or CLAIMS[seeds > 1]),
        notices=tuple(clean(text) for text in _list(row.get("notices"))) + _as_before(row["suite"], runs),
    )


def _flip(flip: Mapping[str, Any]) -> Flip:
    def text(item: Any) -> str:
        if isinstance(item, list):
            turns = [turn if isinstance(turn, Mapping) else {"content": turn} for turn in item]
            parts = (
                f"{turn['role']}: {turn.get('content')}" if "role" in turn else str(turn.get("content"))
                for turn in turns
            )
            return clean("\n".join(parts), lines=True)
        return "" if item is None else clean(item, lines=True)

    before, after = _map(flip.get("before")), _map(flip.get("after"))
    return Flip(
        arm=clean(flip.get("arm", "")),
        seed=clean(flip.get("seed", "")),
        suite=clean(flip.get("suite", "")),
        item=clean(flip.get("item", "")),
        prompt=text(flip.get("prompt")),
        gold=text(flip.get("gold")),
        before=text(before.get("text")),
        after=text(after.get("text")),
        before_score=number(before.get("score")),
        after_score=number(after.get("score")),
        why=clean(flip.get("why", "")),
    )


def _order_words(order: Any) -> str:
    """ ", order a, b, c" for a run of one of several orders."""
    return f", order {', '.join(clean(task) for task in order)}" if isinstance(order, list) and order else ""


def _grids(matrix: Mapping[str, Any]) -> tuple[Grid, ...]:
    """One grid an arm; with several orders one an arm and order, after the arm's mean over them."""
    orders = _list(matrix.get("orders"))
    tasks = tuple(clean(task) for task in _list(matrix.get("tasks")))
    if not orders:
        return tuple(_grid(clean(name), tasks, entry) for name, entry in _map(matrix.get("arms")).items())
    out = []
    for name, entry in _map(matrix.get("arms")).items():
        whole = _grid(clean(name), tasks, entry)
        runs = sum(len(_map(_map(order["arms"]).get(name, {}).get("seeds"))) for order in orders)
        out.append(replace(whole, order=f"mean of {len(orders)} orders", pooled=True, rows=(), seeds=runs))
        for order in orders:
            taught = tuple(clean(task) for task in order["tasks"])
            out.append(replace(_grid(clean(name), taught, order["arms"][name]), order=f"order {', '.join(taught)}"))
    return tuple(out)


def _grid(name: str, tasks: tuple[str, ...], entry: Mapping[str, Any]) -> Grid:
    seeds = [rows for rows in _map(entry.get("seeds")).values() if rows]
    depth = max((len(rows) for rows in seeds), default=0)
    rows = tuple(
        tuple(_mean_points(rows[i][j] for rows in seeds if i < len(rows)) for j in range(len(tasks)))
        for i in range(depth)
    )
    joint = _list(entry.get("joint"))
    metrics = {
        str(key): (
            scaled(number(_map(metric).get("mean")), "points"),
            *(limit(number(_map(metric).get(end)), "points") for end in ("low", "high")),
        )
        for key, metric in _map(entry.get("metrics")).items()
    }
    return Grid(
        arm=name,
        tasks=tasks,
        before=tuple(_mean_points([value]) for value in _list(entry.get("before"))) or (None,) * len(tasks),
        rows=rows,
        joint=tuple(_mean_points([value]) for value in joint) or None,
        seeds=len(seeds),
        metrics=metrics,  # type: ignore[arg-type]  # three parts each, by the line above
    )


def _mean_points(values: Iterable[Any]) -> float | None:
    """Mean in points; None as soon as one is missing, because a mean over fewer seeds is another number."""
    found = [number(value) for value in values]
    known = [value for value in found if value is not None]
    return 100.0 * sum(known) / len(known) if known and len(known) == len(found) else None
