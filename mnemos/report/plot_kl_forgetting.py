"""Forgetting against KL(before || after) on the new task's prompts, with the curve through all arms."""

from __future__ import annotations

from collections.abc import Sequence

from mnemos.report.facts import Facts, Razor
from mnemos.report.kl_forgetting import razor_words
from mnemos.report.svg import Scale, Sheet, arm_colour, arm_shape, draw, fit, tick_text
from mnemos.report.words import typeset

CURVE = 60
"""Pieces that the curve is drawn in."""


def razor_plot(facts: Facts, *, width: float, name: str) -> str:
    """The picture; empty text without points."""
    razor = facts.razor
    if razor is None or len(razor.points) < 2:
        return ""
    arms = sorted({arm for arm, _, _ in razor.points})
    wide = width >= 600
    height = max(380.0, 70 + 19.0 * len(arms)) if wide else 340 + 19.0 * len(arms)
    return draw(
        lambda sheet: _paint(sheet, facts, razor, arms, width, height),
        width,
        height,
        name=name,
        title="Points forgotten against KL(before || after) on the new prompts, one mark a run",
        desc=typeset(" ".join(razor_words(razor))),
    )


def _paint(sheet: Sheet, facts: Facts, razor: Razor, arms: Sequence[int], width: float, height: float) -> None:
    wide = width >= 600
    left, top, right = 54.0, 30.0, width - 232 if wide else width - 8
    bottom = height - 54 if wide else 270.0
    across = Scale.over([0.0, *(x for _, x, _ in razor.points)], left, right, margin=0.06)
    up = Scale.over([0.0, *(y for _, _, y in razor.points)], bottom, top, margin=0.09)
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
    if razor.curve:
        most = max(x for _, x, _ in razor.points)
        xs = [most * piece / CURVE for piece in range(CURVE + 1)]
        ys = [sum(c * x**power for power, c in enumerate(razor.curve)) for x in xs]
        sheet.line([across(x) for x in xs], [up(y) for y in ys], colour="muted", width=1.6, zorder=2)
    for arm, x, y in razor.points:
        sheet.mark(across(x), up(y), arm_shape(arm), colour=arm_colour(arm), edge="none", size=8, zorder=4,
                   gid=f"mark-razor {facts.arms[arm].name}")  # fmt: skip
    x, y = (width - 212, top + 10) if wide else (8.0, bottom + 66)
    for place, arm in enumerate(arms):
        sheet.mark(x, y + 19 * place - 4, arm_shape(arm), colour=arm_colour(arm), edge="none", size=9)
        sheet.write(x + 14, y + 19 * place, fit(facts.arms[arm].name, 190, 12), size=12)
