"""The report as Markdown: the whole document, and a short card for a pull request.

Tables are GitHub's. Names are escaped, model output stands in fences longer than any in it, so
neither can break a table, open a link or mention a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mnemos.report.advice import advise
from mnemos.report.claims import claim_words
from mnemos.report.facts import Arm, Change, Facts, Flip
from mnemos.report.headlines import headline
from mnemos.report.provenance import plain, provenance
from mnemos.report.section import Table
from mnemos.report.sections import present
from mnemos.report.verdicts import (
    GLOSSARY,
    asides,
    change_words,
    cost_words,
    sentence,
    verdict_words,
    writing_words,
)
from mnemos.report.words import clean, counted, figure, p_words

LONGEST_TEXT = 1200
"""Characters of a prompt or answer that the report prints; the rest is in results.json."""

FLIPS_PER_ARM = 6

_INTERVAL = r"[-+]?[\d.]+, [-+]?[\d.]+\](?![(\[:])"
"""What may follow an opening bracket without its being escaped: an interval, never a link."""


def escape(text: object) -> str:
    """Text that Markdown shows as it is: one line, no markup, no HTML, no table cell break."""
    # & first: the entities below hold one.
    text = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_|~$]|\](?=[(\[:])|#(?=\w)|\[(?!" + _INTERVAL + "))", r"\\\1", text)
    # A zero-width character would break searching; an entity breaks only the mention and the link.
    return text.replace("@", "&#64;").replace("://", "&#58;//").replace("www.", "www&#46;")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """A GitHub table of cells that are Markdown already. right: columns aligned to the right."""
    to_right = set(right)
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|" + "|".join("---:" if place in to_right else "---" for place in range(len(head))) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def fence(text: str) -> str:
    """A code block whose fence is longer than any run of backticks inside; long text is cut, with
    the number of characters cut."""
    left = len(text) - LONGEST_TEXT
    if left > 0:
        text = f"{text[:LONGEST_TEXT]}\n[{left:,} more characters in results.json]"
    # A fence ends at a run of as many backticks as it has, so one more than the longest inside.
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}text\n{text}\n{ticks}"


def document(facts: Facts) -> str:
    """The whole report."""
    return "\n\n".join(_blocks(facts))


def card(facts: Facts, gate: Any = None) -> str:
    """A short card for a pull request: the decision, one line per arm, one table, provenance.

    gate: the decision of `mnemos gate`, as an object or a mapping: `exit_code` 0, 3 or 4, and where
    it has them `findings` (each with `outcome` and `reason`) and `max_loss`; None leaves it out.
    Suites that were kept are folded away where there are more than eight.
    """
    blocks = [f"### mnemos: {_decision(gate)}" if gate is not None else f"### mnemos: {escape(facts.study)}"]
    blocks.append(f"**{escape(headline(facts))}**")
    reasons = [_part(finding, "reason") for finding in _part(gate, "findings") or () if _part(finding, "outcome") != 0]
    if reasons:
        blocks.append("\n".join(f"- {escape(reason)}" for reason in reasons))
    if len(facts.arms) > 1:
        blocks.append(_sentences(facts))
    for arm in facts.arms[:1] if len(facts.arms) == 1 else ():
        changes = [change for role in facts.roles for change in arm.of(role)]
        loud = [change for change in changes if change.verdict != "kept"] if len(changes) > 8 else changes
        rows = [_card_row(change) for change in loud]
        blocks.append(table(("suite", "before", "after", "verdict", "items"), rows, (1, 2, 4)))
        if len(loud) < len(changes):
            blocks.append(f"Kept: {', '.join(escape(change.suite) for change in changes if change not in loud)}.")
    if len(facts.arms) == 1:
        notes = [f"- {escape(change.suite)}: {escape(text)}" for change in facts.changes for text in asides(change)]
    else:
        notes = [
            f"- {escape(change.arm)}, {escape(change.suite)}: {escape(text)}"
            for change in facts.changes
            for text in change.notices
        ]
    blocks += ["\n".join(notes)] if notes else []
    blocks += [escape(claim_words(facts))] if claim_words(facts) else []
    blocks.append(f"<sub>{_provenance_line(facts)}</sub>")
    return "\n\n".join(blocks)


def _part(gate: Any, name: str) -> Any:
    return gate.get(name) if isinstance(gate, Mapping) else getattr(gate, name, None)


def _decision(gate: Any) -> str:
    code, bound = _part(gate, "exit_code"), _part(gate, "max_loss")
    text = {0: "kept", 3: "lost", 4: "cannot tell"}.get(code, str(code))
    return f"gate {text}" + (f" (loss allowed: {bound:g} points)" if isinstance(bound, int | float) else "")


def _card_row(change: Change) -> list[str]:
    words = verdict_words(change)
    head, _, rest = words.partition(" ") if not words.startswith("cannot tell") else ("cannot tell", "", words[11:])
    return [
        escape(change.suite),
        figure(change.before, change.unit),
        figure(change.after, change.unit),
        f"**{head.rstrip(':')}**{':' if head.endswith(':') else ''} {escape(rest)}".replace("** :", "**:").strip(),
        f"{change.items:,}",
    ]


def _blocks(facts: Facts) -> Iterator[str]:
    yield f"# {escape(headline(facts))}"
    text = [facts.study, facts.created, counted(len(facts.arms), "arm"), counted(len(facts.suites), "suite")]
    text += [counted(len(facts.seeds), "seed")] if facts.seeds and facts.kind != "compare" else []
    yield " \u00b7 ".join(escape(part) for part in text if part)
    yield "## In one sentence each"
    yield _sentences(facts)
    if claim_words(facts):
        yield escape(claim_words(facts))
    yield from _advice(facts)
    yield "## Ledger"
    for arm in facts.arms:
        yield from _arm(arm, facts)
    for section, record in present(facts):
        blocks = [*(escape(text) for text in section.words(facts, record)), *_tables(section.tables(facts, record))]
        if blocks:
            yield f"## {escape(section.TITLE)}"
            yield from blocks
    if any(cost_words(arm) for arm in facts.arms):
        yield "## Cost"
        yield _costs(facts)
    if facts.flips:
        yield "## Answers before and after"
        yield "Chosen by rule: the largest change each way, then random by seed."
        for arm in facts.arms:
            yield from _flips([flip for flip in facts.flips if flip.arm == arm.name][:FLIPS_PER_ARM], arm)
    yield "## How it was measured"
    yield _provenance(facts)
    yield "## Words"
    yield "\n".join(f"- **{name}**: {meaning}" for name, meaning in GLOSSARY)


def _sentences(facts: Facts) -> str:
    return "\n".join(f"- **{escape(arm.name)}**: {escape(sentence(arm, facts.kind))}" for arm in facts.arms)


def _advice(facts: Facts) -> Iterator[str]:
    frontier = facts.sweep.frontier if facts.sweep and facts.sweep.frontier else facts.frontier
    if frontier is None or len(frontier.points) < 2:
        return
    advice = advise(facts)
    yield f"## {'Sweep of ' + escape(', '.join(facts.sweep.keys)) if facts.sweep else 'Which arm to take'}"
    yield escape(" ".join(advice.sentences))
    yield table(
        ("arm", "learned [95 %]", "forgot [95 %]", "standing"), [[escape(cell) for cell in row] for row in advice.rows]
    )
    yield f"Rule: {escape(frontier.rule)}."


def _arm(arm: Arm, facts: Facts) -> Iterator[str]:
    yield f"### {escape(arm.name)}"
    if arm.history:
        yield "\n".join(
            f"- {escape(step.method)} ({escape(step.paper)}): {escape(plain(step.settings))}"
            + (" (changed nothing)" if step.off else "")
            for step in arm.history
        )
    if any(run.written for run in arm.runs):
        yield "\n".join(f"- {escape(line)}" for line in writing_words(arm))
    if not arm.changes:
        yield "Not measured."
        return
    rows = [_row(change) for role in facts.roles for change in arm.of(role)]
    head = ("suite", "role", "before", "after", "change [95 %]", "verdict", "could see", "p (Holm)", "items")
    yield table(head, rows, (2, 3, 6, 7, 8))
    notes = [f"- {escape(change.suite)}: {escape(text)}" for change in arm.changes for text in asides(change)]
    if notes:
        yield "\n".join(notes)


def _row(change: Change) -> list[str]:
    seen = change.minimum_detectable
    return [
        escape(change.suite),
        escape(change.role),
        figure(change.before, change.unit),
        figure(change.after, change.unit),
        escape(change_words(change)),
        escape(verdict_words(change)),
        "" if seen is None else f"\u00b1{figure(seen, change.unit)}",
        p_words(change.p_holm),
        f"{change.items:,}",
    ]


def _tables(tables: Iterable[Table]) -> Iterator[str]:
    for one in tables:
        yield f"### {escape(one.title)}"
        if one.heads:
            rows = [[escape(cell) for cell in row] for row in one.rows]
            yield table([escape(head) for head in one.heads], rows, range(1, len(one.heads)))
        if one.lines:
            yield "\n".join(f"- **{escape(name)}**: {escape(words)}" for name, words in one.lines)


def _costs(facts: Facts) -> str:
    names = list(dict.fromkeys(name for arm in facts.arms for name, _ in cost_words(arm)))
    rows = [[escape(arm.name), *(dict(cost_words(arm)).get(name, "") for name in names)] for arm in facts.arms]
    return table(["arm (mean of a run)", *names], rows, range(1, len(names) + 1))


def _flips(flips: Sequence[Flip], arm: Arm) -> Iterator[str]:
    for flip in flips:
        where = f"{escape(arm.name)}, seed {escape(flip.seed)}: {escape(flip.suite)}, item {escape(flip.item)}"
        yield f"#### {where} ({escape(flip.why)})"
        for name, text, score in (
            ("Prompt", flip.prompt, None),
            ("Expected", flip.gold, None),
            ("Before", flip.before, flip.before_score),
            ("After", flip.after, flip.after_score),
        ):
            if text or score is not None:
                yield f"{name}{'' if score is None else f' (score {score:g})'}:"
                yield fence(text or "(no text)")


def _provenance(facts: Facts) -> str:
    lines = [f"- **{escape(name)}**: {escape(words)}" for name, words in provenance(facts)]
    head = ("suite", "role", "kind", "items", "unit", "better", "tolerance", "fingerprint")
    rows = [
        [
            *(escape(part) for part in (suite.name, suite.role, suite.kind)),
            "" if suite.items is None else f"{suite.items:,}",
            *(escape(part) for part in (suite.unit, suite.better)),
            "" if suite.tolerance is None else f"\u00b1{figure(suite.tolerance, suite.unit)}",
            escape(suite.fingerprint),
        ]
        for suite in facts.suites
    ]
    return "\n".join(lines) + "\n\n" + table(head, rows, (3, 6))


def _provenance_line(facts: Facts) -> str:
    items = sum(suite.items or 0 for suite in facts.suites)
    text = [f"{counted(len(facts.suites), 'suite')}, {counted(items, 'item')}, paired 95 % intervals"]
    text += ["verdicts after Holm's correction"]
    text += [f"seeds {', '.join(facts.seeds)}"] if facts.seeds and facts.kind != "compare" else []
    for name, key in (("manifest", "fingerprint"), ("commit", "commit")):
        if facts.manifest.get(key):
            dirty = " (uncommitted changes)" if key == "commit" and facts.manifest.get("dirty") else ""
            text.append(f"{name} {clean(facts.manifest[key])}{dirty}")
    return escape(" \u00b7 ".join(text))
