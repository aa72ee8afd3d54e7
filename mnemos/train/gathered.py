"""Weights that FSDP2 keeps in pieces, whole for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule


@contextmanager
def gathered(model: torch.nn.Module) -> Iterator[None]:
    """All parameters of an FSDP2 model whole on each process; any other model as it is.

    Entered and left by all processes together, between optimiser steps. Within, a forward pass without
    gradient waits for no other process, so that each may run as many as it likes. Costs the memory of the
    whole model in the dtype that it computes in. Trap: an update to the whole parameters is lost.
    """
    from torch.distributed.fsdp import FSDPModule

    if not isinstance(model, FSDPModule):
        yield
        return
    # Settles which part is the root, which otherwise the first forward pass does.
    model._get_fsdp_state()._lazy_init()
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    frees = [_frees(part) for part in parts]
    try:
        for part in parts:
            # Else the first forward pass would give the whole parameters up again.
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        yield
    finally:
        for part, freed in zip(parts, frees, strict=True):
            part.reshard()
            part.set_reshard_after_forward(freed, recurse=False)
        # Else the next backward pass would fetch ahead what the last forward pass used, on some processes only.
        model.reset_iter_state()


def _frees(part: FSDPModule) -> bool:
    """Whether a part gives up its whole parameters after each forward pass: torch sets this but does not tell."""
    return any(group._reshard_after_forward for group in part._get_fsdp_state()._fsdp_param_groups)
