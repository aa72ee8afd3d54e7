"""Training on the model's own answers by what they are worth (`core.drawn.OwnAnswers`).

At the beginning of every `steps` optimiser steps the model answers the prompts of the batch, `samples`
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

from mnemos.core.drawn import Credited, Drawing, DrawnView, Floats, OwnAnswers
from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Example, Tokens
from mnemos.core.plan import Plan
from mnemos.core.reward import Rewarded
from mnemos.sources.mix import is_new, new_share_start
from mnemos.train.documents import MicroBatch, logits, logits_and_states
from mnemos.train.drawing import (
    Drawings,
    DrawingTrainer,
    answered,
    prompts_a_drawing,
    question,
    refuse,
    silent,
)
from mnemos.train.gathered import gathered
from mnemos.train.resume import Mark
from mnemos.train.rows import FIRST_TOKENS, Prepared, left_out
from mnemos.train.schedule import Loader, Schedule
from mnemos.train.scored import Ledger, cut, scaled, token_logs

FILE = "answers.pt"
"""What is known of drawn answers within a checkpoint."""


def prepare_questions(plan: Plan, renderer: Any) -> Prepared:
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
        row, reason = _row(plan, renderer, example)
        if row is None:
            counts[f"left out: {reason}"] += 1
            continue
        rows.append((row,))
        kept.append(example)
    if not any(is_new(example.origin) for example in kept):
        raise DataError(
            f"{plan.examples.describe()}: 0 of {counts['examples']} examples can be answered",
            left_out(counts) or "there is none",
            "give prompts, lower max_new_tokens, or raise train.max_length",
        )
    counts["rows"] = len(rows)
    first = [int(token) for token in rows[0][0].ids[:FIRST_TOKENS]]
    return Prepared(tuple(rows), dict(counts), first, tuple(kept))


def _row(plan: Plan, renderer: Any, example: Example) -> tuple[Tokens | None, str]:
    limit = plan.train.max_length
    if not is_new(example.origin):
        row = renderer.render(example)
        for step in plan.weigh:
            (row,) = step([row], plan.before)
        return (row, "") if len(row) <= limit else (None, f"longer than {limit} tokens")
    asked = question(example)
    if asked is None:
        return None, "no prompt with an answer at its end"
    row = silent(renderer.prompt_ids(asked), example)
    fits = len(row) + plan.draw.max_new_tokens <= limit
    return (row, "") if fits else (None, f"longer than {limit} tokens with the answer")


class OwnAnswersTrainer(DrawingTrainer):
    """Learns from scored answers; the same for any way of cutting a step, and after a stop."""

    def __init__(self, plan: Plan, rows: Any, training: str, model: Any, args: Any) -> None:
        super().__init__(plan, rows, training, model, args)
        assert isinstance(plan.draw, OwnAnswers)
        self.draw: OwnAnswers = plan.draw
        seed = plan.seed if plan.train.data_seed is None else plan.train.data_seed
        inner = Schedule([len(row[0]) for row in rows], prompts_a_drawing(self.draw, args), seed)
        repeats = args.gradient_accumulation_steps * self.draw.steps
        self.drawings = Drawings(inner, repeats, args.process_index, args.world_size)
        self.ledger = Ledger(self.draw)
        self.kept: list[dict[str, Any]] = []
        self.head = self._value_head() if "values" in self.draw.asks else None
        self.states: torch.Tensor | None = None
        self.columns = ["advantage", *(["now"] if self.draw.steps > 1 else [])]
        self.columns += ["before"] if self.draw.keeps_before else []
        self.columns += ["values", "returns"] if self.head is not None else []

    def _value_head(self) -> torch.nn.Linear:
        if self.is_fsdp_enabled:
            raise UsageError(
                "train.fsdp",
                "cuts up the parameters of the model, and ppo trains a value head beside it",
                "use grpo, rloo or reinforce, or one process per whole model (plain torchrun)",
            )
        width = self.model.get_output_embeddings().weight.shape[-1]
        head = torch.nn.Linear(width, 1).to(self.args.device)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        return head

    def create_optimizer(self, model: Any = None) -> Any:
        """With the value head, which is no part of the model."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if fresh and self.head is not None:
            optimizer.add_param_group({"params": list(self.head.parameters()), "weight_decay": 0.0})
        return optimizer

    def get_train_dataloader(self) -> Any:
        """Places of rows: what is read is written when its step has come."""
        return Loader(range(len(self.rows)), self.drawings, pin_memory=False, collate=list)  # type: ignore[arg-type]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The step's micro-batches, with answers of this drawing."""
        places = [place for _ in range(num_batches) for place in next(epoch_iterator, [])]
        if self.state.global_step % self.draw.steps == 0:
            self.kept = self._draw(places)
        if self.head is not None:
            self.head.zero_grad()
        return self.kept, self._get_num_items_in_batch(self.kept, device)

    def _draw(self, places: Sequence[int]) -> list[dict[str, Any]]:
        asked = [place for place in places if is_new(self.examples[place].origin)]
        taught = [self.rows[place][0] for place in places if not is_new(self.examples[place].origin)]
        asked = [place for place in asked for _ in range(self.draw.samples)]
        written = self.drawn([self.rows[place][0].ids.tolist() for place in asked])
        answers = [[*ids, *([] if end is None else [end])] for ids, end in written]
        rewards = self._rewards(asked, [ids for ids, _ in written])
        rows = [answered(self.rows[place][0], ids) for place, ids in zip(asked, answers, strict=True)]
        known = self._known(rows)
        mine = [
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
        everyone, first = self._everyone(mine)
        credited = self._credited(everyone, known)
        mean_length = sum(one["length"] for one in everyone) / max(1, len(everyone))
        scored = []
        for i, (row, one) in enumerate(zip(rows, mine, strict=True)):
            length = one["length"]
            each = mean_length / length if self.draw.per == "answer" and length else 1.0
            found = {"advantage": credited.advantages[first + i]} | {name: known[name][i] for name in known}
            if credited.returns:
                found["returns"] = credited.returns[first + i]
            scored.append((scaled(row, each), {name: found[name] for name in self.columns}))
        self.tokens += self.draw.steps * sum(map(len, [*rows, *taught]))
        self.written += self.draw.steps * sum(len(ids) for ids in answers)
        return cut(scored, taught, self.args.gradient_accumulation_steps, self.columns)

    def _rewards(self, asked: Sequence[int], written: Sequence[Sequence[int]]) -> list[Rewarded]:
        if self.draw.reward is None:
            return [Rewarded(0.0)] * len(asked)
        assert self.stage is not None
        examples = [self.examples[place] for place in asked]
        prompts = [found for example in examples if (found := question(example)) is not None]
        texts = [self.stage.renderer.decode(ids) for ids in written]
        return list(self.draw.reward(prompts, texts, examples))

    def _known(self, rows: Sequence[Tokens]) -> dict[str, list[Floats]]:
        """now, before, values of the drawn tokens, as far as asked for; now and before also where the
        next log wants the divergence."""
        asks = self.draw.asks
        logged = (self.state.global_step // self.draw.steps) % max(1, self.args.logging_steps // self.draw.steps) == 0
        before = "before" in asks or logged
        if not (before or "values" in asks or self.draw.steps > 1):
            return {}
        size, device = self.args.per_device_train_batch_size, self.args.device
        out: dict[str, list[Floats]] = {}

        def run(model_logits: Any) -> list[Floats]:
            return token_logs(rows, size, self.way, device, model_logits, self.draw.temperature)

        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), gathered(self.model), self.accelerator.autocast():
                if self.head is None:
                    out["now"] = run(lambda batch: (logits(self.model, batch, self.way), None))
                else:
                    out["values"] = []
                    out["now"] = run(lambda batch: self._with_values(batch, out["values"]))
                if before:
                    assert self.before is not None
                    frozen = self.before
                    out["before"] = run(lambda batch: (frozen.logits(batch), None))
        finally:
            self.model.train(training)
        return out

    def _with_values(self, batch: MicroBatch, into: list[Floats]) -> tuple[torch.Tensor, Any]:
        assert self.head is not None
        found, states = logits_and_states(self.model, batch, self.way)
        return found, (self.head(states.float())[:, 0], into)

    def _everyone(self, mine: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
        """The answers of all processes in order of process, and where this process's begin."""
        if self.args.world_size == 1:
            return mine, 0
        from accelerate.utils import gather_object

        lots = gather_object([mine])
        return [one for lot in lots for one in lot], sum(len(lot) for lot in lots[: self.args.process_index])

    def _credited(self, everyone: list[dict[str, Any]], known: Iterable[str]) -> Credited:
        drawing = Drawing(
            rewards=np.array([one["reward"] for one in everyone], np.float64),
            groups=np.array([one["group"] for one in everyone], np.int64),
            lengths=np.array([one["length"] for one in everyone], np.int64),
            **{name: [one[name] for one in everyone] for name in ("now", "before", "values") if name in known},
            past=self.ledger.past,
        )
        out = Credited([np.zeros(length) for length in drawing.lengths])
        if self.draw.credit is not None:
            out = self.draw.credit(drawing)
        mine = self.args.process_index == 0
        for name, (total, count) in self.ledger.add(drawing, everyone).items():
            self.notes.add(name, total if mine else 0.0, count if mine else 0.0)
        return out

    def forward(self, model: Any, batch: MicroBatch) -> torch.Tensor:
        """float[N, V]; the states behind it are kept for the value head."""
        if self.head is None:
            return logits(model, batch, self.way)
        found, self.states = logits_and_states(model, batch, self.way)
        return found

    def own(self, inputs: dict[str, Any], batch: MicroBatch) -> DrawnView:
        """The columns of drawn tokens at the places of the targets."""

        def at(name: str) -> torch.Tensor | None:
            return inputs[name][0, batch.place] if name in inputs else None

        advantage, answer, drawn = at("advantage"), at("answer"), at("drawn")
        assert advantage is not None
        assert answer is not None
        assert drawn is not None
        return DrawnView(
            temperature=self.draw.temperature,
            drawn=drawn,
            answer=answer,
            answers=len(inputs["lengths"]),
            advantage=advantage,
            old=at("now") if self.draw.steps > 1 else None,
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

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One micro-batch; after a step's last one the value head's gradients are shared and clipped."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.head is not None and self.accelerator.sync_gradients:
            if self.args.world_size > 1:
                for value in self.head.parameters():
                    value.grad = self.accelerator.reduce(
                        torch.zeros_like(value) if value.grad is None else value.grad, "mean"
                    )
            if self.args.max_grad_norm:
                torch.nn.utils.clip_grad_norm_(self.head.parameters(), self.args.max_grad_norm)
        return loss

    def close(self) -> None:
        """Log the rest; DataError when no drawing of the whole stage had a difference in reward."""
        super().close()
        self.ledger.check(end=True)

    def counted(self) -> dict[str, int]:
        """See `scored.Ledger`."""
        return dict(self.ledger.counts)

    def continue_from(self, mark: Mark) -> None:
        """Take over what is known of answers, and the value head."""
        super().continue_from(mark)
        file = self.own_file(Path(self.args.output_dir) / f"checkpoint-{mark.step}", FILE)
        kept = torch.load(file, weights_only=True)
        self.kept, self.tokens, self.written = kept["batches"], kept["tokens"], kept["written"]
        self.ledger.restore(kept["ledger"])
        if self.head is not None:
            self.head.load_state_dict(kept["head"])

    def save_more(self, checkpoint: Path) -> None:
        """Each process writes its own answers, if the next step learns from them again."""
        again = self.state.global_step % self.draw.steps != 0
        kept = {
            "batches": self.kept if again else [],
            "tokens": self.tokens,
            "written": self.written,
            "ledger": self.ledger.state(),
            "head": self.head.state_dict() if self.head is not None else {},
        }
        torch.save(kept, self.own_file(checkpoint, FILE))
