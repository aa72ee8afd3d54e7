"""Forgetting against KL(before || after) on the new task's prompts, with the curve through all arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.svg import Scale, Sheet, arm_colour, arm_shape, both, draw, fit, tick_text
from mnemos.report.words import clean, counted, figure, interval, number, typeset

KEY = "kl_forgetting"
TITLE = "Forgetting and how far the model moved"
LEAD = (
    "Nats per token by which answers to the new task\u2019s prompts left those of the model before, against points "
    "forgotten on the old suites: one mark a run. If one curve fits every way of training, it is the distance that "
    "forgets, not the method (arXiv:2509.04259)."
)
LOUD = False

CURVE = 60
"""Pieces that the curve is drawn in."""


@dataclass(frozen=True, slots=True)
class KLForgetting:
    """Forgetting against KL(before || after) on new prompts. points: (arm, nats per token, points
    forgotten), one a run. curve: the quadratic's coefficients in points, constant first; empty where
    nothing was fitted, and then why_not. r2, off: (mean, low, high); off, in points, of one arm each: how
    far it lies from the curve of the others."""

    points: tuple[tuple[int, float, float], ...]
    curve: tuple[float, ...]
    r2: tuple[float | None, float | None, float | None]
    spearman: float | None
    off: tuple[tuple[str, float | None, float | None, float | None], ...]
    why_not: str = ""


def read(results: Mapping[str, Any], facts: Facts) -> KLForgetting | None:
    """The `kl_forgetting` of results.json; None where there is none."""
    item, arms = results.get(KEY), [arm.name for arm in facts.arms]
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
    return KLForgetting(
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


def words(facts: Facts, record: KLForgetting) -> list[str]:
    """What the fit says, in sentences."""
    mean, low, high = record.r2
    if mean is None:
        return [f"No curve was fitted: {record.why_not}."]
    around = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    rank = "" if record.spearman is None else f"; rank correlation {record.spearman:.2f}"
    text = [f"One quadratic through {counted(len(record.points), 'run')}: R\u00b2 = {mean:.2f}{around}{rank}."]
    proven = [one for one in record.off if one[2] is not None and one[3] is not None and (one[2] > 0 or one[3] < 0)]
    if proven:
        gaps = [
            f"{arm} {figure(gap, 'points', sign=True)} {interval(down, up, 'points', sign=True)}"
            for arm, gap, down, up in proven
        ]
        text.append(f"Off the curve of the other arms, points forgotten [95 %]: {'; '.join(gaps)}.")
    elif record.off:
        text.append("No arm is proven to lie off the curve of the others.")
    return text


def tables(facts: Facts, record: KLForgetting) -> Sequence[Table]:
    """None: the fit is said in a sentence."""
    return ()


def figures(facts: Facts, record: KLForgetting) -> Sequence[Figure]:
    """x: KL(before || after) on the new prompts; y: points forgotten."""
    return (Figure(both(partial(_plot, facts, record), KEY)),)


def _plot(facts: Facts, record: KLForgetting, *, width: float, name: str) -> str:
    """The picture; empty text without points."""
    if len(record.points) < 2:
        return ""
    arms = sorted({arm for arm, _, _ in record.points})
    wide = width >= 600
    height = max(380.0, 70 + 19.0 * len(arms)) if wide else 340 + 19.0 * len(arms)
    return draw(
        lambda sheet: _paint(sheet, facts, record, arms, width, height),
        width,
        height,
        name=name,
        title="Points forgotten against KL(before || after) on the new prompts, one mark a run",
        desc=typeset(" ".join(words(facts, record))),
    )


def _paint(sheet: Sheet, facts: Facts, record: KLForgetting, arms: Sequence[int], width: float, height: float) -> None:
    wide = width >= 600
    left, top, right = 54.0, 30.0, width - 232 if wide else width - 8
    bottom = height - 54 if wide else 270.0
    across = Scale.over([0.0, *(x for _, x, _ in record.points)], left, right, margin=0.06)
    up = Scale.over([0.0, *(y for _, _, y in record.points)], bottom, top, margin=0.09)
    sheet.box(left, top, right - left, bottom - top, fill="panel", zorder=0)
    for tick in up.ticks(5):
        sheet.line([left, right], [up(tick)] * 2, colour="rule" if tick else "ink", zorder=1)
        sheet.write(left - 7, up(tick) + 4, tick_text(tick), size=11, colour="muted", ha="right")
    for tick in across.ticks(5 if wide else 4):
        sheet.write(across(tick), bottom + 18, tick_text(tick), size=11, colour="muted", ha="center")
    sheet.write(0, 16, "points forgotten", size=12, weight="bold")
    sheet.write(
        (left + right) / 2, bottom + 40, "KL(before || after), nats per token", size=11.5, weight="bold", ha="center"
    )
    if record.curve:
        most = max(x for _, x, _ in record.points)
        xs = [most * piece / CURVE for piece in range(CURVE + 1)]
        # Coefficients stand constant first: y = c_0 + c_1 x + c_2 x^2.
        ys = [sum(c * x**power for power, c in enumerate(record.curve)) for x in xs]
        sheet.line([across(x) for x in xs], [up(y) for y in ys], colour="muted", width=1.6, zorder=2)
    for arm, x, y in record.points:
        sheet.mark(across(x), up(y), arm_shape(arm), colour=arm_colour(arm), edge="none", size=8, zorder=4,
                   gid=f"mark-kl-forgetting {facts.arms[arm].name}")  # fmt: skip
    x, y = (width - 212, top + 10) if wide else (8.0, bottom + 66)
    for place, arm in enumerate(arms):
        sheet.mark(x, y + 19 * place - 4, arm_shape(arm), colour=arm_colour(arm), edge="none", size=9)
        sheet.write(x + 14, y + 19 * place, fit(facts.arms[arm].name, 190, 12), size=12)
