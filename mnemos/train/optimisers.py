"""What transformers' optimisers take: the package that one needs, and bytes of state a parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from mnemos.core.errors import UsageError
from mnemos.core.packages import require

PACKAGES = {
    "bitsandbytes": (
        *("adamw_bnb_8bit", "adamw_8bit", "lion_32bit", "lion_8bit", "ademamix", "ademamix_8bit", "paged_adamw_32bit"),
        *("paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit", "paged_lion_32bit", "paged_lion_8bit"),
        *("rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"),
    ),
    "torchao": ("adamw_torch_4bit", "adamw_torch_8bit"),
}
"""Package -> the names of `train.optim` that it brings."""

STATES = {
    "sgd": 0.0,
    "adagrad": 4.0,
    "rmsprop": 4.0,
    "rmsprop_bnb": 4.0,
    "rmsprop_bnb_32bit": 4.0,
    "rmsprop_bnb_8bit": 1.0,
    "lion_32bit": 4.0,
    "lion_8bit": 1.0,
    "adamw_torch_4bit": 1.0,
    "adamw_torch_8bit": 2.0,
    "adamw_bnb_8bit": 2.0,
    "adamw_8bit": 2.0,
    "ademamix": 12.0,
    "ademamix_8bit": 3.0,
    "paged_ademamix_32bit": 12.0,
    "paged_ademamix_8bit": 3.0,
    "paged_adamw_8bit": 2.0,
    "paged_lion_32bit": 4.0,
    "paged_lion_8bit": 1.0,
}
"""Bytes of state a parameter that moves; the constants of quantised states, a number in hundreds, are left out."""

ADAM = 8.0
"""Two moments in float32: what every optimiser is taken to need that is not named above."""


@dataclass(frozen=True)
class Taken:
    """Bytes of an optimiser. states: kept from step to step on the device. beside: at once while it steps."""

    states: int
    beside: int


def package_of(optim: str) -> str | None:
    """The package that an optimiser needs beside torch and transformers; None where it needs none of these two."""
    return next((package for package, names in PACKAGES.items() if optim in names), None)


def check_optimiser(optim: str) -> None:
    """Raise UsageError where an optimiser's package is not here, or where it would have no GPU."""
    package = package_of(optim)
    if package is None:
        return
    what = f"train.optim = {optim}"
    require(what, package, otherwise="take adafactor, which keeps nearly no state and needs no package")
    import torch

    if package == "bitsandbytes" and not torch.accelerator.is_available():
        raise UsageError(what, "needs a GPU", "take adafactor, which keeps nearly no state, on a CPU")


def taken(optim: str, shapes: Iterable[tuple[int, ...]], *, on_gpu: bool) -> Taken:
    """Bytes that an optimiser takes for moving parameters of some shapes, in float32."""
    sizes = [(shape, math.prod(shape)) for shape in shapes]
    largest, total = max((size for _, size in sizes), default=0), sum(size for _, size in sizes)
    if optim == "adafactor":
        # A number for each row and each column in place of each weight (arXiv:1804.04235); vectors keep their squares.
        rows = sum(4 * (size // shape[-1] + size // shape[-2] if len(shape) > 1 else size) for shape, size in sizes)
        return Taken(rows, 12 * largest)
    states = 0 if optim.startswith("paged") and on_gpu else int(STATES.get(optim, ADAM) * total)
    # One tensor after the other on a CPU; all of them at once on a GPU, in two arrays, unless a kernel does it all.
    fused = optim == "adamw_torch_fused" or package_of(optim) == "bitsandbytes"
    return Taken(states, 0 if fused else 8 * (total if on_gpu and optim != "sgd" else largest))
