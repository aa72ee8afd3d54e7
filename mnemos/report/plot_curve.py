"""What one setting does to learning and forgetting: a line through the arms that differ in it alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnemos.report.facts import Arm, Facts, Point, plane
from mnemos.report.plot_plane import Mean, means, where
from mnemos.report.svg import Scale, Sheet, draw, fit, text_width, tick_text
from mnemos.report.words import typeset, value


@dataclass(frozen=True)
class Curve:
    """Arms that differ in one setting: (its value in words, arm) pairs in order. axis: the setting.
    also: what they have in common, in words."""

    axis: str
    also: str
    arms: tuple[tuple[str, int], ...]


def replay_curves(facts: Facts) -> list[Curve]:
    """Groups of arms with at least two replay shares, unless that is what was swept."""
    if facts.sweep and "replay.share_of_final" in facts.sweep.keys:
        return []
    axis = "share of replayed rows in training (not to scale)"
    return [
        Curve(axis, group.also, tuple((f"{100 * share:g} %", arm) for share, arm in group.arms))
        for group in replay_shares(facts)
    ]


def sweep_curves(facts: Facts) -> list[Curve]:
    """Lines through a sweep along its first key, one for each combination of the others' values."""
    if facts.sweep is None:
        return []
    place = {arm.name: number for number, arm in enumerate(facts.arms)}
    key, *others = facts.sweep.keys
    groups: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for one in facts.sweep.arms:
        if one.arm in place:
            groups.setdefault(one.values[1:], []).append((one.values[0], place[one.arm]))
    return [
        Curve(key, ", ".join(f"{k} = {v}" for k, v in zip(others, values, strict=True)), tuple(arms))
        for values, arms in groups.items()
    ]


@dataclass(frozen=True)
class Shares:
    """Arms that differ only in how much they replay: (share, arm) pairs by growing share. also: the
    other methods that they have in common, in words."""

    also: str
    arms: tuple[tuple[float, int], ...]


def replay_shares(facts: Facts) -> list[Shares]:
    """Groups of arms with at least two replay shares. An arm with the same other methods and no
    replay joins its group at share 0."""
    groups: dict[str, dict[float, int]] = {}
    bare: dict[str, int] = {}
    for place, arm in enumerate(facts.arms):
        share, rest = _share(arm)
        if share is None:
            bare.setdefault(rest, place)
        else:
            groups.setdefault(rest, {}).setdefault(share, place)
    out = []
    for rest, shares in groups.items():
        if len(shares) >= 2:
            if rest in bare:
                shares.setdefault(0.0, bare[rest])
            out.append(Shares(rest, tuple(sorted(shares.items()))))
    return out


def _share(arm: Arm) -> tuple[float | None, str]:
    share, rest = None, []
    for step in arm.history:
        found = step.settings.get("share_of_final")
        if step.method == "replay" and isinstance(found, int | float):
            share = float(found)
        # A method that is off changes nothing, so it does not set an arm apart.
        elif not step.off:
            rest.append(f"{step.method} {value(step.settings)}")
    return share, ", ".join(rest)


def curve_plot(facts: Facts, curve: Curve, *, width: float, name: str) -> str:
    """Learned and forgotten against the setting; empty without two placed values."""
    points, _ = plane(facts)
    placed = {mean.arm: mean for mean in means(points)}
    arms = [(text, arm) for text, arm in curve.arms if arm in placed]
    if len({text for text, _ in arms}) < 2:
        return ""
    description = "; ".join(f"{text}: {where(placed[arm])}" for text, arm in arms)
    return draw(
        lambda sheet: _paint(sheet, curve.axis, arms, points, placed, width),
        width,
        300,
        name=name,
        title=f"Learned and forgotten by {curve.axis}",
        desc=typeset(description),
    )


def _paint(
    sheet: Sheet,
    axis: str,
    arms: Sequence[tuple[str, int]],
    points: Sequence[Point],
    placed: dict[int, Mean],
    width: float,
) -> None:
    wide = width >= 600
    left, right, top, bottom = 44.0, width - (120 if wide else 80), 30.0, 244.0
    own = [point for point in points if any(point.arm == arm for _, arm in arms)]
    up = Scale.over([0.0, *(p.learning for p in own), *(p.forgetting for p in own)], bottom, top)
    sheet.box(left, top, right - left, bottom - top, fill="panel", zorder=0)
    for tick in up.ticks(5):
        sheet.line([left, right], [up(tick)] * 2, colour="rule" if tick else "ink", zorder=1)
        sheet.write(left - 7, up(tick) + 4, tick_text(tick), size=11, colour="muted", ha="right")
    step = (right - left) / len(arms)
    xs = [left + step * (place + 0.5) for place in range(len(arms))]
    for (text, _), x in zip(arms, xs, strict=True):
        sheet.write(x, bottom + 18, fit(text, step - 4, 11), size=11, ha="center")
    sheet.write((left + right) / 2, bottom + 40, axis, size=11.5, weight="bold", ha="center")
    sheet.write(0, 16, "points", size=12, weight="bold")
    ends = []
    for word, part, colour, shape in (("learned", "learning", "gained", "^"), ("forgot", "forgetting", "lost", "v")):
        ys = [up(getattr(placed[arm], part)) for _, arm in arms]
        sheet.line(xs, ys, colour=colour, width=2, zorder=3)
        for (_, arm), x, y in zip(arms, xs, ys, strict=True):
            for point in own:
                if point.arm == arm:
                    sheet.mark(x, up(getattr(point, part)), shape, colour=colour, size=5, alpha=0.45)
            sheet.mark(x, y, shape, colour=colour, size=9, zorder=5)
        ends.append((ys[-1], word, colour))
    # Pixels by which the two words at the lines' ends would overlap; each gives way by half.
    gap = 16 - abs(ends[0][0] - ends[1][0])
    for place, (y, word, colour) in enumerate(sorted(ends)):
        shift = 0.0 if gap <= 0 else (-gap / 2, gap / 2)[place]
        sheet.box(xs[-1] + 10, y - 7 + shift, text_width(word, 12, "bold") + 3, 14, fill="panel", zorder=2)
        sheet.write(xs[-1] + 12, y + 4 + shift, word, size=12, colour=colour, weight="bold")
