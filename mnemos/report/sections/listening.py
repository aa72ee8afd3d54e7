"""Questions about sounds: labels by dimension, what is left without the own sound, and instructions in three forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.svg import Drawing
from mnemos.report.words import clean, number

KEY = "listening"
TITLE = "Listening"
LEAD = (
    "Answers to questions about sounds. Exact: the answer is the label. Parsed: the first option that it names is. An "
    "answer that names none is unparsable and counts as wrong, so that the parsed score is the share of right answers "
    "among those that can be read, times one minus the unparsable share. Scores minus those with another row's sound "
    "are what was heard, and not guessed."
)
LOUD = False

SHORT = {
    "detectable_format:json_format": "JSON",
    "change_case:english_capital": "upper case",
    "change_case:english_lowercase": "lower case",
    "startend:quotation": "quotes",
    "startend:end_checker": "end phrase",
    "detectable_format:number_bullet_lists": "bullets",
}
"""Names of instructions in a table; others keep their own."""
OF_CONTROL = {"silence": "silence", "shuffled": "another row's sound", "absent": "no sound"}
OF_FORM = {"audio": "sound", "description": "described in text", "text": "text alone"}
UNREAD = 0.1
"""Share of unparsable answers from which a sentence warns."""


@dataclass(frozen=True, slots=True)
class Label:
    """Of one side on one dimension of a suite; shares of all answered items."""

    suite: str
    side: str
    dimension: str
    audio: str
    exact: float
    parsed: float
    unparsable: float
    items: int


@dataclass(frozen=True, slots=True)
class Control:
    """A suite's score minus that with another sound, or none. Shares; low and high None where none can be had."""

    suite: str
    audio: str
    side: str
    value: float
    other: float
    delta: float
    low: float | None
    high: float | None
    items: int


@dataclass(frozen=True, slots=True)
class Form:
    """Of one side in one form. by: (instruction, followed strictly, loosely, of). delta: against the reference."""

    suite: str
    side: str
    form: str
    strict: float
    loose: float
    by: tuple[tuple[str, int, int, int], ...]
    items: int
    reference: str = ""
    delta: float | None = None
    low: float | None = None
    high: float | None = None
    relative: float | None = None


@dataclass(frozen=True, slots=True)
class Listening:
    """All of it."""

    labels: tuple[Label, ...]
    controls: tuple[Control, ...]
    forms: tuple[Form, ...]


def read(results: Mapping[str, Any], facts: Facts) -> Listening | None:
    """The `listening` of results.json; None where there is none."""
    item = results.get(KEY)
    if not isinstance(item, Mapping):
        return None
    found = Listening(
        tuple(map(_label, item["labels"])), tuple(map(_control, item["controls"])), tuple(map(_form, item["forms"]))
    )
    return found if found.labels or found.controls or found.forms else None


def _label(row: Mapping[str, Any]) -> Label:
    suite, side, dimension, how = (clean(row[name]) for name in ("suite", "side", "dimension", "audio"))
    exact, parsed, unparsable = (float(row[name]) for name in ("exact", "parsed", "unparsable"))
    return Label(suite, side, dimension, how, exact, parsed, unparsable, int(row["items"]))


def _control(row: Mapping[str, Any]) -> Control:
    suite, how, side = (clean(row[name]) for name in ("suite", "audio", "side"))
    value, other, delta = (float(row[name]) for name in ("value", "other", "delta"))
    return Control(suite, how, side, value, other, delta, number(row["low"]), number(row["high"]), int(row["items"]))


def _form(row: Mapping[str, Any]) -> Form:
    change = row.get("change") or {}
    delta, low, high, relative = (number(change.get(name)) for name in ("delta", "low", "high", "relative"))
    return Form(
        clean(row["suite"]),
        clean(row["side"]),
        clean(row["form"]),
        float(row["strict"]),
        float(row["loose"]),
        tuple((clean(name), int(strict), int(loose), int(of)) for name, (strict, loose, of) in row["by"].items()),
        int(row["items"]),
        clean(row.get("reference", "")),
        delta,
        low,
        high,
        relative,
    )


def words(facts: Facts, record: Listening) -> list[str]:
    """Where answers cannot be read, and where the own sound makes no difference."""
    found = [
        f"{one.side} on {one.suite}{_of(one.dimension)}: {100 * one.unparsable:.1f} % of the answers name no option."
        for one in record.labels
        if one.unparsable > UNREAD and one.audio == "heard"
    ]
    for one in record.controls:
        if one.audio == "shuffled" and one.low is not None and one.low <= 0:
            found.append(
                f"{one.side} on {one.suite}: not shown to hear anything, since it scores {_points(one.delta)} against "
                f"another row's sound {_interval(one.low, one.high)}."
            )
    return found


def _of(dimension: str) -> str:
    return f" ({dimension})" if dimension else ""


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"


def _interval(low: float | None, high: float | None) -> str:
    return "(no interval)" if low is None or high is None else f"[{100 * low:+.1f}, {100 * high:+.1f}]"


def tables(facts: Facts, record: Listening) -> Sequence[Table]:
    """Labels, controls and forms, those that there are."""
    return [table for table in (_labels(record), _controls(record), _forms(record), _rules(record)) if table.rows]


def _labels(record: Listening) -> Table:
    heads = ("suite, side", "dimension", "exact", "parsed", "unparsable", "items")
    rows = tuple(
        (
            f"{one.suite}, {one.side}",
            one.dimension or "-",
            *(f"{100 * value:.1f} %" for value in (one.exact, one.parsed, one.unparsable)),
            f"{one.items:,}",
        )
        for one in record.labels
    )
    return Table("Labels of sounds", heads, rows)


def _controls(record: Listening) -> Table:
    heads = ("suite, side", "in place of the sound", "score", "score there", "difference", "95 %", "items")
    rows = tuple(
        (
            f"{one.suite}, {one.side}",
            OF_CONTROL.get(one.audio, one.audio),
            f"{100 * one.value:.1f}",
            f"{100 * one.other:.1f}",
            f"{100 * one.delta:+.1f}",
            _interval(one.low, one.high),
            f"{one.items:,}",
        )
        for one in record.controls
    )
    return Table("What the sound is worth", heads, rows)


def _forms(record: Listening) -> Table:
    heads = ("suite, side", "form", "IFrate strict", "loose", "change", "95 %", "relative", "items")
    rows = tuple(
        (
            f"{one.suite}, {one.side}",
            OF_FORM.get(one.form, one.form),
            f"{100 * one.strict:.1f}",
            f"{100 * one.loose:.1f}",
            "reference" if one.delta is None else f"{100 * one.delta:+.1f}",
            "" if one.delta is None else _interval(one.low, one.high),
            "" if one.relative is None else f"{one.relative:+.1f} %",
            f"{one.items:,}",
        )
        for one in record.forms
    )
    return Table("Instructions followed, by form", heads, rows)


def _rules(record: Listening) -> Table:
    """Each instruction apart, where a suite has several."""
    names = list(dict.fromkeys(name for one in record.forms for name, *_ in one.by))
    if len(names) < 2:
        return Table("")
    rows = []
    for one in record.forms:
        counts = {name: (strict, loose, of) for name, strict, loose, of in one.by}
        cells = ("{} and {} of {}".format(*counts[name]) if name in counts else "-" for name in names)
        rows.append((f"{one.suite}, {one.side}", OF_FORM.get(one.form, one.form), *cells))
    heads = ("suite, side", "form", *(SHORT.get(name, name) for name in names))
    return Table("Each instruction, followed strictly and loosely", heads, tuple(rows))


def figures(facts: Facts, record: Listening) -> Sequence[Figure]:
    """The tables as lines: few numbers need no drawing."""
    return [
        Figure(Drawing("", ""), table.title, lines=tuple((row[0], _line(table.heads, row), "") for row in table.rows))
        for table in tables(facts, record)
    ]


def _line(heads: Sequence[str], row: Sequence[str]) -> str:
    """The cells of a row with their heads, without empty ones."""
    return ", ".join(f"{head} {cell}" for head, cell in zip(heads[1:], row[1:], strict=True) if cell)
