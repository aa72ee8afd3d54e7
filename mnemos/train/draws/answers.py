"""Training on whole answers that stand in the data: what pairs (`preference`) and thumbs (`feedback`) share.

Every answer that is compared is an example of its own, read in one micro-batch with those it is compared with. Rows
of other kinds may share a step. The losses are `methods.objective.answers`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example, Tokens
from mnemos.core.outputs import Outputs
from mnemos.core.plan import CHOSEN, DESIRABLE, ORDINARY, REJECTED, UNDESIRABLE, Answers, Plan, References
from mnemos.sources.batches import fit
from mnemos.sources.mix import Rows
from mnemos.sources.rewritten import as_learned
from mnemos.train.documents import MicroBatch
from mnemos.train.draws import batches
from mnemos.train.rows import FIRST_TOKENS, Prepared, as_tokens, left_out, number, refuse_token_weights, weigh
from mnemos.train.schedule import Loader, join

MISMATCHED = "mismatched"
"""The part of a prompt with another row's answer."""

Row = tuple[Tokens, ...]


@dataclass(frozen=True)
class Compared:
    """What a draw compares.

    method: that errors name. what: what a row is called in counts. kinds: of examples that are compared; others are
    learned as they stand. cure: what the data lacks where no row is left. rows(found, plan, counts): the rows of the
    answers found, where these are not rows as they are.
    """

    method: str
    what: str
    kinds: tuple[str, ...]
    cure: str
    rows: Callable[[Sequence[Row], Plan, Counter[str]], list[Row]] = lambda found, plan, counts: list(found)


def prepare(plan: Plan, renderer: Any, compared: Compared, soft_label: str | None = None) -> Prepared:
    """Rows of answers to compare, and of ordinary examples.

    soft_label: the column that says how likely the chosen answer is the better one.
    Every example is in `counts` under its origin, and again under the reason why it was left out.
    Raises UsageError for packing and for weights of single tokens, DataError when no row of `compared` is left.
    """
    why = "weighs single tokens, and whole answers are compared"
    refuse_token_weights(plan, f"{compared.method} with {{}}", why, "answers that are compared")
    examples = list(plan.examples)
    counts: Counter[str] = Counter(examples=len(examples))
    counts.update(f"origin {example.origin}" for example in examples)
    judged = [example for example in examples if example.kind in compared.kinds]
    others = Rows(tuple(example for example in examples if example.kind not in compared.kinds))
    found = [row for one in judged for row in _pair(one, plan, renderer, counts, soft_label)]
    rows = compared.rows(found, plan, counts)
    if not rows:
        what = f"{plan.examples.describe()}: 0 of {len(examples)} examples can be used as {compared.what}"
        raise DataError(what, left_out(counts), compared.cure)
    counts[compared.what] = len(rows)
    rows += _ordinary(others, plan, renderer, counts)
    counts["rows"] = len(rows)
    everything = [one for row in rows for one in row if one.part != MISMATCHED]
    counts["tokens"] = sum(map(len, everything))
    counts["supervised tokens"] = sum(int(np.count_nonzero(one.weight[1:])) for one in everything)
    return Prepared(tuple(rows), dict(counts), [int(token) for token in rows[0][0].ids[:FIRST_TOKENS]])


def _pair(example: Example, plan: Plan, renderer: Any, counts: Counter[str], soft_label: str | None) -> list[Row]:
    """The example's answers, each alone of weight 1; [] with a count where they cannot be compared."""
    sides = (example.turns, (*example.turns[:-1], *example.rejected)) if example.rejected else (example.turns,)
    parts = (CHOSEN, REJECTED) if example.rejected else (DESIRABLE if example.label else UNDESIRABLE,)
    label = _sureness(example, soft_label)
    if label is None:
        counts["left out: its soft label is no number from 0 to 1"] += 1
        return []
    rendered = [_answer(example, turns, plan, renderer, counts) for turns in sides]
    fitted, cut = fit(rendered, plan.train.max_length, plan.train.truncate)
    if cut:
        counts[next(iter(cut))] += 1
    if len(fitted) < len(sides):
        return []
    starts = [start_of(one) for one in fitted]
    # An answer at the very beginning has a first token that nothing predicts.
    if any(start is None or start == 0 for start in starts):
        counts["left out: no token of an answer is left"] += 1
        return []
    if len(fitted) == 2:
        first, second = fitted
        if np.array_equal(first.ids, second.ids):
            counts["left out: chosen and rejected are the same tokens"] += 1
            return []
        # A template may write what stands before differently for another answer; the difference of both probabilities
        # would then be one of prompts too.
        if not np.array_equal(first.ids[: starts[0]], second.ids[: starts[1]]):
            counts["left out: prompts differ within the pair"] += 1
            return []
    made = tuple(dataclasses.replace(one, part=part, soft_label=label) for one, part in zip(fitted, parts, strict=True))
    return [made]


def _sureness(example: Example, column: str | None) -> float | None:
    """How likely the chosen answer is the better one: 1 where no column says, None where it holds no such number."""
    if column is None:
        return 1.0
    label = number(example, column)
    return label if label is not None and 0 <= label <= 1 else None


def _answer(example: Example, turns: tuple[Any, ...], plan: Plan, renderer: Any, counts: Counter[str]) -> Tokens:
    """The conversation, weight 1 on its last answer with the token that ends it."""
    silent = tuple(dataclasses.replace(turn, learn=False) for turn in turns[:-1])
    last = dataclasses.replace(turns[-1], learn=True)
    alone = dataclasses.replace(example, turns=(*silent, last), rejected=())
    (tokens,) = as_learned(renderer, alone, plan.train.rewritten_turns, counts)
    return dataclasses.replace(tokens, weight=tokens.output.astype(np.float32))


def start_of(tokens: Tokens) -> int | None:
    """Where the answer begins."""
    places = np.flatnonzero(tokens.output)
    return int(places[0]) if len(places) else None


def _ordinary(source: Rows, plan: Plan, renderer: Any, counts: Counter[str]) -> list[Row]:
    """Rows that are learned by likelihood, weighed as the plan says."""
    rendered = as_tokens(source, plan.train, renderer, counts)
    fitted, cut = fit(rendered, plan.train.max_length, plan.train.truncate)
    counts.update(cut)
    counts["ordinary rows"] = len(fitted)
    return [(row,) for row in weigh(fitted, plan.weigh, plan.before, counts)]


def joined(rows: Sequence[Row]) -> dict[str, Any]:
    """`schedule.join` of all examples but mismatched ones, which are under "mismatched". answer:
    int64[1, T], which example each token is of. parts: what each example is."""
    shown = [one for row in rows for one in row if one.part != MISMATCHED]
    apart = [(one,) for row in rows for one in row if one.part == MISMATCHED]
    batch = join([(one,) for one in shown])
    lengths = batch["lengths"]
    batch["answer"] = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))[None]
    # Without a row `join` gives one token of weight 0, which needs a part and a label, but is not counted.
    batch["parts"] = tuple(one.part for one in shown) or (ORDINARY,)
    batch["weights"] = tuple(float(np.abs(one.weight[1:]).sum()) for one in shown) or (0.0,)
    batch["soft_labels"] = torch.tensor([one.soft_label for one in shown] or [1.0])
    batch["counted"] = len(shown)
    batch["mismatched"] = join(apart)
    batch["mismatches"] = len(apart)
    return batch


class Batches(batches.Batches):
    """Rows stay whole in a micro-batch; what a loss needs of the whole step is found before it."""

    def __init__(self, trainer: Any) -> None:
        super().__init__(trainer)
        self.totals: tuple[dict[str, float], dict[str, float]] = ({}, {})

    def loader(self) -> Any:
        """As the default, with each example's part."""
        trainer = self.trainer
        return Loader(trainer.rows, trainer.schedule, trainer.args.dataloader_pin_memory, collate=joined)

    def of_step(self, taken: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The step's micro-batches, its answers counted by part."""
        self.totals = self._totals(taken)
        return taken

    def _totals(self, taken: Sequence[dict[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
        """Answers and summed weights by part over the step, divided by processes."""
        parts = (CHOSEN, REJECTED, DESIRABLE, UNDESIRABLE, ORDINARY)
        # float32[2, parts]: answers, and their summed weights.
        sums = torch.zeros(2, len(parts), dtype=torch.float32)
        for batch in taken:
            for part, weight in zip(batch["parts"][: batch["counted"]], batch["weights"], strict=False):
                sums[:, parts.index(part)] += torch.tensor([1.0, weight])
        processes = self.trainer.args.world_size
        if processes > 1:
            sums = self.trainer.sum(sums.to(self.trainer.args.device)).cpu() / processes
        count, weight = sums.tolist()
        return dict(zip(parts, count, strict=True)), dict(zip(parts, weight, strict=True))

    def answers(self, inputs: dict[str, Any], batch: MicroBatch, references: References) -> Answers:
        """See `core.plan.Answers`."""
        named = self.trainer.plan.draw.reference

        # Shared with terms that ask for the same model, so that it is run once a micro-batch.
        def reference() -> Outputs:
            return references.before() if named is None else references.other(named)

        count, weight = self.totals
        # int64[N]: the place of a target in the joined batch says which example it is of.
        of = inputs["answer"][0, batch.place]
        return Answers(of, inputs["parts"], count, weight, reference)
