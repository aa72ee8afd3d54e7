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

    checkpoints: where resumable checkpoints go. title: what trackers call the training. Raises UsageError for a
    value that transformers refuses (an unknown scheduler, bf16 where there is none).
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
    return arguments


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
