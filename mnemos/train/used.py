"""The training settings of a stage as they are used: without those that others leave without effect."""

from __future__ import annotations

from typing import Any

from mnemos.core.plan import Plan
from mnemos.core.settings import EVALUATION, WSD
from mnemos.train import draws

ASIDE = ("save_steps", "logging_steps", "report_to")
"""Settings that decide nothing about the trained model."""

NO_MOMENTS = ("sgd", "adagrad", "adafactor")
"""transformers' optimisers that read none of AdamW's decays and epsilon."""

NO_WARMUP = ("constant",)
"""transformers' schedules that begin at the peak."""


def used(plan: Plan) -> dict[str, Any]:
    """Setting -> the value in force. Left out: what decides nothing about the model (`ASIDE`), and what another
    setting of the stage leaves without effect, such as epochs beside max_steps.

    The learning rate is the arm's own where a method sets one; the seed of the order of rows is the stage's where
    none is given.
    """
    train = plan.train
    values = train.model_dump(mode="json", exclude=set(ASIDE))
    if plan.trainable.learning_rate is not None:
        values["learning_rate"] = plan.trainable.learning_rate
    if train.data_seed is None:
        values["data_seed"] = plan.seed
    del values["num_train_epochs" if train.max_steps > 0 else "max_steps"]
    if train.lr_scheduler_type in NO_WARMUP:
        del values["warmup_ratio"]
    if train.lr_scheduler_type != WSD:
        del values["decay_ratio"]
    if str(train.optim) in NO_MOMENTS:
        for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
            del values[name]
    if draws.known(plan.draw).in_data:
        del values["generation_backend"]
    if train.eval_strategy == "no":
        for name in EVALUATION:
            del values[name]
    elif train.eval_strategy == "epoch":
        del values["eval_steps"]
    if train.early_stopping_patience is None and not train.load_best_model_at_end:
        values.pop("early_stopping_threshold", None)
    if not train.fsdp:
        del values["fsdp_config"]
    return values
