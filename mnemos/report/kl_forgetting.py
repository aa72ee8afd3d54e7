"""Forgetting against KL(before || after) on the new task's prompts: read from results.json, and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mnemos.report.facts import Razor
from mnemos.report.words import clean, counted, figure, interval, number


def read_razor(item: Any, arms: Sequence[str]) -> Razor | None:
    """The `razor` of results.json; None where there is none."""
    if not isinstance(item, Mapping) or not item.get("points"):
        return None
    place = {name: at for at, name in enumerate(arms)}
    points = [
        (place[clean(one["arm"])], number(one["kl"]), number(one["forgotten"]))
        for one in item["points"]
        if clean(one["arm"]) in place
    ]
    fitted = item.get("fit") or {}
    r2 = fitted.get("r2") or {}
    off = tuple(
        (clean(one["arm"]), _points(one.get("mean")), _points(one.get("low")), _points(one.get("high")))
        for one in fitted.get("off") or ()
    )
    return Razor(
        points=tuple((arm, x, 100 * y) for arm, x, y in points if x is not None and y is not None),
        curve=tuple(100 * float(value) for value in fitted.get("coefficients") or ()),
        r2=(number(r2.get("mean")), number(r2.get("low")), number(r2.get("high"))),
        spearman=number(fitted.get("spearman")),
        off=off,
        why_not=clean(item.get("why_not") or ""),
    )


def _points(item: Any) -> float | None:
    found = number(item)
    return None if found is None else 100 * found


def razor_words(razor: Razor) -> list[str]:
    """What the fit says, in sentences."""
    mean, low, high = razor.r2
    if mean is None:
        return [f"No curve was fitted: {razor.why_not}."]
    around = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    rank = "" if razor.spearman is None else f"; rank correlation {razor.spearman:.2f}"
    said = [f"One quadratic through {counted(len(razor.points), 'run')}: R\u00b2 = {mean:.2f}{around}{rank}."]
    proven = [one for one in razor.off if one[2] is not None and one[3] is not None and (one[2] > 0 or one[3] < 0)]
    if proven:
        told = [
            f"{arm} {figure(gap, 'points', sign=True)} {interval(down, up, 'points', sign=True)}"
            for arm, gap, down, up in proven
        ]
        said.append(f"Off the curve of the other arms, points forgotten [95 %]: {'; '.join(told)}.")
    elif razor.off:
        said.append("No arm is proven to lie off the curve of the others.")
    return said
