"""What training noted beside the loss: rewards, margins, divergences, one small panel a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mnemos.report.facts import Arm, Facts
from mnemos.report.plot_losses import stretched
from mnemos.report.svg import Scale, Sheet, arm_colour, draw, fit, text_width, tick_text
from mnemos.report.words import typeset

ROW, LEGEND = 132.0, 19.0
Curve = list[tuple[float, float]]


def noted_names(facts: Facts) -> list[str]:
    """Every name with a curve, in order of first appearance."""
    return list(dict.fromkeys(n for arm in facts.arms for run in arm.runs for n, c in run.noted.items() if len(c) > 1))


def notes_plot(facts: Facts, *, width: float, name: str) -> str:
    """One panel a name, one line an arm, the mean over its seeds; empty without such notes."""
    names = noted_names(facts)
    if not names:
        return ""
    curves = {note: found for note in names if (found := _curves(facts.arms, note))}
    shown = sorted({place for found in curves.values() for place in found})
    columns = min(3 if width >= 600 else 1, len(names))
    rows = -(-len(names) // columns)
    ends = [
        f"{note}: " + ", ".join(f"{facts.arms[place].name} {curve[-1][1]:.3g}" for place, curve in found.items())
        for note, found in curves.items()
    ]
    return draw(
        lambda sheet: _paint(sheet, facts, curves, shown, columns, width),
        width,
        12 + ROW * rows + LEGEND * (-(-len(shown) // columns)),
        name=name,
        title="What training noted by step, mean over seeds",
        desc=typeset("At the end, " + "; ".join(ends)),
    )


def _curves(arms: Sequence[Arm], note: str) -> dict[int, Curve]:
    """place -> the mean over seeds at each step that all of the arm's curves have."""
    out: dict[int, Curve] = {}
    for place, arm in enumerate(arms):
        noted = [run.noted[note] for run in arm.runs if len(run.noted.get(note, ())) > 1]
        if noted:
            # Seeds may have noted a different number of times; a mean over fewer of them at the end would jump. Cut
            # before they are thinned out, or the points of one would lie at other steps than those of another.
            own = [stretched(curve[: min(map(len, noted))]) for curve in noted]
            out[place] = [
                (points[0][0], sum(value for _, value in points) / len(points)) for points in zip(*own, strict=True)
            ]
    return out


def _paint(
    sheet: Sheet,
    facts: Facts,
    curves: Mapping[str, Mapping[int, Curve]],
    shown: Sequence[int],
    columns: int,
    width: float,
) -> None:
    cell = (width - 44) / columns
    for index, (note, found) in enumerate(curves.items()):
        left, top = 44 + cell * (index % columns), 12 + ROW * (index // columns)
        right = left + cell - 52
        points = [point for curve in found.values() for point in curve]
        across = Scale(0, max(step for step, _ in points), left, right)
        up = Scale.over([0.0, *(value for _, value in points)], top + 104, top + 22)
        sheet.write(left, top + 12, fit(note, cell - 52, 11.5, "bold"), size=11.5, weight="bold")
        for tick in up.ticks(3):
            sheet.line([left, right], [up(tick)] * 2, colour="rule", width=0.8, zorder=0)
            sheet.write(left - 6, up(tick) + 4, tick_text(tick), size=10.5, colour="muted", ha="right")
        for place, curve in found.items():
            sheet.line([across(s) for s, _ in curve], [up(v) for _, v in curve], colour=arm_colour(place), width=1.4)
        end = tick_text(max(step for step, _ in points))
        sheet.write(left, top + 119, "step 0", size=10.5, colour="muted")
        if text_width(end, 10.5) + 60 < right - left:
            sheet.write(right, top + 119, end, size=10.5, colour="muted", ha="right")
    below = 24 + ROW * (-(-len(curves) // columns))
    for index, place in enumerate(shown):
        x, y = 44 + cell * (index % columns), below + LEGEND * (index // columns)
        sheet.line([x, x + 16], [y - 4, y - 4], colour=arm_colour(place), width=2)
        sheet.write(x + 22, y, fit(facts.arms[place].name, cell - 70, 12), size=12)
