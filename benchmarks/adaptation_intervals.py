"""Do the intervals of two contrasts of recognisers that adapt hold their promise? Utterances whose truth is known.

An utterance has a difficulty of its own that all its word errors share, whoever hears it. `growth` is how much more an
arm gains, in shares of the source's errors, where noise is strong: utterances are heard in a weak and in a strong
noise. `rise` is how much more an arm errs than the source in the later half of a stream: utterances stand in one half
or in both. In the worlds with outbursts one utterance in fifty makes the arm write three times its words, as Whisper
does when it repeats itself. The truth of a world is that of a million utterances.

    python -m benchmarks adaptation_intervals
    python -m benchmarks.readme                     # fills the table of docs/speech.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy import special

from benchmarks.common import Result, compared
from mnemos.measure.ratios import difference_of_ratios

REPETITIONS = 2000
UTTERANCES = (12, 20, 50, 100, 400)
RATES = (0.1, 0.3, 0.6)
"""Word error rates of the source (growth: in the weak noise)."""
LEAST = 0.93
MANY = 1_000_000


def run() -> Iterator[Result]:
    """The smallest coverage of all worlds without outbursts against 93 %; every world in the details."""
    table = {f"{what}, {name}": simulated(what, *world) for what in ("growth", "rise") for name, world in worlds()}
    least = min(one["covered"] for name, one in table.items() if "outbursts" not in name)
    yield compared(
        "adaptation-intervals", ([least], [LEAST]), unit="share", direction="higher is better", bound=1.0, details=table
    )


def worlds() -> list[tuple[str, tuple[int, float, bool]]]:
    """(name, (utterances, rate of the source, outbursts))."""
    return [
        (f"{count} utterances, source {rate:.0%}{', outbursts' * bursts}", (count, rate, bursts))
        for bursts in (False, True)
        for rate in RATES
        for count in UTTERANCES
    ]


def simulated(what: str, count: int, rate: float, bursts: bool, repetitions: int = REPETITIONS) -> dict[str, Any]:
    """{truth, covered, stated, width}: how many intervals of those that are stated hold the truth, and how wide their
    median is."""
    draw = np.random.default_rng([len(what), count, round(100 * rate), bursts])
    truth = _truth(what, rate, bursts)
    found = [difference_of_ratios(*drawn(what, count, rate, bursts, draw)) for _ in range(repetitions)]
    stated = [(one[1], one[2]) for one in found if one is not None and one[1] is not None and one[2] is not None]
    held = [low <= truth <= high for low, high in stated]
    return {
        "truth": truth,
        "covered": float(np.mean(held)) if held else 1.0,
        "stated": len(stated) / repetitions,
        "width": float(np.median([high - low for low, high in stated])) if stated else None,
    }


def _truth(what: str, rate: float, bursts: bool) -> float:
    found = difference_of_ratios(*drawn(what, MANY, rate, bursts, np.random.default_rng(0)))
    assert found is not None
    return found[0]


def drawn(what: str, count: int, rate: float, bursts: bool, draw: np.random.Generator) -> tuple[Any, Any]:
    """Two float[n, 2] as `difference_of_ratios` takes them."""
    words = draw.integers(3, 12, count)
    difficulty = draw.standard_normal(count)

    def errors(share: float, bursting: bool = False) -> Any:
        # Mean `share` over utterances: the probit of a sum of two standard normal numbers.
        chance = special.ndtr(special.ndtri(share) * np.sqrt(3) + difficulty + draw.standard_normal(count))
        wrong = draw.binomial(words, chance)
        return np.where(draw.random(count) < 0.02, 3 * words, wrong) if bursting and bursts else wrong

    if what == "growth":
        weak, strong = rate, min(0.9, 2.2 * rate)
        sides = [(errors(0.75 * strong, True), errors(strong)), (errors(0.9 * weak, True), errors(weak))]
        # The relative gain 1 - own/source where noise is strong less that where it is weak.
        return np.stack(sides[1], 1).astype(float), np.stack(sides[0], 1).astype(float)
    place = draw.integers(0, 3, count)
    out = []
    for left_out, more in ((0, 1.3), (1, 1.0)):
        there = place != left_out
        source, own = errors(rate), errors(min(0.95, more * rate), True)
        out.append(np.stack([(own - source) * there, words * there], 1).astype(float))
    return out[0], out[1]


def covered_table(found: Mapping[str, Any]) -> str:
    """The table of docs/speech.md: % of stated intervals that hold the truth, by utterances."""
    lines = [
        "| contrast | source errs | " + " | ".join(map(str, UTTERANCES)) + " |",
        "|---|---|" + "---|" * len(UTTERANCES),
    ]
    for what, name in (("growth", "growth of the gain"), ("rise", "rise along the stream")):
        for bursts in (False, True):
            for rate in RATES:
                cells = []
                for count in UTTERANCES:
                    one = found[f"{what}, {count} utterances, source {rate:.0%}{', outbursts' * bursts}"]
                    cells.append(f"{100 * one['covered']:.1f}" if one["stated"] else "–")
                lines.append(f"| {name}{', outbursts' * bursts} | {rate:.0%} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
