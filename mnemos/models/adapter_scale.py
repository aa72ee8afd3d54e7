"""How much adapters count: at a scale of one's own, and at places of sounds alone.

The first is SALMONN's knob (arXiv:2310.13289): a model whose adapter was trained on few tasks answers everything as
they ask for; at a lower scale it follows instructions again, at a cost in the tasks. The second is the partial LoRA of
BLSP-Emo (arXiv:2406.03872): adapters add nothing at places of text, so that text alone is answered bit for bit as
before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mnemos.core.errors import ModelError, UsageError
from mnemos.models.head import bare


def lora_layers(model: Any) -> list[Any]:
    """Layers with a low-rank adapter beside them; none of a model whose adapters are merged."""
    from peft.tuners.lora.layer import LoraLayer

    return [one for one in model.modules() if isinstance(one, LoraLayer)]


def scale_by(model: Any, factor: float) -> None:
    """Multiply what each adapter adds by `factor`: 1 is as trained, 0 the model without its adapters.

    Raises UsageError for a model without adapters beside its weights (merged ones cannot be told from them), and for a
    factor that is no number from 0 on. Trap: the bridge is not scaled, it stays as it was trained.
    """
    if not 0 <= factor <= 1e6:  # NaN too
        raise UsageError(f"lora_scale = {factor}", "must be a number from 0 on", "1 is as trained")
    layers = lora_layers(model)
    if not layers:
        bound = "needs adapters beside the weights, and this model has none (a merged adapter cannot be told from them)"
        raise UsageError(f"lora_scale = {factor:g}", bound, "name the directory of an adapter that is not merged")
    for layer in layers:
        for name in layer.scaling:
            layer.scaling[name] = layer.scaling[name] * factor


@contextmanager
def lora_scale(model: Any, factor: float) -> Iterator[None]:
    """Within it, adapters count `factor` times as much; as before afterwards. Raises as `scale_by`."""
    kept = [(layer, dict(layer.scaling)) for layer in lora_layers(model)]
    try:
        scale_by(model, factor)
        yield
    finally:
        for layer, scaling in kept:
            layer.scaling.update(scaling)


def at_sounds_alone(model: Any) -> None:
    """Let the adapters of a model that listens add something at places of sounds only.

    Raises ModelError for a model that does not listen, and in use for a layer that sees its tokens in another order
    (the experts of a mixture).
    """
    inner = bare(model)
    if not hasattr(inner, "sounds"):
        raise ModelError(type(inner).__name__, "hears nothing, so adapters at sounds alone would do nothing", "set all")

    def masked(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        where = inner.sounds
        if where is None or where.shape != out.shape[:-1]:
            raise ModelError(
                "adapters at sounds alone",
                f"a layer gives {list(out.shape)} for tokens {None if where is None else list(where.shape)}",
                "name targets outside of mixtures of experts",
            )
        return torch.where(where[..., None], out, torch.zeros((), dtype=out.dtype, device=out.device))

    for layer in lora_layers(model):
        for module in layer.lora_B.values():
            module.register_forward_hook(masked)
