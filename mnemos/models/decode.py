"""Writing answers: one decoding loop whose result does not depend on what shares the batch.

Deviation from `model.generate`: the penalties and samplers of a checkpoint's generation_config
are not applied (only its stop tokens are, by the caller), so that two checkpoints are always
asked the same way; everything is said by `Decoding`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mnemos.core.nouns import Decoding
from mnemos.models.forward import accepted_inputs, batches, context_length, kept, logits_at

Decoded = tuple[list[int], int | None]
"""The generated ids without the stop token, and the stop token that ended them, None where none did."""


def write(
    model: Any, rows: Sequence[Sequence[int]], stop: frozenset[int], decoding: Decoding, batch_tokens: int
) -> list[Decoded]:
    """Continue each row of token ids; rows keep their order, batches are made by length.

    A row stops at a token of `stop`, after `decoding.max_new_tokens`, or where the model's
    context ends; a row that leaves no room for one token comes back empty and unfinished.
    Sampling draws from a generator of the row's own, seeded by `decoding.seed`, the row's ids
    and how often the same row came before, so neither batching nor other rows change it.
    """
    limit = context_length(model)
    room = [max(0, min(decoding.max_new_tokens, limit - len(row))) for row in rows]
    draws = _draws(rows, decoding)
    out: list[Decoded] = [([], None)] * len(rows)
    asked = [i for i, row in enumerate(rows) if room[i] and row]
    lengths = [len(rows[i]) + room[i] for i in asked]
    steppable = _can_step(model)
    # A budget of one token makes batches of one row, for models that cannot share a cache.
    for batch in batches(lengths, batch_tokens if steppable else 1):
        members = [asked[k] for k in batch]
        job = _Job([rows[i] for i in members], [room[i] for i in members], stop, decoding, [draws[i] for i in members])
        how = [decoding.max_new_tokens, decoding.temperature, decoding.top_p, decoding.top_k, decoding.seed]
        asked_for = ["write", [list(row) for row in job.rows], list(job.room), sorted(stop), how]
        for i, (ids, end) in zip(members, kept(asked_for, lambda job=job: job.run(model, steppable)), strict=True):  # type: ignore[misc]
            out[i] = (list(ids), end)
    return out


def _draws(rows: Sequence[Sequence[int]], decoding: Decoding) -> list[np.ndarray[Any, Any] | None]:
    if decoding.temperature == 0:
        return [None] * len(rows)
    seen: Counter[bytes] = Counter()
    out: list[np.ndarray[Any, Any] | None] = []
    for row in rows:
        digest = hashlib.sha256(np.asarray(row, dtype=np.int64).tobytes()).digest()
        seeds = [decoding.seed, seen[digest], int.from_bytes(digest[:8], "big")]
        seen[digest] += 1
        # All of a row's numbers at once: number t belongs to its token t, whatever row ended before it in the batch.
        out.append(np.random.default_rng(seeds).random(decoding.max_new_tokens))
    return out


def _can_step(model: Any) -> bool:
    """Whether rows of different length can share a batch and a key-value cache: attention layers
    only. Recurrent and hybrid models keep a state that left padding would disturb."""
    from transformers.cache_utils import Cache, DynamicLayer, LinearAttentionCacheLayerMixin

    if not {"position_ids", "attention_mask", "past_key_values"} <= accepted_inputs(model):
        return False
    device = model.get_input_embeddings().weight.device
    # Not read from the configuration: what the model really keeps after one token decides.
    cache = getattr(
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), use_cache=True), "past_key_values", None
    )
    return isinstance(cache, Cache) and all(
        isinstance(layer, DynamicLayer) and not isinstance(layer, LinearAttentionCacheLayerMixin)
        for layer in cache.layers
    )


class _Job:
    """One batch being decoded. rows: prompts; room: tokens that each may still write."""

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        room: Sequence[int],
        stop: frozenset[int],
        decoding: Decoding,
        draws: Sequence[np.ndarray[Any, Any] | None],
    ) -> None:
        self.rows, self.room, self.stop, self.decoding, self.draws = rows, room, stop, decoding, draws
        self.written: list[list[int]] = [[] for _ in rows]
        self.ended: list[int | None] = [None] * len(rows)

    def _take(self, row: int, token: int) -> bool:
        """Record one token; whether the row goes on."""
        if token in self.stop:
            self.ended[row] = token
            return False
        self.written[row].append(token)
        return len(self.written[row]) < self.room[row]

    def _next(self, logits: torch.Tensor, live: Sequence[int]) -> list[int]:
        if self.decoding.temperature == 0:
            return [int(token) for token in logits.argmax(dim=-1).tolist()]
        uniform = [draw[len(self.written[i])] for i in live if (draw := self.draws[i]) is not None]
        return pick(logits, self.decoding, torch.tensor(uniform, dtype=torch.float64, device=logits.device))

    def run(self, model: Any, steppable: bool) -> list[Decoded]:
        """Decode the batch. steppable: as `_can_step` found."""
        return self.with_cache(model) if steppable else self.one_by_one(model)

    def _result(self) -> list[Decoded]:
        return list(zip(self.written, self.ended, strict=True))

    def with_cache(self, model: Any) -> list[Decoded]:
        """Left-padded rows, one forward pass a token; rows that ended leave the batch."""
        device = model.get_input_embeddings().weight.device
        # Padded on the left: the last column holds every row's last token, and all rows grow by one column a step.
        width = max(len(row) for row in self.rows)
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in self.rows], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in self.rows], device=device)
        # ids, mask, position: int64[B, T]. A row's first token has position 0 however much padding stands before it.
        position = (mask.cumsum(-1) - 1).clamp_min(0)
        last = torch.arange(len(self.rows), device=device) * width + width - 1
        logits, out = logits_at(model, last, input_ids=ids, attention_mask=mask, position_ids=position, use_cache=True)
        cache, position = out.past_key_values, position[:, -1:]
        live = list(range(len(self.rows)))
        while True:
            tokens = self._next(logits.float(), live)
            keep = [k for k, (i, token) in enumerate(zip(live, tokens, strict=True)) if self._take(i, token)]
            if not keep:
                return self._result()
            if len(keep) < len(live):
                # The cache, the mask and `live` lose the same rows together, or rows would read one another's keys.
                index = torch.tensor(keep, device=device)
                cache.batch_select_indices(index)
                mask, position, live = mask[index], position[index], [live[k] for k in keep]
            position = position + 1
            # One more column: the token that is fed next is a key for itself, too.
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
            fed = torch.tensor([[tokens[k]] for k in keep], device=device)
            out = model(
                input_ids=fed, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True
            )
            logits, cache = out.logits[:, -1], out.past_key_values

    def one_by_one(self, model: Any) -> list[Decoded]:
        """Each row alone, through `model.generate` and whatever state the model keeps, with our
        choice of token forced upon it."""
        from transformers import GenerationConfig, LogitsProcessorList

        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        # `generate` fills what it is not told from the checkpoint's own settings: for this time there are none.
        kept, inner.generation_config = inner.generation_config, GenerationConfig()
        try:
            for i, row in enumerate(self.rows):
                ids = torch.tensor([list(row)], device=inner.get_input_embeddings().weight.device)
                asked = GenerationConfig(
                    max_new_tokens=self.room[i], do_sample=False, pad_token_id=0, eos_token_id=sorted(self.stop) or None
                )
                forced = LogitsProcessorList([lambda _, scores, i=i: self._forced(i, scores)])
                inner.generate(
                    ids, attention_mask=torch.ones_like(ids), generation_config=asked, logits_processor=forced
                )
        finally:
            inner.generation_config = kept
        return self._result()

    def _forced(self, row: int, scores: torch.Tensor) -> torch.Tensor:
        token = self._next(scores.float(), [row])[0]
        self._take(row, token)
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([token], device=scores.device), 0.0)


def pick(logits: torch.Tensor, decoding: Decoding, uniform: torch.Tensor) -> list[int]:
    """Sample one token a row by inverting the distribution function over tokens sorted from the
    most likely: temperature, then top_k, then top_p (transformers' order and meaning).

    logits: float[B, V]. uniform: float64[B] in [0, 1).
    """
    # float64: cumulative sums over a whole vocabulary. Stable: equal logits keep the order of their ids.
    sorted_logits, tokens = (logits.double() / decoding.temperature).sort(dim=-1, descending=True, stable=True)
    if 0 < decoding.top_k < logits.shape[-1]:
        sorted_logits, tokens = sorted_logits[:, : decoding.top_k], tokens[:, : decoding.top_k]
    mass = sorted_logits.softmax(dim=-1)
    if decoding.top_p < 1:
        # A token stays while the mass before it is below top_p, so the one that crosses the bound is the last; the
        # first stays whatever top_p is.
        before = mass.cumsum(dim=-1) - mass
        mass = mass.masked_fill(
            (before >= decoding.top_p).index_fill(1, torch.tensor([0], device=mass.device), False), 0
        )
    total = mass.cumsum(dim=-1)
    # The first place with F(place) > u * F(end): scaling u by what is left of the mass instead of dividing it anew.
    place = torch.searchsorted(total, (uniform * total[:, -1])[:, None], right=True)
    # The last token with any mass: rounding in u * F(end) could otherwise point behind it.
    allowed = (mass > 0).sum(dim=-1, keepdim=True) - 1
    return [int(token) for token in tokens.gather(-1, torch.minimum(place, allowed))[:, 0].tolist()]
