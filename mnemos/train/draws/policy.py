"""Training on the model's own answers by what they are worth (`core.rollouts.Rollouts`).

At the beginning of every `num_iterations` optimiser steps the model answers the prompts of the batch, `num_generations`
times each; the reward says what the answers are worth, the credit what follows for each token, and the
plan's terms learn from that. Rehearsed rows in the batch are learned as they stand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Example, Tokens
from mnemos.core.outputs import Outputs
from mnemos.core.plan import Plan
from mnemos.core.reward import Rewarded
from mnemos.core.rollouts import Advantages, Floats, RolloutBatch, Rollouts, RolloutView
from mnemos.sources.mix import is_new, new_share_start
from mnemos.sources.rewritten import as_learned
from mnemos.train.documents import MicroBatch, outputs, outputs_and_states
from mnemos.train.draws import batches
from mnemos.train.draws.sampling import (
    RolloutOrder,
    RolloutSampler,
    answered,
    prompts_a_batch,
    question,
    refuse,
    silent,
)
from mnemos.train.draws.scoring import Ledger, cut, scaled, token_logs
from mnemos.train.gathered import gathered
from mnemos.train.resume import Mark
from mnemos.train.rows import FIRST_TOKENS, Prepared, left_out
from mnemos.train.schedule import Loader, Schedule

FILE = "answers.pt"
"""What is known of drawn answers within a checkpoint."""


def prepare(plan: Plan, renderer: Any) -> Prepared:
    """A row for each example: the prompt of a new one, all of a rehearsed one.

    Every example is in `counts` under its origin, and again under the reason why it was left out.
    Raises UsageError for weights, packing and orders that drawn answers cannot have, and DataError when
    no prompt is left.
    """
    refuse(plan)
    if new_share_start(plan.examples) is not None:
        raise UsageError("new_share_start", "orders rows, and each prompt here is many", "leave it out")
    counts: Counter[str] = Counter()
    rows: list[tuple[Tokens, ...]] = []
    kept: list[Example] = []
    for example in plan.examples:
        counts["examples"] += 1
        counts[f"origin {example.origin}"] += 1
        found, reason = _rows(plan, renderer, example, counts)
        if reason:
            counts[f"left out: {reason}"] += 1
        rows += [(row,) for row in found]
        kept += [example] * len(found)
    if not any(is_new(example.origin) for example in kept):
        raise DataError(
            f"{plan.examples.describe()}: 0 of {counts['examples']} examples can be answered",
            left_out(counts) or "there is none",
            "give prompts, lower max_new_tokens, or raise train.max_length",
        )
    counts["rows"] = len(rows)
    first = [int(token) for token in rows[0][0].ids[:FIRST_TOKENS]]
    return Prepared(tuple(rows), dict(counts), first, tuple(kept))


def _rows(plan: Plan, renderer: Any, example: Example, counts: Counter[str]) -> tuple[list[Tokens], str]:
    """The prompt of a new example; a rehearsed one whole, in rows of its own where its answers are split. And why there
    is none, or one less."""
    limit = plan.train.max_length
    if not is_new(example.origin):
        if example.label is False:
            return [], "a thumb down"
        rows = as_learned(renderer, example, plan.train.rewritten_turns, counts)
        for step in plan.weigh:
            rows = list(step(rows, plan.before))
        short = [row for row in rows if len(row) <= limit]
        return short, "" if len(short) == len(rows) else f"longer than {limit} tokens"
    asked = question(example)
    if asked is None:
        return [], "no prompt with an answer at its end"
    row = silent(renderer.prompt_ids(asked), example)
    # With the longest answer: how long one will be is not known when rows are chosen.
    fits = len(row) + plan.draw.max_new_tokens <= limit
    return ([row], "") if fits else ([], f"longer than {limit} tokens with the answer")


class Batches(batches.Batches):
    """Learns from scored answers; the same for any way of cutting a step, and after a stop."""

    each_process_keeps = True

    def __init__(self, trainer: Any) -> None:
        super().__init__(trainer)
        plan, args = trainer.plan, trainer.args
        self.draw: Rollouts = plan.draw
        self.sample = RolloutSampler(trainer)
        seed = plan.seed if plan.train.data_seed is None else plan.train.data_seed
        # Prompts of all processes together; `RolloutOrder` deals them and fills the micro-batches between with
        # nothing.
        inner = Schedule([len(row[0]) for row in trainer.rows], prompts_a_batch(self.draw, plan.train), seed)
        repeats = args.gradient_accumulation_steps * self.draw.num_iterations
        self.order = RolloutOrder(inner, repeats, args.process_index, args.world_size)
        self.ledger = Ledger(self.draw)
        self.kept: list[dict[str, Any]] = []
        self.head = self._value_head() if "values" in self.draw.asks else None
        self.states: torch.Tensor | None = None
        self.columns = ["advantage", *(["now"] if self.draw.num_iterations > 1 else [])]
        self.columns += ["before"] if self.draw.keeps_before else []
        self.columns += ["values", "returns"] if self.head is not None else []

    def _value_head(self) -> torch.nn.Linear:
        if self.trainer.is_fsdp_enabled:
            raise UsageError(
                "train.fsdp",
                "cuts up the parameters of the model, and ppo trains a value head beside it",
                "use grpo, rloo or reinforce, or one process per whole model (plain torchrun)",
            )
        width = self.trainer.model.get_output_embeddings().weight.shape[-1]
        head = torch.nn.Linear(width, 1).to(self.trainer.args.device)
        # At zero the first advantages are the rewards alone, whatever the seed.
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        return head

    def parameters(self) -> list[torch.nn.Parameter]:
        """The value head's."""
        return [] if self.head is None else list(self.head.parameters())

    def loader(self) -> Any:
        """Places of rows: what is read is written when its step has come."""
        places = range(len(self.trainer.rows))
        return Loader(places, self.order, pin_memory=False, collate=list)  # type: ignore[arg-type]

    def of_step(self, taken: list[list[int]]) -> list[dict[str, Any]]:
        """The step's micro-batches, with answers of this batch of rollouts."""
        if self.trainer.state.global_step % self.draw.num_iterations == 0:
            self.kept = self._draw([place for places in taken for place in places])
        # The head is no part of the model, whose gradients are all that the trainer clears.
        if self.head is not None:
            self.head.zero_grad()
        return self.kept

    def _draw(self, places: Sequence[int]) -> list[dict[str, Any]]:
        rows, examples = self.trainer.rows, self.trainer.prepared.examples
        taught = [rows[place][0] for place in places if not is_new(examples[place].origin)]
        # A group of answers stands side by side, so that its advantages can be taken together.
        asked = [place for place in places if is_new(examples[place].origin) for _ in range(self.draw.num_generations)]
        written = self.sample([rows[place][0].ids.tolist() for place in asked])
        answers = [[*ids, *([] if end is None else [end])] for ids, end in written]
        rewards = self._rewards(asked, [ids for ids, _ in written])
        filled = [answered(rows[place][0], ids) for place, ids in zip(asked, answers, strict=True)]
        # name -> float64[L_i] an answer, its stop token included. Taken before any update: against `now` stand the
        # ratios of all further steps of this batch.
        known = self._known(filled)
        own = [
            {
                "reward": reward.value,
                "reason": reward.reason,
                "group": place,
                "length": len(ids),
                "ended": end is not None,
                **{name: values[i] for name, values in known.items()},
            }
            for i, (place, ids, reward, (_, end)) in enumerate(zip(asked, answers, rewards, written, strict=True))
        ]
        # From here on rewards of all processes, because a group may be split over them; columns stay this process's
        # own.
        everyone, first = self._everyone(own)
        credited = self._credited(everyone, known)
        mean_length = sum(one["length"] for one in everyone) / max(1, len(everyone))
        scored = []
        for i, (row, one) in enumerate(zip(filled, own, strict=True)):
            length = one["length"]
            # Weights of one answer add up to the mean length, whatever its own: answers count alike, and together as
            # much beside rehearsed rows as they would by tokens.
            each = mean_length / length if self.draw.per == "answer" and length else 1.0
            found = {"advantage": credited.advantages[first + i]} | {name: known[name][i] for name in known}
            if credited.returns:
                found["returns"] = credited.returns[first + i]
            scored.append((scaled(row, each), {name: found[name] for name in self.columns}))
        # A batch of rollouts is read once in each of its steps.
        self.sample.tokens += self.draw.num_iterations * sum(map(len, [*filled, *taught]))
        self.sample.generated += self.draw.num_iterations * sum(len(ids) for ids in answers)
        return cut(scored, taught, self.trainer.args.gradient_accumulation_steps, self.columns)

    def _rewards(self, asked: Sequence[int], written: Sequence[Sequence[int]]) -> list[Rewarded]:
        if self.draw.reward is None:
            return [Rewarded(0.0)] * len(asked)
        assert self.trainer.stage is not None
        examples = [self.trainer.prepared.examples[place] for place in asked]
        prompts = [found for example in examples if (found := question(example)) is not None]
        texts = [self.trainer.stage.renderer.decode(ids) for ids in written]
        return list(self.draw.reward(prompts, texts, examples))

    def _known(self, rows: Sequence[Tokens]) -> dict[str, list[Floats]]:
        """now, before, values of the drawn tokens, as far as asked for; now and before also where the
        next log wants the divergence."""
        asks = self.draw.asks
        # A batch serves num_iterations steps, so that one of logging_steps / num_iterations batches shows in each
        # log.
        logged = (self.trainer.state.global_step // self.draw.num_iterations) % max(
            1, self.trainer.args.logging_steps // self.draw.num_iterations
        ) == 0
        before = "before" in asks or logged
        if not (before or "values" in asks or self.draw.num_iterations > 1):
            return {}
        size, device = self.trainer.args.per_device_train_batch_size, self.trainer.args.device
        out: dict[str, list[Floats]] = {}

        def run(model_logits: Any) -> list[Floats]:
            return token_logs(rows, size, self.trainer.way, device, model_logits, self.draw.temperature)

        # Without dropout, as answers are written: the probabilities are those that the tokens were drawn with.
        training = self.trainer.model.training
        self.trainer.model.eval()
        try:
            with torch.no_grad(), gathered(self.trainer.model), self.trainer.accelerator.autocast():
                if self.head is None:
                    out["now"] = run(lambda batch: (outputs(self.trainer.model, batch, self.trainer.way), None))
                else:
                    out["values"] = []
                    out["now"] = run(lambda batch: self._with_values(batch, out["values"]))
                if before:
                    assert self.trainer.before is not None
                    frozen = self.trainer.before
                    out["before"] = run(lambda batch: (frozen.outputs(batch), None))
        finally:
            self.trainer.model.train(training)
        return out

    def _with_values(self, batch: MicroBatch, into: list[Floats]) -> tuple[Outputs, Any]:
        assert self.head is not None
        found, states = outputs_and_states(self.trainer.model, batch, self.trainer.way)
        return found, (self.head(states.float())[:, 0], into)

    def _everyone(self, own: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
        """The answers of all processes in order of process, and where this process's begin."""
        if self.trainer.args.world_size == 1:
            return own, 0
        from accelerate.utils import gather_object

        # Groups may be split over processes, so every process sees all rewards before it takes advantages.
        by_process = gather_object([own])
        first = sum(len(batch) for batch in by_process[: self.trainer.args.process_index])
        return [one for batch in by_process for one in batch], first

    def _credited(self, everyone: list[dict[str, Any]], known: Iterable[str]) -> Advantages:
        rollouts = RolloutBatch(
            rewards=np.array([one["reward"] for one in everyone], np.float64),
            groups=np.array([one["group"] for one in everyone], np.int64),
            lengths=np.array([one["length"] for one in everyone], np.int64),
            **{name: [one[name] for one in everyone] for name in ("now", "before", "values") if name in known},
            past=self.ledger.past,
        )
        out = Advantages([np.zeros(length) for length in rollouts.lengths])
        # Before the ledger counts this batch: a baseline that holds an answer's own reward would be biased.
        if self.draw.credit is not None:
            out = self.draw.credit(rollouts)
        # Each process has counted everyone's rewards; their mean must enter the log once.
        leads = self.trainer.args.process_index == 0
        for name, (total, count) in self.ledger.add(rollouts, everyone).items():
            self.trainer.metrics.add(name, total if leads else 0.0, count if leads else 0.0)
        return out

    def forward(self, model: Any, batch: MicroBatch) -> Outputs:
        """The model's logits; the states behind them are kept for the value head."""
        if self.head is None:
            return outputs(model, batch, self.trainer.way)
        found, self.states = outputs_and_states(model, batch, self.trainer.way)
        return found

    def rollouts(self, inputs: dict[str, Any], batch: MicroBatch) -> RolloutView:
        """The columns of drawn tokens at the places of the targets."""

        def at(name: str) -> torch.Tensor | None:
            return inputs[name][0, batch.place] if name in inputs else None

        advantage, answer, drawn = at("advantage"), at("answer"), at("drawn")
        assert advantage is not None
        assert answer is not None
        assert drawn is not None
        return RolloutView(
            temperature=self.draw.temperature,
            drawn=drawn,
            answer=answer,
            answers=len(inputs["lengths"]),
            advantage=advantage,
            old=at("now") if self.draw.num_iterations > 1 else None,
            before=at("before"),
            returns=at("returns"),
            values=at("values"),
            value=self._value,
        )

    def _value(self) -> torch.Tensor:
        assert self.head is not None
        assert self.states is not None
        out: torch.Tensor = self.head(self.states.float())[:, 0]
        return out

    def after_backward(self) -> None:
        """The value head's gradients are shared and clipped by themselves: no part of the model's norm."""
        if self.head is None:
            return
        trainer = self.trainer
        if trainer.args.world_size > 1:
            for value in self.head.parameters():
                # A process whose share of the step held no answer has no gradient, and must join all the same.
                found = torch.zeros_like(value) if value.grad is None else value.grad
                # The mean, as processes share the model's gradients.
                value.grad = trainer.accelerator.reduce(found, "mean")
        if trainer.args.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self.head.parameters(), trainer.args.max_grad_norm)

    def close(self) -> None:
        """DataError when no batch of rollouts of the whole stage had a difference in reward."""
        self.ledger.check(end=True)

    def read(self) -> tuple[int, int]:
        """Tokens of prompts and answers, and of answers alone, over all steps and processes."""
        return self.sample.read()

    def counted(self) -> dict[str, int]:
        """See `scoring.Ledger`."""
        return dict(self.ledger.counts)

    def continue_from(self, mark: Mark) -> None:
        """Take over what is known of answers, and the value head."""
        kept = torch.load(self.file(self.checkpoint(mark), FILE), weights_only=True)
        self.kept = kept["batches"]
        self.sample.tokens, self.sample.generated = kept["tokens"], kept["generated"]
        self.ledger.restore(kept["ledger"])
        if self.head is not None:
            self.head.load_state_dict(kept["head"])

    def save(self, checkpoint: Path) -> None:
        """Each process writes its own answers, if the next step learns from them again."""
        # Counted after the step that the checkpoint is of.
        again = self.trainer.state.global_step % self.draw.num_iterations != 0
        kept = {
            "batches": self.kept if again else [],
            "tokens": self.sample.tokens,
            "generated": self.sample.generated,
            "ledger": self.ledger.state(),
            "head": self.head.state_dict() if self.head is not None else {},
        }
        torch.save(kept, self.file(checkpoint, FILE))
