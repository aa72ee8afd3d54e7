"""Settings shared by every stage, under Hugging Face's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mnemos.core.nouns import PowerDecoding


@dataclass(frozen=True)
class Ref:
    """Marks the type of a setting that names a place; `core.places.located` makes it absolute."""

    kind: Literal["model", "asked", "data", "file"]


ModelRef = Annotated[str, Ref("model")]
"""A checkpoint whose weights are read: a directory, relative to the file that the setting stands in, or a hub id."""
AskedModelRef = Annotated[str, Ref("asked")]
"""A model that is only asked: as ModelRef, with ``vllm:`` before it, or a server's address."""
DataRef = Annotated[str, Ref("data")]
"""Rows: a file or dataset directory, relative to the file that the setting stands in, or a hub id."""
FileRef = Annotated[str, Ref("file")]
"""A file or folder, relative to the file that the setting stands in."""


MOST_SEED = 2**32 - 1

Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]
"""Seed of a random draw: what Python, numpy and torch all take."""
LearningRate = Annotated[float, Field(gt=0, le=100)]
"""Peak learning rate; float32 overflows within a few steps of a larger one."""
Epochs = Annotated[float, Field(gt=0, le=100_000)]
"""Passes over the rows."""


class Settings(BaseModel):
    """Base of every settings record: frozen, unknown keys refused, a sentence under each field."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True, allow_inf_nan=False
    )

    @property
    def fingerprint(self) -> str:
        """16 hex digits over every setting, defaults included."""
        from mnemos.core.fingerprint import fingerprint

        return fingerprint(self.model_dump(mode="json"))


BY_LOSS = ("reduce_lr_on_plateau", "greedy")
"""Schedules of transformers that wait for an evaluation of its Trainer."""
EVALUATION = frozenset(
    {"eval_strategy", "eval_steps", "held_out_share", "load_best_model_at_end"}
    | {"early_stopping_patience", "early_stopping_threshold"}
)
"""Settings of evaluation on the way."""

WSD = "warmup_stable_decay"
"""transformers' name of the schedule that rises, stays and falls."""


class PowerSettings(Settings):
    """Power sampling (arXiv:2510.14901): answers from the model's own distribution over whole answers, sharpened."""

    alpha: float = Field(4.0, gt=0, le=1000)
    """The power of the distribution; 1 samples from the model as it is."""
    block: int = Field(192, ge=1, le=1_000_000)
    """Tokens by which answers are extended."""
    steps: int = Field(10, ge=0, le=100_000)
    """Metropolis-Hastings steps after each block; each writes half of the answer anew on average."""

    def decoding(self, max_new_tokens: int, proposal: float | None, seed: int) -> PowerDecoding:
        """How answers are drawn. proposal: the temperature at which they are proposed; None for 1 / alpha."""
        temperature = 1 / self.alpha if proposal is None else proposal
        return PowerDecoding(
            max_new_tokens, temperature, seed=seed, power=self.alpha, block=self.block, steps=self.steps
        )


class TrainSettings(Settings):
    """How a stage is trained. Names and meanings are those of transformers.TrainingArguments
    unless said otherwise."""

    learning_rate: LearningRate = 5e-5
    """Peak learning rate."""
    num_train_epochs: Epochs = 3.0
    """Passes over the mixed data; ignored when max_steps is set."""
    max_steps: int = Field(default=-1, ge=-1, le=1_000_000_000)
    """Optimiser steps; -1 counts epochs instead."""
    per_device_train_batch_size: int = Field(default=8, ge=1, le=1_000_000)
    """Rows (packed rows, with packing) of a micro-batch; the most that one process reads at once."""
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=1_000_000)
    """Micro-batches per optimiser step; the loss is normalised over all of their tokens. Unlike transformers', counted
    over all processes: several share the rows of a step, and the number of processes changes no result."""
    max_length: int = Field(default=1024, ge=2, le=10_000_000)
    """Longest example in tokens. A longer one is refused and counted unless truncate is set."""
    truncate: bool = False
    """Cut examples longer than max_length at the end instead of leaving them out."""
    long_documents: Literal["as_rows", "chunk"] = "as_rows"
    """Documents (rows of text) longer than max_length: like any other row, or in consecutive pieces
    of at most max_length tokens, so that all of them is learned."""
    rewritten_turns: Literal["refuse", "mask", "split", "keep"] = "refuse"
    """Answers that the chat template changes beyond white space, as Qwen3 drops the reasoning of all but the last and
    DeepSeek-R1-Distill of all: the row is an error; or they are read and not learned; or each answer of the row
    becomes a row of its own, behind its history as in use and with its reasoning; or what the template left of them
    is learned. What was done is counted."""
    packing: bool = False
    """Join short examples into rows of max_length; positions restart, attention stays within
    an example."""
    lr_scheduler_type: str = "linear"
    """constant, linear, cosine, warmup_stable_decay, …"""
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    decay_ratio: float = Field(default=0.2, gt=0, le=1)
    """With lr_scheduler_type: warmup_stable_decay, share of the steps at the end over which the rate falls to 0, in a
    line (arXiv:2405.18392 finds a fifth enough)."""
    weight_decay: float = Field(default=0.0, ge=0, le=1_000)
    """AdamW's decoupled weight decay."""
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's first-moment decay."""
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """AdamW's second-moment decay."""
    adam_epsilon: float = Field(default=1e-8, gt=0, le=1)
    """AdamW's epsilon."""
    max_grad_norm: float = Field(default=1.0, ge=0, le=1e9)
    """Gradient norm at which clipping starts; 0 turns it off."""
    data_seed: Seed | None = None
    """Seed of the order of rows; None uses the arm's seed."""
    bf16: bool | None = None
    """Compute in bfloat16 with float32 master weights. Left out, as the model computes where it is asked: see the
    study's torch_dtype."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    logging_steps: int = Field(default=10, ge=1, le=1_000_000_000)
    """Optimiser steps between two logged losses."""
    save_steps: int | None = Field(default=None, ge=0, le=1_000_000_000)
    """Optimiser steps between two resumable checkpoints within a stage. Left out, one is written about every five
    minutes, where that costs less than a twentieth of the time and the disk has room; 0 writes none. Changes no
    result: a stage is continued exactly, whichever step it was saved at."""
    keep_merged: bool = False
    """Where adapters are trained, also add them into the base's weights: the model that is measured is then a complete
    one, rounded to the base's dtype, with the adapter beside it. Otherwise the adapter alone is kept, and measured on
    its base."""
    eval_strategy: Literal["no", "steps", "epoch"] = "no"
    """When the loss of held-out rows is evaluated during training: never, every eval_steps, or at the end of each pass;
    and always at the last step. It stands in the results as held_out_loss."""
    eval_steps: int | None = Field(default=None, ge=1, le=1_000_000_000)
    """With eval_strategy: steps, optimiser steps between two evaluations; logging_steps unless given."""
    held_out_share: float = Field(default=0.1, gt=0, lt=1)
    """With an eval_strategy, the share of the taught rows that is evaluated and not learned, the same in every arm."""
    load_best_model_at_end: bool = False
    """Keep the weights of the evaluation with the lowest loss (the earliest of equal ones) instead of the last."""
    early_stopping_patience: int | None = Field(default=None, ge=1, le=1_000_000)
    """Stop after so many evaluations without a lower loss; needs load_best_model_at_end."""
    early_stopping_threshold: float = Field(default=0.0, ge=0, le=1_000)
    """By how many nats a loss must lie below the best one to be lower."""
    generation_backend: str = Field(default="local", pattern=r"^(local|vllm|https?://\S+)$")
    """Where answers that a stage learns from are written: local by the model itself in batches, vllm on the same
    GPU, or by `vllm serve` at an address on other ones; see docs/on_policy.md."""
    report_to: tuple[str, ...] = ()
    """Trackers by transformers' names: tensorboard, wandb, mlflow, trackio, …; one may stand without brackets. Changes
    no result."""
    fsdp: str | bool = ""
    """transformers' fsdp option, passed through: true cuts parameters up over the processes (FSDP2). With one process
    there is nothing to cut."""
    fsdp_config: dict[str, Any] | None = None
    """transformers' fsdp_config, passed through."""
    deepspeed: str | dict[str, Any] | None = None
    """A DeepSpeed configuration (path or mapping), passed through."""
    optim: Literal["adamw_torch", "adamw_torch_fused", "sgd", "adafactor"] | str = "adamw_torch_fused"
    """transformers' optimizer name, and its default: AdamW in one pass over memory, where adamw_torch takes a dozen."""

    @property
    def fingerprint(self) -> str:
        """As of all settings, but for how often is saved and who looks on, which change no result."""
        from mnemos.core.fingerprint import fingerprint

        values = {**self.model_dump(mode="json"), "save_steps": 0, "report_to": []}
        if self.eval_strategy == "no":
            # A training without evaluation keeps the name that it had before there was any.
            values = {name: value for name, value in values.items() if name not in EVALUATION}
        if self.lr_scheduler_type != WSD:
            # Likewise one whose rate has no decay of its own.
            del values["decay_ratio"]
        return fingerprint(values)

    @field_validator("report_to", mode="before")
    @classmethod
    def _one_tracker(cls, value: Any) -> Any:
        return value if not isinstance(value, str) else () if value == "none" else (value,)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> TrainSettings:
        if self.fsdp and self.deepspeed:
            raise ValueError("fsdp and deepspeed are both set; keep one")
        if self.eval_strategy == "no" and (self.load_best_model_at_end or self.early_stopping_patience is not None):
            raise ValueError("load_best_model_at_end and early_stopping_patience need an eval_strategy: steps or epoch")
        if self.lr_scheduler_type == WSD and self.warmup_ratio + self.decay_ratio > 1:
            raise ValueError(
                f"warmup_ratio {self.warmup_ratio} and decay_ratio {self.decay_ratio} are more than all steps together"
            )
        if self.early_stopping_patience is not None and not self.load_best_model_at_end:
            raise ValueError("early_stopping_patience needs load_best_model_at_end: true, or the last weights are kept")
        if self.lr_scheduler_type in BY_LOSS:
            raise ValueError(
                f"lr_scheduler_type {self.lr_scheduler_type} follows a loss of transformers' own evaluation, which is "
                "not run here; name one of steps alone, as linear, or stop early (early_stopping_patience)"
            )
        return self
