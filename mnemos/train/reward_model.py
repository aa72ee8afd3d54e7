"""Training a reward model on preference pairs with TRL's RewardTrainer.

Loss (Bradley & Terry): -ln sigmoid(r_chosen - r_rejected - margin) + centring * mean((r_chosen + r_rejected)^2).
With soft labels p its first part is the cross-entropy -p ln sigmoid(d) - (1 - p) ln sigmoid(-d), where d is
r_chosen - r_rejected: -ln sigmoid(d) + (1 - p) d, which adds (1 - p) d to what TRL computes.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from mnemos.core.errors import DataError, ModelError
from mnemos.core.nouns import Example
from mnemos.core.settings import Epochs, LearningRate, Seed, Settings
from mnemos.train.quiet import quieted
from mnemos.train.rows import number
from mnemos.train.save import whole


class RewardTraining(Settings):
    """How a reward model is trained; names and meanings are those of trl.RewardConfig."""

    learning_rate: LearningRate = 1e-4
    """Peak learning rate."""
    num_train_epochs: Epochs = 1.0
    """Passes over the pairs."""
    per_device_train_batch_size: int = Field(default=8, ge=1, le=1_000_000)
    """Pairs per process and step."""
    max_length: int = Field(default=1024, ge=2, le=10_000_000)
    """Longest conversation in tokens; a pair with a longer one is left out and counted."""
    center_rewards_coefficient: float = Field(default=0.01, ge=0)
    """Weight of mean((r_chosen + r_rejected)^2), which keeps rewards around 0 (arXiv:2312.09244); 0 turns it off."""
    margin: str | None = None
    """Column that says by how much the chosen answer is better (arXiv:2307.09288); none unless given."""
    soft_label: str | None = None
    """Column that says how likely the chosen answer is the better one, in [0, 1], such as `preferred` of
    `mnemos reward judge` (arXiv:2309.00267); every pair is sure unless given."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    seed: Seed = 0
    """Seed of the order of pairs."""

    @model_validator(mode="after")
    def _one_meaning(self) -> RewardTraining:
        if self.margin is not None and self.soft_label is not None:
            raise ValueError(f"margin: {self.margin} and soft_label: {self.soft_label} are both set; keep one")
        return self


@dataclass(frozen=True)
class TrainedReward:
    """path: the checkpoint. counts: pairs used, and left out by reason. losses: (step, loss)."""

    path: Path
    counts: dict[str, int]
    losses: list[tuple[int, float]]


def sides(pair: Example) -> tuple[Example, Example]:
    """The two conversations of a pair: that with the chosen answer, that with the rejected one."""
    prompt = pair.turns[:-1]
    return (
        Example(f"{pair.id} chosen", "messages", pair.turns, variables=pair.variables),
        Example(f"{pair.id} rejected", "messages", (*prompt, *pair.rejected), variables=pair.variables),
    )


def pair_ids(pairs: Sequence[Example], renderer: Any, max_length: int) -> tuple[list[int], list[dict[str, Any]]]:
    """Which pairs fit, by their place, and {chosen_ids, rejected_ids} of each of these."""
    from mnemos.rewards.reward_model import rendered

    kept, rows = [], []
    for i, pair in enumerate(pairs):
        chosen, rejected = (rendered(renderer, side) for side in sides(pair))
        if max(len(chosen), len(rejected)) <= max_length:
            kept.append(i)
            rows.append({"chosen_ids": chosen, "rejected_ids": rejected})
    return kept, rows


def train_reward_model(
    model: str, pairs: Sequence[Example], out: Path, settings: RewardTraining, *, quiet: bool = False
) -> TrainedReward:
    """Train from a language model (its output embedding is dropped, a head begins at zero) and write a
    complete checkpoint at `out`. Raises DataError where no pair fits, or a margin is missing."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl.trainer.reward_trainer import RewardTrainer

    from mnemos.models.load import load_model
    from mnemos.sources.render import Renderer
    from mnemos.weights.checkpoint import load_tokenizer
    from mnemos.weights.finite import refuse_nonfinite

    tokenizer = load_tokenizer(model)
    kept, rows = pair_ids(pairs, Renderer(tokenizer), settings.max_length)
    counts = Counter(
        {"pairs": len(kept), f"left out: longer than {settings.max_length} tokens": len(pairs) - len(kept)}
    )
    if not kept:
        raise DataError(f"0 of {len(pairs)} pairs", f"are within max_length = {settings.max_length}", "raise it")
    _pad_apart(tokenizer, {ids[-1] for row in rows for ids in row.values()})
    if settings.margin is not None:
        for i, row in zip(kept, rows, strict=True):
            row["margin"] = _column(pairs[i], "margin", settings.margin)
    elif settings.soft_label is not None:
        for i, row in zip(kept, rows, strict=True):  # under the only name that TRL carries to the loss
            row["margin"] = _column(pairs[i], "soft_label", settings.soft_label, 0.0, 1.0)
    with whole(out) as folder, quieted(quiet), _bars(quiet):
        trainer = (_softly(RewardTrainer) if settings.soft_label else RewardTrainer)(
            model=load_model(model, reward=True, new_head=True),
            args=_arguments(settings, folder / "trainer", quiet),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        if quiet:
            trainer.remove_callback(PrinterCallback)
        trainer.train()
        refuse_nonfinite(trainer.model, f"the reward model after {trainer.state.global_step} steps")
        trainer.model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        shutil.rmtree(folder / "trainer", ignore_errors=True)
    losses = [(int(row["step"]), float(row["loss"])) for row in trainer.state.log_history if "loss" in row]
    return TrainedReward(out, {name: n for name, n in counts.items() if n or name == "pairs"}, losses)


def _softly(trainer: Any) -> Any:
    """The trainer class, with soft labels where its batches carry margins."""

    class SoftLabels(trainer):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            # Taken out, or the trainer would subtract it from the difference as a margin.
            label = inputs.pop("margin")
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            # TRL's batches have all chosen answers before all rejected ones: float[2 B, 1].
            chosen, rejected = outputs.logits.squeeze(-1).chunk(2)
            loss = loss + ((1 - label) * (chosen - rejected)).mean()
            return (loss, outputs) if return_outputs else loss

    return SoftLabels


def _arguments(settings: RewardTraining, folder: Path, quiet: bool) -> Any:
    import torch
    from trl.trainer.reward_config import RewardConfig

    same = ("learning_rate", "num_train_epochs", "per_device_train_batch_size", "max_length", "seed")
    return RewardConfig(
        output_dir=str(folder),
        **{name: getattr(settings, name) for name in same},
        center_rewards_coefficient=settings.center_rewards_coefficient or None,
        warmup_steps=settings.warmup_ratio,
        save_strategy="no",
        report_to="none",
        # TRL turns both on unless told otherwise.
        bf16=False,
        activation_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=quiet or not sys.stderr.isatty(),
        logging_steps=10,
    )


@contextmanager
def _bars(quiet: bool) -> Iterator[None]:
    """The bars of `datasets` only where somebody looks."""
    import datasets

    were = datasets.are_progress_bars_disabled()
    if quiet or not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were:
            datasets.enable_progress_bars()


def _pad_apart(tokenizer: Any, last: set[int]) -> None:
    """Give the tokenizer a padding token that ends no conversation: the trainer reads the reward before
    the first padding token from the right, and would else take the end of a turn for padding."""
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in last:
        return
    for token in (tokenizer.bos_token, tokenizer.unk_token, *tokenizer.all_special_tokens):
        if token is not None and tokenizer.convert_tokens_to_ids(token) not in last:
            tokenizer.pad_token = token
            return
    raise ModelError("the tokenizer", "has no special token beside the end of a turn", "set tokenizer.pad_token")


def _column(pair: Example, setting: str, column: str, least: float = -math.inf, most: float = math.inf) -> float:
    value = number(pair, column)
    if value is None or not least <= value <= most:
        bound = "must be a number" + (f" from {least:g} to {most:g}" if math.isfinite(most) else "")
        raise DataError(
            f"pair {pair.id!r}: {column} = {pair.meta.get(column)!r}", bound, f"mend it, or leave {setting} out"
        )
    return value
