"""What a model holds behind a text: the hidden state of its last token, by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mnemos.core.errors import UsageError
from mnemos.core.progress import counting
from mnemos.models.forward import batches, context_length, kept, logits_at, right_padded

DIGITS = 7
"""Significant digits of what is kept: those of float32."""


def behind(model: Any, rows: Sequence[Sequence[int]], layer: int | None, batch_tokens: int) -> list[list[float] | None]:
    """float[H] behind the last token of each row; see `LocalModel.hidden`."""
    out: list[list[float] | None] = [None] * len(rows)
    limit = context_length(model)
    asked = [i for i, row in enumerate(rows) if 0 < len(row) <= limit]
    with counting(len(rows)) as count:
        done = len(rows) - len(asked)
        for batch in batches([len(rows[i]) for i in asked], batch_tokens):
            members = [asked[k] for k in batch]
            own = [list(rows[i]) for i in members]
            found = kept(["hidden", own, layer], lambda own=own: _read(model, own, layer), count)  # type: ignore[misc]
            for i, state in zip(members, found, strict=True):
                out[i] = state
            done += len(members)
            count.to(done)
    return out


def _read(model: Any, rows: Sequence[Sequence[int]], layer: int | None) -> list[list[float] | None]:
    ids = right_padded(rows, model.get_input_embeddings().weight.device)
    width = ids.shape[1]
    last = torch.tensor([b * width + len(row) - 1 for b, row in enumerate(rows)], device=ids.device)
    # Logits of the last tokens alone: nobody reads them, and all of them could fill the memory.
    _, out = logits_at(model, last, input_ids=ids, output_hidden_states=True, use_cache=False)
    layers = out.hidden_states
    if layer is not None and layer >= len(layers):
        raise UsageError(f"layer {layer}", f"the model has {len(layers) - 1}, and embeddings at 0", "name one of them")
    states = layers[-1 if layer is None else layer].reshape(-1, layers[-1].shape[-1])[last].float()
    whole = torch.isfinite(states).all(dim=-1).tolist()
    return [
        [float(f"{number:.{DIGITS}g}") for number in state] if fine else None
        for state, fine in zip(states.tolist(), whole, strict=True)
    ]
