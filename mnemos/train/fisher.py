"""Squared gradients of single examples, from passes over many examples at once.

The square of a batch's mean gradient is not the mean of its examples' squared gradients; only the
latter is an estimate of the diagonal of Fisher's information. Taking examples one by one wastes
most of a processor, so here a joined micro-batch passes once and each layer's own gradient is
taken apart afterwards: a linear layer's is the product of what went in and of what came back,
summed over the tokens of one example at a time. Whether a model can be taken apart like that is
found out by comparing two examples with a plain backward pass each; one that cannot is run
example by example.

The idea of per-example gradients from a layer's inputs and output gradients: arXiv:1510.01799.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from mnemos.core.nouns import Tokens
from mnemos.models.forward import FAILURES
from mnemos.train.passes import HeadChunks, output_layer
from mnemos.train.passes import Runner as Runner
from mnemos.train.passes import UncoveredError as UncoveredError

Sums = dict[str, torch.Tensor]
"""Parameter name -> sum over examples, float32."""

CHECKED = 2
"""How many examples are computed both ways before the fast one is trusted."""

TOLERANCE = 1e-3
"""Largest difference between both ways, as a share of a parameter's largest value; fifty times
that in 16 bits."""


def squared_gradients(runner: Runner, rows: Sequence[Tokens], numbers: Sequence[int], check: Sequence[Tokens]) -> Sums:
    """Sum over `rows` of the squared gradient of each example's sum(weight * nll).

    check: at least two examples, the same on every process, by which the fast way is tried.
    Dropout is off; `.grad` and requires_grad are as before afterwards.
    """
    training = runner.model.training
    runner.model.eval()
    try:
        if runner.way.joined and _agrees(runner, check):
            try:
                return _together(runner, rows, numbers)
            except UncoveredError:
                pass
        return _one_by_one(runner, rows, numbers)
    finally:
        runner.model.train(training)


def _moving(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _zeros(model: nn.Module) -> Sums:
    return {name: torch.zeros_like(value, dtype=torch.float32) for name, value in _moving(model).items()}


def _agrees(runner: Runner, check: Sequence[Tokens]) -> bool:
    rows, numbers = check[:CHECKED], range(min(CHECKED, len(check)))
    wanted = _one_by_one(runner, rows, numbers)
    try:
        got = _together(runner, rows, numbers)
    except (UncoveredError, *FAILURES):
        return False
    bound = TOLERANCE if next(runner.model.parameters()).dtype == _dtype(runner) else 50 * TOLERANCE
    # The added constant lets a parameter pass whose squares are all 0.
    return all(
        float((got[name] - one).abs().max()) <= bound * float(one.abs().max()) + 1e-12 for name, one in wanted.items()
    )


def _dtype(runner: Runner) -> torch.dtype:
    with runner.autocast():
        kind = next(runner.model.parameters()).device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32


def _one_by_one(runner: Runner, rows: Sequence[Tokens], numbers: Sequence[int]) -> Sums:
    sums, moving = _zeros(runner.model), _moving(runner.model)
    for row, number in zip(rows, numbers, strict=True):
        loss = runner.forward([row], [number]).loss
        # F_i = sum over examples of (d sum(weight * nll) / d theta_i)^2, one example at a time.
        found = torch.autograd.grad(loss, list(moving.values()), allow_unused=True)
        for name, gradient in zip(moving, found, strict=True):
            if gradient is not None:
                sums[name].addcmul_(gradient.float(), gradient.float())
    return sums


def _together(runner: Runner, rows: Sequence[Tokens], numbers: Sequence[int]) -> Sums:
    sums = _zeros(runner.model)
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    with _taken_apart(runner.model) as (calls, uses):
        for start in range(0, len(order), runner.batch):
            part = order[start : start + runner.batch]
            calls.clear()
            run = runner.forward([rows[i] for i in part], [numbers[i] for i in part], apart=True)
            run.loss.backward()  # type: ignore[no-untyped-call]
            spans = _Spans.of(run.inputs)
            if run.head is not None:
                calls.append(_Call(output_layer(runner.model), run.head.found.states[None].detach(), chunks=run.head))
            # Tied weights have several owners; their gradients are added before they are squared.
            for name, owners in uses.items():
                _add_squares(sums[name], [(c, local) for c in calls for m, local in owners if c.module is m], spans)
    return sums


@dataclass
class _Call:
    """One run of a layer: what went in, and the gradient of what came out; or chunks, that make it bit by bit."""

    module: nn.Module
    given: torch.Tensor
    gradient: torch.Tensor | None = None
    chunks: HeadChunks | None = None

    @property
    def reached(self) -> bool:
        """Whether a gradient came back to it."""
        return self.gradient is not None or self.chunks is not None


Uses = dict[str, list[tuple[nn.Module, str]]]
"""Parameter name -> the layers that own it, and its name there."""


@contextmanager
def _taken_apart(model: nn.Module) -> Iterator[tuple[list[_Call], Uses]]:
    """Inside, no parameter gets a gradient; each layer that owns one leaves its calls instead."""
    moving = _moving(model)
    # By identity, so that a tied parameter is found under its one name wherever it is used.
    names = {id(value): name for name, value in moving.items()}
    uses: Uses = {name: [] for name in moving}
    calls: list[_Call] = []
    handles = []
    for module in model.modules():
        own = [(key, names[id(value)]) for key, value in module._parameters.items() if id(value) in names]
        for key, name in own:
            uses[name].append((module, key))
        if own:
            handles.append(module.register_forward_hook(lambda m, given, out: _keep(calls, m, given, out)))
    # Without gradients of parameters a backward pass costs what goes through the layers alone.
    for value in moving.values():
        value.requires_grad_(False)
    try:
        yield calls, uses
    finally:
        for handle in handles:
            handle.remove()
        for value in moving.values():
            value.requires_grad_(True)


def _keep(calls: list[_Call], module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
    if len(given) != 1 or not isinstance(given[0], torch.Tensor) or not isinstance(out, torch.Tensor):
        raise UncoveredError(type(module).__name__)
    call = _Call(module, given[0].detach())
    calls.append(call)
    # The first layer's output begins the graph, as no parameter does.
    if not out.requires_grad:
        out.requires_grad_(True)

    def arrived(gradient: torch.Tensor) -> None:
        call.gradient = gradient

    out.register_hook(arrived)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class _Spans:
    """Where each example lies among the T joined tokens and among the N predicted ones."""

    tokens: tuple[tuple[int, int], ...]
    targets: tuple[tuple[int, int], ...]

    @staticmethod
    def of(inputs: dict[str, Any]) -> _Spans:
        ends = [0, *accumulate(inputs["lengths"])]
        # `taught` rises, so the targets of an example lie between the ranks of its first token and of the next one's.
        marks = torch.searchsorted(inputs["taught"], torch.tensor(ends, device=inputs["taught"].device)).tolist()
        return _Spans(tuple(pairwise(ends)), tuple(pairwise(marks)))

    def find(self, call: _Call) -> tuple[tuple[int, int], ...]:
        """The spans along `axis(call)`; a layer sees all tokens or, behind the last norm, the predicted."""
        for spans in (self.tokens, self.targets):
            if spans[-1][1] == call.given.shape[_axis(call)]:
                return spans
        raise UncoveredError(f"{type(call.module).__name__} of {tuple(call.given.shape)}")


def _axis(call: _Call) -> int:
    """Where tokens are counted in what went in: [1, T], [1, T, D], [1, T, heads, D] or [1, heads, T, D]."""
    shape, gradient = call.given.shape, call.gradient
    if call.chunks is not None:
        return 1
    if len(shape) < 2 or shape[0] != 1 or gradient is None:
        raise UncoveredError(f"{type(call.module).__name__} of {tuple(shape)}")
    # Queries come as a view of [1, T, heads, D]; its strides tell which axis is which.
    return 2 if len(shape) == 4 and call.given.stride(1) < call.given.stride(2) else 1


def _add_squares(into: torch.Tensor, calls: list[tuple[_Call, str]], spans: _Spans) -> None:
    reached = [(call, local, spans.find(call)) for call, local in calls if call.reached]
    if not reached:
        return
    if into.dim() == 1:
        # float32[examples, D]: small enough for all examples at once, unlike a matrix for each.
        per_example = sum(_summed(_by_token(call, local), places) for call, local, places in reached)
        assert isinstance(per_example, torch.Tensor)
        into += per_example.square().sum(0)
        return
    call, _, places = reached[0]
    if len(reached) == 1 and type(call.module) is nn.Embedding:
        _add_looked_up(into, call, places)
        return
    # Lookups last: what they add is sparse and goes into the others' sum.
    reached.sort(key=lambda use: type(use[0].module) is nn.Embedding)
    # dW = sum_t g_t x_t^T over the tokens t of one example (arXiv:1510.01799), and only then squared: the square of a
    # sum is not the sum of squares.
    for number in range(len(spans.tokens)):
        whole: torch.Tensor | None = None
        for call, local, places in reached:
            whole = _of_example(call, local, places[number], whole)
        assert whole is not None
        into.addcmul_(whole, whole)


def _summed(by_token: torch.Tensor, places: tuple[tuple[int, int], ...]) -> torch.Tensor:
    """float32[examples, D] from float[T, D]."""
    lengths = torch.tensor([end - start for start, end in places], device=by_token.device)
    owner = torch.arange(len(places), device=by_token.device).repeat_interleave(lengths)
    out = torch.zeros(len(places), by_token.shape[-1], device=by_token.device)
    return out.index_add_(0, owner, by_token.float())


def _by_token(call: _Call, local: str) -> torch.Tensor:
    """float[T, D]: what each token adds to the gradient of a vector."""
    assert call.gradient is not None
    gradient = call.gradient[0]
    # y = x W^T + b: what comes back at a token is its gradient of b.
    if local == "bias" and isinstance(call.module, nn.Linear | Conv1D | nn.LayerNorm):
        return gradient
    # y = w * x_hat + b, so dw = g * x_hat.
    if type(call.module) is nn.LayerNorm:
        width = call.module.normalized_shape
        return gradient * nn.functional.layer_norm(call.given[0], width, eps=call.module.eps)
    # Any other vector scales channels (a norm): give each token its own copy and ask autograd.
    value = getattr(call.module, local).detach()
    if value.shape[0] != call.given.shape[-1]:
        raise UncoveredError(type(call.module).__name__)
    axis = _axis(call)
    shape = [1] * (call.given.dim() - 1) + [len(value)]
    shape[axis] = call.given.shape[axis]
    # [1, T, D], or with heads [1, T, 1, D] or [1, 1, T, D].
    copies = value.expand(shape).clone().requires_grad_(True)
    with torch.enable_grad():
        out = torch.func.functional_call(call.module, {local: copies}, (call.given,))
        (found,) = torch.autograd.grad(out, copies, call.gradient)
    by_token: torch.Tensor = found.reshape(-1, len(value))
    return by_token


def _of_example(call: _Call, local: str, place: tuple[int, int], to: torch.Tensor | None) -> torch.Tensor:
    """The gradient of a matrix from the tokens of one example, float32, added to `to`."""
    value = getattr(call.module, local)
    if call.chunks is not None:
        return call.chunks.of(place, torch.zeros_like(value, dtype=torch.float32) if to is None else to)
    assert call.gradient is not None
    if _axis(call) != 1:
        raise UncoveredError(type(call.module).__name__)
    given, gradient = call.given[0, place[0] : place[1]], call.gradient[0, place[0] : place[1]]
    if type(call.module) is nn.Embedding:
        out = torch.zeros_like(value, dtype=torch.float32) if to is None else to
        return out.index_add_(0, given, _unpadded(call, given, gradient))
    found = _product(call, value, local, given, gradient)
    return found if to is None else to + found


def _product(call: _Call, value: torch.Tensor, local: str, given: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    if type(call.module) is nn.Linear:
        # [out, in] = [out, tokens] [tokens, in].
        return (gradient.T @ given.to(gradient.dtype)).float()
    if type(call.module) is Conv1D:
        # Conv1D keeps its weight as [in, out].
        return (given.to(gradient.dtype).T @ gradient).float()
    # Any other layer is run again on this example alone, and autograd asked.
    leaf = value.detach().requires_grad_(True)
    with torch.enable_grad():
        again = torch.func.functional_call(call.module, {local: leaf}, (given[None],))
        (found,) = torch.autograd.grad(again, leaf, gradient[None])
    whole: torch.Tensor = found.float()
    return whole


def _unpadded(call: _Call, ids: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """A lookup's gradients without those of its padding row, which torch leaves out too."""
    assert isinstance(call.module, nn.Embedding)
    padding, gradient = call.module.padding_idx, gradient.float()
    return gradient if padding is None else gradient.masked_fill((ids == padding)[:, None], 0.0)


def _add_looked_up(into: torch.Tensor, call: _Call, places: tuple[tuple[int, int], ...]) -> None:
    """Only the rows that an example reads have a gradient."""
    assert call.gradient is not None
    ids, rows = call.given[0], into.shape[0]
    lengths = torch.tensor([end - start for start, end in places], device=ids.device)
    owner = torch.arange(len(places), device=ids.device).repeat_interleave(lengths)
    # One key for each pair of an example and a token id: repeated tokens of one example are added before the square,
    # those of two examples after it.
    keys, inverse = torch.unique(owner * rows + ids, return_inverse=True)
    sums = torch.zeros(len(keys), into.shape[1], device=into.device)
    sums.index_add_(0, inverse, _unpadded(call, ids, call.gradient[0]))
    into.index_add_(0, keys % rows, sums.square())
