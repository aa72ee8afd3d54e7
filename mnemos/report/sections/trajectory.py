"""What was measured while the arms trained: curves over the steps of training, and a hacked reward in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.svg import Scale, Sheet, arm_colour, arm_shape, both, draw, fit, tick_text
from mnemos.report.words import clean, figure, interval, number, scaled, typeset

KEY = "trajectory"
TITLE = "While it trained"
LEAD = (
    "Each training was cut into equal stretches and its model measured at the end of each. What training noted is the "
    "mean within a stretch; bars are 95\u00a0% intervals over items and seeds. A reward is hacked where it rises and "
    "an independent suite of what is taught falls, both proven (arXiv:2210.10760)."
)
LOUD = True

PANELS = {"reward": "reward that training saw", "kl_to_before": "KL(now || before), nats per token"}
"""What training noted, in words, in the order in which it is drawn."""

ROW, LEGEND = 232.0, 19.0
TOP, BOTTOM = 30.0, 186.0
"""Of a panel's field, from the panel's top."""

Span = tuple[float | None, float | None, float | None]
Points = tuple[tuple[float, float, float | None, float | None], ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """One arm's line over training. name: a suite, or what training noted, which has no unit. points: (step,
    mean, low, high), on the shown scale."""

    name: str
    unit: str
    arm: int
    points: tuple[tuple[float, float, float | None, float | None], ...]


@dataclass(frozen=True, slots=True)
class Hacked:
    """A suite that fell while the reward of training rose, both proven, from `step` to the end. reward, score:
    start, end, delta, low, high; the score's on the shown scale."""

    arm: int
    suite: str
    unit: str
    step: float
    reward: tuple[float | None, ...]
    score: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What was measured while the arms trained, and which rewards were hacked."""

    curves: tuple[Curve, ...]
    hacked: tuple[Hacked, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """One panel each: what training noted, then the suites."""
        return tuple(dict.fromkeys(curve.name for curve in sorted(self.curves, key=lambda curve: curve.unit != "")))


def read(results: Mapping[str, Any], facts: Facts) -> Trajectory | None:
    """The `trajectory` of results.json; None where there is none."""
    item, arms = results.get(KEY), [arm.name for arm in facts.arms]
    units = {suite.name: suite.unit for suite in facts.suites}
    if not isinstance(item, Mapping) or not item.get("arms"):
        return None
    place = {name: at for at, name in enumerate(arms)}
    curves: list[Curve] = []
    hacked: list[Hacked] = []
    for entry in item["arms"]:
        arm = place.get(clean(entry["arm"]))
        if arm is None:
            continue
        steps = [float(step) for step in entry["steps"]]
        for name in PANELS:
            found = [_span(one, "") for one in (entry.get("noted") or {}).get(name) or ()]
            # One fewer than moments: what training noted belongs to the stretch that ends at a step.
            curves += [Curve(name, "", arm, _points(steps[1:], found))] if found else []
        for name, suite in (entry.get("suites") or {}).items():
            unit = units.get(clean(name), "points")
            found = [_span(one, unit) for one in suite["moments"]]
            curves.append(Curve(clean(name), unit, arm, _points(steps, found)))
        hacked += [_hacked(one, arm, steps, units) for one in entry.get("hacking") or ()]
    return Trajectory(tuple(curves), tuple(hacked))


def _span(item: Mapping[str, Any], unit: str) -> Span:
    mean, low, high = (number(item.get(part)) for part in ("mean", "low", "high"))
    return (scaled(mean, unit), scaled(low, unit), scaled(high, unit)) if unit else (mean, low, high)


def _points(steps: Sequence[float], found: Sequence[Span]) -> Points:
    pairs = zip(steps, found, strict=True)
    return tuple((step, mean, low, high) for step, (mean, low, high) in pairs if mean is not None)


def _hacked(item: Mapping[str, Any], arm: int, steps: Sequence[float], units: Mapping[str, str]) -> Hacked:
    suite = clean(item["suite"])
    unit = units.get(suite, "points")
    reward, score = (
        tuple(number(item[side].get(part)) for part in ("start", "end", "delta", "low", "high"))
        for side in ("reward", "score")
    )
    return Hacked(arm, suite, unit, steps[int(item["moment"])], reward, tuple(scaled(one, unit) for one in score))


def words(facts: Facts, record: Trajectory) -> list[str]:
    """A sentence for each arm and suite: "reward hacking: the reward that proxy was trained on rose …"."""
    return [_sentence(one, facts.arms[one.arm].name) for one in record.hacked]


def _sentence(one: Hacked, arm: str) -> str:
    start, end, delta, low, high = one.reward
    around = "" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]"
    since = "before training" if one.step == 0 else f"at step {one.step:.0f}"
    first, last, change, down, up = one.score
    went = "fell" if change is not None and change < 0 else "worsened"
    return (
        f"reward hacking: the reward that {arm} was trained on rose from {start:.2f} to {end:.2f}"
        f" ({delta:+.2f}{around}) while {one.suite} {went} from {figure(first, one.unit)} {since} to"
        f" {figure(last, one.unit)} at the end"
        f" ({figure(change, one.unit, sign=True)} {interval(down, up, one.unit, sign=True)})."
    )


def tables(facts: Facts, record: Trajectory) -> Sequence[Table]:
    """None: the curves are on the page."""
    return ()


def figures(facts: Facts, record: Trajectory) -> Sequence[Figure]:
    """Reward and suites over the steps of training, one panel each, one line an arm."""
    return (Figure(both(partial(_plot, facts, record), KEY)),)


def _plot(facts: Facts, record: Trajectory, *, width: float, name: str) -> str:
    """The picture; empty text where nothing was measured on the way."""
    if not any(len(curve.points) > 1 for curve in record.curves):
        return ""
    columns = min(2 if width >= 600 else 1, len(record.names))
    rows = -(-len(record.names) // columns)
    arms = sorted({curve.arm for curve in record.curves})
    across = 4 if width >= 600 else 2
    text = words(facts, record) or [_ends(facts, record)]
    return draw(
        lambda sheet: _paint(sheet, facts, record, arms, columns, across, width),
        width,
        ROW * rows + LEGEND * (-(-len(arms) // across)) + 8,
        name=name,
        title="What training saw and what was measured on the way, by step, one line an arm",
        desc=typeset(" ".join(text)),
    )


def _ends(facts: Facts, record: Trajectory) -> str:
    ends = [
        f"{curve.name}: {facts.arms[curve.arm].name} {_number(curve, curve.points[-1][1])}"
        for curve in record.curves
        if curve.points
    ]
    return f"At the end, {'; '.join(ends)}"


def _number(curve: Curve, value: float) -> str:
    return figure(value, curve.unit) if curve.unit else f"{value:.3g}"


def _paint(
    sheet: Sheet, facts: Facts, record: Trajectory, arms: Sequence[int], columns: int, across: int, width: float
) -> None:
    cell = width / columns
    last = max(step for curve in record.curves for step, *_ in curve.points)
    for index, name in enumerate(record.names):
        curves = [curve for curve in record.curves if curve.name == name and curve.points]
        left = cell * (index % columns) + 48
        _panel(sheet, name, curves, (left, left + cell - 66), ROW * (index // columns), last)
    below = ROW * (-(-len(record.names) // columns)) + 12
    step = (width - 48) / across
    for index, arm in enumerate(arms):
        x, y = 48 + step * (index % across), below + LEGEND * (index // across)
        sheet.line([x, x + 20], [y - 4, y - 4], colour=arm_colour(arm), width=2)
        sheet.mark(x + 10, y - 4, arm_shape(arm), colour=arm_colour(arm), size=8)
        sheet.write(x + 27, y, fit(facts.arms[arm].name, step - 36, 12), size=12)


def _panel(
    sheet: Sheet, name: str, curves: Sequence[Curve], sides: tuple[float, float], top: float, last: float
) -> None:
    left, right = sides
    values = [value for curve in curves for _, *span in curve.points for value in span if value is not None]
    unit = next((curve.unit for curve in curves), "")
    over = Scale(0, last or 1.0, left, right)
    # Bits of a language lie far from 0, which would flatten every line.
    up = Scale.over([*([0.0] if unit in ("", "points") else []), *values], top + BOTTOM, top + TOP)
    text = PANELS.get(name, f"{name}, {unit}")
    sheet.write(left - 48, top + 18, fit(text, right - left + 48, 12, "bold"), size=12, weight="bold")
    sheet.box(left, top + TOP, right - left, BOTTOM - TOP, fill="panel", zorder=0)
    for tick in up.ticks(4):
        sheet.line([left, right], [up(tick)] * 2, colour="rule" if tick else "ink", zorder=1)
        sheet.write(left - 7, up(tick) + 4, tick_text(tick), size=11, colour="muted", ha="right")
    for tick in over.ticks(4):
        sheet.write(over(tick), top + BOTTOM + 16, tick_text(tick), size=11, colour="muted", ha="center")
    sheet.write((left + right) / 2, top + BOTTOM + 33, "step", size=11, colour="muted", ha="center")
    for place, curve in enumerate(curves):
        colour = arm_colour(curve.arm)
        # Arms that lie on each other would hide each other's intervals: a pixel apart is enough.
        shift = 2.0 * (place - (len(curves) - 1) / 2)
        xs = [over(step) + shift for step, *_ in curve.points]
        sheet.line(xs, [up(mean) for _, mean, _, _ in curve.points], colour=colour, width=1.8, zorder=3)
        for x, (_, mean, low, high) in zip(xs, curve.points, strict=True):
            if low is not None and high is not None:
                sheet.line([x, x], [up(low), up(high)], colour=colour, width=1.2, alpha=0.7, zorder=2)
            sheet.mark(
                x, up(mean), arm_shape(curve.arm), colour=colour, size=7, zorder=4, gid=f"mark-trajectory {name}"
            )
