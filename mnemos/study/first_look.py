"""A first look at answers before and after a training, as soon as they are there: chosen by rule, never by hand.

It shows, it proves nothing: of all suites whose answers can be read, the item that lost most, the one that gained
most, and a random one among the rest, drawn by the arm's seed. Verdicts with intervals stand in the report.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnemos.measure.flips import flips
from mnemos.report.words import clean

if TYPE_CHECKING:
    from mnemos.measure.ask import Measured
    from mnemos.measure.suite import Suite

FILE = "answers.md"
"""In the directory of the step that measured: every suite's."""

LONGEST = 90
"""Characters of a prompt or answer in a line."""

LONGEST_IN_FILE = 1000
"""Characters of a prompt or answer in the file."""

WHYS = ("largest loss", "largest gain", "random")


def found(
    suites: Iterable[Suite], before: Mapping[str, Measured], after: Mapping[str, Measured], *, seed: int
) -> list[dict[str, Any]]:
    """One item of each kind a suite, as `measure.flips` chooses them."""
    return flips(suites, before, after, arm="", seed=seed, each=1)


def lines(title: str, entries: Sequence[Mapping[str, Any]], *, seed: int, more: str) -> str:
    """The three items in a few lines of plain text. more: where the others are."""
    out = [f"{title}: first answers before and after; more in {more}"]
    rng = random.Random(f"{seed}/first look")
    for why in WHYS:
        of_kind = [entry for entry in entries if entry["why"] == why]
        if not of_kind:
            out.append(f"  {why}: none")
            continue
        most = max(map(_change, of_kind)) if why != "random" else 0.0
        # Among suites as among items: equal changes are drawn, so that the order of the file decides nothing.
        entry = rng.choice([one for one in of_kind if why == "random" or _change(one) == most])
        out.append(f"  {why}: {clean(entry['suite'])}, item {clean(entry['item'])}, {_scores(entry)}")
        out.append(f"    prompt  {_short(entry['prompt'])}")
        out += [f"    {side:6s}  {_short(entry[side]['text'])}" for side in ("before", "after")]
    return "\n".join(out)


def document(title: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """All entries as Markdown, suite by suite."""
    from mnemos.report.markdown import escape, fence

    blocks = [
        f"# {escape(title)}: answers before and after",
        "Of each suite whose answers can be read: the item that lost most, the one that gained most, and a random one "
        "among the rest. Items are shown, nothing is proven by them: the report has verdicts with intervals.",
    ]
    for entry in entries:
        blocks.append(f"## {escape(entry['suite'])}: {entry['why']}, item {escape(entry['item'])}, {_scores(entry)}")
        texts = [("Prompt", entry["prompt"]), ("Wanted", entry["gold"])]
        texts += [(side.capitalize(), entry[side]["text"]) for side in ("before", "after")]
        blocks += [f"{name}:\n\n{fence(_cut(clean(text, lines=True)))}" for name, text in texts if text]
    return "\n\n".join(blocks) + "\n"


def _change(entry: Mapping[str, Any]) -> float:
    before, after = (entry[side]["score"] for side in ("before", "after"))
    # A missing score is no change; only random items have one.
    return 0.0 if before is None or after is None else abs(after - before)


def _scores(entry: Mapping[str, Any]) -> str:
    before, after = (entry[side]["score"] for side in ("before", "after"))
    words = ["missing" if value is None else f"{value:.3g}" for value in (before, after)]
    return f"score {words[0]} before, {words[1]} after"


def _short(text: str | None) -> str:
    one_line = clean(text or "")
    return one_line if len(one_line) <= LONGEST else one_line[: LONGEST - 1] + "…"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_IN_FILE else text[:LONGEST_IN_FILE] + "…"
