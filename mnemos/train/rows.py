"""From a plan's examples to the rows that are learned from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, Source, Tokens
from mnemos.core.plan import ModelHandle, Plan, Weigh
from mnemos.core.settings import TrainSettings
from mnemos.sources.bad_row import RowError
from mnemos.sources.mix import is_new, new_share_start, read_in_turn

FIRST_TOKENS = 50
"""How many token ids of the first example are kept for provenance."""


PIECE = re.compile(r"#\d+$")
"""Behind the id of an example, in that of its second row and of later ones."""


def number(example: Example, column: str) -> float | None:
    """What an example's column of the data holds; None where that is no number."""
    value = example.meta.get(column)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class Prepared:
    """rows: each one example, or several when packed. counts: examples by origin, examples left
    out by reason, rows, supervised tokens of one pass. first_tokens: ids of the first example.
    examples: that of each row, where answers are drawn and scored; else empty. held: rows that are evaluated on the
    way and not learned."""

    rows: tuple[tuple[Tokens, ...], ...]
    counts: dict[str, int]
    first_tokens: list[int]
    examples: tuple[Example, ...] = ()
    held: tuple[Tokens, ...] = ()

    @property
    def longest(self) -> int:
        """Tokens of the longest single example."""
        return max(len(tokens) for row in (*self.rows, self.held) for tokens in row)


def prepare(plan: Plan, renderer: Any) -> Prepared:
    """Render, fit to max_length, weigh and (if asked) pack the plan's examples.

    Nothing is left out silently: every example is in `counts` under its origin, and again under
    the reason why it was cut or left out. Raises DataError when there are no examples, when all
    are longer than max_length, and when no token carries weight.
    """
    from mnemos.sources.batches import fit, pack, pack_in_turn

    settings = plan.train
    counts: Counter[str] = Counter()
    rendered = as_tokens(plan.examples, settings, renderer, counts)
    if not rendered:
        why = "gives no examples" if not counts else f"gives none to learn ({left_out(counts) or 'all are left out'})"
        raise DataError(plan.examples.describe(), why, "check the file and the columns that it was read as")
    counts["examples"] = len(rendered) + counts["left out: a thumb down"]
    counts.update(f"origin {tokens.origin}" for tokens in rendered)
    fitted, reasons = fit(rendered, settings.max_length, settings.truncate)
    counts.update(reasons)
    if not fitted:
        raise DataError(
            f"{plan.examples.describe()}: {len(rendered)} examples, the shortest of {min(map(len, rendered))} tokens",
            f"all are longer than max_length = {settings.max_length}",
            "raise train.max_length, or set train.truncate: true to cut them at the end",
        )
    # After fitting: a share of tokens, or of the loss, is one of what is really learned. Before packing, because
    # weights belong to examples.
    weighed = weigh(fitted, plan.weigh, plan.before, counts)
    held: list[Tokens] = []
    if settings.eval_strategy != "no":
        known = [row.example for row in rendered]
        weighed, held = held_out(weighed, settings.held_out_share, plan.examples.describe(), known)
        counts["held out of training"] = len(held)
    counts.update(supervised(weighed, len(rendered)))
    rows = [[one] for one in weighed]
    if settings.packing:
        packed = pack_in_turn if read_in_turn(plan.examples) else pack
        rows = [row for part in _apart(weighed, plan) for row in packed(part, settings.max_length)]
    counts["rows"] = len(rows)
    first = [int(token) for token in rendered[0].ids[:FIRST_TOKENS]]
    return Prepared(tuple(tuple(row) for row in rows), dict(counts), first, held=tuple(held))


def held_out(
    rows: Sequence[Tokens], share: float, what: str, known: Iterable[str] = ()
) -> tuple[list[Tokens], list[Tokens]]:
    """(rows to learn, rows to evaluate). The latter are a share of the taught examples, chosen by a hash of their ids,
    so that they are the same in every arm and with every seed; rehearsed rows are all learned. An example of several
    rows goes one way: pieces of a long document, answers of a conversation in rows of their own, and a row that is
    read several times. Raises DataError where there are fewer than two taught examples. what: the rows, for it.
    known: ids that there were before rows were left out, those of `rows` among them or not."""
    taken = [row for row in rows if is_new(row.origin)]
    there = {*known, *(row.example for row in taken)}
    wholes = {row.example: whole(row.example, there) for row in taken}
    names = sorted(set(wholes.values()), key=lambda name: (fingerprint(name), name))
    if len(names) < 2:
        raise DataError(what, "has too few rows to hold some out for evaluation", "set train.eval_strategy: no")
    chosen = set(names[: min(len(names) - 1, max(1, round(share * len(names))))])
    held = [row for row in taken if wholes[row.example] in chosen]
    taught = [row for row in rows if not (is_new(row.origin) and wholes[row.example] in chosen)]
    return taught, held


def whole(name: str, there: Container[str]) -> str:
    """The id of the example that the row `name` is a piece or a copy of: the first is called as it, the others
    ``id#2``, ``id#3``, ..., and ``id#2#3`` where a copy is in pieces. there: all ids.

    Trap: data may have ids of that shape. One belongs to another only where the other is there too, or rows
    ``clip#1`` to ``clip#9`` would be one example.
    """
    found = name
    while (mark := PIECE.search(name)) is not None:
        name = name[: mark.start()]
        found = name if name in there else found
    return found


def _apart(rows: Sequence[Tokens], plan: Plan) -> list[list[Tokens]]:
    """What may be packed together: new and old rows stay apart where they are read in an order."""
    if new_share_start(plan.examples) is None:
        return [list(rows)]
    return [[row for row in rows if is_new(row.origin) == kind] for kind in (True, False)]


def left_out(counts: Mapping[str, int]) -> str:
    """Why examples were left out, with how many, for an error: "left out: longer than 64 tokens: 3"."""
    return ", ".join(f"{name}: {count}" for name, count in counts.items() if name.startswith("left out"))


def refuse_token_weights(plan: Plan, what: str, why: str, unpacked: str) -> None:
    """UsageError for a stage whose loss is about whole answers: where a method weighs tokens of the data
    (`what` with {} for its name, `why` says what is wrong), or rows are packed (`unpacked`)."""
    other = [type(step).__name__ for step in plan.weigh if not getattr(step, "by_role", False)]
    if other:
        raise UsageError(what.format(other[0]), why, "leave one of the two methods out")
    if plan.train.packing:
        raise UsageError("train.packing = true", f"{unpacked} cannot be packed", "set it to false")


def as_tokens(source: Source, settings: TrainSettings, renderer: Any, counts: Counter[str]) -> list[Tokens]:
    """Every example as tokens, but those with a thumb down, which likelihood would teach; long documents
    in pieces, and answers that the chat template rewrites in rows of their own, where the settings ask for it.
    All are counted."""
    from mnemos.sources.batches import chunks
    from mnemos.sources.rewritten import as_learned

    limit, out = settings.max_length, []
    for example in source:
        if example.label is False:
            counts["left out: a thumb down"] += 1
            continue
        if hasattr(renderer, "learned"):
            out += renderer.learned(example, counts)
            continue
        try:
            rows = as_learned(renderer, example, settings.rewritten_turns, counts)
        except RowError as problem:  # a sound that cannot be heard
            counts[f"left out: {problem.reason}"] += 1
            continue
        if settings.long_documents == "chunk" and example.kind == "text" and len(rows[0]) > limit:
            rows = chunks(rows[0], limit, renderer.tokenizer.bos_token_id)
            counts["documents cut into pieces"] += 1
            counts["pieces of them"] += len(rows)
        out += rows
    return out


def weigh(
    rows: Sequence[Tokens], steps: Sequence[Weigh], before: ModelHandle, counts: Counter[str] | None = None
) -> list[Tokens]:
    """Apply weighing steps left to right; `counts` gets how many tokens each one masked. Raises
    ModelError when one returns something else than the same examples with finite weights: a defect
    of the method, caught before it trains."""
    for step in steps:
        weighed = list(step(rows, before))
        # Rows are matched by place: after one that was dropped or moved all weights would lie on the wrong tokens.
        if [(row.example, len(row)) for row in weighed] != [(row.example, len(row)) for row in rows]:
            raise ModelError(f"{type(step).__name__}", "changed the rows that it was to weigh")
        # A weight that is not finite would only show as a loss of NaN, and not in which example.
        bad = next((row.example for row in weighed if not np.isfinite(row.weight).all()), None)
        if bad is not None:
            raise ModelError(f"{type(step).__name__}: example {bad}", "has a weight that is not a finite number")
        masked = _taught(rows) - _taught(weighed)
        if counts is not None and masked > 0:
            counts[f"tokens masked by {type(step).__name__}"] += masked
        rows = weighed
    return list(rows)


def _taught(rows: Sequence[Tokens]) -> int:
    return sum(int(np.count_nonzero(row.weight[1:])) for row in rows)


def supervised(rows: Sequence[Tokens], rendered: int) -> dict[str, int]:
    """Count tokens and weighted targets of one pass; DataError when no target has weight."""
    per_row = [int(np.count_nonzero(row.weight[1:])) for row in rows]
    tokens, taught = sum(map(len, rows)), sum(per_row)
    if taught == 0:
        output = sum(int(np.count_nonzero(row.output[1:])) for row in rows)
        raise DataError(
            f"all-zero loss weight: 0 of {tokens} tokens in {len(rows)} of {rendered} examples are supervised",
            f"at least one must be ({output} are written by the model)",
            "check the roles (is there an assistant turn?), turns marked train: false, truncation "
            "(the answer may be cut off: raise train.max_length) and the arm's weighing methods",
        )
    counts = {"tokens": tokens, "supervised tokens": taught}
    silent = sum(count == 0 for count in per_row)
    return {**counts, "examples without a supervised token": silent} if silent else counts
