"""The frontier and the sweep of results.json as records, all numbers in points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.report.words import clean, limit, number, scaled, value

Interval = tuple[float | None, float | None, float | None]
"""mean, low, high."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One arm among the others. forgotten: negative where it gained. proven: it has learned.
    balance: learned minus forgotten; below_knee: provably smaller than the knee's. dominated_by: arms that learned at
    least as much and forgot at most as much, in the means; proven_by: those of them for which one of the two is
    proven. chosen: share of resamples in which it is the knee."""

    arm: str
    learned: Interval
    forgotten: Interval
    balance: Interval
    proven: bool
    below_knee: bool
    on_frontier: bool
    dominated_by: tuple[str, ...]
    proven_by: tuple[str, ...]
    chosen: float


@dataclass(frozen=True, slots=True)
class Frontier:
    """All arms on the learning-forgetting plane, and the one that the rule chooses."""

    rule: str
    new: tuple[str, ...]
    old: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    points: tuple[Standing, ...]
    knee: str | None
    why_not: str
    likely: tuple[str, ...]
    draws: int

    def of(self, arm: str) -> Standing | None:
        """The standing of one arm."""
        return next((point for point in self.points if point.arm == arm), None)


@dataclass(frozen=True, slots=True)
class Value:
    """One arm of a sweep. values: what each key is set to, in words. off: the plain arm's training."""

    arm: str
    values: tuple[str, ...]
    off: bool


@dataclass(frozen=True, slots=True)
class Sweep:
    """What was swept: keys, arms in the order of their values, and the frontier of these alone."""

    keys: tuple[str, ...]
    base: str
    arms: tuple[Value, ...]
    frontier: Frontier | None


def read_frontier(part: Any) -> Frontier | None:
    """From the `frontier` of results.json; None where there is none."""
    if not isinstance(part, Mapping) or not part.get("points"):
        return None
    points = tuple(
        Standing(
            arm=clean(point["arm"]),
            learned=_interval(point.get("learned")),
            forgotten=_interval(point.get("forgotten")),
            balance=_interval(point.get("balance"), scaled),
            proven=bool(point.get("proven")),
            below_knee=bool(point.get("below_knee")),
            on_frontier=bool(point.get("on_frontier")),
            dominated_by=_names(point.get("dominated_by")),
            proven_by=_names(point.get("proven_by")),
            chosen=number(point.get("chosen")) or 0.0,
        )
        for point in part["points"]
    )
    return Frontier(
        rule=clean(part.get("rule") or ""),
        new=_names(part.get("new")),
        old=_names(part.get("old")),
        left_out=tuple((clean(entry["suite"]), clean(entry["why"])) for entry in part.get("left_out") or ()),
        points=points,
        knee=clean(part["knee"]) if part.get("knee") is not None else None,
        why_not=clean(part.get("why_not") or ""),
        likely=_names(part.get("likely")),
        draws=int(part.get("draws") or 0),
    )


def read_sweep(part: Any) -> Sweep | None:
    """From the `sweep` of results.json; None where there is none."""
    if not isinstance(part, Mapping) or not part.get("over"):
        return None
    keys = [str(entry["key"]) for entry in part["over"]]
    return Sweep(
        keys=tuple(clean(key) for key in keys),
        base=clean(part.get("base") or ""),
        arms=tuple(
            Value(clean(one["arm"]), tuple(value(one["values"].get(key)) for key in keys), bool(one.get("off")))
            for one in part.get("arms") or ()
        ),
        frontier=read_frontier(part.get("frontier")),
    )


def _interval(part: Any, end: Callable[[float | None, str], float | None] = limit) -> Interval:
    """end: what becomes of an end; a balance, the difference of two means in points, may pass 100."""
    found: Mapping[str, Any] = part if isinstance(part, Mapping) else {}
    low, high = (end(number(found.get(key)), "points") for key in ("low", "high"))
    return scaled(number(found.get("mean")), "points"), low, high


def _names(part: Any) -> tuple[str, ...]:
    return tuple(clean(name) for name in part) if isinstance(part, Sequence) and not isinstance(part, str) else ()
