"""A growing share of new rows, trained: with packing, with accumulation, and after a stop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemos.core.nouns import Example, Turn
from mnemos.sources.mix import Mixture, Rows
from mnemos.sources.render import Renderer
from mnemos.train.likelihood import train
from mnemos.train.rows import prepare
from mnemos.train.schedule import Ramp
from mnemos.train.trainer import ramp_of
from mnemos.weights.checkpoint import load_tokenizer
from tests.train.making import plan, weights


def rows(name: str, count: int) -> Rows:
    made = [(f"{name} {i}", " yes" * (1 + i % 5)) for i in range(count)]
    turns = [(Turn("prompt", asked), Turn("completion", text)) for asked, text in made]
    return Rows(tuple(Example(f"{name}{i}", "completion", pair) for i, pair in enumerate(turns)), name)


def growing(start: float | None) -> Mixture:
    return Mixture(rows("new", 12), rows("old", 30), 0.5, 0, new_share_start=start)


@dataclass(frozen=True)
class Arguments:
    """What `ramp_of` reads of transformers.TrainingArguments."""

    per_device_train_batch_size: int = 4
    gradient_accumulation_steps: int = 2
    world_size: int = 1
    max_steps: int = -1
    num_train_epochs: float = 2.0


def test_the_stage_counts_its_passes(llama: Path) -> None:
    made = plan(llama, examples=growing(0.0))
    rows = prepare(made, Renderer(load_tokenizer(str(llama)))).rows
    assert ramp_of(plan(llama), rows, Arguments()) is None
    # 24 rows are 6 micro-batches and 3 steps a pass.
    for arguments, passes in ((Arguments(), 2.0), (Arguments(max_steps=4), 4 / 3)):
        ramp = ramp_of(made, rows, arguments)
        assert isinstance(ramp, Ramp)
        assert ramp.passes == pytest.approx(passes)
        assert sum(ramp.new) == 12


def test_packed_rows_are_of_one_kind(llama: Path) -> None:
    made = plan(llama, examples=growing(0.0), packing=True, max_length=40)
    prepared = prepare(made, Renderer(load_tokenizer(str(llama))))
    kinds = [{token.origin for token in row} for row in prepared.rows]
    assert len(kinds) < 24
    assert all(len(kind) == 1 for kind in kinds)


def test_old_rows_first_and_the_same_after_a_stop(llama: Path, tmp_path: Path) -> None:
    made = plan(llama, examples=growing(0.0), save_steps=2, gradient_accumulation_steps=1)
    whole = train(made, tmp_path / "whole", quiet=True)
    shuffled = train(plan(llama, examples=growing(None)), tmp_path / "shuffled", quiet=True)
    assert (whole.steps, whole.tokens, whole.counts) == (shuffled.steps, shuffled.tokens, shuffled.counts)
    assert whole.losses != shuffled.losses

    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path / "broken", quiet=True, callbacks=[_stopper(7)])
    again = train(made, tmp_path / "broken", quiet=True)
    assert again.losses == whole.losses
    left, right = weights(again.model), weights(whole.model)
    assert all(torch.equal(left[name], right[name]) for name in left)


def _stopper(step: int) -> Any:
    from transformers import TrainerCallback

    class Stopper(TrainerCallback):  # type: ignore[misc]
        """Interrupts the training before one of its steps."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if state.global_step == step:
                raise KeyboardInterrupt

    return Stopper()
