"""One row for a context and all of its options, under a mask that keeps the options apart.

Row: context, then each option without its last token (whose successor nobody asks about). An
option's tokens see the context and themselves; positions restart behind the context. So the
context is computed once, and the numbers are those of one row per (context, option) pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from mnemos.models.forward import accepted_inputs, log_probs, logits_at

PLAIN_ATTENTION = frozenset({"sdpa", "eager"})
"""Attention implementations of transformers that take a mask of their caller's as it is."""


class Item(NamedTuple):
    """Token ids of a context (never empty) and of its options (none empty)."""

    context: list[int]
    options: list[list[int]]

    @property
    def width(self) -> int:
        """Tokens of the packed row."""
        return len(self.context) + sum(len(option) - 1 for option in self.options)


def packed_scores(model: Any, items: Sequence[Item]) -> list[list[tuple[float, bool]]]:
    """Per item and option: ln p(option | context) in nats, and whether every token of it was the
    most likely one. One forward pass."""
    device = model.get_input_embeddings().weight.device
    batch = packed(items)
    owner = batch.owner.to(device)
    logits, _ = logits_at(
        model,
        torch.tensor(batch.flat, device=device),
        input_ids=batch.ids.to(device),
        position_ids=batch.position.to(device),
        attention_mask=_mask(owner, model.dtype),
        use_cache=False,
    )
    return option_scores(logits, batch, items)


def option_scores(logits: torch.Tensor, batch: Batch, items: Sequence[Item]) -> list[list[tuple[float, bool]]]:
    """Per item and option what `packed_scores` gives. logits: float[N, V] at the positions `batch.flat`."""
    device = logits.device
    values, greedy = log_probs(
        logits, torch.tensor(batch.targets, device=device), torch.tensor(batch.picked, device=device)
    )
    sizes = [len(option) for item in items for option in item.options]
    found = iter(
        (float(v.sum()), bool(g.all()))
        for v, g in zip(torch.split(values.double().cpu(), sizes), torch.split(greedy.cpu(), sizes), strict=True)
    )
    return [[next(found) for _ in item.options] for item in items]


class Batch(NamedTuple):
    """ids, position, owner: int64[B, T]; owner is 0 for the context, o for option o = 1, 2, ….
    flat: positions b * T + t whose logits are needed. targets: the options' tokens, and `picked`
    the index into `flat` of the position that predicts each."""

    ids: torch.Tensor
    position: torch.Tensor
    owner: torch.Tensor
    flat: list[int]
    picked: list[int]
    targets: list[int]


def packed(items: Sequence[Item]) -> Batch:
    """The rows of items, padded to one width."""
    width = max(item.width for item in items)
    rows: list[list[list[int]]] = []
    flat: list[int] = []
    picked: list[int] = []
    targets: list[int] = []
    for b, (context, options) in enumerate(items):
        row, at, who = list(context), list(range(len(context))), [0] * len(context)
        # The context's last position predicts the first token of every option, so it is picked once and shared.
        first = len(flat)
        # Invariant: targets[k] is predicted at flat[picked[k]].
        flat.append(b * width + len(context) - 1)
        for o, option in enumerate(options, start=1):
            fed = option[:-1]
            picked += [first, *range(len(flat), len(flat) + len(fed))]
            targets += option
            flat += range(b * width + len(row), b * width + len(row) + len(fed))
            row += fed
            # As if the option stood alone behind the context, whatever stands between them in the row.
            at += range(len(context), len(context) + len(fed))
            who += [o] * len(fed)
        # Token, position and owner of padding are all 0: it is never looked at, so it needs no mask of its own.
        empty = [0] * (width - len(row))
        rows.append([row + empty, at + empty, who + empty])
    ids, position, owner = torch.tensor(rows).unbind(1)
    return Batch(ids, position, owner, flat, picked, targets)


def seen_by(owner: torch.Tensor) -> torch.Tensor:
    """bool[B, T, T]: row t may see column s, where s is not after t, and belongs to the context or to the same option.
    Padding is context that stands after everything, so nothing sees it."""
    width = owner.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=owner.device).tril()
    column = owner[:, None, :]
    return causal & ((column == 0) | (column == owner[:, :, None]))


def _mask(owner: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """float[B, 1, T, T], 0 where `seen_by` is true, the dtype's least number elsewhere."""
    seen = seen_by(owner)
    mask = torch.zeros(seen.shape, dtype=dtype, device=owner.device).masked_fill_(~seen, torch.finfo(dtype).min)
    return mask[:, None]


def longest_packed_row(model: Any) -> int:
    """The longest packed row that this model surely treats right, 0 if none.

    All layers must be softmax attention that takes a ready mask; where some see a window only,
    rows must fit it. Read from the configuration; `agrees` checks the model itself.
    """
    config = model.config.get_text_config()
    if getattr(config, "_attn_implementation", None) not in PLAIN_ATTENTION:
        return 0
    if not {"position_ids", "attention_mask"} <= accepted_inputs(model):
        return 0
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not kinds <= {"full_attention", "attention", "sliding_attention", "chunked_attention"}:
        return 0
    # Within a window's length every position sees all before it, so a window changes nothing.
    bounds = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min([2**20, *(int(bound) for bound in bounds if bound)])


def tolerance(model: Any) -> float:
    """By how much scores of two ways may differ: in nats, relative to scores above 1."""
    return 1e-3 if model.dtype == torch.float32 else 0.1


def agrees(model: Any, reference: list[list[tuple[float, bool]]], items: Sequence[Item]) -> bool:
    """Whether the packed row gives this model's `reference` scores of `items`.

    A model that ignores masks or positions differs by far more than the tolerance, which is
    wide enough for 16-bit arithmetic.
    """
    try:
        found = packed_scores(model, items)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    pairs = [(a[0], b[0]) for x, y in zip(found, reference, strict=True) for a, b in zip(x, y, strict=True)]
    return all(abs(a - b) <= tolerance(model) * max(1.0, abs(b)) for a, b in pairs)
