"""What a stream gained: against the same agent reset before every item, with intervals over items and orders.

A curve that rises because later items are easier looks like learning; the same items answered by the same agent with
an empty memory do not rise. gain_t = r_stateful(t) - r_reset(t); the headline is its mean. Items are crossed with
orders in `measure.uncertainty.paired`, orders in the place of seeds. Coverage is simulated by
`benchmarks.stream_intervals` and printed in docs/stream.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mnemos.measure.uncertainty import paired, wilson
from mnemos.stream.journal import Asked, Step

WINDOW, STRIDE = 50, 10
"""Steps of a moving window, and between two of them."""
FEWEST = 20
"""Steps from which a cumulative gain is looked at: an interval of fewer items says little."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gain:
    """In shares from 0 to 1. stateful, reset: mean rewards over items that have one on both sides in every order.
    gain with its 95 % interval; low, high are None where nothing can be said. normalised: of what the reset agent left
    to be gained (1 - reset), None where that is nothing. items: compared; missing: left out."""

    stateful: float | None
    reset: float | None
    gain: float | None
    low: float | None
    high: float | None
    p: float | None
    normalised: float | None
    items: int
    missing: int
    orders: int
    minimum_detectable: float | None = None


def gain(stateful: Sequence[Sequence[Step]], reset: Sequence[Sequence[Step]], *, power: bool = True) -> Gain:
    """The paired gain. stateful: the steps of each order. reset: of the same arm reset before every item; one row
    where greedy decoding gives the same answers in every order, else one for each order."""
    if not stateful or not reset:
        return Gain(None, None, None, None, None, None, None, 0, 0, len(stateful))
    after = [_by_item(steps) for steps in stateful]
    before = [_by_item(steps) for steps in reset]
    before = before * len(after) if len(before) == 1 else before
    # Items of all orders: where duplicates are dropped, orders keep different ones.
    items = [item for item in after[0] if all(item in one for one in (*after, *before))]
    kept = [item for item in items if not any(math.isnan(one[item]) for one in (*after, *before))]
    missing = len(items) - len(kept)
    if not kept:
        return Gain(None, None, None, None, None, None, None, 0, missing, len(after))
    y = np.array([[one[item] for item in kept] for one in after])
    x = np.array([[one[item] for item in kept] for one in before])
    found = _paired(x, y, power)
    room = 1 - found["before"]
    return Gain(
        found["after"], found["before"], found["delta"], found["low"], found["high"], found["p"],
        found["delta"] / room if room > 1e-9 else None, len(kept), missing, len(after), found["minimum_detectable"],
    )  # fmt: skip


def mean_steps(arms: Sequence[Sequence[Sequence[Step]]]) -> list[list[Step]]:
    """Of several arms (each: steps of each order, in the same orders) the steps of one that gets the mean of what they
    got for each item, for `gain`; without a feedback where one of them has none."""
    out = []
    for orders in zip(*arms, strict=True):
        values = [_by_item(steps) for steps in orders]
        means = {item: math.fsum(one.get(item, math.nan) for one in values) / len(values) for item in values[0]}
        out.append([replace(step, value=None if math.isnan(m := means[step.item]) else m) for step in orders[0]])
    return out


def _paired(x: Floats, y: Floats, power: bool) -> dict[str, Any]:
    """x, y: float[orders, items]. With one reset side for all orders `paired` as it stands; else the differences are
    graded against nothing: both sides were drawn as often."""
    if (x == x[0]).all():
        found = paired(x[0], y, power=power)
        return {
            name: getattr(found, name)
            for name in ("before", "after", "delta", "low", "high", "p", "minimum_detectable")
        }
    # (1 + y - x) / 2 lies in [0, 1] and is compared with a constant half, which halves every difference.
    found = paired(np.full(x.shape[1], 0.5), (1 + y - x) / 2, power=power)
    twice = {
        name: None if (v := getattr(found, name)) is None else 2 * v
        for name in ("delta", "low", "high", "minimum_detectable")
    }
    return {**twice, "before": float(x.mean()), "after": float(y.mean()), "p": found.p}


def _by_item(steps: Sequence[Step]) -> dict[str, float]:
    return {step.item: math.nan if step.value is None else step.value for step in steps}


def pays_off(stateful: Sequence[Sequence[Step]], reset: Sequence[Sequence[Step]]) -> int | None:
    """The first step from which on the cumulative gain's lower bound stays above 0 to the end; None where it does not.

    Looked at every STRIDE steps. Steps of one position in different orders are different items, and one item stands in
    every order: items are clusters. Trap: many looks at one stream; that it must stay so to the end keeps the chance of
    a false one below that of the last look (2.5 %), but the step itself is an estimate without an interval. Prefixes
    of several orders do not show how orders differ, so the whole gain must be proven over orders, too (`gain`).
    """
    whole = gain(stateful, reset, power=False)
    if whole.low is None or whole.low <= 0:
        return None
    resets = [_by_item(steps) for steps in reset]
    resets = resets * len(stateful) if len(resets) == 1 else resets
    last = min((len(steps) for steps in stateful), default=0)
    first: int | None = None
    for end in [*range(FEWEST, last, STRIDE), last] if last >= FEWEST else []:
        x, y, clusters = [], [], []
        for steps, base in zip(stateful, resets, strict=True):
            for step in steps[:end]:
                if step.value is not None and not math.isnan(base.get(step.item, math.nan)):
                    x.append(base[step.item])
                    y.append(step.value)
                    clusters.append(step.item)
        found = paired(x, [y], clusters=clusters, power=False) if x else None
        proven = found is not None and found.low is not None and found.low > 0
        first = (first if first is not None else end) if proven else None
    return first


def curve(orders: Sequence[Sequence[Step]], window: int = WINDOW, stride: int = STRIDE) -> list[dict[str, Any]]:
    """Accuracy in a moving window over all orders: [{step, mean, low, high}], step is the last one of the window. The
    band is Wilson's at the number of answers, for reading a curve and not for comparing two."""
    last = min((len(steps) for steps in orders), default=0)
    window = min(window, last)
    out = []
    for end in sorted({*range(window, last + 1, stride), last}) if last else []:
        values = [s.value for steps in orders for s in steps[end - window : end] if s.value is not None]
        if values:
            mean = math.fsum(values) / len(values)
            low, high = wilson(mean, float(len(values)))
            out.append({"step": end, "mean": mean, "low": low, "high": high})
    return out


def forgetting(orders: Sequence[tuple[Sequence[Step], Sequence[Asked]]]) -> dict[str, Any] | None:
    """The frozen panel at its last asking against its first, paired by item and order; None without two askings.

    {first, last: steps, delta, low, high, points: [{step, mean}]}; a negative delta is forgetting.
    """
    first: list[tuple[float, str]] = []
    last: list[float] = []
    points: dict[int, list[float]] = {}
    steps = sorted({one.step for _, panel in orders for one in panel})
    if len(steps) < 2:
        return None
    for _, panel in orders:
        asked = {(one.step, one.item): one.value for one in panel}
        for (step, _), value in asked.items():
            if value is not None:
                points.setdefault(step, []).append(value)
        for item in dict.fromkeys(one.item for one in panel):
            start, end = asked.get((steps[0], item)), asked.get((steps[-1], item))
            if start is not None and end is not None:
                first.append((start, item))
                last.append(end)
    if not first:
        return None
    found = paired([value for value, _ in first], [last], clusters=[item for _, item in first], power=False)
    means = [{"step": step, "mean": math.fsum(values) / len(values)} for step, values in sorted(points.items())]
    return {
        "first": steps[0], "last": steps[-1], "items": len(first), "delta": found.delta, "low": found.low,
        "high": found.high, "points": means,
    }  # fmt: skip


def cost(steps: Sequence[Step], prices: Mapping[str, float] | None = None) -> dict[str, float]:
    """Of one stream: calls, prompt_tokens, tokens, seconds, shots that did not fit, the memory at the end, and dollars
    where prices (dollars for a million tokens: prompt, completion) are given."""
    found: dict[str, float] = {
        "steps": len(steps),
        "calls": sum(step.calls for step in steps),
        "prompt_tokens": sum(step.prompt_tokens for step in steps),
        "tokens": sum(step.tokens for step in steps),
        "seconds": math.fsum(step.seconds for step in steps),
        "dropped_shots": sum(step.dropped for step in steps),
        "memories": steps[-1].memories if steps else 0,
    }
    if prices:
        rates = prices.get("prompt", 0.0), prices.get("completion", 0.0)
        found["dollars"] = (rates[0] * found["prompt_tokens"] + rates[1] * found["tokens"]) / 1e6
    return found


def missing(steps: Sequence[Step]) -> dict[str, int]:
    """Steps without a feedback, by reason."""
    return dict(Counter(str(step.reason) for step in steps if step.value is None))
