"""A stage as its values see it: rows of other sources, and gradients on them (`core.plan.Stage`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.core.nouns import Source, Tokens
from mnemos.core.outputs import Outputs, log_prob
from mnemos.core.plan import GradientRule, ModelHandle, Plan, Term
from mnemos.models.chunked import Chunked
from mnemos.train.documents import MicroBatch, micro_batch, outputs
from mnemos.train.fisher import Runner, squared_gradients
from mnemos.train.frozen import Other
from mnemos.train.rows import as_tokens, weigh
from mnemos.train.save import consent, load_before
from mnemos.train.schedule import join


class TrainedStage:
    """Implements `core.plan.Stage` on a `train.trainer.PlanTrainer`.

    renderer: the one that made the stage's own rows. longest: tokens of its longest example.
    """

    def __init__(self, trainer: Any, renderer: Any, counts: Mapping[str, int], longest: int) -> None:
        self.trainer, self.renderer, self.longest = trainer, renderer, longest
        self._counts = dict(counts)
        self.others: dict[str, Other] = {}

    @property
    def plan(self) -> Plan:
        """The stage's plan."""
        plan: Plan = self.trainer.plan
        return plan

    @property
    def model(self) -> Any:
        """The module in training, not wrapped for several processes. UsageError under FSDP, whose parameters
        are pieces."""
        if self.trainer.is_fsdp_enabled:
            raise in_pieces(self.trainer, "parameters")
        return self.trainer.model

    @property
    def counts(self) -> Mapping[str, int]:
        """As `rows.prepare` counted them."""
        return self._counts

    def begun(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Terms or rules with those that need the stage replaced by what they return."""
        return tuple(value.begin(self) if hasattr(value, "begin") else value for value in values)

    def rows(self, source: Source) -> tuple[Tokens, ...]:
        """See `core.plan.Stage.rows`."""
        from mnemos.sources.batches import fit

        settings = self.plan.train
        # A Counter of its own, given up afterwards: the training's counts are of the rows that it learns.
        rendered = as_tokens(source, settings, self.renderer, Counter())
        fitted, _ = fit(rendered, settings.max_length, settings.truncate)
        weighed = weigh(fitted, self.plan.weigh, self.plan.before) if fitted else []
        taught = tuple(row for row in weighed if np.any(row.weight[1:] != 0))
        if not taught:
            raise DataError(
                f"{source.describe()}: 0 of {len(rendered)} examples can be used",
                f"each is longer than max_length = {settings.max_length}, or has no supervised token",
                "give other old rows, or raise train.max_length",
            )
        return taught

    def gradient_on(self, rows: Sequence[Tokens]) -> dict[str, torch.Tensor]:
        """See `core.plan.Stage.gradient_on`."""
        self._whole()
        trainer = self.trainer
        moving = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        sums = {name: torch.zeros_like(value) for name, value in moving.items()}
        # Over the rows of all processes, so that their shares are summed and not averaged.
        total = float(sum(np.abs(row.weight[1:]).sum() for row in rows)) or 1.0
        share, size = self._share(rows), trainer.args.per_device_train_batch_size
        training = self.model.training
        self.model.eval()
        try:
            for start in range(0, len(share), size):
                loss = self._loss(share[start : start + size]) / total
                # Not backward(), which would add to the gradients of the step that a rule is about to change.
                found = torch.autograd.grad(loss, list(moving.values()), allow_unused=True)
                for name, gradient in zip(moving, found, strict=True):
                    if gradient is not None:
                        sums[name] += gradient
        finally:
            self.model.train(training)
        return self._summed(sums)

    def loss_on(self, rows: Sequence[Tokens]) -> float:
        """Likelihood loss of rows as the model is, in nats per unit of weight, over all processes."""
        size = self.trainer.args.per_device_train_batch_size
        # By length, so that little is padded; the sum does not depend on the order beyond rounding.
        own = self._share(sorted(rows, key=lambda row: (len(row), row.example)))
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                losses = [self._loss(own[start : start + size]).double() for start in range(0, len(own), size)]
        finally:
            self.model.train(training)
        total = sum(losses, torch.zeros((), dtype=torch.float64, device=self.trainer.args.device))
        weight = sum(float(np.abs(row.weight[1:]).sum()) for row in rows)
        return float(self._summed({"loss": total})["loss"]) / (weight or 1.0)

    def summed(self, value: torch.Tensor) -> torch.Tensor:
        """See `core.plan.Stage.summed`."""
        return self._summed({"value": value})["value"]

    def squared_gradients(self, rows: Sequence[Tokens], *, sampled: bool, seed: int) -> dict[str, torch.Tensor]:
        """See `core.plan.Stage.squared_gradients`."""
        self._whole()
        trainer = self.trainer
        runner = Runner(
            model=self.model,
            way=trainer.way,
            move=trainer._prepare_inputs,
            autocast=trainer.accelerator.autocast,
            batch=trainer.args.per_device_train_batch_size,
            sampled=sampled,
            seed=seed,
        )
        share = self._share(range(len(rows)))
        sums = squared_gradients(runner, [rows[i] for i in share], share, check=rows)
        # By all rows, after the processes' sums are added.
        return {name: value / len(rows) for name, value in self._summed(sums).items()}

    def outputs_of(self, handle: ModelHandle, inputs: dict[str, Any], batch: MicroBatch) -> Outputs:
        """The logits of another checkpoint for `batch`, which was made from `inputs`."""
        if handle.fingerprint not in self.others:
            self.others[handle.fingerprint] = self._other(handle)
        return self.others[handle.fingerprint].outputs(inputs, batch)

    def _other(self, handle: ModelHandle) -> Other:
        from mnemos.models.load import check_vocabulary
        from mnemos.weights.checkpoint import load_tokenizer

        theirs = load_tokenizer(handle.path, trust_remote_code=consent(handle)["trust_remote_code"])
        if theirs.get_vocab() != self.renderer.tokenizer.get_vocab():
            raise ModelError(
                f"{handle.path}",
                f"its tokenizer has other tokens than that of {self.plan.before.path}",
                "name a checkpoint of the same tokenizer, or probabilities of tokens cannot be compared",
            )
        split = self.trainer.args.world_size == 1

        def load() -> Any:
            model = load_before(handle)
            check_vocabulary(model, theirs, handle.path)
            return model

        return Other(load, self.trainer.args.device, self.longest, split)

    def _loss(self, rows: Sequence[Tokens]) -> torch.Tensor:
        trainer = self.trainer
        batch = micro_batch(trainer._prepare_inputs(join([(row,) for row in rows])), trainer.way)
        with trainer.accelerator.autocast():
            found = outputs(self.model, batch, trainer.way)
            if isinstance(found, Chunked):
                return found.total(lambda places, chunk: _weighted(chunk, batch.targets[places], batch.weight[places]))
        return _weighted(found, batch.targets, batch.weight)

    def _share(self, rows: Sequence[Any]) -> list[Any]:
        args = self.trainer.args
        return list(rows[args.process_index :: args.world_size])

    def _summed(self, sums: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self.trainer.args.world_size == 1:
            return sums
        return {name: self.trainer.accelerator.reduce(value, "sum") for name, value in sums.items()}

    def _whole(self) -> None:
        if self.trainer.is_fsdp_enabled or self.trainer.is_deepspeed_enabled:
            raise in_pieces(self.trainer, "gradients")


def _weighted(found: Outputs, targets: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """sum(weight * nll)."""
    return -(found.each(log_prob, targets) * weight).sum()


def in_pieces(trainer: Any, what: str) -> UsageError:
    """Why a method cannot work where FSDP or DeepSpeed cuts parameters up."""
    return UsageError(
        "train." + ("fsdp" if trainer.is_fsdp_enabled else "deepspeed"),
        f"cuts parameters up, and this arm's method needs whole {what}",
        "train it on one process per whole model (plain torchrun), or leave the method out",
    )


def begin(stage: TrainedStage) -> tuple[tuple[Term, ...], tuple[GradientRule, ...]]:
    """The plan's terms and rules as they work during the stage."""
    return stage.begun(stage.plan.objective), stage.begun(stage.plan.gradient)
