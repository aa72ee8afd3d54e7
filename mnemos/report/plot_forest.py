"""Forest plot: every change with its interval, suite by suite.

Each panel has one role and one unit, hence one scale. Right is better in every panel, whichever
way the suite counts; the words beside each mark say the raw direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.report.facts import Change, Facts
from mnemos.report.svg import VERDICT_SHAPES, Scale, Sheet, draw, fit, text_width, tick_text
from mnemos.report.verdicts import TONES, missing_words, short_words, verdict_words
from mnemos.report.words import counted, figure, typeset

MANY = 12
"""Arms above which a suite's rows are sorted by their change instead of standing in the arms' order."""

KEY, TITLE, AXIS, HEADER, GAP = 34, 44, 26, 30, 12


@dataclass(frozen=True)
class Panel:
    """Changes of one role and unit, by suite in reading order. heading: of the role."""

    role: str
    heading: str
    unit: str
    suites: tuple[tuple[Change, ...], ...]

    @property
    def changes(self) -> list[Change]:
        """All of them."""
        return [change for suite in self.suites for change in suite]


@dataclass(frozen=True)
class Layout:
    """Pixel columns of one width. wide: words stand right of the marks, else above them. compact:
    one change per suite, so that the suite's name stands in the row instead of above it."""

    width: float
    wide: bool
    left: float
    right: float
    row: float
    compact: bool

    @classmethod
    def of(cls, width: float, arms: int) -> Layout:
        """The layout for a figure of this width."""
        wide, compact = width >= 600, arms == 1
        row = (27 if compact else 23) if wide else 37
        return cls(width, wide, 190 if wide else 10, width - (250 if wide else 10), row, compact)

    @property
    def header(self) -> float:
        """Pixels above a suite's rows."""
        return 0 if self.compact else HEADER

    @property
    def gap(self) -> float:
        """Pixels below a suite's rows."""
        return 0 if self.compact else GAP

    def key(self, first: bool) -> float:
        """Pixels for the key, which only the first figure has."""
        return KEY * (1 if self.wide else 3) if first else 0

    def height(self, panel: Panel, first: bool) -> float:
        """The figure's height."""
        blocks = [self.header + self.gap + self.row * len(suite) for suite in panel.suites]
        return self.key(first) + sum(blocks) + TITLE + AXIS + 8


def panels(facts: Facts, roles: Sequence[str]) -> list[Panel]:
    """The changes with these roles, split by role and unit; among many arms the best comes first."""
    out = []
    for role in facts.roles:
        own = [change for change in facts.changes if change.role == role and role in roles]
        for unit in dict.fromkeys(change.unit for change in own):
            names = [suite.name for suite in facts.suites if any(c.suite == suite.name and c.unit == unit for c in own)]
            suites = [_sorted([c for c in own if c.suite == name]) for name in names]
            out.append(Panel(role, facts.heading(role), unit, tuple(tuple(suite) for suite in suites)))
    return out


def _sorted(changes: list[Change]) -> list[Change]:
    if len(changes) <= MANY:
        return changes
    return sorted(changes, key=lambda change: -(change.gain if change.gain is not None else float("-inf")))


def forest(facts: Facts, panel: Panel, *, width: float, name: str, key: bool) -> str:
    """The forest plot of one panel. key: with the explanation of its marks above."""
    layout = Layout.of(width, sum(bool(arm.changes) for arm in facts.arms))
    pairs = counted(len(panel.changes), "comparison")
    return draw(
        lambda sheet: _panel(sheet, panel, layout, _key(sheet, layout) if key else 0),
        width,
        layout.height(panel, key),
        name=name,
        title=f"{panel.heading}: {pairs} in {panel.unit} with 95 % intervals; right is better",
        desc=typeset("; ".join(f"{change.arm} on {change.suite}: {verdict_words(change)}" for change in panel.changes)),
    )


def _key(sheet: Sheet, layout: Layout) -> float:
    x, y = 2.0, 14.0
    for verdict, tone in TONES.items():
        sheet.mark(x + 5, y - 4, VERDICT_SHAPES[tone], **_look(tone))
        sheet.write(x + 15, y, verdict, size=11.5, colour=tone)
        x += 34 + text_width(verdict, 11.5)
    if not layout.wide:
        x, y = 2.0, y + 24
    sheet.box(x, y - 12, 26, 15, fill="band")
    sheet.write(x + 32, y, "tolerance", size=11.5, colour="muted")
    x += 32 + text_width("tolerance", 11.5) + 22
    if not layout.wide:
        x, y = 2.0, y + 24
    for shift in (0.0, 22.0):
        sheet.line([x + shift, x + shift], [y - 9, y + 1], colour="muted", width=1)
    sheet.write(x + 30, y, "smallest change this test could see", size=11.5, colour="muted")
    return layout.key(True)


def _scale(panel: Panel, layout: Layout) -> Scale:
    ends = [0.0]
    for change in panel.changes:
        ends += [end for end in (*(change.gain_interval or ()), change.gain) if end is not None]
    for change in panel.changes:
        bound = change.tolerance or 0.0
        # The whole tolerance band is seen, with its edges inside the picture.
        ends += [-1.4 * bound, 1.4 * bound]
    return Scale.over(ends, layout.left, layout.right, margin=0.04)


def _panel(sheet: Sheet, panel: Panel, layout: Layout, y: float) -> None:
    scale = _scale(panel, layout)
    sheet.line([0, layout.width], [y + 10, y + 10], colour="ink", width=1.2)
    sheet.write(0, y + 29, panel.heading, size=13, weight="bold")
    y += TITLE
    ticks = scale.ticks(6 if layout.wide else 4)
    bottom = y + AXIS + sum(layout.header + layout.gap + layout.row * len(suite) for suite in panel.suites)
    _axis(sheet, panel, layout, scale, ticks, y)
    y += AXIS
    for tick in ticks:
        sheet.line([scale(tick)] * 2, [y - 4, bottom - layout.gap / 2], colour="rule", width=0.8, zorder=1)
    sheet.line([scale(0)] * 2, [y - 4, bottom - layout.gap / 2], colour="ink", width=1.2, zorder=2)
    for suite in panel.suites:
        y = _suite(sheet, suite, layout, scale, y)


def _axis(sheet: Sheet, panel: Panel, layout: Layout, scale: Scale, ticks: Sequence[float], y: float) -> None:
    """Tick labels in the raw sign; without any where a panel's suites count in both directions."""
    directions = {change.better == "lower" for change in panel.changes}
    for tick in ticks:
        # The scale is of gains; where lower is better the label shows the change as the suite counts it.
        raw = abs(tick) if len(directions) > 1 else -tick if directions == {True} else tick
        plus = "+" if raw > 0 and len(directions) == 1 else ""
        sheet.write(scale(tick), y + 16, plus + tick_text(raw + 0.0), size=11, colour="muted", ha="center")
    if layout.wide:
        sheet.write(layout.width, y + 16, "verdict, change and interval", size=11, colour="muted", ha="right")
    ends = f"change in {panel.unit}: left is worse, right is better"
    # On a wide page beside the panel's title, which may be longer than the names of its suites and arms.
    beside = max(layout.left, text_width(panel.heading, 13, "bold") + 16)
    sheet.write(beside if layout.wide else 0, y - 15 if layout.wide else y, ends, size=11, colour="muted")


def _suite(sheet: Sheet, changes: Sequence[Change], layout: Layout, scale: Scale, y: float) -> float:
    first = changes[0]
    height = layout.row * len(changes)
    if first.tolerance:
        left, right = scale(-first.tolerance), scale(first.tolerance)
        above = 0 if layout.compact else 4
        sheet.box(left, y + layout.header - above, right - left, height + above, fill="band", zorder=0)
    if not layout.compact:
        _header(sheet, first, max(change.items for change in changes), layout, y)
    y += layout.header
    for change in changes:
        _row(sheet, change, layout, scale, y)
        y += layout.row
    return y + layout.gap


def _header(sheet: Sheet, change: Change, items: int, layout: Layout, y: float) -> None:
    side = f"before {figure(change.before, change.unit)}"
    side += f", {counted(items, 'item')}" if layout.wide else ""
    side += ", lower is better" if change.better == "lower" else ""
    room = layout.width - text_width(side, 11) - 24
    sheet.box(0, y + 3, layout.width, HEADER - 8, fill="paper", zorder=3)
    sheet.write(0, y + 18, fit(change.suite, room, 12.5, "bold"), size=12.5, weight="bold", zorder=4)
    sheet.write(layout.width, y + 18, typeset(side), size=11, colour="muted", ha="right", zorder=4)


def _row(sheet: Sheet, change: Change, layout: Layout, scale: Scale, y: float) -> None:
    tone = TONES[change.verdict]
    middle = y + (layout.row / 2 if layout.wide else 26)
    name, weight = (change.suite, "bold") if layout.compact else (change.arm, "normal")
    if layout.wide:
        left = 0 if layout.compact else 14
        sheet.write(left, middle + 4, fit(name, layout.left - 12 - left, 11.5, weight), size=11.5, weight=weight)
        words = _beside(change)
        sheet.write(layout.width, middle + 4, fit(words, 240, 11.5), size=11.5, colour=tone, ha="right")
    else:
        words = typeset(short_words(change))
        room = layout.width - text_width(words, 11.5) - 16
        sheet.box(0, y - 1, layout.width, 18, fill="paper", zorder=3)
        sheet.write(0, y + 12, fit(name, room, 11.5, weight), size=11.5, weight=weight, zorder=4)
        sheet.write(layout.width, y + 12, words, size=11.5, colour=tone, ha="right", zorder=4)
    ends = change.gain_interval
    if change.gain is None:
        return
    seen = change.minimum_detectable
    for mark in (-seen, seen) if seen else ():
        if scale.low <= mark <= scale.high:
            sheet.line([scale(mark)] * 2, [middle - 4, middle + 4], colour="muted", width=0.9, zorder=3)
    if ends:
        sheet.line([scale(ends[0]), scale(ends[1])], [middle, middle], colour=tone, width=2.2, zorder=4)
    sheet.mark(
        scale(change.gain), middle, VERDICT_SHAPES[tone], **_look(tone), gid=f"mark-change {change.arm}: {change.suite}"
    )


def _beside(change: Change) -> str:
    if change.gain is None:
        return missing_words(change) or "missing"
    return typeset(verdict_words(change, unit=False, tolerance=False))


def _look(tone: str) -> dict[str, Any]:
    """cannot tell is hollow: shape and filling say it without colour."""
    hollow = tone == "unclear"
    return {"colour": "paper" if hollow else tone, "edge": tone if hollow else "paper", "size": 7.5 if hollow else 9,
            "markeredgewidth": 1.8 if hollow else 1, "zorder": 5}  # fmt: skip
