"""Batch normalisation in a model that is taught further: its statistics stay those that it came with."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def hold_statistics(model: nn.Module) -> None:
    """Have every batch normalisation of `model` use its stored mean and variance while training too, for good.

    Statistics are no parameters: no gradient moves them, an adapter does not hold them, and freezing, EWC and the
    best weights do not reach them. In training mode they would follow the rows all the same, so that a frozen encoder
    moved, a saved adapter was another model than the one that was trained, and a step of four rows another than one
    of four times one. Recognisers have such layers (the convolutions of Conformers, as Parakeet's). What they scale
    and shift by is a parameter and learns as any other. Layers without stored statistics go on as they are.
    """
    for layer in model.modules():
        if isinstance(layer, _BatchNorm) and _still not in layer._forward_pre_hooks.values():
            # At each forward pass: whoever calls model.train() would undo a layer.eval() that was called once.
            layer.register_forward_pre_hook(_still)


def _still(layer: nn.Module, _: Any) -> None:
    layer.training = False
