"""A training step without numbers: the bytes that its tensors take while it runs.

The model is made of shapes alone (torch's meta device), and the step that training takes is run on it: forward pass,
loss, backward pass. A dispatch mode adds up what is alive after every operation. So activations are known for any
architecture, adapter and recomputation without a formula for each, and without a byte of weights.

Layers are alike, so the step is run with FEW of them, and with twice as many, and the rest is a straight line. What
kernels take inside themselves and what the allocator leaves lie around is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from mnemos.core.errors import ModelError
from mnemos.core.outputs import Outputs, Whole
from mnemos.core.plan import Likelihood, References, StepView, Term
from mnemos.models.chunked import CHUNK_BYTES
from mnemos.models.forward import FAILURES
from mnemos.models.head import bare, states_only
from mnemos.train.trainer import loss_of

ATTENTION = "mnemos_simulated"
"""Name of `_attention` among transformers' attention functions."""

META = "meta"

FEW = 2
"""Layers of the smaller one of two runs."""


@dataclass(frozen=True)
class Shape:
    """A micro-batch. lengths: tokens of each example. supervised: tokens that carry weight, over all of them."""

    lengths: tuple[int, ...]
    supervised: int

    @property
    def tokens(self) -> int:
        """Of all examples, without padding."""
        return sum(self.lengths)


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operations make, until they are gone. peak: the most bytes at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it made."""
        out = func(*args, **(kwargs or {}))
        for one in tree_iter(out):
            if isinstance(one, torch.Tensor):
                self._count(one.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        # Views and what is changed in place share the storage of something that is counted already.
        key = storage._cdata
        if key in self.known:
            return
        size = storage.nbytes()
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


@dataclass(frozen=True)
class Step:
    """Bytes of one micro-batch's forward and backward pass. activations: the most at once, without gradients of
    parameters. layer: how much of it one layer adds."""

    activations: int
    layer: int


def step_bytes(model: Any, shape: Shape, *, half: bool, terms: Sequence[Term]) -> Step:
    """What a step's tensors take beside weights and gradients.

    model: without numbers, as it will be trained (`Trainable.prepare`, recomputation switched on); it loses layers and
    gradients here, and cannot be used for anything else afterwards. half: computes in bfloat16. terms: of the loss;
    where they need numbers, likelihood is taken for them.
    """
    if half:
        # The meta device knows no autocast. What it would keep in float32 (the residual stream) is taken for half.
        model = model.to(torch.bfloat16)
    for value in model.parameters():
        if value.requires_grad:
            # Gradients are counted by whoever knows when they are given back.
            value.register_post_accumulate_grad_hook(_forget)
    layers = _layers(model)
    whole = len(layers) if layers is not None else 0
    if layers is None or whole <= 2 * FEW or not _move_alike(layers):
        return Step(_peak(model, shape, terms), 0)
    del layers[2 * FEW :]
    more = _peak(model, shape, terms)
    del layers[FEW:]
    each = max(0, more - _peak(model, shape, terms)) // FEW
    return Step(more + each * (whole - 2 * FEW), each)


def _move_alike(layers: nn.ModuleList) -> bool:
    """Whether as much moves in every layer: only then do a few stand for all. Of an expanded model they might be those
    in which nothing moves at all."""
    return len({sum(v.numel() for v in layer.parameters() if v.requires_grad) for layer in layers}) <= 1


def _forget(value: torch.Tensor) -> None:
    value.grad = None


def _layers(model: Any) -> nn.ModuleList | None:
    """The list of the model's layers: the longest one that it holds."""
    inner = bare(model)
    # Of a model that listens, those of its language model, whatever its bridge is made of.
    found = [one for one in getattr(inner, "language", inner).modules() if isinstance(one, nn.ModuleList)]
    return max(found, key=len, default=None)


def _peak(model: Any, shape: Shape, terms: Sequence[Term]) -> int:
    config = bare(model).config.get_text_config()
    layers = _layers(model)
    if layers is not None and hasattr(config, "num_hidden_layers"):
        # Some models count their layers by the configuration.
        config.num_hidden_layers = min(config.num_hidden_layers, len(layers))
    joined = _joins(model, shape)
    for chosen in (terms, (Likelihood(),)):
        try:
            with Live() as live:
                loss_of(chosen, _view(model, shape, joined)).backward()  # type: ignore[no-untyped-call]
            return int(live.peak)
        except (AssertionError, *FAILURES):
            # A term that looks at numbers, or is one only when the stage has begun.
            continue
    raise ModelError(f"{type(bare(model)).__name__}", "cannot be run without numbers")


def _view(model: Any, shape: Shape, joined: bool) -> StepView:
    vocabulary = int(bare(model).get_input_embeddings().weight.shape[0])
    # Where logits would be large they are made chunk by chunk, so that one chunk's are there at a time.
    count = max(1, min(shape.supervised, CHUNK_BYTES // (4 * vocabulary)))
    places = torch.zeros(count, dtype=torch.int64, device=META)
    inputs = {**_inputs(shape, joined), "use_cache": False}
    if joined:
        made = model(**inputs, logits_to_keep=places).logits[0]
    else:
        with states_only(model) as read:
            model(**inputs)
        made = bare(model).get_output_embeddings()(read[0].reshape(-1, read[0].shape[-1])[places])
    weight = torch.ones(count, device=META)
    return StepView(
        model=model,
        outputs=Whole(made),
        targets=places,
        weight=weight,
        rehearsed=weight.bool(),
        normaliser=float(count),
        share=1.0,
        references=_references(model, count, vocabulary),
    )


def _references(model: Any, count: int, vocabulary: int) -> References:
    """Other models' logits, as large as this one's; what holds them is counted by `train.estimate`."""

    def outputs() -> Outputs:
        return Whole(torch.empty(count, vocabulary, device=META))

    start = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    return References(outputs, lambda _: outputs(), outputs, lambda: start)


def _inputs(shape: Shape, joined: bool) -> dict[str, Any]:
    if joined:
        ids = torch.zeros(1, shape.tokens, dtype=torch.int64, device=META)
        return {"input_ids": ids, "position_ids": torch.zeros_like(ids), "simulated_lengths": shape.lengths}
    rows, width = len(shape.lengths), max(shape.lengths)
    # Four axes: a mask that is complete, which transformers looks at no more.
    mask = torch.zeros(rows, 1, width, width, device=META)
    return {"input_ids": torch.zeros(rows, width, dtype=torch.int64, device=META), "attention_mask": mask}


def _joins(model: Any, shape: Shape) -> bool:
    """Whether `_attention` fits, as `documents.find_way` finds out on real numbers."""
    inner = bare(model)
    _register()
    before = inner.config._attn_implementation
    try:
        inner.set_attn_implementation(ATTENTION)
        with torch.no_grad():
            _view(model, shape, True)
    except FAILURES:
        # Such a model computes its attention weights one by one, and keeps them.
        inner.set_attn_implementation("eager" if before in (None, ATTENTION) else before)
        return False
    return True


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    simulated_lengths: tuple[int, ...] | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """As `documents.document_attention`, by the kernel that the CPU has: without numbers torch would choose another,
    which keeps the attention weights. Flash kernels of GPUs keep the same tensors."""
    from mnemos.train.documents import refuse_attention

    lengths = simulated_lengths or (query.shape[2],)
    refuse_attention(module, attention_mask, key.shape[2] != query.shape[2], lengths, others)
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    # Under autocast rotary embeddings leave queries and keys wider than values.
    query, key = query.to(value.dtype), key.to(value.dtype)
    parts = [
        kernel(q, k, v, 0.0, True, scale=scaling)[0].transpose(1, 2)
        for q, k, v in zip(*(torch.split(one, list(lengths), 2) for one in (query, key, value)), strict=True)
    ]
    return torch.cat(parts, 1), None


def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _attention)
