"""What is known of a training before it begins: its settings, and what may move of a model without weights."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from mnemos.core.errors import MnemosError, ModelError, UsageError
from mnemos.core.packages import require
from mnemos.core.plan import Plan
from mnemos.train import draws
from mnemos.train.optimisers import check_optimiser
from mnemos.train.save import consent
from mnemos.train.trackers import PACKAGES


def check_training(plan: Plan) -> None:
    """Raise UsageError for settings that transformers would refuse when the stage begins: an unknown optimiser or
    scheduler, bf16 where there is none, a tracker or a launcher whose package is not installed."""
    from mnemos.train.arguments import own_fsdp, refused_settings, training_arguments

    for setting, value, package in (
        ("deepspeed", plan.train.deepspeed, "deepspeed"),
        ("generation_backend", plan.train.generation_backend == "vllm", "vllm"),
    ):
        if value:
            require(f"train.{setting}", package)
    if in_4bit(plan):
        _check_4bit(plan)
    check_optimiser(plan.train.optim)
    if plan.train.eval_strategy != "no" and not draws.known(plan.draw).likelihood:
        raise UsageError(
            f"train.eval_strategy = {plan.train.eval_strategy}",
            "evaluates the likelihood of held-out answers, and this arm does not learn by it",
            "set it to no for the arm (arm_train), or measure suites on the way with trajectory",
        )
    if plan.train.deepspeed:
        return  # its configuration is read by DeepSpeed itself, in the processes of its launcher
    if plan.train.bf16 is None and not Path(plan.before.path).is_dir():
        # Which dtype is fast for a model that is not here yet is not looked into: that would download it.
        plan = dataclasses.replace(plan, train=plan.train.model_copy(update={"bf16": False}))
    with tempfile.TemporaryDirectory() as scratch, own_fsdp():
        arguments = training_arguments(plan, Path(scratch))
        with refused_settings():
            _check_optimiser(arguments)
            _check_trackers(arguments)


def in_4bit(plan: Plan) -> bool:
    """Whether what does not move is held in 4 bits."""
    return bool(getattr(plan.trainable, "load_in_4bit", False))


def _check_4bit(plan: Plan) -> None:
    require("load_in_4bit", "bitsandbytes", otherwise="leave load_in_4bit out")
    import torch

    if not torch.accelerator.is_available():
        # bitsandbytes computes there, but registers no gradients for some of its kernels.
        raise UsageError("load_in_4bit", "needs a GPU to be trained on", "train on one, or leave load_in_4bit out")
    if plan.train.fsdp or plan.train.deepspeed:
        raise UsageError(
            "load_in_4bit", "holds the base whole on one device", "leave fsdp and deepspeed out, or load_in_4bit"
        )


def _check_optimiser(arguments: Any) -> None:
    from transformers import Trainer

    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments)
    except ImportError as error:
        raise UsageError(
            f"train.optim = {arguments.optim!s}", _said(error), "pip install it, or choose another"
        ) from None


def _check_trackers(arguments: Any) -> None:
    from transformers.integrations import get_reporting_integration_callbacks

    for name in arguments.report_to:
        cure = f"pip install {name}, or leave it out"
        if name in PACKAGES:
            require(f"train.report_to: {name}", name, otherwise="leave it out")
            continue
        try:
            for callback in get_reporting_integration_callbacks([name]):
                callback()
        except (ImportError, RuntimeError) as error:
            raise UsageError(f"train.report_to: {name}", _said(error), cure) from None


def check_trainable(plan: Plan) -> None:
    """Raise what the arm's choice of what may move would raise on the real model (adapter targets that match
    nothing, layers that are not there, nothing left to train), and ModelError where model and tokenizer do not fit.

    The model is made of configurations and headers alone. What can only be known of weights is not known here.
    """
    from mnemos.models.load import check_vocabulary, load_model
    from mnemos.weights.checkpoint import load_tokenizer

    heard = draws.known(plan.draw).hears
    model = load_model(plan.before.path, dtype="float32", headers_only=True, hears=heard, **consent(plan.before))
    tokenizer = load_tokenizer(plan.before.path, trust_remote_code=consent(plan.before)["trust_remote_code"])
    if not heard:
        check_vocabulary(model, tokenizer, plan.before.path)
    try:
        prepared = plan.trainable.prepare(model)
    except MnemosError:
        raise
    except Exception:
        return  # it looks at weights, which are not there
    if not any(parameter.requires_grad for parameter in prepared.parameters()):
        raise nothing_moves(prepared, plan)


def nothing_moves(model: Any, plan: Plan) -> ModelError:
    """The error for an arm that leaves nothing to train."""
    return ModelError(
        f"{plan.before.path}: 0 of {sum(p.numel() for p in model.parameters())} parameters may move",
        "at least one must",
        "loosen the arm's freeze or only",
    )


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
