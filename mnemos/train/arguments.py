"""TrainSettings in the words of transformers.TrainingArguments."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.plan import Plan
from mnemos.models.precision import HALF, compute_dtype
from mnemos.train.trackers import PROJECT
from mnemos.weights.precision import SINGLE


def training_arguments(plan: Plan, checkpoints: Path, title: str | None = None) -> Any:
    """transformers.TrainingArguments for a plan; joins the process group of a torchrun launch.

    checkpoints: where resumable checkpoints go. title: what trackers call the training. The rows of an optimiser step
    are those of the plan for any number of processes (`micro_batches`). Raises UsageError for a value that transformers
    refuses (an unknown scheduler, bf16 where there is none), and where processes cannot share a step.
    """
    import torch
    from accelerate.state import AcceleratorState
    from transformers import TrainingArguments

    # One process may train several stages; accelerate keeps the first one's precision otherwise.
    AcceleratorState._reset_state()
    values = _values(plan)
    names = {field.name for field in dataclasses.fields(TrainingArguments)}
    recompute = "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
    values[recompute] = plan.train.gradient_checkpointing
    with refused_settings():
        arguments = TrainingArguments(
            output_dir=str(checkpoints),
            use_cpu=not torch.accelerator.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
            remove_unused_columns=False,
            # A loss that is not finite must be seen, not replaced by the mean of others.
            logging_nan_inf_filter=False,
            # A study says itself how far it is; these bars would stand between its lines.
            disable_tqdm=True,
            log_level="error",
            run_name=title,
            project=PROJECT,
            **values,
        )
        arguments.get_warmup_steps(1)
    # Several visible GPUs in one process would mean nn.DataParallel, which splits by rows.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    rows, times = micro_batches(plan, arguments.world_size)
    arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps = rows, times
    if arguments.world_size == 1:
        # One process has nobody to cut parameters up with, which transformers would refuse: a training that several
        # began can be continued by one.
        arguments.fsdp, arguments.fsdp_plugin_args = None, None
    return arguments


def micro_batches(plan: Plan, processes: int) -> tuple[int, int]:
    """Rows of a micro-batch and how many of them each of so many processes reads in an optimiser step. UsageError where
    the rows of a step cannot be shared evenly.

    Deviation from transformers: 1. there every process reads per_device_train_batch_size x
    gradient_accumulation_steps rows, so that the number of processes decides what is learned. Here that is the plan's
    alone, and the same plan gives the same model on one GPU and on eight.
    """
    most, times = plan.train.per_device_train_batch_size, plan.train.gradient_accumulation_steps
    if processes == 1:
        return most, times
    share, left = divmod(most * times, processes)
    if left or not share:
        few = max(number for number in range(1, processes) if most * times % number == 0)
        raise UsageError(
            f"{processes} processes",
            f"cannot share the {most * times} rows of an optimiser step evenly (per_device_train_batch_size {most} x"
            f" gradient_accumulation_steps {times}, which is counted over all processes)",
            f"set train.gradient_accumulation_steps to a multiple of {processes}, or take {few}",
        )
    # The largest micro-batch within the setting, which was chosen for what a device holds.
    rows = max(number for number in range(1, most + 1) if share % number == 0)
    return rows, share // rows


@contextmanager
def refused_settings() -> Iterator[None]:
    """Turn transformers' ValueError about a setting into a UsageError."""
    try:
        yield
    except ValueError as error:
        raise UsageError("train", " ".join(str(error).split()), "the names are those of TrainingArguments") from None


@contextmanager
def own_fsdp() -> Iterator[None]:
    """Undo what accelerate tells the environment when it is given FSDP: later stages of this process would
    be cut up too."""
    name = "ACCELERATE_USE_FSDP"
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def computes_in(plan: Plan) -> str:
    """The name of the torch dtype that a stage computes in."""
    if plan.train.bf16 is not None:
        return HALF if plan.train.bf16 else SINGLE
    return compute_dtype(plan.before)


def _values(plan: Plan) -> dict[str, Any]:
    train = plan.train
    same = (
        "num_train_epochs",
        "max_steps",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "lr_scheduler_type",
        "weight_decay",
        "adam_beta1",
        "adam_beta2",
        "adam_epsilon",
        "max_grad_norm",
        "logging_steps",
        "deepspeed",
        "optim",
    )
    override = plan.trainable.learning_rate
    return {name: getattr(train, name) for name in same} | {
        "bf16": computes_in(plan) == HALF,
        "learning_rate": train.learning_rate if override is None else override,
        # transformers reads a value below 1 as a share of all steps.
        "warmup_steps": train.warmup_ratio,
        # By time (None) it is `saving.SaveByTime` that asks for them.
        "save_strategy": "steps" if train.save_steps else "no",
        "save_steps": train.save_steps or 500,
        # Two: the older one must outlive the writing of the newer one.
        "save_total_limit": 2,
        "report_to": list(train.report_to) or "none",
        "fsdp": train.fsdp or None,
        # transformers writes its defaults into it, and the plan is named by its settings.
        "fsdp_config": copy.deepcopy(train.fsdp_config),
        "seed": plan.seed,
    }
