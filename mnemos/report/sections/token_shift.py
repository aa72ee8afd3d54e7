"""Which tokens of each arm's answers the model before would not have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.section import Figure, Table
from mnemos.report.svg import Drawing
from mnemos.report.words import clean, number

KEY = "token_shift"
TITLE = "Tokens that the model before would not have written"
LEAD = (
    "Each token of an answer by its rank in the model before: first, second or third, or beyond (shifted, "
    "arXiv:2312.01552)."
)
LOUD = False

SAID = 4
"""Arms and suites up to which each has a sentence."""

NAMED = 6
"""Most shifted tokens that are named in a sentence."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Of one arm on one suite. shares: unshifted, marginal, shifted, of all tokens. kl: nats a token. tenths: share
    shifted in each tenth of the answers. most: (token, times shifted, times written)."""

    suite: str
    arm: str
    tokens: int
    shares: tuple[float, float, float]
    kl: float
    tenths: tuple[float | None, ...]
    most: tuple[tuple[str, int, int], ...]


def read(results: Mapping[str, Any], facts: Facts) -> tuple[Shift, ...] | None:
    """The `token_shift` of results.json; None where there is none."""
    item = results.get(KEY)
    if not isinstance(item, Mapping):
        return None
    return tuple(_shift(suite, arm, one) for suite, arms in item.items() for arm, one in arms.items()) or None


def _shift(suite: str, arm: str, one: Mapping[str, Any]) -> Shift:
    return Shift(
        clean(suite),
        clean(arm),
        int(one["tokens"]),
        (float(one["unshifted"]), float(one["marginal"]), float(one["shifted"])),
        float(one["kl"]),
        tuple(number(tenth["shifted"]) for tenth in one["tenths"]),
        # Quoted, since a token may be nothing but white space; bytes that are no letter are shown as U+FFFD.
        tuple((clean(repr(str(text))), int(times), int(written)) for text, times, written in one["most"]),
    )


def words(facts: Facts, record: Sequence[Shift]) -> list[str]:
    """A sentence an arm and suite; of many, one a suite, since the tables have their numbers."""
    if len(record) <= SAID:
        return [f"{one.arm} on {one.suite}: {_numbers(one)}." for one in record]
    return [_span([one for one in record if one.suite == suite]) for suite in dict.fromkeys(o.suite for o in record)]


def _span(some: Sequence[Shift]) -> str:
    least, most = (end(some, key=lambda one: one.shares[2]) for end in (min, max))
    ends = f"{100 * least.shares[2]:.1f} % ({least.arm}) to {100 * most.shares[2]:.1f} % ({most.arm})"
    return f"On {least.suite} {ends} of the tokens are shifted."


def _numbers(one: Shift) -> str:
    first, marginal, shifted = (f"{100 * share:.1f} %" for share in one.shares)
    text = f"{first} of {one.tokens:,} tokens unshifted, {marginal} marginal, {shifted} shifted"
    ends = [share for share in (one.tenths[0], one.tenths[-1]) if share is not None]
    if len(ends) == 2:
        text += f" ({100 * ends[0]:.1f} % in the first tenth of an answer, {100 * ends[1]:.1f} % in the last)"
    text += f"; {one.kl:.3f} nats a token from the model before"
    if one.most:
        text += "; most often shifted: " + ", ".join(f"{token} {times}" for token, times, _ in one.most[:NAMED])
    return text


def tables(facts: Facts, record: Sequence[Shift]) -> Sequence[Table]:
    """The three shares, the share shifted by tenth of the answers, and the most shifted tokens."""
    shares = [
        (f"{one.suite}, {one.arm}", f"{one.tokens:,}", *(f"{100 * part:.1f}" for part in one.shares), f"{one.kl:.3f}")
        for one in record
    ]
    ranks = ("suite, arm", "tokens", "unshifted", "marginal", "shifted", "nats a token")
    heads = ("suite, arm", *(f"{10 * tenth}-{10 * tenth + 10} %" for tenth in range(10)))
    rows = [
        (f"{one.suite}, {one.arm}", *("-" if share is None else f"{100 * share:.1f}" for share in one.tenths))
        for one in record
    ]
    most = [
        (f"{one.suite}, {one.arm}", ", ".join(f"{token} {times} of {written}" for token, times, written in one.most))
        for one in record
        if one.most
    ]
    out = [
        Table("Tokens by their rank in the model before, in %", ranks, tuple(shares)),
        Table("Shifted tokens by how much of the answer is written, in %", heads, tuple(rows)),
    ]
    return [*out, Table("Most often shifted, of how often it was written", lines=tuple(most))] if most else out


def figures(facts: Facts, record: Sequence[Shift]) -> Sequence[Figure]:
    """The numbers of many arms as lines; of few, the sentences have them."""
    if len(record) <= SAID:
        return ()
    lines = tuple((f"{one.suite}, {one.arm}", _numbers(one), "") for one in record)
    return [Figure(Drawing("", ""), lines=lines)]
