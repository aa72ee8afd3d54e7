"""The learning-forgetting plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnemos.report.facts import Facts, Point, plane
from mnemos.report.standing import Frontier
from mnemos.report.svg import Scale, Sheet, arm_colour, arm_shape, draw, fit, text_width, tick_text
from mnemos.report.words import counted, figure, typeset

MANY = 12
"""Arms above which the picture names only the best and the legend is one line an arm."""


@dataclass(frozen=True)
class Mean:
    """An arm's mean over its seeds on the plane."""

    arm: int
    forgetting: float
    learning: float
    seeds: int


def means(points: Sequence[Point]) -> list[Mean]:
    """One per arm, in arm order."""
    out = []
    for arm in sorted({point.arm for point in points}):
        own = [point for point in points if point.arm == arm]
        n = len(own)
        out.append(Mean(arm, sum(p.forgetting for p in own) / n, sum(p.learning for p in own) / n, n))
    return out


def frontier(found: Sequence[Mean]) -> list[Mean]:
    """The means that no other mean beats on both sides (Pareto), from least forgotten upwards."""
    # From the least forgotten on, whoever has learned more than all before is beaten by nobody on both sides.
    best: list[Mean] = []
    for mean in sorted(found, key=lambda m: (m.forgetting, -m.learning)):
        if not best or mean.learning > best[-1].learning:
            best.append(mean)
    return best


def plane_plot(facts: Facts, *, width: float, name: str) -> str:
    """The plane; empty text with fewer than two runs to place."""
    points, _ = plane(facts)
    if len(points) < 2:
        return ""
    found = means(points)
    text = "; ".join(f"{facts.arms[m.arm].name}: {where(m)}" for m in found)
    ahead = ", ".join(facts.arms[mean.arm].name for mean in frontier(found))
    wide = width >= 600
    line = 19 if len(found) > MANY else 38
    height = max(470.0, 92 + line * len(found)) if wide else width + 112 + line * len(found)
    return draw(
        lambda sheet: _paint(sheet, facts, points, found, width, height),
        width,
        height,
        name=name,
        title=f"What {counted(len(found), 'arm')} learned against what they forgot",
        desc=typeset(f"Means over seeds. {text}. On the frontier: {ahead}."),
    )


def where(mean: Mean) -> str:
    """ "learned 92.0, forgot 3.1"."""
    lost = (
        f"forgot {figure(mean.forgetting, 'points')}"
        if mean.forgetting >= 0
        else f"gained {figure(-mean.forgetting, 'points')}"
    )
    return f"learned {figure(mean.learning, 'points')}, {lost}"


def _paint(
    sheet: Sheet, facts: Facts, points: Sequence[Point], found: Sequence[Mean], width: float, height: float
) -> None:
    wide = width >= 600
    left, top, right, bottom = (54.0, 34.0, width - 272, height - 54) if wide else (38.0, 34.0, width - 8, width - 4)
    across = Scale.over([0.0, *(point.forgetting for point in points)], left, right, margin=0.09)
    up = Scale.over([0.0, *(point.learning for point in points)], bottom, top, margin=0.09)
    _grid(sheet, across, up, wide)
    best = frontier(found)
    # A staircase: up to the next arm's forgetting, nobody is known to have learned more than this one.
    xs, ys = [], []
    for place, mean in enumerate(best):
        ys += [up(mean.learning)] * 2
        xs += [across(mean.forgetting), across(best[place + 1].forgetting) if place + 1 < len(best) else right]
    sheet.line(xs, ys, colour="muted", width=1.2, linestyle=(0, (4, 3)), zorder=3)
    sheet.mark(across(0), up(0), "o", colour="paper", edge="ink", size=9, markeredgewidth=1.6, zorder=3)
    # Boxes (left, top, right, bottom) in pixels that no name may cover: marks, axes, names already written.
    taken = [(across(0) - 7, up(0) - 7, across(0) + 7, up(0) + 7)]
    taken += [(left, up(0) - 1, right, up(0) + 1), (across(0) - 1, top, across(0) + 1, bottom)]
    _intervals(sheet, facts, found if len(found) <= MANY else best, across, up)
    small = 4.0 if len(found) > MANY else 5.5
    for point in points:
        x, y = across(point.forgetting), up(point.learning)
        sheet.mark(x, y, arm_shape(point.arm), colour=arm_colour(point.arm), edge="none", size=small, zorder=6,
                   gid=f"mark-run {facts.arms[point.arm].name}: seed {point.seed}")  # fmt: skip
        taken.append((x - 4, y - 4, x + 4, y + 4))
    for mean in found:
        x, y, colour = across(mean.forgetting), up(mean.learning), arm_colour(mean.arm)
        sheet.mark(x, y, arm_shape(mean.arm), colour="panel", edge=colour, size=15, markeredgewidth=1.8, zorder=4.5)
        sheet.mark(x, y, arm_shape(mean.arm), colour=colour, edge="none", size=15, alpha=0.28, zorder=5,
                   gid=f"mark-mean {facts.arms[mean.arm].name}")  # fmt: skip
        taken.append((x - 8, y - 8, x + 8, y + 8))
    for x, text, side in ((max(left, across(0)) + 8, "learned, kept", "left"), (right - 8, "learned, forgot", "right")):
        start = x if side == "left" else x - text_width(text, 11)
        hint = (start, top + 4, start + text_width(text, 11), top + 20)
        if not any(_overlap(hint, other) for other in taken):
            sheet.write(x, top + 16, text, size=11, colour="muted", style="italic", ha=side, zorder=2)
    box = (left, top, right, bottom)
    _label(sheet, "before", across(0), up(0), "ink", taken, box)
    # Among many arms only the best and plain are named in the picture; the legend names all.
    named = found if len(found) <= MANY else [m for m in found if m in best or facts.arms[m.arm].name == "plain"]
    for mean in named:
        text = fit(facts.arms[mean.arm].name, 120, 12, "bold")
        _label(sheet, text, across(mean.forgetting), up(mean.learning), arm_colour(mean.arm), taken, box)
    x, y = (width - 246, top + 10) if wide else (4.0, bottom + 68)
    _legend(sheet, facts, found, x, y, width - x)


def _chosen(facts: Facts) -> Frontier | None:
    return facts.sweep.frontier if facts.sweep and facts.sweep.frontier else facts.frontier


def _intervals(sheet: Sheet, facts: Facts, found: Sequence[Mean], across: Scale, up: Scale) -> None:
    """95 % intervals of the means as thin crosses, and a ring around the knee."""
    frontier = _chosen(facts)
    for mean in found if frontier else ():
        arm = facts.arms[mean.arm].name
        standing = frontier.of(arm) if frontier else None
        x, y, colour = across(mean.forgetting), up(mean.learning), arm_colour(mean.arm)
        if standing is None:
            continue
        for (_, low, high), scale, sideways in ((standing.forgotten, across, True), (standing.learned, up, False)):
            if low is None or high is None:
                continue
            ends = [min(max(end, scale.low), scale.high) for end in (low, high)]
            spans = [scale(end) for end in ends]
            xs, ys = (spans, [y, y]) if sideways else ([x, x], spans)
            sheet.line(xs, ys, colour=colour, width=1.0, alpha=0.55, zorder=3.2)
        if frontier and frontier.knee == arm:
            sheet.mark(x, y, "o", colour="none", edge="ink", size=25, markeredgewidth=1.6, zorder=4.2,
                       gid=f"mark-knee {arm}")  # fmt: skip


def _short_legend(
    sheet: Sheet, facts: Facts, found: Sequence[Mean], best: set[int], x: float, y: float, width: float
) -> None:
    """One line an arm: its mark, name, points learned and forgotten."""
    right = x + width - 4
    for text, end in (("learned", right - 46), ("forgot", right)):
        sheet.write(end, y - 2, text, size=10.5, colour="muted", ha="right")
    y += 17
    for mean in sorted(found, key=lambda m: (m.forgetting, -m.learning)):
        weight = "bold" if mean.arm in best else "normal"
        sheet.mark(x + 8, y - 4, arm_shape(mean.arm), colour=arm_colour(mean.arm), size=9)
        name = fit(facts.arms[mean.arm].name, width - 112, 11, weight)
        sheet.write(x + 20, y, name, size=11, weight=weight)
        sheet.write(right - 46, y, typeset(figure(mean.learning, "points")), size=11, ha="right", weight=weight)
        sheet.write(right, y, typeset(figure(mean.forgetting, "points")), size=11, ha="right", weight=weight)
        y += 19
    sheet.line([x, x + 16], [y, y], colour="muted", width=1.2, linestyle=(0, (4, 3)))
    sheet.write(x + 24, y + 4, "frontier (bold): none does better on both", size=10.5, colour="muted")


def _grid(sheet: Sheet, across: Scale, up: Scale, wide: bool) -> None:
    left, right, bottom, top = across.start, across.end, up.start, up.end
    sheet.box(left, top, right - left, bottom - top, fill="panel", zorder=0)
    for tick in across.ticks(6 if wide else 4):
        sheet.line(
            [across(tick)] * 2, [top, bottom], colour="rule" if tick else "ink", width=0.8 if tick else 1.1, zorder=1
        )
        sheet.write(across(tick), bottom + 17, tick_text(tick), size=11, colour="muted", ha="center")
    for tick in up.ticks(6):
        sheet.line(
            [left, right], [up(tick)] * 2, colour="rule" if tick else "ink", width=0.8 if tick else 1.1, zorder=1
        )
        sheet.write(left - 7, up(tick) + 4, tick_text(tick), size=11, colour="muted", ha="right")
    long = "points forgotten, mean over the old suites" if wide else "points forgotten (old suites)"
    sheet.write((left + right) / 2, bottom + 38, long, size=12, ha="center", weight="bold")
    sheet.write(0, 16, "points learned, mean over the new suites", size=12, weight="bold")


Box = tuple[float, float, float, float]


def _label(sheet: Sheet, text: str, x: float, y: float, colour: str, taken: list[Box], inside: Box) -> None:
    """Write a name beside its mark where nothing else is; leave it to the legend where nothing fits."""
    width = text_width(text, 12, "bold")
    # Nearest places first: beside, above, below, then the corners; beyond 20 pixels a thin line leads to the mark.
    for far in (11, 20, 32, 46):
        sides = (
            (x + far, y - 7),
            (x - far - width, y - 7),
            (x - width / 2, y - far - 12),
            (x - width / 2, y + far - 2),
        )
        right, left = x + 0.7 * far, x - 0.7 * far - width
        corners = tuple((a, b) for a in (right, left) for b in (y - far - 7, y + far - 7))
        for a, b in (*sides, *corners):
            box = (a - 2, b - 1, a + width + 2, b + 15)
            outside = (
                box[0] < inside[0] + 2 or box[1] < inside[1] + 22 or box[2] > inside[2] - 2 or box[3] > inside[3] - 2
            )
            if outside or any(_overlap(box, other) for other in taken):
                continue
            sheet.box(a - 1, b, width + 2, 14, fill="panel", zorder=3.5, alpha=0.85)
            if far > 20:
                near = (min(max(x, a), a + width), min(max(y, b + 2), b + 12))
                sheet.line([x, near[0]], [y, near[1]], colour="muted", width=0.8, zorder=3.6)
            sheet.write(a, b + 11, text, size=12, colour=colour, weight="bold", zorder=7)
            taken.append(box)
            return


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _legend(sheet: Sheet, facts: Facts, found: Sequence[Mean], x: float, y: float, width: float) -> None:
    best = {mean.arm for mean in frontier(found)}
    if len(found) > MANY:
        _short_legend(sheet, facts, found, best, x, y, width)
        return
    for mean in sorted(found, key=lambda m: (m.forgetting, -m.learning)):
        sheet.mark(x + 8, y, arm_shape(mean.arm), colour=arm_colour(mean.arm), size=11)
        sheet.write(x + 24, y + 4, fit(facts.arms[mean.arm].name, width - 26, 12, "bold"), size=12, weight="bold")
        sheet.write(
            x + 24, y + 20, typeset(where(mean)) + (", frontier" if mean.arm in best else ""), size=11, colour="muted"
        )
        y += 38
    sheet.line([x, x + 16], [y + 2, y + 2], colour="muted", width=1.2, linestyle=(0, (4, 3)))
    sheet.write(x + 24, y + 6, "frontier: no arm does better on both", size=11, colour="muted")
