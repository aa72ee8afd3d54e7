"""Keys and values of many rows in slots of one buffer, and forward passes without padding over them.

A pass is one packed row of pieces: the next token of each row that is being continued, and parts of
prompts. Every layer but attention sees these tokens only, so rows of any length share a pass and
nothing is computed for padding. Attention writes a piece's keys and values into the row's slot and
reads from there: all pieces of one token in one call, longer ones each in its own.

Whether a model can be run like that is found out by trying on a few tokens and comparing with the
plain forward pass, as `train.documents` does, not from a list of model families.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F

from mnemos.models.forward import FAILURES, accepted_inputs, context_length, logits_at

ATTENTION = "mnemos_slots"
"""Name of `slot_attention` among transformers' attention functions."""

OTHER_TEXTS = (1009, 5003)
"""Further texts of the trial in 16 bits, where the first one errs."""
LEAK, LEAK_16 = 0.01, 0.1
"""Largest tolerated error of a pass over slots, as a share of what attending to another row does: in float32, and
in 16 bits, where rounding alone is felt."""


class Piece(NamedTuple):
    """Tokens of one row that a pass reads: into slot `slot`, at positions start, start + 1, …"""

    slot: int
    start: int
    ids: Sequence[int]


class Slots:
    """Room for `rows` rows of up to `capacity` tokens, made at the first pass.

    windows: by layer, how far back it attends; None where it sees everything.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        self.rows, self.capacity = rows, capacity
        self.windows: dict[int, int | None] = {}
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        # Tokens that stand in each slot, those of its earlier rows included.
        self._used = [0] * rows

    def forward(self, model: Any, pieces: Sequence[Piece]) -> torch.Tensor:
        """float[P, V]: the logits behind the last token of each piece. Pieces of one token come first, by
        ascending slots; only within `switched(model)`."""
        device = model.get_input_embeddings().weight.device
        for piece in pieces:
            self._used[piece.slot] = max(self._used[piece.slot], piece.start + len(piece.ids))
        run = _Pass(self, pieces, device)
        ids = torch.tensor([[token for piece in pieces for token in piece.ids]], device=device)
        # Ones: no mask, but the word that none of these tokens is padding, whatever its id.
        inputs = {"attention_mask": torch.ones_like(ids), "position_ids": run.position[None], "use_cache": False}
        return logits_at(model, run.last, input_ids=ids, slotted=run, **inputs)[0]

    def copy(self, source: int, target: int, count: int) -> None:
        """The first `count` tokens of one slot into another; what else stood there is wiped out."""
        # Stale numbers are masked, but 0 * inf would carry those of a row that overflowed into this one.
        stale, self._used[target] = self._used[target], count
        for keys, values in self._layers.values():
            for held in (keys, values):
                if source != target:
                    held[target, :, :count] = held[source, :, :count]
                held[target, :, count:stale] = 0

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values over all layers; 0 before the first pass."""
        return sum(
            held.shape[1] * held.shape[3] * held.element_size() for pair in self._layers.values() for held in pair
        )

    def store(
        self, layer: int, key: torch.Tensor, value: torch.Tensor, window: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The buffers float[rows, heads, capacity, width] of a layer's keys and values."""
        if layer not in self._layers:
            # Zeros, not empty: what is masked is still multiplied by 0, and must be finite. Pages that no row
            # reaches are never touched, so on a CPU they take no memory.
            keys, values = (
                torch.zeros(self.rows, one.shape[1], self.capacity, one.shape[3], dtype=one.dtype, device=one.device)
                for one in (key, value)
            )
            self._layers[layer], self.windows[layer] = (keys, values), window
        return self._layers[layer]


class _Pass:
    """One pass: where its tokens go, and the masks that all layers share. slot, position: int64[N];
    last: int64[P], the last token of each piece."""

    def __init__(self, slots: Slots, pieces: Sequence[Piece], device: torch.device) -> None:
        self.slots = slots
        self.single = [piece for piece in pieces if len(piece.ids) == 1]
        self.longer = list(pieces[len(self.single) :])
        sizes = torch.tensor([len(piece.ids) for piece in pieces])
        self.slot = torch.tensor([piece.slot for piece in pieces]).repeat_interleave(sizes).to(device)
        places = [piece.start + t for piece in pieces for t in range(len(piece.ids))]
        self.position = torch.tensor(places, device=device)
        self.last = (sizes.cumsum(0) - 1).to(device)
        # Slots below `high` and keys below `reach` are what pieces of one token are computed over.
        self.high = 1 + max((piece.slot for piece in self.single), default=-1)
        self.reach = 1 + max((piece.start for piece in self.single), default=-1)
        self._masks: dict[Any, torch.Tensor] = {}

    def single_mask(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """float[high, 1, 1, reach]: 0 on what the token of each slot sees, -inf elsewhere."""
        if ("single", window) not in self._masks:
            count, device = len(self.single), self.position.device
            # A slot without a token here sees its first key, and nobody reads what comes of it.
            at = torch.zeros(self.high, dtype=torch.long, device=device)
            at[self.slot[:count]] = self.position[:count]
            self._masks["single", window] = _mask(at, self.reach, window, dtype)[:, None, None]
        return self._masks["single", window]

    def piece_mask(self, piece: Piece, window: int | None, dtype: torch.dtype) -> torch.Tensor | None:
        """float[n, start + n], 0 on what each token of a longer piece sees; None where that is all keys up to its
        own and the piece begins its row."""
        end = piece.start + len(piece.ids)
        if piece.start == 0 and (window is None or end <= window):
            return None
        if (piece.slot, window) not in self._masks:
            at = torch.arange(piece.start, end, device=self.position.device)
            self._masks[piece.slot, window] = _mask(at, end, window, dtype)
        return self._masks[piece.slot, window]


def _mask(at: torch.Tensor, reach: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
    """float[N, reach], 0 where the query at position at[n] sees key t: not after it, within the window."""
    key = torch.arange(reach, device=at.device)
    seen = key <= at[:, None]
    if window is not None:
        seen &= key > at[:, None] - window
    return torch.zeros(seen.shape, dtype=dtype, device=at.device).masked_fill_(~seen, -torch.inf)


def slot_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    slotted: _Pass | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers: [1, H, N, D] of a pass's tokens -> [1, N, H, D]."""
    if slotted is None or attention_mask is not None:
        raise NotImplementedError("a call without slots, or with a mask of its own")
    for name in ("s_aux", "position_bias"):
        if others.get(name) is not None:
            raise NotImplementedError(name)
    # Under autocast rotary embeddings leave queries and keys wider than values; kept as they are multiplied.
    query, key = query.to(value.dtype), key.to(value.dtype)
    keys, values = slotted.slots.store(module.layer_idx, key, value, sliding_window)
    keys[slotted.slot, :, slotted.position] = key[0].transpose(0, 1)
    values[slotted.slot, :, slotted.position] = value[0].transpose(0, 1)
    how = _How(scaling, sliding_window, softcap)
    parts = [_single(slotted, query, keys, values, how)] if slotted.single else []
    begin = len(slotted.single)
    for piece in slotted.longer:
        end = begin + len(piece.ids)
        mask = slotted.piece_mask(piece, sliding_window, query.dtype)
        stop = piece.start + len(piece.ids)
        own = [held[piece.slot : piece.slot + 1, :, :stop] for held in (keys, values)]
        parts.append(_longer(query[:, :, begin:end], own[0], own[1], mask, how))
        begin = end
    return torch.cat(parts)[None], None


class _How(NamedTuple):
    scaling: float | None
    window: int | None
    softcap: float | None


def _single(run: _Pass, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, how: _How) -> torch.Tensor:
    """float[S, H, D] of the S pieces of one token: every slot up to the highest at once."""
    count, (heads, width) = len(run.single), (keys.shape[1], query.shape[-1])
    asked = query[0, :, :count].transpose(0, 1)
    dense = count == run.high
    if not dense:
        asked = asked.new_zeros(run.high, *asked.shape[1:]).index_copy_(0, run.slot[:count], asked)
    # Heads of queries that share a head of keys are rows of one product: [slots, heads, queries of a head, D].
    asked = asked.reshape(run.high, heads, -1, width)
    near = [held[: run.high, :, : run.reach] for held in (keys, values)]
    out = _attend(asked, near[0], near[1], run.single_mask(how.window, query.dtype), how)
    out = out.reshape(run.high, -1, values.shape[-1])
    return out if dense else out[run.slot[:count]]


def _longer(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, how: _How
) -> torch.Tensor:
    """float[n, H, D] of one piece of n tokens. query: [1, H, n, D]."""
    heads, size = keys.shape[1], query.shape[2]
    grouped = query.shape[1] // heads
    if mask is None and how.softcap is None:
        return F.scaled_dot_product_attention(
            query, keys, values, is_causal=True, scale=how.scaling, enable_gqa=grouped > 1
        )[0].transpose(0, 1)
    if mask is None:
        mask = _mask(torch.arange(size, device=query.device), size, None, query.dtype)
    asked = query.reshape(1, heads, grouped * size, -1)
    out = _attend(asked, keys, values, mask.repeat(grouped, 1)[None, None], how)
    return out.reshape(-1, size, values.shape[-1]).transpose(0, 1)


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, how: _How
) -> torch.Tensor:
    if how.softcap is None:
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=how.scaling)
    scores = query @ keys.transpose(-1, -2) * (query.shape[-1] ** -0.5 if how.scaling is None else how.scaling)
    scores = torch.tanh(scores / how.softcap) * how.softcap + mask
    return scores.softmax(-1, dtype=torch.float32).to(values.dtype) @ values


@contextmanager
def switched(model: Any) -> Iterator[None]:
    """The model with `slot_attention`; with what it had before afterwards."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, slot_attention)
    inner = _base(model)
    before = inner.config._attn_implementation
    inner.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        inner.set_attn_implementation(before)


def _base(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@dataclass(frozen=True)
class Fit:
    """That a model can be run over slots. longest: tokens of a row; token_bytes: of its keys and values."""

    longest: int
    token_bytes: int


_FITS: WeakKeyDictionary[Any, Fit | None] = WeakKeyDictionary()
"""What was found of each model met so far."""


def fit(model: Any) -> Fit | None:
    """Whether and how far `model` can be run over slots; tried once per model, in eval mode."""
    if model not in _FITS:
        _FITS[model] = _try(model)
    return _FITS[model]


def _try(model: Any) -> Fit | None:
    inner = _base(model)
    able = getattr(inner, "_can_set_attn_implementation", bool)()
    if not able or not {"position_ids", "attention_mask"} <= accepted_inputs(model):
        return None
    try:
        share, exact, slots = _error(model, 0)
        if not exact and not share <= LEAK_16:
            # Rounding to 16 bits may move one text's logits by a tenth of what another row does; reading another row's
            # keys moves those of every text.
            share = statistics.median([share, *(_error(model, shift)[0] for shift in OTHER_TEXTS)])
    except FAILURES:
        return None
    # Not `>`: a model that gives NaN fits nothing.
    if not share <= (LEAK if exact else LEAK_16):
        return None
    return Fit(_longest(inner, slots.windows), slots.token_bytes)


def _error(model: Any, shift: int) -> tuple[float, bool, Slots]:
    """The largest error of passes over slots as a share of what attending to another row does, whether they were of
    float32, and the slots; on texts of tokens that `shift` chooses."""
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    first = [(7 * t + 3 + shift) % vocabulary for t in range(9)]
    second = [(5 * t + 1 + shift) % vocabulary for t in range(4)]
    third = [*first[:5], (2 + shift) % vocabulary, (6 + shift) % vocabulary]
    slots = Slots(3, 9)
    wanted = [_plain(model, first)[5], *(_plain(model, row)[-1] for row in (first, second, third))]
    # How much the logits of this very model change when one row sees another. A fixed bound would call a model
    # safe whose attention hardly moves its logits yet.
    leak = float((_plain(model, [*first, *second])[-1] - wanted[2]).abs().max())
    with switched(model):
        # A prompt in two parts, a row that is continued beside it, and one that begins with a copy.
        begun = slots.forward(model, [Piece(1, 0, first[:6]), Piece(0, 0, second[:3])])
        ended = slots.forward(model, [Piece(0, 3, second[3:]), Piece(1, 6, first[6:])])
        slots.copy(1, 2, 5)
        copied = slots.forward(model, [Piece(2, 5, third[5:])])
    got = torch.stack([begun[0], ended[1], ended[0], copied[0]])
    error = float((got.float() - torch.stack(wanted).float()).abs().max())
    exact = got.dtype == torch.float32 and not torch.is_autocast_enabled(got.device.type)
    # A model without any leak is run right if it makes no error at all.
    return (error / leak if leak else 0.0 if error == 0 else math.inf), exact, slots


def _plain(model: Any, ids: Sequence[int]) -> torch.Tensor:
    fed = torch.tensor([list(ids)], device=model.get_input_embeddings().weight.device)
    every: torch.Tensor = model(input_ids=fed, attention_mask=torch.ones_like(fed), use_cache=False).logits[0]
    return every


def _longest(inner: Any, windows: dict[int, int | None]) -> int:
    """The longest row that is surely treated right: the probe is shorter than what follows."""
    config = inner.config.get_text_config()
    bounds = [context_length(inner), getattr(config, "attention_chunk_size", None)]
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * len(windows)
    configured = {layer: window if kind == "sliding_attention" else None for layer, kind in enumerate(kinds)}
    if window and windows != configured:
        # Layers of which the configuration says that they see a window, and which did not say so when called.
        bounds.append(window)
    rope = getattr(config, "rope_parameters", None) or {}
    for one in [rope, *(value for value in rope.values() if isinstance(value, dict))]:
        if one.get("rope_type") in ("dynamic", "longrope"):
            # Their angles hang on the longest row of the pass.
            bounds.append(one.get("original_max_position_embeddings") or context_length(inner))
    return min(int(bound) for bound in bounds if bound)
