"""The one training loop: transformers.Trainer with the plan's weights, terms and rules.

FSDP, DeepSpeed, trackers, bf16, gradient checkpointing and resuming are transformers'. Ours are
the loss (`compute_loss`), its normaliser (`_get_num_items_in_batch`) and the order of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer

from mnemos.core.errors import ModelError
from mnemos.core.nouns import Tokens
from mnemos.core.outputs import Outputs
from mnemos.core.plan import Documents, ModelHandle, Plan, Read, References, Remembers, StepView, Term
from mnemos.core.settings import WSD
from mnemos.models.chunked import Chunked
from mnemos.sources.mix import growing, is_new, read_in_turn
from mnemos.train.documents import MicroBatch, Way, micro_batch, outputs_and_states
from mnemos.train.draws.batches import Batches
from mnemos.train.frozen import Before, Start
from mnemos.train.metrics import Notes
from mnemos.train.resharding import crosses, load_optimiser, load_weights, refuse_crossing
from mnemos.train.resume import Mark, write_mark
from mnemos.train.rounding import Rounding
from mnemos.train.rows import Prepared
from mnemos.train.schedule import AsTheyStand, Ramp, Schedule, join
from mnemos.train.stage import TrainedStage, in_pieces
from mnemos.weights.finite import holds, not_finite


class PlanTrainer(Trainer):  # type: ignore[misc]
    """Minimises the sum of a plan's objective terms over the micro-batches that its draw makes (`batches`).

    The loss of an optimiser step is sum(weight * nll) / sum(|weight|) over all of its
    micro-batches on all processes, whatever way they were cut. Processes average gradients, so
    each divides by sum(|weight|) / processes. Absolute values keep the divisor positive where an
    advantage is negative; for weights in [0, 1] they change nothing.
    """

    # `compute_loss` divides by the whole step's weight already; transformers would divide by the micro-batches again.
    loss_is_scaled_for_ga = True
    is_fsdp_enabled: bool

    def __init__(
        self,
        plan: Plan,
        prepared: Prepared,
        training: str,
        model: Any,
        args: Any,
        batches: Callable[[PlanTrainer], Batches],
    ) -> None:
        """training: names the checkpoints that it may continue from. batches: what the plan's draw does."""
        # Before the constructor, which sets it for training in the configuration that will be saved.
        caching = getattr(model.config, "use_cache", None)
        rows = prepared.rows
        super().__init__(model=model, args=args, train_dataset=rows)
        self.remove_callback(PrinterCallback)
        self.caching = caching
        self.plan, self.prepared, self.rows, self.training = plan, prepared, rows, training
        # Counted before FSDP or DeepSpeed cut the parameters up.
        self.total_parameters = sum(parameter.numel() for parameter in model.parameters())
        self.trainable_parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        seed = plan.seed if plan.train.data_seed is None else plan.train.data_seed
        lengths = [sum(map(len, row)) for row in rows]
        batch = args.per_device_train_batch_size
        ramp = ramp_of(plan, rows, args)
        self.schedule = Schedule(lengths, batch, seed, args.process_index, args.world_size, ramp)
        self.way = Way(joined=False, picks=False)
        self.before: Before | None = None
        self.start = Start(lambda: self.model)
        self.stage: TrainedStage | None = None
        # What the plan's values become when the stage begins (`core.plan.Begins`).
        self.terms, self.rules = plan.objective, plan.gradient
        self.losses: list[list[float]] = []
        self.window: list[float] = []
        self.rounding: Rounding | None = None
        self.saved: Rounding | None = None
        # Tokens that this process has read, padding and all; only for showing how fast it is.
        self.tokens_read = 0
        self.metrics = Notes()
        self._step_loss = torch.zeros((), device=args.device)
        self.batches = batches(self)

    def restore_caching(self) -> None:
        """Undo what the Trainer's constructor changed in the configuration that will be saved."""
        if self.caching is None:
            del self.model.config.use_cache
        else:
            self.model.config.use_cache = self.caching

    def continue_from(self, checkpoint: Path, mark: Mark) -> None:
        """Take over the logged losses and metrics of a checkpoint, and what the draw keeps there. UsageError where it
        cannot be continued from by so many processes."""
        refuse_crossing(self, checkpoint, mark)
        self.losses, self.window = list(mark.losses), list(mark.window)
        self.metrics.restore(mark.metrics)
        self.batches.continue_from(mark)

    def continue_terms(self, mark: Mark) -> None:
        """Give the terms that have begun what they kept in a checkpoint."""
        for term, state in zip(self.terms, mark.terms, strict=False):
            if isinstance(term, Remembers):
                term.restore(state)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        """Whole weights are read before the model is cut up."""
        if resume_from_checkpoint is not None and self.is_fsdp_enabled and crosses(self, Path(resume_from_checkpoint)):
            # As transformers reads them into a model that will not be.
            self.is_fsdp_enabled = False
            try:
                super()._load_from_checkpoint(resume_from_checkpoint)
            finally:
                self.is_fsdp_enabled = True
        return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not crosses(self, Path(resume_from_checkpoint)):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        elif not self.is_fsdp_enabled:
            load_weights(self.model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not crosses(self, Path(checkpoint)):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        load_optimiser(self.optimizer, self.model, Path(checkpoint))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / "scheduler.pt", weights_only=True))

    def create_optimizer(self, model: Any = None) -> Any:
        """With what is trained beside the model."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        more = self.batches.parameters()
        # transformers asks more than once; a second group of the same parameters would be refused.
        if fresh and more:
            optimizer.add_param_group({"params": more, "weight_decay": 0.0})
        return optimizer

    def get_train_dataloader(self) -> Any:
        """Our own order, the same for any number of processes; see `Schedule`."""
        return self.batches.loader()

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The step's micro-batches, and the sum of their weights."""
        batches = self.batches.of_step(list(islice(epoch_iterator, num_batches)))
        return batches, self._get_num_items_in_batch(batches, device)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> torch.Tensor:
        weight = sum((batch["weight"].abs().sum() for batch in batch_samples), torch.zeros(()))
        # Added up on the CPU, where batches lie: one transfer a step.
        weight = weight.to(device)
        if self.args.world_size > 1:
            weight = self.accelerator.reduce(weight, "sum")
        # A step in which nothing has weight gives a zero loss, not 0 / 0.
        return torch.where(weight > 0, weight, torch.ones_like(weight))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """This micro-batch's summand of the step's loss: the sum of the plan's terms."""
        assert num_items_in_batch is not None
        assert not return_outputs
        batch = micro_batch(inputs, self.way)
        references = self._references(inputs, batch)
        if any(getattr(term, "reads_states", False) for term in self.terms):
            found, states = outputs_and_states(model, batch, self.way)
        else:
            found, states = self.batches.forward(model, batch), None
        view = StepView(
            model=self.model,
            outputs=found,
            targets=batch.targets,
            weight=batch.weight,
            rehearsed=inputs["rehearsed"][0, batch.place],
            # Processes average gradients, so each divides by its share of the step's weight.
            normaliser=num_items_in_batch / self.args.world_size,
            share=1 / self.current_gradient_accumulation_steps,
            references=references,
            answers=self.batches.answers(inputs, batch, references),
            rollouts=self.batches.rollouts(inputs, batch),
            metric=self.metrics.add,
            documents=documents_of(inputs, batch),
            states=states,
        )
        return loss_of(self.terms, view)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """transformers wants the decay of warmup_stable_decay in steps, and how many there are is known only here."""
        if self.args.lr_scheduler_type == WSD:
            steps = max(1, int(self.plan.train.decay_ratio * num_training_steps))
            self.args.lr_scheduler_kwargs = {"num_decay_steps": steps, "decay_type": "linear"}
        return super().create_scheduler(num_training_steps, optimizer)

    def _references(self, inputs: dict[str, Any], batch: MicroBatch) -> References:
        # Several terms may ask; each other model is run once a micro-batch.
        @cache
        def before() -> Outputs:
            assert self.before is not None
            with self.accelerator.autocast():
                return self.before.outputs(batch)

        others: dict[str, Outputs] = {}

        def other(handle: ModelHandle) -> Outputs:
            assert self.stage is not None
            if handle.fingerprint not in others:
                with self.accelerator.autocast():
                    others[handle.fingerprint] = self.stage.outputs_of(handle, inputs, batch)
            return others[handle.fingerprint]

        @cache
        def teacher() -> Outputs:
            found = self.batches.teacher(inputs, batch)
            assert found is not None, f"draw = {self.plan.draw!r} has no teacher"
            return found

        def beside(rows: Sequence[Tokens]) -> Read:
            assert self.before is not None
            own = micro_batch(self._prepare_inputs(join([(row,) for row in rows])), self.way)
            with self.accelerator.autocast():
                found, states = self.before.read(own)
            order = own.place.argsort()
            return Read(found.at(order), states[order])

        return References(before, other, teacher, self._at_start, beside)

    def _at_start(self) -> Mapping[str, torch.Tensor]:
        if self.is_fsdp_enabled:
            raise in_pieces(self, "parameters")
        return self.start.get()

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One micro-batch; after a step's last one the plan's gradient rules, before clipping."""
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        self.tokens_read += int(inputs["input_ids"].numel())
        self._step_loss += loss
        # True at a step's last micro-batch: gradients are whole and, over processes, averaged.
        if self.accelerator.sync_gradients:
            for rule in self.rules:
                rule.apply(self.model, self.state.global_step)
            self.batches.after_backward()
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        # Called between a step's gradients and its update, by the one who knows the norm. Each process has divided by
        # weight / processes, so the mean over them is the step's loss.
        loss = self._step_loss
        if self.args.world_size > 1:
            loss = self.accelerator.reduce(loss, "mean")
        self.metrics.end_step(self.args.device, self.sum if self.args.world_size > 1 else None)
        self._end_step(float(loss), float(norm) if norm is not None else 0.0)
        self._step_loss = torch.zeros_like(loss)
        return norm

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Over all processes."""
        total: torch.Tensor = self.accelerator.reduce(value, "sum")
        return total

    def _end_step(self, loss: float, norm: float) -> None:
        """Runs between gradients and update: a step that went wrong changes no weight."""
        if not math.isfinite(loss) or not math.isfinite(norm):
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient norm is {norm}"
            why, cure = self._cause()
            raise ModelError(
                f"step {self.state.global_step + 1}: {what}",
                f"must be finite ({why})",
                f"{cure}; nothing was saved after it",
            )
        self.window.append(loss)
        self.start.step_done()

    def _cause(self) -> tuple[str, str]:
        """Why numbers of a step are not finite, and the cure."""
        # Whatever the learning rate, a number beyond 65,504 is infinite in float16; bfloat16 and float32 reach
        # 3.4e38.
        if self.accelerator.mixed_precision == "fp16" or holds(self.model, torch.float16):
            most = torch.finfo(torch.float16).max
            return (
                f"float16, which this model is computed in, holds no number above {most:,.0f}",
                "compute in bfloat16 or float32, which do",
            )
        return (
            f"learning_rate {self.args.learning_rate:g}",
            "lower train.learning_rate, raise train.warmup_ratio, or turn bf16 off",
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep [step, mean loss since the last logged step]; trackers see the same number, which
        unlike transformers' own sum survives a continued run."""
        if "loss" in logs:
            logs["loss"] = self._close_window()
            logs |= self.metrics.close(self.state.global_step)
        super().log(logs, start_time)

    def _close_window(self) -> float:
        mean = math.fsum(self.window) / len(self.window)
        self.losses.append([self.state.global_step, mean])
        self.window = []
        return mean

    def close(self) -> None:
        """Log the steps since the last logged one; raises what the draw can tell only now."""
        if self.window:
            self._close_window()
            self.metrics.close(self.state.global_step)
        self.batches.close()

    def refuse_nonfinite(self) -> None:
        """Raise ModelError where the last update left a weight that is not finite. Every process comes here.

        After an update in between the next loss shows it; nothing follows the last one but saving.
        """
        found = not_finite(self.model)
        bad = torch.tensor([0 if found is None else found[1]], device=self.args.device)
        if self.args.world_size > 1:
            bad = self.accelerator.reduce(bad, "sum")
        if not int(bad):
            return
        name, count = (found[0], found[2]) if found is not None else ("a tensor of another process", 0)
        why, cure = self._cause()
        raise ModelError(
            f"step {self.state.global_step}: {name} after the update",
            f"{int(bad):,}{f' of {count:,}' if count else ''} values are not finite ({why})",
            f"{cure}; nothing was saved of it",
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.refuse_nonfinite()
        # The end of a stage is saved as a model; a checkpoint of it would train one step more.
        if self.state.global_step >= self.state.max_steps:
            return
        super()._save_checkpoint(model, trial)
        self.batches.save(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            step = self.state.global_step
            terms = [term.state() if isinstance(term, Remembers) else None for term in self.terms]
            state, processes = self.metrics.state(), self.args.world_size
            mark = Mark(self.training, step, self.losses, self.window, state, terms, processes)
            write_mark(Path(self.args.output_dir) / f"checkpoint-{step}", mark)

    def save_trained(self, folder: Path, rounding: Rounding) -> None:
        """Write the model as it is, cast by `rounding`; checkpoints, which training continues from, never are. Every
        process comes here."""
        self.rounding = rounding
        try:
            self.save_model(str(folder))
        finally:
            self.rounding = None

    def release(self) -> None:
        """Let go of model and optimiser: what is left to do reads files. Nothing can be trained or saved after it."""
        self.accelerator.free_memory()
        nothing: Any = None
        self.model = self.model_wrapped = self.optimizer = self.lr_scheduler = nothing
        handler = self.callback_handler
        handler.model = handler.optimizer = handler.lr_scheduler = None

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self.rounding is not None and self.args.should_save and not hasattr(self.model, "peft_config"):
            state_dict = self.rounding.saved(state_dict or self.model.state_dict())
        if state_dict:
            # Gathered from pieces, tied parameters share no memory any more, by which they would be saved once.
            tied = getattr(self.model, "all_tied_weights_keys", {})
            state_dict = {name: one for name, one in state_dict.items() if tied.get(name) not in state_dict}
        super()._save(output_dir, state_dict)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """6 x tokens x parameters (arXiv:2001.08361), counted once instead of at every batch."""
        parameters: int = self.total_parameters
        return 6 * int(inputs["input_ids"].numel()) * parameters


def documents_of(inputs: Mapping[str, Any], batch: MicroBatch) -> Documents:
    """Which examples of a batch of `schedule.join` the targets of its micro-batch are of."""
    device = batch.place.device
    lengths = torch.tensor(inputs["lengths"], device=device)
    of = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)[batch.place]
    output = inputs.get("output")
    written = None if output is None else output[0, batch.place]
    # Pinned for a GPU, tuples come back as lists.
    names = tuple((origin, name) for origin, name in inputs.get("names", ()))
    return Documents(of, batch.place, names, written, inputs["input_ids"][0], tuple(inputs["lengths"]))


def loss_of(terms: Sequence[Term], view: StepView) -> torch.Tensor:
    """The sum of a plan's terms on a micro-batch."""
    if not isinstance(view.outputs, Chunked):
        return _sum(terms, view)
    by_token = [term for term in terms if getattr(term, "by_token", False)]
    other = [term for term in terms if not getattr(term, "by_token", False)]
    # All of them at each chunk, so that its logits are made once.
    total = [view.outputs.total(lambda rows, outputs: _sum(by_token, view.at(rows, outputs)))] if by_token else []
    return torch.stack([*total, *(term.loss(view) for term in other)]).sum()


def _sum(terms: Sequence[Term], view: StepView) -> torch.Tensor:
    return torch.stack([term.loss(view) for term in terms]).sum()


def ramp_of(plan: Plan, rows: Sequence[tuple[Tokens, ...]], args: Any) -> Ramp | AsTheyStand | None:
    """The order that the plan's examples ask for; None where every pass is a shuffle of its own."""
    if read_in_turn(plan.examples):
        return AsTheyStand(len(rows))
    mixture = growing(plan.examples)
    if mixture is None or mixture.new_share_start is None:
        return None
    micro_batches = -(-len(rows) // (args.per_device_train_batch_size * args.world_size))
    steps = -(-micro_batches // args.gradient_accumulation_steps)
    passes = args.max_steps / steps if args.max_steps > 0 else float(args.num_train_epochs)
    new = tuple(is_new(row[0].origin) for row in rows)
    return Ramp(new, mixture.new_share_start, passes, mixture.new_share_shape)
