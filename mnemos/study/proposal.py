"""What `mnemos init` proposes for a model and its rows: rates by size, batch and accumulation by memory, time.

Read from the model's configuration, headers and tokenizer; no weights are loaded. Every number is a beginning, and
the study file says where it comes from.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import DataError, MnemosError
from mnemos.core.nouns import Example
from mnemos.train.rates import starting_rate

if TYPE_CHECKING:
    from mnemos.models.load import Checkpoint

STEP_ROWS = 16
"""Rows of one optimiser step; 8 where there are fewer than 256 to learn, so that an epoch is more than a few steps."""

SHARE_OF_MEMORY = 0.6
"""Of the memory that is free, what weights, gradients, AdamW and one micro-batch may take together."""

FULL_BYTES = 16
"""Bytes a parameter takes in full training: float32 weight, gradient and AdamW's two moments."""

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
    from mnemos.sources.render import Renderer
    from mnemos.weights.checkpoint import tokenizer_of

    made = load_model(model.path, headers_only=True)
    config = made.config.get_text_config()
    renderer = Renderer(tokenizer_of(model))
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


def propose(facts: Facts | None, rows: int, *, free_bytes: int, flops: float | None) -> Proposal:
    """Training settings. facts: None where the model could not be looked at, and then a chat model of 0.3 to 3 billion
    parameters is assumed. rows: to learn. flops: of one large matrix product a second."""
    parameters = facts.parameters if facts else 1_000_000_000
    rates = starting_rate(parameters), starting_rate(parameters, lora=True)
    wanted = STEP_ROWS if rows >= 256 else STEP_ROWS // 2
    length = _max_length(facts)
    epochs = 3
    if facts is None:
        return Proposal(*rates, epochs, 1, wanted, length, False)
    batch, checkpointing, needs = _batch(facts, wanted, length, free_bytes)
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


def _batch(facts: Facts, wanted: int, length: int, free_bytes: int) -> tuple[int, bool, int | None]:
    """Rows of a micro-batch, whether activations are computed again, and what one row needs where it may not fit."""
    room = SHARE_OF_MEMORY * free_bytes - FULL_BYTES * facts.parameters
    # Activations of a layer: about 34 values of 2 bytes a token and unit of width (arXiv:2205.05198), twice that in
    # float32. Logits: value, gradient and softmax, 4 bytes each.
    logits = 12 * facts.vocabulary
    kept, again = 68 * facts.layers * facts.width + logits, 4 * (facts.layers + 17) * facts.width + logits
    for per_token, checkpointing in ((kept, False), (again, True)):
        fits = int(room // (per_token * length))
        if fits >= 1:
            return 2 ** int(math.log2(min(fits, wanted, 8))), checkpointing, None
    return 1, True, FULL_BYTES * facts.parameters + again * length


def free_memory() -> int:
    """Bytes that are free where training will run: of the first GPU, else of this machine."""
    import os

    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            values = dict(line.split(":", 1) for line in file)
        return 1024 * int(values["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


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
