"""What is lost when a trained model is saved in the dtype that it came in.

Training moves float32 numbers; a model that came in bfloat16 is saved in bfloat16 again, with three significant digits
a weight. Where training moved weights by less than half of the last digit they go back to what they were before. So
the loss is measured while saving, as a share of the change: ||saved - trained|| / ||trained - before||, over all
weights that are saved. 0 loses nothing; near 1 nothing of the training is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from mnemos.core.errors import ModelError
from mnemos.weights.precision import SINGLE, Precision
from mnemos.weights.selection import blocks
from mnemos.weights.tensors import View, Weights, row_width

BLOCK = 1 << 22
"""Elements that are compared at a time."""
MUCH = 0.1
"""Share of the change above which the cure is named beside the loss."""


@dataclass(frozen=True)
class Held:
    """A tensor in memory, read as those on disk are (`weights.tensors.View`)."""

    tensor: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Its dtype in memory."""
        return self.tensor.dtype

    def block(self, start: int, stop: int, wide: torch.dtype) -> torch.Tensor:
        """Elements [start, stop) in `wide`."""
        return self.tensor.reshape(-1)[start:stop].to(wide)


@dataclass
class Rounding:
    """Casts what is saved, and sums what that loses.

    precision: what each tensor is saved in. before: the weights before training, for the share; None where they
    cannot be read tensor by tensor (pickles). lost, moved: squared lengths of what rounding and what training changed.
    """

    precision: Precision
    before: Weights | None
    lost: float = 0.0
    moved: float = 0.0
    measured: bool = True

    def saved(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The tensors as they are saved, tied ones once; ModelError for one that the dtype cannot hold."""
        made: dict[tuple[int, tuple[int, ...]], torch.Tensor] = {}
        out = {}
        for name, value in state.items():
            # Tied parameters share memory, by which they are known to be one and saved once.
            key = (value.data_ptr(), tuple(value.shape))
            if key not in made:
                made[key] = self._one(name, value)
            out[name] = made[key]
        return out

    def _one(self, name: str, exact: torch.Tensor) -> torch.Tensor:
        dtype = getattr(torch, self.precision.dtype(name))
        if not exact.is_floating_point() or exact.dtype == dtype:
            return exact
        rounded = exact.to(dtype)
        place = self.before.find(name) if self.before is not None else None
        if self.before is None or place is None or self.before.stored[place].shape != tuple(exact.shape):
            self.measured = False
        else:
            self._compare(Held(exact.detach()), dtype, self.before.view(place))
        self._refuse_overflow(name, rounded)
        return rounded

    def fold(self, adapted: Weights) -> None:
        """Sum what is lost where an adapter is added to the base's tensors and these are rounded."""
        for place in {**adapted.patches, **adapted.own}:
            view, dtype = adapted.view(place), getattr(torch, self.precision.dtype(place))
            at = self.before.find(place) if self.before is not None else None
            if self.before is None or at is None:
                self.measured = False
            elif dtype != torch.float32:
                self._compare(view, dtype, self.before.view(at))

    def _compare(self, exact: View, dtype: torch.dtype, before: View) -> None:
        count, width = math.prod(exact.shape), row_width(exact.shape)
        # Whole rows, of which an adapter's part is made.
        for start, stop in blocks(count, width, BLOCK):
            wide = exact.block(start, stop, torch.float32)
            was = before.block(start, stop, torch.float32).to(wide.device)
            self.lost += float((wide.to(dtype).float() - wide).square().sum())
            self.moved += float((wide - was).square().sum())

    def _refuse_overflow(self, name: str, rounded: torch.Tensor) -> None:
        bad = int((~rounded.isfinite()).sum())
        if bad:
            raise ModelError(
                f"tensor {name}: {bad:,} of {rounded.numel():,} trained values",
                f"are too large for {rounded.dtype}, in which the model came".replace("torch.", ""),
                "save it in float32: torch_dtype: float32",
            )

    @property
    def share(self) -> float | None:
        """Of the training's change, how much rounding takes; None where it is not known of every tensor."""
        if not self.measured:
            return None
        return math.sqrt(self.lost / self.moved) if self.moved else 0.0

    def words(self) -> str:
        """For the run's output; empty where nothing was rounded."""
        if self.precision.own == SINGLE:
            return ""
        text = f"saved in {self.precision.own}, as the model came"
        if self.share is None:
            return text
        cure = " (torch_dtype: float32 keeps it)" if self.share > MUCH else ""
        return f"{text}: rounding is {100 * self.share:.2g} % of what training changed{cure}"
