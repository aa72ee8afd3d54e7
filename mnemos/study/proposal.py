"""What `mnemos init` proposes for a model and its rows: rates by size, batch and accumulation by memory, time.

Read from the model's configuration, headers and tokenizer; no weights are loaded. Every number is a beginning, and
the study file says where it comes from.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import DataError, MnemosError
from mnemos.core.nouns import Example
from mnemos.study.room import fitting
from mnemos.train.rates import starting_rate

if TYPE_CHECKING:
    from mnemos.models.load import Checkpoint

STEP_ROWS = 16
"""Rows of one optimiser step; 8 where there are fewer than 256 to learn, so that an epoch is more than a few steps."""

SHARE_OF_MEMORY = 0.8
"""Of the memory that is free, what a training may take by the estimate."""

EFFICIENCY = 0.5
"""Share of the speed of one large matrix product that training reaches."""

MEASURED_ROWS = 64
"""Rows whose tokens are counted."""


@dataclass(frozen=True)
class Facts:
    """family: model_type of the configuration. parameters: tied ones once. layers, width, vocabulary: of its shapes.
    context: longest sequence in tokens. chat: whether it has a chat template. thinking: whether that template has
    `enable_thinking`. lengths: tokens of the first rows, where they could be rendered."""

    family: str
    parameters: int
    layers: int
    width: int
    vocabulary: int
    context: int
    chat: bool
    thinking: bool
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Proposal:
    """What the study file says under `train`, and how long it may take. seconds: of one training on all rows, all
    epochs; None where no model was looked at. needs: bytes of full training with one row at a time, where
    these may not fit."""

    learning_rate: float
    lora_rate: float
    epochs: int
    batch: int
    accumulation: int
    max_length: int
    checkpointing: bool
    seconds: float | None = None
    needs: int | None = None


def facts_of(model: Checkpoint, examples: Sequence[Example]) -> Facts:
    """What configuration, headers and tokenizer say. Raises ModelError for what is no causal language model."""
    from mnemos.models.forward import context_length
    from mnemos.models.load import load_model
    from mnemos.models.renderer import renderer_of

    made = load_model(model.path, headers_only=True)
    config = made.config.get_text_config()
    renderer = renderer_of(model)
    chat = bool(renderer.tokenizer.chat_template)
    return Facts(
        family=str(config.model_type),
        parameters=sum(parameter.numel() for parameter in made.parameters()),
        layers=int(getattr(config, "num_hidden_layers", 0) or 0),
        width=int(made.get_input_embeddings().weight.shape[1]),
        vocabulary=int(made.get_input_embeddings().weight.shape[0]),
        context=context_length(made),
        chat=chat,
        thinking=chat and renderer.template.knows("enable_thinking"),
        lengths=_lengths(renderer, examples),
    )


def _lengths(renderer: Any, examples: Sequence[Example]) -> tuple[int, ...]:
    lengths = []
    for example in examples[:MEASURED_ROWS]:
        try:
            lengths.append(len(renderer.render(example)))
        except (DataError, MnemosError):
            continue  # the run says what is wrong with it
    return tuple(lengths)


def propose(
    facts: Facts | None,
    rows: int,
    *,
    free_bytes: int,
    flops: float | None,
    needed: Callable[[int, int, bool], int] | None = None,
) -> Proposal:
    """Training settings. facts: None where the model could not be looked at, and then a chat model of 0.3 to 3 billion
    parameters is assumed. rows: to learn. flops: of one large matrix product a second. needed: see
    `room.needs_for`; None where nothing is known."""
    parameters = facts.parameters if facts else 1_000_000_000
    rates = starting_rate(parameters), starting_rate(parameters, lora=True)
    wanted = STEP_ROWS if rows >= 256 else STEP_ROWS // 2
    length = _max_length(facts)
    epochs = 3
    if facts is None or needed is None:
        return Proposal(*rates, epochs, 1, wanted, length, False)
    batch, checkpointing, needs = fitting(wanted, length, SHARE_OF_MEMORY * free_bytes, needed)
    seconds = None
    if flops and facts.lengths:
        tokens = epochs * rows * sum(facts.lengths) / len(facts.lengths)
        # 6 operations a parameter and token (arXiv:2001.08361), 8 where activations are computed again.
        seconds = (8 if checkpointing else 6) * parameters * tokens / (EFFICIENCY * flops)
    return Proposal(*rates, epochs, batch, -(-wanted // batch), length, checkpointing, seconds, needs)


def _max_length(facts: Facts | None) -> int:
    """The power of two that 99 of 100 rows fit into, 1024 where nothing is known."""
    if facts is None or not facts.lengths:
        return 1024
    longest = sorted(facts.lengths)[min(len(facts.lengths) - 1, math.ceil(0.99 * len(facts.lengths)) - 1)]
    return int(min(facts.context, max(128, 2 ** math.ceil(math.log2(longest + 1)))))


def matrix_flops(seconds: float = 0.2) -> float:
    """Operations a second of a matrix product in float32 on a CPU, in bfloat16 on a GPU; of a CPU as it is when
    nothing else runs on it."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size, dtype = (4096, torch.bfloat16) if device == "cuda" else (512, torch.float32)
    a = torch.ones(size, size, dtype=dtype, device=device)
    (a @ a).sum().item()  # the first one also starts the library
    # On a CPU the time of the processor, of which each thread has its own: what others take does not count.
    clock, threads = (time.perf_counter, 1) if device == "cuda" else (time.process_time, torch.get_num_threads())
    count, began = 0, clock()
    while (spent := clock() - began) < seconds * threads:
        (a @ a)[0, 0].item()  # waits for the device
        count += 1
    return 2.0 * size**3 * count * threads / spent


def duration(seconds: float) -> str:
    """Like "40 s", "12 min" and "3.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
