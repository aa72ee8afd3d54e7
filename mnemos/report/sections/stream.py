"""A stream: what each agent gained over itself reset before every item, along the stream and at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.svg import Drawing, Scale, Sheet, arm_colour, arm_shape, both, draw, fit, tick_text
from mnemos.report.words import amount, clean, duration, figure, interval, number, scaled, typeset

KEY = "stream"
TITLE = "Along the stream"
LEAD = (
    "Each question was answered, scored, and only then learned from. The gain is over the same agent, reset before "
    "every question, on the same questions: a curve alone rises where later questions are easier. Bands are for "
    "reading a curve; intervals of the gain are over questions and orders."
)
LOUD = False

TOP, BOTTOM, LEGEND = 34.0, 262.0, 19.0

Point = tuple[float, float, float | None, float | None]


@dataclass(frozen=True, slots=True)
class Agent:
    """One arm, on the shown scale (points). pays_off: step from which the gain is proven to the end. points: (step,
    mean, low, high) of a moving window. forgot: change of the frozen panel, with its interval and the two steps."""

    name: str
    place: int
    steady: bool
    sees_gold: bool
    coin: bool
    stateful: float | None
    reset: float | None
    gain: float | None
    low: float | None
    high: float | None
    normalised: float | None
    pays_off: int | None
    points: tuple[Point, ...]
    forgot: tuple[float | None, float | None, float | None, int, int] | None
    cost: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Stream:
    """items: of the stream. window: steps of a moving mean. estimated: tokens are guessed from bytes. requests: of the
    whole run, how many were asked and how many answers a model wrote for them, in how many seconds."""

    task: str
    items: int
    window: int
    estimated: bool
    agents: tuple[Agent, ...]
    requests: Mapping[str, float | None]


def read(results: Mapping[str, Any], facts: Facts) -> Stream | None:
    """The `stream` of results.json; None where there is none."""
    item = results.get(KEY)
    if not isinstance(item, Mapping) or not item.get("arms"):
        return None
    place = {arm.name: at for at, arm in enumerate(facts.arms)}
    agents = tuple(_agent(entry, place.get(clean(entry["arm"]), 0)) for entry in item["arms"])
    return Stream(
        clean(item.get("task") or ""),
        int(item.get("items") or 0),
        int(item.get("window") or 50),
        bool(item.get("tokens_are_estimated")),
        agents,
        {clean(key): number(value) for key, value in (item.get("requests") or {}).items()},
    )


def _agent(entry: Mapping[str, Any], place: int) -> Agent:
    def points(name: str) -> float | None:
        return scaled(number(entry.get(name)), "points")

    forgot = entry.get("forgetting")
    step = entry.get("pays_off")
    return Agent(
        clean(entry["arm"]),
        place,
        bool(entry.get("steady")),
        bool(entry.get("sees_gold")),
        bool(entry.get("coin")),
        points("stateful"),
        points("reset"),
        points("gain"),
        points("low"),
        points("high"),
        number(entry.get("normalised")),
        None if step is None else int(step),
        tuple(_point(one) for one in entry.get("curve") or ()),
        None if not forgot else _forgot(forgot),
        {clean(key): number(value) for key, value in (entry.get("cost") or {}).items()},
    )


def _point(one: Mapping[str, Any]) -> Point:
    mean, low, high = (scaled(number(one.get(part)), "points") for part in ("mean", "low", "high"))
    return float(one["step"]), mean or 0.0, low, high


def _forgot(one: Mapping[str, Any]) -> tuple[float | None, float | None, float | None, int, int]:
    delta, low, high = (scaled(number(one.get(part)), "points") for part in ("delta", "low", "high"))
    return delta, low, high, int(one["first"]), int(one["last"])


def words(facts: Facts, record: Stream) -> list[str]:
    """A sentence for each agent that learns, and warnings that belong beside them."""
    out = [_sentence(agent) for agent in record.agents if not agent.steady]
    if any(agent.sees_gold for agent in record.agents):
        names = ", ".join(agent.name for agent in record.agents if agent.sees_gold)
        out.append(f"{names} saw gold answers of the stream: an upper bound, no result.")
    for agent in record.agents:
        dropped = agent.cost.get("dropped_shots")
        if dropped:
            out.append(f"{agent.name}: {dropped:,.0f} shots a stream did not fit into the prompt's budget.")
    asked, written = record.requests.get("asked"), record.requests.get("written")
    if asked and written is not None and written < asked:
        took = duration(record.requests.get("seconds"))
        out.append(
            f"The models wrote {amount(written)} answers to {amount(asked)} requests, in {took}: the others had been "
            "answered before. What an agent costs counts every request as if it were the only one."
        )
    if record.estimated:
        out.append("Tokens are guessed from the bytes of texts: the server does not count them.")
    return out


def _sentence(agent: Agent) -> str:
    if agent.gain is None:
        return f"{agent.name}: nothing can be said, no question has a score on both sides."
    around = interval(agent.low, agent.high, "points", sign=True)
    text = f"{agent.name} {_fate(agent)}: {figure(agent.gain, 'points', sign=True)} points {around}".rstrip()
    if agent.pays_off is not None:
        text += f", proven from step {agent.pays_off:,} on"
    if agent.coin:
        text += "; it heard a coin, so that no gain is expected"
    if agent.forgot is not None and agent.forgot[2] is not None and agent.forgot[2] < 0:
        text += f"; the frozen panel fell by {figure(-(agent.forgot[0] or 0.0), 'points')} points"
    return f"{text}."


def _fate(agent: Agent) -> str:
    if agent.low is not None and agent.low > 0:
        return "gained from its memory"
    if agent.high is not None and agent.high < 0:
        return "lost by its memory"
    return "is not proven to gain or lose"


def tables(facts: Facts, record: Stream) -> Sequence[Table]:
    """Gain and cost by agent."""
    gained = Table(
        "Gain over the same agent reset before every question, in points",
        ("", "with memory", "reset", "gain", "of what was left", "proven from step", "panel"),
        tuple(_row(agent) for agent in record.agents),
    )
    spent = Table(
        "Cost of one stream",
        ("", "calls", "prompt tokens", "tokens", "seconds", "memories", "dollars"),
        tuple(_costs(agent) for agent in record.agents),
    )
    return (gained, spent)


def _row(agent: Agent) -> tuple[str, ...]:
    around = interval(agent.low, agent.high, "points", sign=True)
    gain = "learns nothing" if agent.steady else f"{figure(agent.gain, 'points', sign=True)} {around}".rstrip()
    panel = ""
    if agent.forgot is not None:
        panel = f"{figure(agent.forgot[0], 'points', sign=True)} {interval(*agent.forgot[1:3], 'points', sign=True)}"
    return (
        agent.name,
        figure(agent.stateful, "points"),
        figure(agent.reset, "points"),
        gain,
        "" if agent.normalised is None or agent.steady else f"{100 * agent.normalised:.0f} %",
        "" if agent.pays_off is None else f"{agent.pays_off:,}",
        panel.strip(),
    )


def _costs(agent: Agent) -> tuple[str, ...]:
    cost = agent.cost
    money = cost.get("dollars")
    return (
        agent.name,
        amount(cost.get("calls")),
        amount(cost.get("prompt_tokens")),
        amount(cost.get("tokens")),
        duration(cost.get("seconds")),
        amount(cost.get("memories")),
        "" if money is None else f"{money:.4g}",
    )


def figures(facts: Facts, record: Stream) -> Sequence[Figure]:
    """The curves; gain and cost stand below them."""
    lines = tuple(
        (
            agent.name,
            "learns nothing" if agent.steady else f"{figure(agent.gain, 'points', sign=True)} over itself reset",
            "" if agent.steady else interval(agent.low, agent.high, "points", sign=True),
        )
        for agent in record.agents
    )
    spent = tuple(
        (name, f"{tokens} prompt tokens, {written} written, {calls} calls", f"{seconds}, {memories} memories{money}")
        for name, calls, tokens, written, seconds, memories, money in _spent(record)
    )
    return (
        Figure(both(partial(_plot, record), KEY), lines=lines),
        Figure(Drawing("", ""), title="Cost of one stream", lines=spent),
    )


def _spent(record: Stream) -> list[tuple[str, ...]]:
    rows = [_costs(agent) for agent in record.agents]
    return [(*row[:6], f", {row[6]} dollars" if row[6] else "") for row in rows]


def _plot(record: Stream, *, width: float, name: str) -> str:
    """The picture; empty text without two points of a curve."""
    agents = [agent for agent in record.agents if len(agent.points) > 1]
    if not agents:
        return ""
    across = 4 if width >= 600 else 2
    ends = "; ".join(f"{agent.name}: {figure(agent.points[-1][1], 'points')}" for agent in agents)
    return draw(
        lambda sheet: _paint(sheet, record, agents, across, width),
        width,
        BOTTOM + 52 + LEGEND * (-(-len(agents) // across)),
        name=name,
        title="Accuracy in a moving window along the stream, one line an agent",
        desc=typeset(f"In the last window, {ends}"),
    )


def _paint(sheet: Sheet, record: Stream, agents: Sequence[Agent], across: int, width: float) -> None:
    left, right = 44.0, width - 14
    values = [value for agent in agents for _, *span in agent.points for value in span if value is not None]
    up = Scale(max(0.0, min(values) - 3), min(100.0, max(values) + 3), BOTTOM, TOP)
    over = Scale(0, max(agent.points[-1][0] for agent in agents), left, right)
    sheet.write(0, 16, f"right answers of the last {record.window}, %", size=12, weight="bold")
    sheet.box(left, TOP, right - left, BOTTOM - TOP, fill="panel", zorder=0)
    for tick in up.ticks(5):
        sheet.line([left, right], [up(tick)] * 2, colour="rule", zorder=1)
        sheet.write(left - 7, up(tick) + 4, tick_text(tick), size=11, colour="muted", ha="right")
    for tick in over.ticks(6):
        sheet.write(over(tick), BOTTOM + 17, tick_text(tick), size=11, colour="muted", ha="center")
    sheet.write((left + right) / 2, BOTTOM + 34, "step", size=11, colour="muted", ha="center")
    step = (width - left) / across
    for index, agent in enumerate(agents):
        colour, shape = arm_colour(agent.place), arm_shape(agent.place)
        xs = [over(at) for at, *_ in agent.points]
        # The band's borders, thin: filled bands of many agents would hide one another.
        for side in (2, 3):
            ys = [up(float(point[side])) for point in agent.points if point[side] is not None]  # type: ignore[arg-type]
            if len(ys) == len(xs):
                sheet.line(xs, ys, colour=colour, width=0.6, alpha=0.45, zorder=2)
        sheet.line(xs, [up(point[1]) for point in agent.points], colour=colour, width=1.9, zorder=3)
        sheet.mark(xs[-1], up(agent.points[-1][1]), shape, colour=colour, size=7, gid=f"mark-stream {agent.name}")
        x, y = left + step * (index % across), BOTTOM + 56 + LEGEND * (index // across)
        sheet.line([x, x + 20], [y - 4, y - 4], colour=colour, width=2)
        sheet.mark(x + 10, y - 4, shape, colour=colour, size=8)
        sheet.write(x + 27, y, fit(agent.name, step - 36, 12), size=12)
