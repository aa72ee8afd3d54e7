"""The look before a teaching: the rows, what the model can do today, what it knows of the rows, and how fast it is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.names import data_name
from mnemos.measure.power import mcnemar_detectable
from mnemos.measure.probe import Ability, abilities, probe
from mnemos.measure.proportions import newcombe
from mnemos.measure.split import in_part
from mnemos.measure.suite import Suite, load_suites
from mnemos.sources.read import read
from mnemos.study.paths import PATIENTS
from mnemos.study.teach.rows import Rows, look_at_rows
from mnemos.study.teach.suites import asked, can_part, refuse_leaks, spec_of

KNOWN = 0.95
"""Share of the new development items that are right before, from which on no gain is left that could be proven."""

READ = 64
"""Rows whose answers' likelihood under the model is taken."""

FLIPS = 0.1
"""Share of items taken to change either way, where it is said beforehand which loss would be seen."""


@dataclass(frozen=True)
class Look:
    """What was seen. rows: of the data. parameters: of the model. new, old: suites, as a study file writes them.
    before: suite -> mean score of development items before. held: suite -> held-out items. left_out: suite -> why it
    is not watched over. nats: of a taught token under the model, on average. known: the rows teach what the model
    does already. rate: tokens trained a second. item_seconds: suite -> seconds to ask an item. seconds: of the look."""

    rows: Rows
    parameters: int
    new: tuple[dict[str, Any], ...]
    old: tuple[dict[str, Any], ...]
    before: Mapping[str, float]
    held: Mapping[str, int]
    left_out: Mapping[str, str]
    nats: float
    known: bool
    rate: float
    item_seconds: Mapping[str, float]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Look:
        """The look that `as_dict` wrote."""
        rows = Rows(**{**value["rows"], "notices": tuple(value["rows"]["notices"])})
        return cls(**{**value, "rows": rows, "new": tuple(value["new"]), "old": tuple(value["old"])})


def look(
    data: str,
    model: Any,
    folder: Path,
    *,
    suites: Sequence[Any],
    new: Sequence[Any],
    earlier: Sequence[Mapping[str, Any]],
    max_loss: float,
    train: Callable[[Rows, int], Mapping[str, Any]],
    say: Callable[[str], None],
    here: Path,
) -> Look:
    """Look at rows and model, and write rows and items under `folder`.

    model: its handle. suites: the user's old suites. new: the user's suites of what is taught; without one, rows are
    held out. earlier: old suites of earlier rounds, which are watched over whatever the probe says. max_loss: points
    that a suite has to be able to show, or a built-in one is left out. train: the settings to be timed, from rows and
    the number of parameters. say: is told each finding as it is made.
    """
    began = time.monotonic()
    loaded = model.load()
    own_old = load_suites([*suites, *earlier], here)
    rows = look_at_rows(data, folder, loaded.renderer, hold_out=not new, taken={suite.name for suite in own_old})
    for text in rows_lines(rows):
        say(text)
    taught = list(read(rows.file))
    own_new = load_suites([*new, *([rows.suite] if rows.suite else [])], here)
    patient = Path(model.path).parent == PATIENTS
    names = {suite.name for suite in (*own_new, *own_old)}
    built_in = [suite for suite in abilities(_languages(taught), patient=patient) if suite.name not in names]
    _refuse_whole(own_new)
    refuse_leaks((*own_new, *own_old, *built_in), {asked(one): one.place or f"row {one.id}" for one in taught})
    before = probe(
        loaded,
        [_development(suite) for suite in own_new],
        items=10**9,
        seconds=math.inf,
    )
    for one in before.abilities:
        say(f"new     {one.suite}: {100 * (one.mean or 0.0):.0f} % of {one.items} development items before")
    watched = [*own_old, *built_in]
    found = probe(loaded, [_development(suite) for suite in watched], say=lambda text: say(f"old     {text}"))
    always = {str(spec["name"]) for spec in earlier}
    kept, left_out = _kept(found.abilities, watched, always)
    for suite in kept:
        if suite.name in always and suite.name not in found.kept:
            say(f"old     {suite.name}: watched over all the same, as it is of an earlier round")
    kept, few = _shown(kept, {suite.name for suite in built_in}, max_loss)
    for name, why in few.items():
        say(f"old     {name}: left out after all: {why}")
    left_out |= few
    parameters = sum(p.numel() for p in loaded.model.parameters())
    nats = _nats(loaded, taught[:READ])
    del loaded
    rate = _rate(rows, model, train(rows, parameters))
    say(f"model   {parameters / 1e6:,.1f} M parameters; {math.exp(nats):,.1f} perplexity of the answers to be taught; "
        f"{rate:,.0f} tokens a second in training")  # fmt: skip
    return Look(
        rows=rows,
        parameters=parameters,
        new=tuple(spec_of(suite) for suite in own_new),
        old=tuple(spec_of(suite) for suite in kept),
        before={one.suite: one.mean or 0.0 for one in (*before.abilities, *found.abilities)},
        held={suite.name: len(in_part(suite.items, "held_out")) for suite in (*own_new, *kept)},
        left_out=left_out,
        nats=nats,
        known=all(_known(one) for one in before.abilities),
        rate=rate,
        item_seconds={one.suite: one.seconds / max(1, one.items) for one in (*before.abilities, *found.abilities)},
        seconds=time.monotonic() - began,
    )


def rows_lines(rows: Rows) -> list[str]:
    """What was found in the rows."""
    lines = [
        f"rows    {rows.rows:,} read, {rows.taught:,} to teach, about {rows.length:,.0f} tokens each "
        f"(99 in 100 have {rows.longest:,} at most)"
    ]
    if rows.held:
        lines.append(f"rows    {rows.held:,} held out to measure by, compared by {rows.match}")
    return lines + [f"rows    {notice}" for notice in rows.notices]


def seen(items: int, max_loss: float, share: float) -> str:
    """What so many held-out items can show, said before anything is trained. share: of them that are right before."""
    least = _at_best(items, share)
    text = f"a change of {100 * mcnemar_detectable(FLIPS, items):.0f} points would be seen in 8 of 10 cases"
    if least > max_loss / 100:
        needed = next(n for n in range(items, 1_000_000) if _at_best(n, share) <= max_loss / 100)
        text += (
            f"; --max-loss {max_loss:g} cannot be shown with {items} held-out items even where none changes: "
            f"{100 * least:.1f} points can, or {needed} items"
        )
    return text


def _at_best(items: int, share: float) -> float:
    """The largest loss that the interval holds where no item changed."""
    return -newcombe((share, 0.0, 0.0, 1 - share), items)[0]


def _development(suite: Suite) -> Suite:
    if not can_part(suite):
        return suite
    return replace(suite, items=in_part(suite.items, "development"))


def _refuse_whole(suites: Iterable[Suite]) -> None:
    for suite in suites:
        if not can_part(suite):
            spec_of(suite, "held_out")
            raise UsageError(
                f"suite {suite.name!r}", f"has {len(suite.items)} items, too few to hold half of them out", "add items"
            )
        if suite.unit != "points":
            raise UsageError(
                f"suite {suite.name!r}", f"is measured in {suite.unit}: arms are chosen by points", "name another suite"
            )


def _kept(found: Iterable[Ability], suites: Iterable[Suite], always: set[str]) -> tuple[list[Suite], dict[str, str]]:
    """The suites to be watched over, and why others are not. always: those of earlier rounds."""
    kept, left_out = [], {}
    for one, suite in zip(found, suites, strict=True):
        if not can_part(suite):
            left_out[suite.name] = f"{len(suite.items)} items are too few to hold half of them out"
        elif one.verdict == "kept" or suite.name in always:
            kept.append(suite)
        else:
            left_out[suite.name] = one.why
    return kept, left_out


def _shown(kept: Sequence[Suite], built_in: set[str], max_loss: float) -> tuple[list[Suite], dict[str, str]]:
    """Without the built-in suites that have too few held-out items to show that no more than `max_loss` is lost: they
    would make every proof end as cannot tell. A user's own suites stay, and the plan says what they can show."""
    few = {}
    for suite in kept:
        items = len(in_part(suite.items, "held_out"))
        if suite.name in built_in and suite.unit == "points" and _at_best(items, 1.0) > max_loss / 100:
            few[suite.name] = f"{items} held-out items cannot show that at most {max_loss:g} points are lost"
    return [suite for suite in kept if suite.name not in few], few


def _known(one: Ability) -> bool:
    return one.mean is not None and one.mean >= KNOWN


def _languages(examples: Sequence[Any]) -> list[str]:
    """Languages of the rows' questions, by the identifier that the language suites use."""
    from mnemos.measure.probe import languages
    from mnemos.sources.language import language_identifier

    identifier, found = language_identifier(languages()), []
    for example in examples[:READ]:
        text = asked(example)
        if len(text) >= 12:
            found.append(identifier.classify(text)[0])
    # A language that one row in ten is written in.
    return [code for code in languages() if found.count(code) >= max(1, len(found) // 10)]


def _nats(loaded: Any, examples: Sequence[Any]) -> float:
    """-ln p of a token that the model would learn to write, on average."""
    rows = [row for row in map(loaded.renderer.render, examples) if row.output[1:].any()]
    found = loaded.token_nats([row.ids.tolist() for row in rows])
    values = [
        nats for row, own in zip(rows, found, strict=True) for nats, on in zip(own, row.output[1:], strict=True) if on
    ]
    return math.fsum(values) / max(1, len(values))


def _rate(rows: Rows, model: Any, settings: Mapping[str, Any]) -> float:
    """Tokens trained a second, from a few steps on the first rows."""
    from mnemos.core.plan import Plan
    from mnemos.core.settings import TrainSettings
    from mnemos.train.speed import timed

    source, train = read(rows.file), TrainSettings(**settings)
    plan = Plan(examples=source, before=model, task=data_name(rows.file, "rows"), seed=0, train=train)
    return timed(plan).tokens_per_second
