"""Training on whole answers: pairs of a chosen and a rejected one, or single ones with a thumb.

A row of a pair is two examples, read in one micro-batch; a row with a thumb is one, and where the loss
asks for it a second, its prompt with another row's answer, which is read without gradient before each
step (`core.plan.Answers.drift`). Rows of other kinds may share a step. The losses are `methods.objective.answers`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example, Tokens
from mnemos.core.outputs import Outputs, log_prob
from mnemos.core.plan import (
    CHOSEN,
    DESIRABLE,
    ORDINARY,
    REJECTED,
    UNDESIRABLE,
    Answers,
    BinaryFeedback,
    Plan,
    PreferencePairs,
    References,
)
from mnemos.sources.batches import fit
from mnemos.sources.mix import Rows
from mnemos.sources.rewritten import as_learned
from mnemos.train.documents import MicroBatch, micro_batch, outputs
from mnemos.train.draws import batches
from mnemos.train.rows import FIRST_TOKENS, Prepared, as_tokens, left_out, number, refuse_token_weights, weigh
from mnemos.train.schedule import Loader, join

MISMATCHED = "mismatched"
"""The part of a prompt with another row's answer."""

Row = tuple[Tokens, ...]


def prepare(plan: Plan, renderer: Any) -> Prepared:
    """Rows of a chosen and a rejected answer, of an answer with a thumb (and its mismatched twin), and
    of ordinary examples.

    Every example is in `counts` under its origin, and again under the reason why it was left out.
    Raises UsageError for packing and for weights of single tokens, DataError when no pair or thumb is
    left, or only thumbs that point the same way.
    """
    _refuse(plan)
    thumbs = isinstance(plan.draw, BinaryFeedback)
    examples = list(plan.examples)
    counts: Counter[str] = Counter(examples=len(examples))
    counts.update(f"origin {example.origin}" for example in examples)
    judged = [e for e in examples if e.kind == "preference" or (thumbs and e.kind == "label")]
    others = Rows(tuple(e for e in examples if e.kind != "preference" and not (thumbs and e.kind == "label")))
    found = [row for one in judged for row in _pair(one, plan, renderer, counts)]
    rows = _thumbs(found, plan, counts) if thumbs else found
    if not rows:
        raise _nothing(plan, len(examples), counts)
    counts["thumbs" if thumbs else "pairs"] = len(rows)
    rows += _ordinary(others, plan, renderer, counts)
    counts["rows"] = len(rows)
    everything = [one for row in rows for one in row if one.part != MISMATCHED]
    counts["tokens"] = sum(map(len, everything))
    counts["supervised tokens"] = sum(int(np.count_nonzero(one.weight[1:])) for one in everything)
    return Prepared(tuple(rows), dict(counts), [int(token) for token in rows[0][0].ids[:FIRST_TOKENS]])


def _refuse(plan: Plan) -> None:
    name = "kto" if isinstance(plan.draw, BinaryFeedback) else "dpo"
    why = "weighs single tokens, and whole answers are compared"
    refuse_token_weights(plan, f"{name} with {{}}", why, "answers that are compared")


def _nothing(plan: Plan, examples: int, counts: Counter[str]) -> DataError:
    if isinstance(plan.draw, BinaryFeedback):
        what, cure = "thumbs", 'give {"prompt": …, "completion": …, "label": true}, or use another method'
    else:
        what, cure = "pairs", 'give {"prompt": …, "chosen": …, "rejected": …}; kto learns from single answers'
    return DataError(
        f"{plan.examples.describe()}: 0 of {examples} examples can be used as {what}", left_out(counts), cure
    )


def _pair(example: Example, plan: Plan, renderer: Any, counts: Counter[str]) -> list[Row]:
    """The example's answers, each alone of weight 1; [] with a count where they cannot be compared."""
    sides = (example.turns, (*example.turns[:-1], *example.rejected)) if example.rejected else (example.turns,)
    parts = (CHOSEN, REJECTED) if example.rejected else (DESIRABLE if example.label else UNDESIRABLE,)
    label = _soft_label(example, plan)
    if label is None:
        counts["left out: its soft label is no number from 0 to 1"] += 1
        return []
    rendered = [_answer(example, turns, plan, renderer, counts) for turns in sides]
    fitted, cut = fit(rendered, plan.train.max_length, plan.train.truncate)
    if cut:
        counts[next(iter(cut))] += 1
    if len(fitted) < len(sides):
        return []
    starts = [_start(one) for one in fitted]
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


def _soft_label(example: Example, plan: Plan) -> float | None:
    """How likely the chosen answer is the better one; 1 where the plan names no column for it."""
    if not isinstance(plan.draw, PreferencePairs) or plan.draw.soft_label is None:
        return 1.0
    label = number(example, plan.draw.soft_label)
    return label if label is not None and 0 <= label <= 1 else None


def _answer(example: Example, turns: tuple[Any, ...], plan: Plan, renderer: Any, counts: Counter[str]) -> Tokens:
    """The conversation, weight 1 on its last answer with the token that ends it."""
    silent = tuple(dataclasses.replace(turn, learn=False) for turn in turns[:-1])
    last = dataclasses.replace(turns[-1], learn=True)
    alone = dataclasses.replace(example, turns=(*silent, last), rejected=())
    (tokens,) = as_learned(renderer, alone, plan.train.rewritten_turns, counts)
    return dataclasses.replace(tokens, weight=tokens.output.astype(np.float32))


def _start(tokens: Tokens) -> int | None:
    """Where the answer begins."""
    places = np.flatnonzero(tokens.output)
    return int(places[0]) if len(places) else None


def _thumbs(found: Sequence[Row], plan: Plan, counts: Counter[str]) -> list[Row]:
    """A row for each answer; the two of a pair stand apart, so that neither gets the other's prompt."""
    first = [row[0] for row in found]
    second = [row[1] for row in found if len(row) == 2]
    names = {CHOSEN: DESIRABLE, REJECTED: UNDESIRABLE}
    single = [dataclasses.replace(one, part=names.get(one.part, one.part)) for one in (*first, *second)]
    for part in (DESIRABLE, UNDESIRABLE):
        counts[f"{part} answers"] = sum(one.part == part for one in single)
    if single and len({one.part for one in single}) == 1:
        raise DataError(
            f"{plan.examples.describe()}: all {len(single)} answers are {single[0].part}",
            "kto needs both kinds of thumb",
            "give both kinds, or learn the good answers by likelihood without kto",
        )
    assert isinstance(plan.draw, BinaryFeedback)
    if not plan.draw.mismatched:
        return [(one,) for one in single]
    prompts = [one.ids[: _start(one)].tobytes() for one in single]
    return [
        (one, _mismatched(one, single[_other(prompts, place)], plan.train.max_length))
        for place, one in enumerate(single)
    ]


def _other(prompts: Sequence[bytes], place: int) -> int:
    """The nearest row before `place`, counted round, that has another prompt; the one before if none has."""
    for back in range(1, len(prompts)):
        if prompts[place - back] != prompts[place]:
            return (place - back) % len(prompts)
    return (place - 1) % len(prompts)


def _mismatched(one: Tokens, other: Tokens, longest: int) -> Tokens:
    """The prompt of one answer with another answer, cut to `longest` tokens."""
    prompt, answer = one.ids[: _start(one)], other.ids[other.output]
    ids = np.concatenate([prompt, answer])[:longest]
    output = np.arange(len(ids)) >= len(prompt)
    return Tokens(ids, output.astype(np.float32), output, one.example, one.origin, MISMATCHED)


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
        self.draw: PreferencePairs | BinaryFeedback = trainer.plan.draw
        self.drift: torch.Tensor | None = None
        self.totals: tuple[dict[str, float], dict[str, float]] = ({}, {})

    def loader(self) -> Any:
        """As the default, with each example's part."""
        trainer = self.trainer
        return Loader(trainer.rows, trainer.schedule, trainer.args.dataloader_pin_memory, collate=joined)

    def of_step(self, taken: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The step's micro-batches; counts its answers by part and measures how far the model has moved."""
        self.totals = self._totals(taken)
        if isinstance(self.draw, BinaryFeedback) and self.draw.mismatched:
            self.drift = self._drift(taken)
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

    def _drift(self, taken: Sequence[dict[str, Any]]) -> torch.Tensor:
        """Mean of ln p(model) - ln p(reference) over the step's mismatched pairs, at least 0."""
        trainer = self.trainer
        # Sum and number over the whole step and all processes, so that z is the same however the step was cut.
        sums = torch.zeros(2, device=trainer.args.device)
        training = trainer.model.training
        trainer.model.eval()
        try:
            for batch in taken:
                sums[0] += self._mismatched_ratio(trainer._prepare_inputs(batch["mismatched"]))
                sums[1] += batch["mismatches"]
        finally:
            trainer.model.train(training)
        if trainer.args.world_size > 1:
            sums = trainer.sum(sums)
        # A mean of few log-ratios may fall below 0, which no divergence does.
        return (sums[0] / sums[1].clamp(min=1)).clamp(min=0)

    def _mismatched_ratio(self, inputs: dict[str, Any]) -> torch.Tensor:
        trainer = self.trainer
        batch = micro_batch(inputs, trainer.way)
        with torch.no_grad(), trainer.accelerator.autocast():
            ours = outputs(trainer.model_wrapped, batch, trainer.way)
            theirs = self._reference(inputs, batch)
            logs = [one.each(log_prob, batch.targets) for one in (ours, theirs)]
        # ln p(model) - ln p(reference), summed over all mismatched answers.
        return (logs[0] - logs[1]).sum()

    def _reference(self, inputs: dict[str, Any], batch: MicroBatch) -> Outputs:
        trainer, named = self.trainer, self.draw.reference
        with trainer.accelerator.autocast():
            found: Outputs = (
                trainer.before.outputs(batch) if named is None else trainer.stage.outputs_of(named, inputs, batch)
            )
        return found

    def answers(self, inputs: dict[str, Any], batch: MicroBatch, references: References) -> Answers:
        """See `core.plan.Answers`."""
        named = self.draw.reference

        # Shared with terms that ask for the same model, so that it is run once a micro-batch.
        def reference() -> Outputs:
            return references.before() if named is None else references.other(named)

        count, weight = self.totals
        # int64[N]: the place of a target in the joined batch says which example it is of.
        of = inputs["answer"][0, batch.place]
        soft = inputs["soft_labels"] if getattr(self.draw, "soft_label", None) is not None else None
        return Answers(of, inputs["parts"], count, weight, reference, self.drift, soft)

    def taught(self, one: Tokens) -> bool:
        """Mismatched pairs are read too, and teach nothing."""
        return one.part != MISMATCHED
