"""The terminal ledger: what each arm learned, lost and cost.

Tables from 72 columns on, one short paragraph per comparison below that. Piped, it has no escape
codes and no trailing blanks; names and reasons are never cut, only wrapped.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mnemos.report.advice import advise
from mnemos.report.claims import claim_words
from mnemos.report.facts import Arm, Change, Facts
from mnemos.report.headlines import headline
from mnemos.report.section import Table as Tabled
from mnemos.report.sections import present
from mnemos.report.verdicts import (
    TONES,
    asides,
    cost_line,
    sentence,
    tone,
    verdict_words,
    writing_words,
)
from mnemos.report.words import counted, figure

STYLES = {"gained": "bold cyan", "lost": "bold red", "kept": "green", "unclear": "yellow"}
NARROW = 72
MANY = 12
"""Arms above which the terminal shows one line an arm and no table of its suites."""

WIDE = 116


def text(facts: Facts, width: int | None = None) -> str:
    """The ledger as plain text. width: columns; None takes the terminal's, 100 where there is none."""
    columns = max(30, width or shutil.get_terminal_size((100, 24)).columns)
    console = Console(file=io.StringIO(), width=columns, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(Group(*_parts(facts, columns)))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")


def show(facts: Facts, console: Console | None = None) -> None:
    """Print the ledger: in colour on a terminal, as `text` gives it anywhere else."""
    console = console or Console()
    if console.is_terminal:
        console.print(Group(*_parts(facts, console.width)))
        return
    encoding = getattr(console.file, "encoding", None) or sys.getdefaultencoding()
    console.file.write(text(facts).encode(encoding, "replace").decode(encoding) + "\n")


def _parts(facts: Facts, width: int) -> Iterator[RenderableType]:
    yield Text(_title(facts), style="dim")
    yield Text(headline(facts), style="bold")
    yield Text()
    for arm in facts.arms:
        yield Text.assemble((f"{arm.name}:", f"bold {STYLES[tone(arm)]}"), f" {sentence(arm, facts.kind)}")
        if len(facts.arms) > MANY:
            yield from _missing(arm)
    yield from _advice(facts, width)
    for section, record in present(facts):
        words = section.words(facts, record)
        if words:
            yield Text()
            yield Text(f"{section.TITLE}. {' '.join(words)}", style=STYLES["lost"] if section.LOUD else "")
    if len(facts.arms) > MANY:
        yield Text()
        yield Text(f"Every suite of these {len(facts.arms)} arms is in report.html and in the md format.", style="dim")
    for arm in facts.arms if len(facts.arms) <= MANY else ():
        yield Text()
        yield from _arm(arm, facts, width)
    for section, record in present(facts):
        for tabled in section.tables(facts, record):
            yield Text()
            yield from _tabled(tabled, width)
    yield Text()
    yield Text(_footer(facts), style="dim")


def _title(facts: Facts) -> str:
    words = [facts.study, facts.created, counted(len(facts.arms), "arm"), counted(len(facts.suites), "suite")]
    if facts.kind != "compare" and facts.seeds:
        words.append(counted(len(facts.seeds), "seed"))
    return " \u00b7 ".join(part for part in words if part)


def _footer(facts: Facts) -> str:
    words = f"{claim_words(facts)} ".lstrip() + (
        "95 % intervals on paired items. Gained and lost are proven (p < 0.05 after Holm's correction over the suites "
        "of an arm, which leaves intervals as they are), kept lies inside the tolerance, cannot tell is none of these."
    )
    return words + (" Health suites describe behaviour and decide nothing." if "health" in facts.roles else "")


def _arm(arm: Arm, facts: Facts, width: int) -> Iterator[RenderableType]:
    cost = cost_line(arm)
    yield Text.assemble((arm.name, "bold underline"), (f"  {cost}" if cost else "", "dim"))
    for line in writing_words(arm):
        yield Padding(Text(line, style="dim"), (0, 0, 0, 2))
    if not arm.changes:
        yield Text("  not measured")
        return
    yield from _stack(arm, facts) if width < NARROW else [_table(arm, facts, width)]
    yield from _missing(arm)


def _missing(arm: Arm) -> Iterator[RenderableType]:
    for change in arm.changes:
        for words in asides(change):
            yield Padding(Text(f"{change.suite}: {words}", style="yellow"), (0, 0, 0, 2))


def _advice(facts: Facts, width: int) -> Iterator[RenderableType]:
    """Which arm to take, and the place of every arm where there are several to choose from."""
    frontier = facts.sweep.frontier if facts.sweep and facts.sweep.frontier else facts.frontier
    if frontier is None or len(frontier.points) < 2:
        return
    advice = advise(facts)
    yield Text()
    title = "Sweep of " + ", ".join(facts.sweep.keys) if facts.sweep else "Which arm to take"
    yield Text(title, style="bold underline")
    for line in advice.sentences:
        yield Text(line)
    rows = list(advice.rows)
    if facts.sweep:
        place = {one.arm: number for number, one in enumerate(facts.sweep.arms)}
        off = {one.arm for one in facts.sweep.arms if one.off}
        rows = sorted(rows, key=lambda row: place.get(row[0], len(place)))
        rows = [(*row[:3], f"{row[3]}; plain training" if row[0] in off else row[3]) for row in rows]
    if width < NARROW:
        for row in rows:
            yield Padding(Text(f"{row[0]}: learned {row[1]}, forgot {row[2]}; {row[3]}"), (0, 0, 0, 2))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for name in ("arm", "learned", "forgot", "standing"):
        table.add_column(name, overflow="fold")
    for row in rows:
        style = "bold" if row[0] == advice.take else ""
        table.add_row(*(Text(cell, style=style) for cell in row))
    yield table


def _stack(arm: Arm, facts: Facts) -> Iterator[RenderableType]:
    for role in facts.roles:
        for change in arm.of(role):
            yield Padding(Text.assemble((change.suite, "bold"), f" ({role})"), (0, 0, 0, 2))
            figures = f"{figure(change.before, change.unit)}, then {figure(change.after, change.unit)}: "
            yield Padding(Text.assemble(figures, _verdict(change)), (0, 0, 0, 4))


def _table(arm: Arm, facts: Facts, width: int) -> Table:
    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False, expand=False)
    table.add_column("suite", overflow="fold", max_width=max(18, width - (88 if wide else 62)))
    for name in ("before", "after"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict, change, interval", overflow="fold")
    if wide:
        table.add_column("could see", justify="right", no_wrap=True)
    table.add_column("items", justify="right", no_wrap=True)
    for role in facts.roles:
        changes = arm.of(role)
        if changes:
            table.add_row(Text(facts.heading(role).split(":")[0].lower(), style="dim italic"))
        for change in changes:
            table.add_row(*_row(change, wide=wide))
    return table


def _row(change: Change, *, wide: bool) -> list[RenderableType]:
    cells: list[RenderableType] = [
        Padding(Text(change.suite), (0, 0, 0, 2)),
        Text(figure(change.before, change.unit)),
        Text(figure(change.after, change.unit)),
        _verdict(change),
    ]
    if wide:
        seen = change.minimum_detectable
        cells.append(Text("" if seen is None else f"\u00b1{figure(seen, change.unit)}"))
    return [*cells, Text(f"{change.items:,}")]


def _verdict(change: Change) -> Text:
    return Text(verdict_words(change, tolerance=False), style=STYLES[TONES[change.verdict]])


def _tabled(tabled: Tabled, width: int) -> Iterator[RenderableType]:
    """A table of a section; a row a line where the terminal is too narrow for its columns."""
    yield Text(tabled.title, style="bold underline")
    if width >= 24 + 10 * (len(tabled.heads) - 1):
        yield from [_columns(tabled)] if tabled.heads else []
    else:
        for j, head in enumerate(tabled.heads[1:], 1):
            yield Padding(
                Text(f"{head}: {', '.join(row[j] for row in tabled.rows if row[0] != 'joint')}"), (0, 0, 0, 2)
            )
    for name, words in tabled.lines:
        yield Padding(Text(f"{name}: {words}"), (0, 0, 0, 2))


def _columns(tabled: Tabled) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for place, head in enumerate(tabled.heads):
        table.add_column(Text(head), justify="right" if place else "left", overflow="fold")
    for row in tabled.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
