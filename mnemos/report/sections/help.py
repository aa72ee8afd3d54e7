"""Asking a person: how much a hint for some of the questions gives, by which questions are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.svg import Scale, Sheet, arm_colour, arm_shape, both, draw, tick_text
from mnemos.report.words import clean, figure, interval, number, scaled, typeset

KEY = "help"
TITLE = "Asking a person for help"
LEAD = (
    "A person's hint costs the same for every question. The curve shows what is gained when hints are given to the "
    "share of questions that a way of asking ranks first; the area below it is 0.5 where the ranking is no better than "
    "a coin (arXiv:2407.14767)."
)
LOUD = False

TOP, BOTTOM = 34.0, 262.0


@dataclass(frozen=True, slots=True)
class Way:
    """One way of asking. area: below the delta-burden curve, with its interval; None where hints do not help. points:
    (share asked, gain in points). needed: questions to ask for 80 % of the whole gain. online: gain of the threshold
    set along the way, its share asked, and what the best threshold would have given more."""

    name: str
    area: float | None
    low: float | None
    high: float | None
    points: tuple[tuple[float, float], ...]
    needed: int | None
    online: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class Help:
    """without, whole: right answers without and with all hints, in points. budget: of the online threshold."""

    items: int
    without: float | None
    whole: float | None
    low: float | None
    high: float | None
    budget: float
    ways: tuple[Way, ...]


def read(results: Mapping[str, Any], facts: Facts) -> Help | None:
    """The `help` of results.json; None where there is none."""
    item = results.get(KEY)
    if not isinstance(item, Mapping) or not item.get("ways"):
        return None
    without, whole, low, high = (scaled(number(item.get(k)), "points") for k in ("without", "with", "low", "high"))
    ways = tuple(_way(entry) for entry in item["ways"])
    return Help(int(item["items"]), without, whole, low, high, float(item["budget"]), ways)


def _way(entry: Mapping[str, Any]) -> Way:
    online = entry.get("online")
    return Way(
        clean(entry["way"]),
        number(entry.get("area")),
        number(entry.get("low")),
        number(entry.get("high")),
        tuple((float(share), 100 * float(gain)) for share, gain in entry["curve"]),
        None if entry.get("needed") is None else int(entry["needed"]),
        None if not online else (100 * online["gain"], online["share"], 100 * online["regret"]),
    )


def words(facts: Facts, record: Help) -> list[str]:
    """What all hints give, and which ways beat a coin."""
    gain = None if record.whole is None or record.without is None else record.whole - record.without
    around = interval(record.low, record.high, "points", sign=True)
    text = f"Hints for all {record.items:,} questions: {figure(gain, 'points', sign=True)} points {around}".rstrip()
    out = [f"{text}."]
    for way in record.ways:
        if way.area is None:
            out.append(f"{way.name}: hints gain nothing, so that there is nothing to rank.")
        elif way.low is not None and way.high is not None:
            fate = "ranks better than a coin" if way.low > 0.5 else "ranks worse" if way.high < 0.5 else "cannot tell"
            out.append(f"{way.name}: {fate}, area {way.area:.3f} [{way.low:.3f}, {way.high:.3f}].")
    return out


def tables(facts: Facts, record: Help) -> Sequence[Table]:
    """One row a way."""
    rows = []
    for way in record.ways:
        online = way.online
        rows.append(
            (
                way.name,
                "" if way.area is None else f"{way.area:.3f}",
                "" if way.low is None or way.high is None else f"[{way.low:.3f}, {way.high:.3f}]",
                "" if way.needed is None else f"{way.needed:,} of {record.items:,}",
                "" if online is None else f"{figure(online[0], 'points', sign=True)} at {100 * online[1]:.0f} %",
                "" if online is None else figure(online[2], "points"),
            )
        )
    heads = ("", "area", "interval", "asked for 80 % of the gain", "online threshold", "regret")
    return (Table(f"Hints, at a budget of {100 * record.budget:.0f} % online", heads, tuple(rows)),)


def figures(facts: Facts, record: Help) -> Sequence[Figure]:
    """The delta-burden curves."""
    drawing = both(partial(_plot, record), KEY)
    lines = tuple(
        (
            way.name,
            "" if way.area is None else f"area {way.area:.3f}",
            "" if way.low is None else f"[{way.low:.3f}, {way.high:.3f}]",
        )
        for way in record.ways
    )
    return (Figure(drawing, lines=lines),) if drawing else ()


def _plot(record: Help, *, width: float, name: str) -> str:
    if not record.ways or not record.ways[0].points:
        return ""
    return draw(
        lambda sheet: _paint(sheet, record, width),
        width,
        BOTTOM + 58 + 19 * (-(-len(record.ways) // 2)),
        name=name,
        title="Points gained by the share of questions for which a person is asked",
        desc=typeset("; ".join(words_of(way) for way in record.ways)),
    )


def words_of(way: Way) -> str:
    """Name and area."""
    return f"{way.name}: {'no area' if way.area is None else f'area {way.area:.3f}'}"


def _paint(sheet: Sheet, record: Help, width: float) -> None:
    left, right = 44.0, width - 14
    values = [gain for way in record.ways for _, gain in way.points]
    up, over = Scale.over([0.0, *values], BOTTOM, TOP), Scale(0, 100, left, right)
    sheet.write(0, 16, "points gained", size=12, weight="bold")
    sheet.box(left, TOP, right - left, BOTTOM - TOP, fill="panel", zorder=0)
    for tick in up.ticks(5):
        sheet.line([left, right], [up(tick)] * 2, colour="rule" if tick else "ink", zorder=1)
        sheet.write(left - 7, up(tick) + 4, tick_text(tick), size=11, colour="muted", ha="right")
    for tick in over.ticks(5):
        sheet.write(over(tick), BOTTOM + 17, tick_text(tick), size=11, colour="muted", ha="center")
    sheet.write((left + right) / 2, BOTTOM + 34, "questions asked, %", size=11, colour="muted", ha="center")
    for index, way in enumerate(record.ways):
        colour, shape = arm_colour(index), arm_shape(index)
        sheet.line([over(100 * s) for s, _ in way.points], [up(g) for _, g in way.points], colour=colour, width=1.8)
        x, y = left + (width - left) / 2 * (index % 2), BOTTOM + 56 + 19 * (index // 2)
        sheet.line([x, x + 20], [y - 4, y - 4], colour=colour, width=2)
        sheet.mark(x + 10, y - 4, shape, colour=colour, size=8)
        sheet.write(x + 27, y, way.name, size=12)
