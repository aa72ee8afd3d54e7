"""Recognisers that adapt while they listen: word error rates by domain, along the stream, and on the old domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.svg import Scale, Sheet, arm_colour, arm_shape, both, draw, fit, tick_text
from mnemos.report.words import amount, clean, duration, figure, interval, number, reasons, scaled, typeset

KEY = "adaptation"
TITLE = "Adapting while listening"
LEAD = (
    "Each method heard the same utterances in the same order and saw no transcript. The rate is words inserted, "
    "deleted and replaced over words spoken; intervals are over utterances. A curve that rises is a recogniser that "
    "ruins itself, which a mean hides."
)
LOUD = False
TOP, BOTTOM, LEGEND = 34.0, 262.0, 19.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """One sequence of an arm. points: (utterance, word error rate in %). segments: (first utterance, domain)."""

    name: str
    points: tuple[tuple[int, float], ...]
    segments: tuple[tuple[int, str], ...]
    resets: tuple[int, ...]
    collapsed: tuple[int, str] | None


@dataclass(frozen=True, slots=True)
class Method:
    """One arm. rates: suite -> (mean, low, high) in %. speakers: (speaker, utterances, rate, difference to the source
    with its interval)."""

    name: str
    place: int
    rates: Mapping[str, tuple[float | None, float | None, float | None]]
    stretches: tuple[Stretch, ...]
    speakers: tuple[tuple[str, int, float | None, float | None, float | None, float | None], ...]
    left_out: Mapping[str, int]
    cost: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Adaptation:
    """The methods, in the order of the study; window: utterances of a curve's point."""

    window: int
    methods: tuple[Method, ...]


def read(results: Mapping[str, Any], facts: Facts) -> Adaptation | None:
    """The `adaptation` of results.json; None where there is none."""
    item = results.get(KEY)
    if not isinstance(item, Mapping):
        return None
    places = {arm.name: place for place, arm in enumerate(facts.arms)}
    methods = tuple(_method(one, places.get(clean(one["arm"]), 0)) for one in item["arms"])
    return Adaptation(int(item.get("window") or 20), methods)


def _points(value: Any) -> float | None:
    return scaled(number(value), "points")


def _method(one: Mapping[str, Any], place: int) -> Method:
    rates = {
        clean(name): (_points(rate.get("mean")), _points(rate.get("low")), _points(rate.get("high")))
        for name, rate in one["suites"].items()
    }
    speakers = tuple(
        (clean(s["speaker"]), int(s["utterances"]), *(_points(s.get(key)) for key in ("wer", "delta", "low", "high")))
        for s in one.get("speakers") or ()
    )
    return Method(
        clean(one["arm"]),
        place,
        rates,
        tuple(_stretch(order) for order in one["orders"]),
        speakers,  # type: ignore[arg-type]  # four numbers each, by the line above
        {clean(why): int(count) for why, count in (one.get("left_out") or {}).items()},
        {clean(key): number(value) for key, value in (one.get("cost") or {}).items()},
    )


def _stretch(order: Mapping[str, Any]) -> Stretch:
    collapsed = order.get("collapsed")
    return Stretch(
        f"{clean(order['order'])}, seed {int(order['seed'])}",
        tuple((int(at), _points(rate) or 0.0) for at, rate in order["curve"]),
        tuple((int(at), clean(name)) for at, name in order["segments"]),
        tuple(int(at) for at in order["resets"]),
        None if not collapsed else (int(collapsed["at"]), clean(collapsed["why"])),
    )


def words(facts: Facts, record: Adaptation) -> list[str]:
    """What collapsed, what was left out, what was begun again."""
    out = []
    for method in record.methods:
        for one in method.stretches:
            if one.collapsed is not None:
                at, why = one.collapsed
                out.append(f"{method.name} collapsed in {one.name}, at utterance {at:,}: {why}.")
        resets = sum(len(one.resets) for one in method.stretches)
        if resets:
            out.append(f"{method.name} began again {resets:,} times.")
    left = record.methods[0].left_out if record.methods else {}
    if left:
        out.append(f"Not heard, by any method: {reasons(left)}.")
    refused = [method.name for method in record.methods if method.cost.get("refused")]
    if refused:
        out.append(f"Steps without finite gradients were left out: {', '.join(refused)}.")
    return out


def tables(facts: Facts, record: Adaptation) -> Sequence[Table]:
    """Rates, cost, speakers."""
    suites = list(record.methods[0].rates) if record.methods else []
    heads = tuple(_head(name) for name in suites)
    rates = Table(
        "Word error rate in %, with 95 % intervals",
        ("", *heads),
        tuple((method.name, *(_rate(method.rates.get(name)) for name in suites)) for method in record.methods),
    )
    spent = Table(
        "Cost",
        ("", "sound", "work", "real-time factor", "optimiser steps", "resets"),
        tuple(_costs(method) for method in record.methods),
    )
    return (rates, spent, *_by_speaker(record))


def _head(suite: str) -> str:
    return {"wer": "all", "old-wer": "old domain, after"}.get(suite, suite.removeprefix("wer:"))


def _rate(rate: tuple[float | None, float | None, float | None] | None) -> str:
    if rate is None or rate[0] is None:
        return ""
    return f"{figure(rate[0], 'points')} {interval(rate[1], rate[2], 'points')}".rstrip()


def _costs(method: Method) -> tuple[str, ...]:
    cost = method.cost
    factor = cost.get("real_time_factor")
    return (
        method.name,
        duration(cost.get("sound_seconds")),
        duration(cost.get("seconds")),
        "" if factor is None else f"{factor:.2f}",
        amount(cost.get("steps")),
        amount(cost.get("resets")),
    )


def _by_speaker(record: Adaptation) -> list[Table]:
    if not any(method.speakers for method in record.methods):
        return []
    rows = tuple(
        (f"{method.name}, {speaker}", f"{count:,}", figure(rate, "points"),
         f"{figure(delta, 'points', sign=True)} {interval(low, high, 'points', sign=True)}".rstrip())
        for method in record.methods
        for speaker, count, rate, delta, low, high in method.speakers
    )  # fmt: skip
    title = "By speaker: few speakers tell nothing of others"
    return [Table(title, ("", "utterances", "word error rate", "less the source's"), rows)]


def figures(facts: Facts, record: Adaptation) -> Sequence[Figure]:
    """Curves of each sequence, with rates below the first; the speakers' tables are in Markdown and terminal."""
    names = list(dict.fromkeys(one.name for method in record.methods for one in method.stretches))
    lines = tuple(
        (f"{method.name}, {_head(suite)}", figure(rate[0], "points"), interval(rate[1], rate[2], "points"))
        for method in record.methods
        for suite, rate in method.rates.items()
        if suite in ("wer", "old-wer")
    )
    return tuple(
        Figure(both(partial(_plot, record, name), f"{KEY}-{place}"), title=name, lines=lines if place == 0 else ())
        for place, name in enumerate(names)
    )


def _plot(record: Adaptation, stretch: str, *, width: float, name: str) -> str:
    """The picture; empty text without two points of a curve."""
    found = [(method, one) for method in record.methods for one in method.stretches if one.name == stretch]
    found = [(method, one) for method, one in found if len(one.points) > 1]
    if not found:
        return ""
    across = 4 if width >= 600 else 2
    ends = "; ".join(f"{method.name}: {figure(one.points[-1][1], 'points')}" for method, one in found)
    return draw(
        lambda sheet: _paint(sheet, record, found, across, width),
        width,
        BOTTOM + 52 + LEGEND * (-(-len(found) // across)),
        name=name,
        title="Word error rate in a moving window along the stream, one line a method",
        desc=typeset(f"In the last window, {ends}"),
    )


def _paint(
    sheet: Sheet, record: Adaptation, found: Sequence[tuple[Method, Stretch]], across: int, width: float
) -> None:
    left, right = 44.0, width - 14
    values = [rate for _, one in found for _, rate in one.points]
    up = Scale(0.0, max(10.0, max(values) + 3), BOTTOM, TOP)
    over = Scale(0, max(one.points[-1][0] for _, one in found), left, right)
    sheet.write(0, 16, f"word error rate of the last {record.window} utterances, %", size=12, weight="bold")
    sheet.box(left, TOP, right - left, BOTTOM - TOP, fill="panel", zorder=0)
    for tick in up.ticks(5):
        sheet.line([left, right], [up(tick)] * 2, colour="rule", zorder=1)
        sheet.write(left - 7, up(tick) + 4, tick_text(tick), size=11, colour="muted", ha="right")
    borders = found[0][1].segments
    for place, (at, domain) in enumerate(borders):
        sheet.line([over(at)] * 2, [TOP, BOTTOM], colour="rule", zorder=1)
        end = borders[place + 1][0] if place + 1 < len(borders) else over.high
        room = over(end) - over(at)
        if room > 24:
            sheet.write(over(at) + 3, BOTTOM + 17, fit(domain, room - 4, 10), size=10, colour="muted")
    sheet.write((left + right) / 2, BOTTOM + 34, "utterance", size=11, colour="muted", ha="center")
    step = (width - left) / across
    for index, (method, one) in enumerate(found):
        colour, shape = arm_colour(method.place), arm_shape(method.place)
        sheet.line([over(at) for at, _ in one.points], [up(rate) for _, rate in one.points], colour=colour, width=1.9)
        at, rate = one.points[-1]
        sheet.mark(over(at), up(rate), shape, colour=colour, size=7, gid=f"mark-adaptation {method.name}")
        x, y = left + step * (index % across), BOTTOM + 56 + LEGEND * (index // across)
        sheet.line([x, x + 20], [y - 4, y - 4], colour=colour, width=2)
        sheet.mark(x + 10, y - 4, shape, colour=colour, size=8)
        sheet.write(x + 27, y, fit(method.name, step - 36, 12), size=12)
