"""A model's output layer by itself: from what it reads to the logits that the model gives.

Some families change what their output layer gives: Gemma caps it, Cohere and Granite scale it. What a model does
is found out by putting numbers in the place of the layer's output and looking at what comes out, not from a list
of families; a model that does anything else (masks tokens, adds a bias of its own) has no `Head`, and its logits
are computed by itself, whole.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from mnemos.models.forward import FAILURES

SPREAD = 100.0
"""Numbers from -SPREAD to SPREAD stand in the layer's output when a model is tried: caps show in them."""

FACTORS = ("logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")
"""Names in configurations of what logits are multiplied or divided by."""

CAP = "final_logit_softcapping"
"""Name of what logits are capped at: they become cap * tanh(logits / cap)."""

Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Head:
    """layer: float[..., H] -> float[..., V], position by position. change: what the model does to that."""

    layer: Any
    change: Change

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """float[..., V]: the model's logits, from what its output layer reads, float[..., H]."""
        return self.change(self.layer(states))

    @property
    def moving(self) -> list[nn.Parameter]:
        """The layer's parameters that may move."""
        return (
            [one for one in self.layer.parameters() if one.requires_grad] if isinstance(self.layer, nn.Module) else []
        )


_KNOWN: weakref.WeakKeyDictionary[nn.Module, tuple[Any, Change | None]] = weakref.WeakKeyDictionary()
"""Model -> its output layer and what it does to its output, as tried; None where that is not known."""


def bare(model: Any) -> Any:
    """The transformers model inside wrappers for adapters and for several processes."""
    model = getattr(model, "module", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def head_of(model: Any) -> Head | None:
    """The output layer of a causal language model; None where it must be asked whole. A model is tried once.

    None also for a layer that drops out (LoRA with dropout on it): what is computed twice must be the same.
    """
    inner = bare(model)
    layer = inner.get_output_embeddings()
    if layer is None or any(isinstance(part, nn.Dropout) and part.p > 0 for part in layer.modules()):
        return None
    if inner not in _KNOWN or _KNOWN[inner][0]() is not layer:
        _KNOWN[inner] = (weakref.ref(layer), _tried(inner, layer))
    change = _KNOWN[inner][1]
    return Head(layer, change) if change is not None else None


def _tried(model: Any, layer: nn.Module) -> Change | None:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return _change(model, layer)
    except FAILURES:
        return None
    finally:
        model.train(training)


def _change(model: Any, layer: nn.Module) -> Change | None:
    read: list[torch.Tensor] = []
    given: list[torch.Tensor] = []

    def replaced(_: Any, args: tuple[Any, ...], out: torch.Tensor) -> torch.Tensor:
        read.append(args[0])
        number = torch.arange(out.numel(), device=out.device)
        spread = torch.linspace(-SPREAD, SPREAD, out.numel(), device=out.device)
        # Every other one is small, as a fresh model gives them.
        given.append(torch.where(number % 2 == 0, spread, spread / SPREAD).to(out).reshape(out.shape))
        return given[-1]

    embedded = model.get_input_embeddings().weight
    # From the middle of the vocabulary: at its ends stand tokens that some families look for, as padding.
    ids = (torch.arange(3, device=embedded.device)[None] + embedded.shape[0] // 2) % embedded.shape[0]
    with _hook(layer.register_forward_hook(replaced)):
        out = model(input_ids=ids, use_cache=False).logits
    if len(given) != 1 or out.shape != given[0].shape:
        return None
    whole, parts = layer(read[0]), [layer(read[0][:, place : place + 1]) for place in range(ids.shape[1])]
    # A position's output must hang on that position alone.
    if not torch.allclose(whole.float(), torch.cat(parts, 1).float(), rtol=1e-2, atol=1e-4):
        return None
    for change in _changes(model.config.get_text_config()):
        if out.dtype == (got := change(given[0])).dtype and torch.equal(out, got):
            return change
    return None


@contextmanager
def _hook(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _changes(config: Any) -> Iterator[Change]:
    """What may become of a layer's output, by the numbers that the configuration names."""

    def number(name: str) -> float | None:
        found = getattr(config, name, None)
        return found if isinstance(found, int | float) and not isinstance(found, bool) and found else None

    factors = [found for name in FACTORS if (found := number(name)) is not None]
    scalings: list[Change] = [lambda z: z]
    scalings += [lambda z, by=by: z * by for by in factors]  # type: ignore[misc]
    scalings += [lambda z, by=by: z / by for by in factors]  # type: ignore[misc]
    cap = number(CAP)
    capped: list[Change] = [lambda z: z]
    if cap is not None:
        capped.append(lambda z: torch.tanh(z / cap) * cap)
    widened: list[Change] = [lambda z: z, lambda z: z.float()]
    for steps in itertools.product(widened, scalings, capped):
        yield partial(_in_turn, steps)


def _in_turn(steps: Sequence[Change], z: torch.Tensor) -> torch.Tensor:
    for step in steps:
        z = step(z)
    return z


@contextmanager
def states_only(model: Any) -> Iterator[list[torch.Tensor]]:
    """Within it the model's output layer computes nothing, and what it would have read is in the list, a tensor a
    forward pass; the model's logits are empty."""
    read: list[torch.Tensor] = []

    def kept(_: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        read.append(args[0])
        return (args[0][..., :0, :], *args[1:])

    with _hook(bare(model).get_output_embeddings().register_forward_pre_hook(kept)):
        yield read
