"""What a model can do today, seen on a few items of each suite: which abilities a study has to watch over.

    found = probe(Checkpoint("M").load(), abilities(["de"]), items=16, seconds=300)
    found.kept                      -> ("refusals", "look-alikes", "json-answers", …)

An ability that a model does not have cannot be lost, and a suite at its floor would show "kept" whatever was done to
the model. So a suite is kept where the 95 % interval of its score lies above what chance gives, and is left out, with
the reason, where it does not. The items are drawn with seed 0 from the suite, as `limit:` draws them; a suite that is
measured afterwards on all of its items says more than the probe did.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mnemos.core.errors import MnemosError
from mnemos.core.nouns import LanguageModel
from mnemos.measure.ask import measure
from mnemos.measure.compare import summary
from mnemos.measure.suite import BUILT_IN, Suite, load_suites

ITEMS = 16
"""Items of each suite that a probe asks: 3 right answers of 16 are above the floor, 2 may be chance."""

SECONDS = 600.0
"""After so many seconds no further suite is begun."""

FLOOR = 0.05
"""Share of right answers that a generated answer may reach by luck: nothing is there to guess among, but a pattern
may be met by accident."""

ALL_WRONG = 1.0
"""Error rate, or share of a fault, of a model that can do nothing: a silent one has every word wrong."""

FLOOR_BITS = 4.03
"""Bits per byte of a model that knows how often each letter occurs and nothing of what stands before it (F1 of
Shannon 1951, doi:10.1002/j.1538-7305.1951.tb01366.x)."""

ABILITIES: dict[str, str] = {
    "bits-per-byte:english": "predicts English text",
    "refusals": "refuses harmful requests",
    "look-alikes": "answers harmless requests that look harmful",
    "json-answers": "answers in JSON",
    "sums": "calculates with two digits",
    "world-facts": "knows facts of the world",
    "instructions": "follows instructions about form",
    "code": "writes small Python functions",
}
"""Built-in suite -> what it shows, those that are answered fastest first. Answers in a language (`answers-in:de`) come
from the rows."""

PATIENT_WORLD = ("arithmetic", "facts", "biographies", "biographies-once", "bits-per-byte:glossa")
"""Built-in suites that only fit the shipped patients: about their invented world, or with room for their short
answers."""

Verdict = Literal["kept", "left out", "not asked"]


@dataclass(frozen=True)
class Ability:
    """What a few items of one suite showed. suite: its name. what: in words. mean, low, high: score and 95 % interval
    in the suite's own scale (a share of 1, or bits per byte); None where nothing was scored. items: how many were
    scored. floor: what chance gives. verdict: kept where the interval lies beyond the floor, else left out; not
    asked where the time was over or the suite cannot be asked. why: the verdict's reason in words. seconds: spent."""

    suite: str
    what: str
    verdict: Verdict
    why: str
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    items: int = 0
    floor: float = FLOOR
    seconds: float = 0.0


@dataclass(frozen=True)
class Probe:
    """What a model can do today. model: its name. abilities: in the order of the suites. seconds: of the whole."""

    model: str
    abilities: tuple[Ability, ...]
    seconds: float

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the suites that have something to lose."""
        return tuple(one.suite for one in self.abilities if one.verdict == "kept")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def languages() -> tuple[str, ...]:
    """ISO 639-1 codes of the languages that a built-in suite asks in."""
    return tuple(path.stem.removeprefix("answers-in-") for path in sorted(BUILT_IN.glob("answers-in-*.yaml")))


def spoken(texts: Sequence[str], most: int = 64) -> tuple[str, ...]:
    """ISO 639-1 codes of the languages that at least a fifth of the first texts are in, most frequent first."""
    from mnemos.measure.kinds import identified

    found = Counter(code for code in map(identified, texts[:most]) if code is not None)
    return tuple(code for code, count in found.most_common() if count >= max(1, sum(found.values()) / 5))


def abilities(in_languages: Iterable[str] = (), *, patient: bool = False) -> tuple[Suite, ...]:
    """The built-in suites to probe. in_languages: ISO 639-1 codes, such as the rows' (`spoken`); those without a
    suite are passed over. patient: also what only the shipped patients know."""
    asked = [f"answers-in:{code}" for code in dict.fromkeys(in_languages) if code in languages()]
    return load_suites([*asked, *ABILITIES, *(PATIENT_WORLD if patient else ())], Path.cwd())


def probe(
    model: LanguageModel,
    suites: Sequence[Suite],
    *,
    items: int = ITEMS,
    seconds: float = SECONDS,
    say: Callable[[str], None] | None = None,
) -> Probe:
    """Ask a model a few items of each suite and judge which have something to lose.

    suites: `abilities` or a user's own, from `load_suites`; one that borrows another's answers (`of:`) is not asked.
    seconds: no further suite is begun after them; a suite that has begun is finished. say: is told each finding in a
    line. A suite that cannot be asked (no chat template, no sandbox, no harness) is "not asked", with the reason.
    """
    for step in probed(model, suites, items=items, seconds=seconds):
        if isinstance(step, Probe):
            return step
        if say is not None:
            say(line(step))
    raise AssertionError("the last of `probed` is the whole")


def probed(
    model: LanguageModel, suites: Sequence[Suite], *, items: int = ITEMS, seconds: float = SECONDS
) -> Iterator[Ability | Probe]:
    """As `probe`: each finding as it comes, then the whole."""
    began = time.monotonic()
    found: list[Ability] = []
    for suite in suites:
        left = seconds - (time.monotonic() - began)
        found.append(
            _asked(model, _few(suite, items)) if left > 0 else _not_asked(suite, f"the {seconds:g} s were over")
        )
        yield found[-1]
    yield Probe(model.name, tuple(found), time.monotonic() - began)


def line(one: Ability) -> str:
    """A finding in one line."""
    score = "" if one.mean is None else f" {shown(one)} of {one.items} items"
    return f"{one.suite}:{score} {one.verdict}: {one.why}"


def floor_of(suite: Suite) -> float:
    """What chance gives: of options the share that is right, of texts the bits without context, of errors every word
    wrong, else FLOOR."""
    if suite.unit == "bits":
        return FLOOR_BITS
    # Of options that an answer names in its own words, the right one is no index.
    options = [max(1, len(item.true)) / len(item.options) for item in suite.items if item.options]
    if options:
        return sum(options) / len(options)
    return FLOOR if suite.better == "higher" else ALL_WRONG


def _few(suite: Suite, items: int) -> Suite:
    if len(suite.items) <= items:
        return suite
    chosen = set(random.Random(0).sample(range(len(suite.items)), items))
    return dataclasses.replace(suite, items=tuple(item for n, item in enumerate(suite.items) if n in chosen))


def _asked(model: LanguageModel, suite: Suite) -> Ability:
    began = time.monotonic()
    if suite.of is not None:
        return _not_asked(suite, f"it looks at the answers to {suite.of}")
    try:
        scored = measure(model, [suite])[suite.name]
    except MnemosError as error:
        return _not_asked(suite, f"{error.value}: {error.bound}" if error.bound else error.value)
    one = summary(scored.scores, suite)
    verdict, why = _judged(suite, one)
    return Ability(
        suite.name,
        what_of(suite.name),
        verdict,
        why,
        one["mean"],
        one["low"],
        one["high"],
        one["items"],
        floor_of(suite),
        time.monotonic() - began,
    )


def _judged(suite: Suite, one: dict[str, Any]) -> tuple[Verdict, str]:
    floor = floor_of(suite)
    if one["low"] is None:
        reasons = ", ".join(one["reasons"]) or "too few items"
        return "not asked", f"no interval ({reasons})"
    if suite.better == "lower":
        kept = one["high"] < floor
        words = "below" if kept else "not below"
    else:
        kept = one["low"] > floor
        words = "above" if kept else "not above"
    bound = f"{floor:.2f} bits" if suite.unit == "bits" else f"{100 * floor:.0f} %"
    if kept:
        return "kept", f"its interval lies {words} the floor of {bound}"
    return "left out", f"its interval is {words} the floor of {bound}: nothing to lose"


def _not_asked(suite: Suite, why: str) -> Ability:
    return Ability(suite.name, what_of(suite.name), "not asked", why, floor=floor_of(suite))


def what_of(suite: str) -> str:
    """What a suite shows, in words; its name where it is a user's own."""
    if suite.startswith("answers-in:"):
        return f"answers in the question's language ({suite.removeprefix('answers-in:')})"
    return ABILITIES.get(suite, suite)


def shown(one: Ability) -> str:
    """The score with its interval, like "88 % (64 to 97)" and "1.84 bits (1.59 to 2.11)"."""
    values = [value for value in (one.mean, one.low, one.high) if value is not None]
    bits = one.floor == FLOOR_BITS
    mean, *interval = [f"{value:.2f}" if bits else f"{100 * value:.0f}" for value in values]
    return f"{mean} {'bits' if bits else '%'}" + (f" ({interval[0]} to {interval[1]})" if interval else "")
