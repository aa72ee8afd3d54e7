"""Logits made a few positions at a time from what the output layer reads, and their gradients.

Where a loss is a sum over positions, each chunk's gradient is taken as soon as its logits are there (the idea of
arXiv:2410.10989): nothing is computed twice, and beside one chunk's logits there is one gradient of the output
layer, which training needs anyway. Where a loss is not such a sum (a preference looks at whole answers) it gets a
number a position first; when its gradient comes back, logits of the positions that have one are computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mnemos.core.outputs import Outputs, Whole
from mnemos.models.forward import LOGIT_BYTES, logits_at
from mnemos.models.head import Head, head_of, states_only

CHUNK_BYTES = 128 * 2**20
"""Upper bound of one chunk's float32 logits, and of what is computed whole. Below it nothing is to be won: a step
holds three or four such arrays, half a gigabyte, and small vocabularies keep the plain path of autograd. Above, a
chunk of 152,000 tokens has 220 positions, enough for a matrix product to run at full speed."""

Loss = Callable[[Any, Outputs], torch.Tensor]
"""(positions as a slice or int64[n], their logits) -> scalar."""


def fits_whole(positions: int, vocabulary: int) -> bool:
    """Whether float32 logits of so many positions are small enough to be held at once."""
    return positions * vocabulary * 4 <= CHUNK_BYTES


class Chunked:
    """Implements `core.outputs.Outputs`. states: float[N, H], what the output layer reads."""

    def __init__(self, states: torch.Tensor, head: Head, vocabulary: int) -> None:
        self.states, self.head, self.vocabulary = states, head, vocabulary
        self._whole: torch.Tensor | None = None

    def whole(self) -> torch.Tensor:
        """See `Outputs.whole`."""
        if self._whole is None:
            self._whole = self.head(self.states)
        return self._whole

    def at(self, rows: Any) -> Chunked:
        """See `Outputs.at`."""
        return Chunked(self.states[rows], self.head, self.vocabulary)

    def each(self, value: Callable[..., torch.Tensor], *beside: Any) -> torch.Tensor:
        """See `Outputs.each`."""

        def of(rows: Any, outputs: Outputs) -> torch.Tensor:
            return outputs.each(value, *(one.at(rows) if hasattr(one, "at") else one[rows] for one in beside))

        moving = self.head.moving
        if torch.is_grad_enabled() and (self.states.requires_grad or moving):
            found: torch.Tensor = _Each.apply(of, self, self.states, *moving)  # type: ignore[no-untyped-call]
            return found
        return _values(of, self, self.states)

    def total(self, loss: Loss) -> torch.Tensor:
        """The sum of `loss` over chunks, with a gradient. loss: a sum over positions of what their logits say."""
        found: torch.Tensor = _Total.apply(loss, self, self.states, *self.head.moving)  # type: ignore[no-untyped-call]
        return found


def outputs_at(model: Any, flat: torch.Tensor, **inputs: Any) -> Outputs:
    """The logits at the positions `flat` (int64[N], b * T + t): made chunk by chunk where they are more than batches
    are cut to (LOGIT_BYTES), as one long text may be."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    head = head_of(model) if len(flat) * vocabulary * 4 > LOGIT_BYTES else None
    if head is None:
        return Whole(logits_at(model, flat, **inputs)[0])
    with states_only(model) as read:
        model(**inputs)
    return Chunked(read[0].reshape(-1, read[0].shape[-1])[flat], head, vocabulary)


def chunks(count: int, vocabulary: int) -> Iterator[slice]:
    """Equal stretches of positions, each within CHUNK_BYTES."""
    number = max(1, -(-count * vocabulary * 4 // CHUNK_BYTES))
    size = max(1, -(-count // number))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


class _Precision:
    """The autocast that holds when it is made, to be entered again in a backward pass, where none holds."""

    def __init__(self, device: torch.device) -> None:
        self.kind = device.type
        self.on = torch.is_autocast_enabled(self.kind)
        self.dtype = torch.get_autocast_dtype(self.kind)

    @contextmanager
    def again(self) -> Iterator[None]:
        # Without its cache: a weight that is cast where no gradient is recorded would stay cut off from its gradient
        # for whoever uses it next.
        with torch.autocast(self.kind, self.dtype, self.on, cache_enabled=False):
            yield


def _values(of: Loss, outputs: Chunked, states: torch.Tensor) -> torch.Tensor:
    """float[N], without gradient."""
    with torch.no_grad(), _Precision(states.device).again():
        parts = [of(rows, Whole(outputs.head(states[rows]))) for rows in chunks(len(states), outputs.vocabulary)]
    return torch.cat(parts)


class _Total(torch.autograd.Function):
    """The gradient is taken in the forward pass, and only scaled in the backward one."""

    @staticmethod
    def forward(ctx: Any, loss: Loss, outputs: Chunked, states: torch.Tensor, *moving: nn.Parameter) -> torch.Tensor:
        value, ctx.found = _gradients(loss, outputs, states, moving, _Precision(states.device))
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        found, ctx.found = ctx.found, ()
        return None, None, *(one if one is None else one.mul_(upstream.to(one.dtype)) for one in found)


class _Each(torch.autograd.Function):
    """Positions do not touch each other, so with a head that stands still each one's gradient is known up to a
    factor in the forward pass. The gradient of a head that moves is a sum over positions, and needs the factors."""

    @staticmethod
    def forward(ctx: Any, of: Loss, outputs: Chunked, states: torch.Tensor, *moving: nn.Parameter) -> torch.Tensor:
        ctx.precision = _Precision(states.device)
        if moving:
            ctx.again = of, outputs, moving
            ctx.save_for_backward(states)
            return _values(of, outputs, states)
        parts: list[torch.Tensor] = []

        def kept(rows: Any, chunk: Outputs) -> torch.Tensor:
            value = of(rows, chunk)
            parts.append(value.detach())
            return value.sum()

        _, (ctx.slopes,) = _gradients(kept, outputs, states, (), ctx.precision)
        ctx.again = None
        return torch.cat(parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.again is None:
            return None, None, ctx.slopes * upstream[:, None].to(ctx.slopes.dtype)
        states: torch.Tensor = ctx.saved_tensors[0]
        of, outputs, moving = ctx.again
        # Positions without a gradient (tokens that a loss has not chosen) need no logits again.
        places: torch.Tensor = upstream.nonzero()[:, 0]

        def weighted(rows: Any, chunk: Outputs) -> torch.Tensor:
            summed: torch.Tensor = (of(places[rows], chunk) * upstream[places[rows]]).sum()
            return summed

        some = states.detach()[places].requires_grad_(states.requires_grad)
        _, (of_states, *rest) = _gradients(weighted, outputs, some, moving, ctx.precision)
        if of_states is not None:
            of_states = torch.zeros_like(states).index_copy_(0, places, of_states)
        return None, None, of_states, *rest


def _gradients(
    loss: Loss, outputs: Chunked, states: torch.Tensor, moving: Sequence[nn.Parameter], precision: _Precision
) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
    """The loss summed over chunks; its gradient by the states, and by each of `moving`."""
    values: list[torch.Tensor] = []
    by_states = torch.zeros_like(states) if states.requires_grad else None
    # Sums of many chunks lose digits in 16 bits.
    sums = [torch.zeros_like(one, dtype=torch.promote_types(one.dtype, torch.float32)) for one in moving]
    backward = _of_linear if type(outputs.head.layer) is nn.Linear and not _hooked(outputs.head.layer) else _of_module
    with precision.again():
        # One chunk at a time: its logits are gone when the next ones are made.
        for rows in chunks(len(states), outputs.vocabulary):
            into = by_states[rows] if by_states is not None else None
            values.append(backward(partial(loss, rows), outputs.head, states[rows], moving, into, sums))
    total = torch.stack(values).sum() if values else states.new_zeros((), dtype=torch.float32)
    return total, (by_states, *(one.to(like.dtype) for one, like in zip(sums, moving, strict=True)))


def _hooked(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or nn.utils.parametrize.is_parametrized(layer))


def _of_linear(
    loss: Callable[[Outputs], torch.Tensor],
    head: Head,
    states: torch.Tensor,
    moving: Sequence[nn.Parameter],
    into: torch.Tensor | None,
    sums: Sequence[torch.Tensor],
) -> torch.Tensor:
    """One chunk of a plain layer: its gradient is added to the sum by the product that computes it."""
    layer, dtype = head.layer, _dtype(states)
    weight = layer.weight.detach().to(dtype)
    bias = layer.bias.detach().to(dtype) if layer.bias is not None else None
    given = states.detach().to(dtype)
    raw = F.linear(given, weight, bias).requires_grad_()
    with torch.enable_grad():
        value = loss(Whole(head.change(raw)))
    # A loss that no logit here can change has no gradient.
    if not value.requires_grad:
        return value
    (gradient,) = torch.autograd.grad(value, raw)
    # y = x W^T + b: dx = g W, dW = g^T x, db = sum of g over positions.
    if into is not None:
        into.copy_(gradient @ weight)
    for parameter, total in zip(moving, sums, strict=True):
        if parameter is layer.bias:
            total += gradient.sum(0)
        elif total.dtype == gradient.dtype:
            total.addmm_(gradient.T, given)
        else:
            total += gradient.T @ given
    return value.detach()


def _dtype(states: torch.Tensor) -> torch.dtype:
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype


def _of_module(
    loss: Callable[[Outputs], torch.Tensor],
    head: Head,
    states: torch.Tensor,
    moving: Sequence[nn.Parameter],
    into: torch.Tensor | None,
    sums: Sequence[torch.Tensor],
) -> torch.Tensor:
    """One chunk of any other layer (adapters on it, quantised weights): autograd is asked."""
    given = states.detach().requires_grad_(into is not None)
    with torch.enable_grad():
        value = loss(Whole(head(given)))
    if not value.requires_grad:
        return value
    asked = [*([given] if into is not None else []), *moving]
    found = list(torch.autograd.grad(value, asked, allow_unused=True))
    if into is not None and (first := found.pop(0)) is not None:
        into.copy_(first)
    for total, one in zip(sums, found, strict=True):
        if one is not None:
            total += one
    return value.detach()
