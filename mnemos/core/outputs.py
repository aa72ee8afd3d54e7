"""Logits of a micro-batch that need never be whole.

A vocabulary of 152,000 tokens takes 1.2 GB of float32 logits for 2,048 positions, and a loss holds several
such arrays at once. What is asked of logits is nearly always a number a position, so they can be made for
a few positions, asked and thrown away (`models.chunked`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Outputs(Protocol):
    """The logits float[N, V] of one model at the N positions of a micro-batch."""

    def whole(self) -> torch.Tensor:
        """float[N, V], all at once; kept for whoever asks next."""
        ...

    def at(self, rows: Any) -> Outputs:
        """Those of some positions only, for a slice or int64[n]."""
        ...

    def each(self, value: Callable[..., torch.Tensor], *beside: Any) -> torch.Tensor:
        """float[N]: value(logits float[n, V], *beside) is asked for float[n], a number for each position from that
        position's logits alone; perhaps several times, for some positions each.

        beside: what else it looks at, tensors whose first axis is the N positions, or other Outputs, which come as
        logits float[n, V']. Only this model gets a gradient.
        """
        ...


@dataclass(frozen=True)
class Whole:
    """Logits that are there already. logits: float[N, V]."""

    logits: torch.Tensor

    def whole(self) -> torch.Tensor:
        """See `Outputs.whole`."""
        return self.logits

    def at(self, rows: Any) -> Whole:
        """See `Outputs.at`."""
        return Whole(self.logits[rows])

    def each(self, value: Callable[..., torch.Tensor], *beside: Any) -> torch.Tensor:
        """See `Outputs.each`."""
        return value(self.logits, *(logits_or_rows(one) for one in beside))


def logits_or_rows(one: Any) -> torch.Tensor:
    """The logits of Outputs, or the tensor itself."""
    found: torch.Tensor = one.whole() if hasattr(one, "whole") else one
    return found


def log_prob(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """float32[n]: ln p of each target in nats. logits: float[n, V]. targets: int64[n]."""
    import torch.nn.functional as F

    return -F.cross_entropy(logits.float(), targets, reduction="none")
