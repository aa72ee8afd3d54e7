"""Weights must be numbers: NaN or infinity in one of them is another model, or none."""

from __future__ import annotations

import math
from typing import Any

import torch

from mnemos.core.errors import ModelError


def all_finite(values: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite. One sum instead of a look at each value; only where the sum
    is not finite, because it overflowed or a value is not, each is looked at."""
    return math.isfinite(float(values.sum(dtype=torch.float32))) or bool(values.isfinite().all())


def holds(model: Any, dtype: torch.dtype) -> bool:
    """Whether a parameter of `model` is of `dtype`."""
    return any(value.dtype == dtype for value in model.parameters())


def not_finite(model: Any) -> tuple[str, int, int] | None:
    """(name, values that are not finite, values) of the first tensor of `model` that has such, else None.

    Looks at what would be saved: parameters and persistent buffers. Complex and integer tensors, and
    tensors without numbers (torch's meta device), are passed over.
    """
    seen: set[int] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.is_meta or id(value) in seen:
            continue
        # Tied weights stand under two names.
        seen.add(id(value))
        values = value.detach()
        values = values.to_local() if hasattr(values, "to_local") else values  # FSDP: this process's piece
        if not all_finite(values):
            return name, int((~values.isfinite()).sum()), values.numel()
    return None


def refuse_nonfinite(model: Any, path: str) -> None:
    """Raise ModelError naming the first tensor of a loaded model that holds NaN or infinity. Trap: such a
    model often runs, and its scores look like those of a bad model, or differ from run to run."""
    found = not_finite(model)
    if found is not None:
        name, bad, count = found
        raise ModelError(
            f"tensor {name} of {path}",
            f"{bad:,} of {count:,} values are not finite (NaN or infinity)",
            "its training diverged or a file was damaged: use another checkpoint",
        )
