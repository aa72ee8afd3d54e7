"""Forward passes over examples for their squared gradients, with logits in chunks where they would be large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mnemos.core.nouns import Tokens
from mnemos.core.outputs import Outputs, Whole, log_prob
from mnemos.models.chunked import Chunked, Loss, chunks
from mnemos.models.head import bare
from mnemos.train.documents import MicroBatch, Way, micro_batch, outputs
from mnemos.train.hearing import Heard
from mnemos.train.schedule import join


class UncoveredError(RuntimeError):
    """A layer whose gradient cannot be taken apart by example."""


@dataclass(frozen=True)
class Runner:
    """How examples pass through a model. move: a batch of `schedule.join` -> its device. autocast:
    the precision of training. batch: examples of one pass. sampled: predict tokens that the model
    draws by `seed`, instead of the examples' own."""

    model: nn.Module
    way: Way
    move: Callable[[dict[str, Any]], dict[str, Any]]
    autocast: Callable[[], AbstractContextManager[Any]]
    batch: int
    sampled: bool
    seed: int

    def forward(self, rows: Sequence[Tokens], numbers: Sequence[int], *, apart: bool = False) -> Forward:
        """One pass over all examples. numbers: the places of the rows among all, which name their draws. apart: the
        output layer is run beside the model, which is taken apart, where its logits are made in chunks."""
        inputs = self.move(join([(row,) for row in rows]))
        batch = micro_batch(inputs, self.way)
        chosen = self._uniform(batch, rows, numbers) if self.sampled else None

        def loss(places: Any, found: Outputs) -> torch.Tensor:
            out = found.whole().float()
            # Fisher's information is an expectation over the model's own distribution; the tokens of the data give the
            # empirical one.
            targets = batch.targets[places] if chosen is None else _drawn(out.detach(), chosen[places])
            nll = nn.functional.cross_entropy(out, targets, reduction="none")
            return (nll * batch.weight[places]).sum()

        with self.autocast():
            found = outputs(self.model, batch, self.way, layer=_beside if apart else None)
            if isinstance(found, Heard):
                return Forward(inputs, self._heard(found, batch, numbers))
            if isinstance(found, Chunked):
                return Forward(inputs, found.total(loss), HeadChunks(self, found, loss) if apart else None)
        return Forward(inputs, loss(slice(None), found))

    def _heard(self, found: Heard, batch: MicroBatch, numbers: Sequence[int]) -> torch.Tensor:
        if self.sampled:
            return found.drawn_loss(batch.weight, [(self.seed, number) for number in numbers])
        return -(found.each(log_prob, batch.targets) * batch.weight).sum()

    def _uniform(self, batch: MicroBatch, rows: Sequence[Tokens], numbers: Sequence[int]) -> torch.Tensor:
        """float64[N]: a number for each target, named by its example and not by the pass."""
        uniform = np.concatenate(
            [np.random.default_rng([self.seed, n]).random(len(row)) for n, row in zip(numbers, rows, strict=True)]
        )
        return torch.from_numpy(uniform).to(batch.place.device)[batch.place]


def _drawn(out: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """int64[n]: tokens from the model's own distributions; what shares a pass changes none. out: float[n, V]. chosen:
    float64[n]."""
    drawn = []
    # A slice at a time: the cumulated distribution is float64[256, V].
    for part, u in zip(torch.split(out, 256), torch.split(chosen, 256), strict=True):
        # Inverse of the distribution function. Probabilities in float32 add up to 1 only nearly, so u is stretched
        # to the last value, and rounding must not lead beyond the last token.
        total = part.softmax(-1).cumsum(-1, dtype=torch.float64)
        place = torch.searchsorted(total, (u * total[:, -1])[:, None], right=True)[:, 0]
        drawn.append(place.clamp_max(out.shape[-1] - 1))
    return torch.cat(drawn)


@dataclass(frozen=True)
class Forward:
    """inputs: the batch. loss: the sum over its examples of weight * nll. head: the output layer, where it was run
    beside the model."""

    inputs: dict[str, Any]
    loss: torch.Tensor
    head: HeadChunks | None = None


@dataclass(frozen=True)
class HeadChunks:
    """The output layer's gradient, chunk by chunk: its logits are computed once more, so that those of all positions
    are never there together."""

    runner: Runner
    found: Chunked
    loss: Loss

    def of(self, place: tuple[int, int], into: torch.Tensor) -> torch.Tensor:
        """Adds the gradient of the weights by the positions [start, end) to float32[V, H]."""
        layer, start = output_layer(self.runner.model), place[0]
        for rows in chunks(place[1] - start, self.found.vocabulary):
            part = slice(start + rows.start, start + rows.stop)
            states = self.found.states[part].detach()
            with torch.enable_grad(), self.runner.autocast():
                raw = nn.functional.linear(states, layer.weight, layer.bias).detach().requires_grad_()
                value = self.loss(part, Whole(self.found.head.change(raw)))
            (gradient,) = torch.autograd.grad(value, raw)
            # y = x W^T: dW = g^T x over the positions.
            into += (gradient.T @ states.to(gradient.dtype)).float()
        return into


def _beside(layer: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """The output layer without the hooks by which the model is taken apart."""
    if type(layer) is not nn.Linear or (layer.bias is not None and layer.bias.requires_grad):
        raise UncoveredError(type(layer).__name__)
    return lambda states: nn.functional.linear(states, layer.weight, layer.bias)


def output_layer(model: nn.Module) -> nn.Linear:
    """The model's, where it is a plain linear layer."""
    layer = bare(model).get_output_embeddings()
    assert isinstance(layer, nn.Linear)
    return layer
