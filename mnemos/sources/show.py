"""Examples as a model sees them, coloured by how much each token counts: look before you train."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from mnemos.core.errors import UsageError, printable
from mnemos.core.nouns import Example, Source, Tokens
from mnemos.sources.render import Renderer

Weighing = Callable[[Sequence[Tokens]], Sequence[Tokens]]

COUNTED = 2000
"""Rows that the counts are taken over; more would make looking slow."""


def show(
    source: Source,
    renderer: Renderer,
    count: int = 1,
    *,
    weigh: Weighing | None = None,
    max_length: int = 1024,
) -> RenderableType:
    """The first `count` examples token by token, and counts over the first 2,000 rows.

    weigh: gives the rows the weights to show; by default what the model writes itself counts 1,
    everything else 0. max_length: tokens above which a row is counted as too long.
    Answers that the chat template rewrites are shown as it leaves them, with a note.
    Supervised text stands in ⟦ ⟧, so that it can be told without colour; line ends are shown as ↵.
    Raises whatever reading and rendering raise, UsageError for a count below 1.
    """
    if count < 1:
        raise UsageError(f"count = {count}", "must be at least 1", "ask for one example or more")
    examples = list(itertools.islice(source, max(COUNTED, count) + 1))
    more = len(examples) > max(COUNTED, count)
    examples = examples[:-1] if more else examples
    rows = list((weigh or output_only)(renderer.render_all(examples)))
    parts: list[RenderableType] = [Text(printable(source.describe()), style="bold")]
    for example, row in zip(examples[:count], rows, strict=False):
        title = Text(printable(f"{example.id}  ({example.kind}, {len(row):,} tokens)"))
        parts += [Rule(title, align="left", characters="-")]
        parts += [coloured(row, renderer), *_border(example, row, renderer), *_rewritten(example, renderer)]
        if example.label is False:
            parts.append(Text("note: a thumb down: only kto learns from it, and away from it", style="yellow"))
    counts = _counts(rows, max_length, more)
    if bad := sum(example.label is False for example in examples):
        counts.append(f"; {bad:,} with a thumb down", style="bold yellow")
    parts += [Rule(characters="-"), _legend(), counts]
    return Group(*parts)


def output_only(rows: Sequence[Tokens]) -> list[Tokens]:
    """Each row with its weight set to 0 where the model does not write."""
    return [Tokens(row.ids, row.weight * row.output, row.output, row.example, row.origin) for row in rows]


def coloured(row: Tokens, renderer: Renderer) -> Text:
    """The row's text: dim where nothing is learned, green in ⟦ ⟧ at weight 1, yellow below or
    above it (the weight is written behind), red where it is negative; special tokens bold."""
    text = Text()
    weight = row.weight.copy()
    weight[:1] = 0.0
    for value, ids in _runs(row.ids, weight):
        piece = Text()
        for special, part in itertools.groupby(ids, key=renderer.is_special):
            words = printable(renderer.decode(list(part), special=True)).replace("\n", "↵\n")
            piece.append(words, style="bold" if special else "")
        if value:
            piece = Text("⟦") + piece + Text("⟧" if value == 1 else f"⟧{value:.2g} ")
        piece.stylize(_style(value))
        text.append_text(piece)
    return text


def _style(value: float) -> str:
    if value == 0:
        return "dim"
    if value < 0:
        return "underline red"
    return "underline green" if value == 1 else "underline yellow"


def _runs(ids: Any, weight: Any) -> Iterator[tuple[float, list[int]]]:
    """Neighbours of equal weight together: a letter's bytes may be several tokens."""
    for value, pairs in itertools.groupby(zip(weight.tolist(), ids.tolist(), strict=True), key=lambda pair: pair[0]):
        yield value, [token for _, token in pairs]


def _border(example: Example, row: Tokens, renderer: Renderer) -> list[RenderableType]:
    """A warning when the model, in use, is given other tokens before the last answer than here."""
    if example.kind == "text":
        return []
    given = renderer.prompt_ids(example.prompt)
    same = next((i for i, (a, b) in enumerate(zip(given, row.ids.tolist(), strict=False)) if a != b), len(given))
    if same == len(given):
        return []
    theirs = renderer.decode(given[same:][:8], special=True)
    ours = renderer.decode(row.ids[same:][:8].tolist(), special=True)
    text = f"note: in use, the prompt before the last answer goes on {theirs!r} from token {same}, here {ours!r}"
    return [Text(text, style="yellow")]


def _rewritten(example: Example, renderer: Renderer) -> list[RenderableType]:
    """A warning for each answer that the chat template changes, of which what it left is shown above."""
    text = "note: the chat template rewrites the answer of turn {}; train.rewritten_turns says what a training does"
    return [Text(text.format(i + 1), style="yellow") for i in renderer.rewritten(example)]


def _legend() -> Text:
    legend = Text("legend: ")
    legend.append("context, not learned", style="dim")
    for text, value in (("⟦learned⟧", 1.0), ("⟦weighted⟧0.5", 0.5), ("⟦pushed away⟧-1", -1.0)):
        legend.append("  ").append(text, style=_style(value))
    return legend.append("  ").append("special token", style="bold")


def _counts(rows: Sequence[Tokens], max_length: int, more: bool) -> Text:
    tokens = sum(len(row) for row in rows)
    taught = [int(np.count_nonzero(row.weight[1:])) for row in rows]
    too_long = sum(len(row) > max_length for row in rows)
    silent = sum(count == 0 for count in taught)
    counted = f"{'first ' if more else ''}{len(rows):,} row{'' if len(rows) == 1 else 's'}"
    words = (
        f"{counted}, {tokens:,} tokens, {sum(taught):,} learned "
        f"({sum(taught) / max(tokens, 1):.1%}); longest {max(map(len, rows), default=0):,} tokens, "
        f"{too_long:,} longer than {max_length:,}"
    )
    text = Text(words)
    if silent:
        text.append(f"; {silent:,} teach nothing", style="bold yellow")
    return text
