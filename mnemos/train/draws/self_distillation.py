"""Training on answers that the model in training writes itself, at every step.

Each optimiser step: the model answers the step's prompts as it is now; a teacher, a moving average
of the same model that has seen the gold answer, reads those answers; the loss compares both models'
next-token distributions on them (`methods.draw.on_policy`). Everything else is the loop of `train.trainer`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Example, Prompt, Tokens
from mnemos.core.outputs import Outputs
from mnemos.core.plan import Plan, SelfTaught
from mnemos.sources.rewritten import as_learned
from mnemos.train.documents import MicroBatch, micro_batch, outputs, reordered
from mnemos.train.draws import batches
from mnemos.train.draws.sampling import RolloutSampler, answered, refuse, silent
from mnemos.train.resume import Mark
from mnemos.train.rows import FIRST_TOKENS, Prepared, left_out
from mnemos.train.schedule import Loader, join

TEACHER = "teacher.safetensors"
"""The teacher's weights within a checkpoint."""

Rows = list[tuple[Tokens, ...]]


def prepare(plan: Plan, renderer: Any) -> Prepared:
    """Rows of three: the prompt, the prompt with the gold answer shown, the gold conversation.

    Every example is in `counts` under its origin, and again under the reason why it was left out.
    Raises UsageError for weights and packing, which answers that are not written yet cannot have,
    and DataError when no example is left.
    """
    draw, settings = plan.draw, plan.train
    refuse(plan)
    examples = list(plan.examples)
    counts: Counter[str] = Counter(examples=len(examples))
    counts.update(f"origin {example.origin}" for example in examples)
    rows: Rows = []
    for example in examples:
        prompts = shown(example, draw.template)
        if prompts is None:
            counts["left out: no prompt with an answer at its end"] += 1
            continue
        plain, taught = (silent(renderer.prompt_ids(prompt), example) for prompt in prompts)
        if max(len(plain), len(taught)) + draw.max_new_tokens > settings.max_length:
            counts[f"left out: longer than {settings.max_length} tokens with the answer"] += 1
            continue
        # Of several rows, the last one holds the answer that the teacher is shown.
        rows.append((plain, taught, as_learned(renderer, example, settings.rewritten_turns, counts)[-1]))
    if not rows:
        raise DataError(
            f"{plan.examples.describe()}: 0 of {len(examples)} examples can be answered",
            left_out(counts) or "there is none",
            "give prompts with answers, lower max_new_tokens, or raise train.max_length",
        )
    counts["rows"] = len(rows)
    return Prepared(tuple(rows), dict(counts), [int(token) for token in rows[0][0].ids[:FIRST_TOKENS]])


def shown(example: Example, template: str) -> tuple[Prompt, Prompt] | None:
    """The prompt of an example's last answer, and the same with that answer shown by `template` in the
    place of the last turn before it; None where there is no such answer."""
    *before, answer = example.turns
    good = answer.learn and answer.is_plain and example.label is not False
    if not before or answer.role not in ("assistant", "completion") or not good:
        return None
    question = before[-1]
    content = template.format(question=question.text, answer=answer.text)
    return example.prompt, dataclasses.replace(
        example.prompt, turns=(*before[:-1], dataclasses.replace(question, content=content))
    )


class Batches(batches.Batches):
    """Answers are drawn step by step; the same for any way of cutting a step, and after a stop."""

    each_process_keeps = True

    def __init__(self, trainer: Any) -> None:
        super().__init__(trainer)
        self.sample = RolloutSampler(trainer)
        self.draw: SelfTaught = trainer.plan.draw
        if trainer.is_fsdp_enabled:
            raise UsageError(
                "train.fsdp",
                "cuts parameters up, and the teacher of self_distillation is an average of whole ones",
                "use distillation from a checkpoint, or one process per whole model (plain torchrun)",
            )
        self.values: dict[str, torch.Tensor] = {}
        self.followed = 0

    def loader(self) -> Any:
        """Rows as they are: what is read is written when its step has come."""
        return Loader(self.trainer.rows, self.trainer.schedule, pin_memory=False, collate=list)

    def of_step(self, taken: list[Rows]) -> list[dict[str, Any]]:
        """The step's micro-batches, with answers by the model as it is now."""
        self._follow()
        rows = [row for batch in taken for row in batch]
        answers = iter(self._write([row[0].ids.tolist() for row in rows], [_end(row[2]) for row in rows]))
        out = []
        for batch in taken:
            pairs = [(row, next(answers)) for row in batch]
            plain = [(answered(row[0], answer),) for row, answer in pairs]
            self.sample.tokens += sum(len(one) for (one,) in plain)
            self.sample.generated += sum(len(answer) for _, answer in pairs)
            out.append({**join(plain), "shown": join([(answered(row[1], answer),) for row, answer in pairs])})
        return out

    def _write(self, prompts: list[list[int]], ends: list[int | None]) -> list[list[int]]:
        """Drawn answers; one that was ended by a stop token has the end that gold answers have."""
        return [
            [*ids, end] if stopped is not None and end is not None else list(ids)
            for (ids, stopped), end in zip(self.sample(prompts), ends, strict=True)
        ]

    def _follow(self) -> None:
        """Move the teacher after the update of the step before; at the first step it is the start."""
        model, step = self.trainer.model, self.trainer.state.global_step
        # Only what moves: frozen parameters are the same in both models and stand once in memory.
        moving = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
        if not self.values:
            self.values = {name: value.clone() for name, value in moving.items()}
        elif step > self.followed:
            # teacher <- teacher + rate * (model - teacher): an exponential moving average.
            for name, value in moving.items():
                self.values[name].lerp_(value, self.draw.teacher_rate)
        self.followed = step

    def teacher(self, inputs: dict[str, Any], batch: MicroBatch) -> Outputs:
        """The logits of the teacher, which reads the gold answer first, for the targets of `batch`."""
        model, way = self.trainer.model, self.trainer.way
        shown_batch, training = micro_batch(inputs["shown"], way), model.training

        def teacher(**given: Any) -> Any:
            # The model itself with the teacher's values in the places of its own.
            return torch.func.functional_call(model, self.values, (), given)

        model.eval()
        try:
            with torch.no_grad(), self.trainer.accelerator.autocast():
                out = outputs(model, shown_batch, way, teacher, self._layer)
        finally:
            model.train(training)
        # The same answers behind longer prompts: other places, the same order.
        return reordered(out, shown_batch, batch)

    def _layer(self, layer: torch.nn.Module) -> Any:
        """The output layer with the teacher's values."""
        names = {id(value): name for name, value in self.trainer.model.named_parameters()}
        own = {local: self.values.get(names[id(value)], value) for local, value in layer.named_parameters()}

        def run(states: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                found: torch.Tensor = torch.func.functional_call(layer, own, (states,))
            return found

        return run

    def read(self) -> tuple[int, int]:
        """Tokens of prompts and answers, and of answers alone, over all steps and processes."""
        return self.sample.read()

    def continue_from(self, mark: Mark) -> None:
        """Take over the teacher and what was read."""
        from safetensors import safe_open

        file = self.file(self.checkpoint(mark), TEACHER)
        with safe_open(file, framework="pt", device=str(self.trainer.args.device)) as opened:
            self.values = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            kept = opened.metadata()
        self.followed = int(kept["followed"])
        self.sample.tokens, self.sample.generated = int(kept["tokens"]), int(kept["generated"])

    def save(self, checkpoint: Path) -> None:
        """Each process writes the teacher beside its own counts."""
        from safetensors.torch import save_file

        kept = {"followed": self.followed, "tokens": self.sample.tokens, "generated": self.sample.generated}
        file = self.file(checkpoint, TEACHER)
        save_file(
            {name: value.contiguous() for name, value in self.values.items()},
            file,
            metadata={name: str(value) for name, value in kept.items()},
        )


def _end(gold: Tokens) -> int | None:
    """The token that ends the gold answer."""
    return int(gold.ids[gold.output][-1]) if gold.output.any() else None
