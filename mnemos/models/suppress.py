"""Tokens that a model never writes: `suppress_tokens` of its generation configuration.

transformers keeps to that key while it generates. Here its tokens have no probability whatever the model is asked, so
that answers, options and texts are all scored by the distribution that answers are drawn from. Nothing of it holds in
training: there `mask_units` does the same where a row teaches no unit.
"""

from __future__ import annotations

from typing import Any

from mnemos.core.errors import ModelError
from mnemos.models.head import bare

MOST = 1_000_000


def suppressed_ids(model: Any, path: str = "") -> tuple[int, ...]:
    """The token ids that a model's generation configuration suppresses. ModelError for what are none."""
    found = getattr(getattr(bare(model), "generation_config", None), "suppress_tokens", None) or ()
    rows = int(model.get_input_embeddings().weight.shape[0])
    right = isinstance(found, list | tuple) and len(found) <= MOST
    if not right or not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < rows for one in found):
        raise ModelError(
            f"{path}/generation_config.json: suppress_tokens = {found!r}"[:200],
            f"must be a list of token ids from 0 to {rows - 1:,}",
            "mend it, or take the key out",
        )
    return tuple(found)


def suppress(model: Any, path: str = "") -> Any:
    """The model, with its suppressed tokens at -inf in the logits of every forward pass; as it is where it names none.

    Behind whatever the model itself does to logits: a soft cap would bring -inf back to a number.
    """
    ids = suppressed_ids(model, path)
    if ids:
        import torch

        places: dict[Any, torch.Tensor] = {}

        def fill(_: Any, __: Any, out: Any) -> Any:
            device = out.logits.device
            if device not in places:
                places[device] = torch.tensor(ids, device=device)
            out.logits = out.logits.index_fill(-1, places[device], -torch.inf)
            return out

        bare(model).register_forward_hook(fill)
    return model
