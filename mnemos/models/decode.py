"""Writing answers: one decoding loop whose result does not depend on what shares the batch.

Deviation from `model.generate`: the penalties and samplers of a checkpoint's generation_config
are not applied (only its stop tokens are, by the caller), so that two checkpoints are always
asked the same way; everything is said by `Decoding`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch

from mnemos.core.nouns import Decoding
from mnemos.core.progress import Count, counting
from mnemos.models import slots
from mnemos.models.forward import LOGIT_BYTES, accepted_inputs, batches, context_length, kept, logits_at
from mnemos.models.rules import RuleAdapter
from mnemos.models.scheduler import Scheduler
from mnemos.models.slots import Slots

Decoded = tuple[list[int], int | None]
"""The generated ids without the stop token, and the stop token that ended them, None where none did."""

Ended = Callable[[Sequence[int]], bool]
"""Whether the ids written so far end an answer, for other reasons than a stop token."""

CACHE_BYTES = 2**30
"""What keys and values of rows in progress may take, where `batch_tokens` tokens take less."""

JOB = 16
"""Prompts and answers of one job at most, in multiples of `batch_tokens`: long enough that its last rows, which
leave slots empty, matter little, and short enough that a kill loses minutes."""

BEST = 1024
"""Most likely tokens of a large vocabulary that are sorted; where they do not decide, all are."""


def write(
    model: Any,
    rows: Sequence[Sequence[int]],
    stop: frozenset[int],
    decoding: Decoding,
    batch_tokens: int,
    ended: Ended | None = None,
    rules: RuleAdapter | None = None,
) -> list[Decoded]:
    """Continue each row of token ids; rows keep their order, batches are made by length.

    A row stops at a token of `stop`, where `ended` says so of what it has written, after
    `decoding.max_new_tokens`, or where the model's context ends; a row that leaves no room for one
    token comes back empty and unfinished. Sampling draws from a generator of the row's own, seeded by
    `decoding.seed`, the row's ids and how often the same row came before, so neither batching nor
    other rows change it. batch_tokens: tokens that share one forward pass. rules: what is added to the
    model's logits before anything is drawn from them.
    """
    limit = context_length(model)
    room = [max(0, min(decoding.max_new_tokens, limit - len(row))) for row in rows]
    draws = _draws(rows, decoding)
    out: list[Decoded] = [([], None)] * len(rows)
    asked = [i for i, row in enumerate(rows) if room[i] and row]
    with counting(len(rows)) as count:
        # Rows without room for a token are answered already.
        done = len(rows) - len(asked)
        count.to(done)
        for way, members in ways_of(model, asked, [len(row) + room[i] for i, row in enumerate(rows)], batch_tokens):
            own, left, drawn = [rows[i] for i in members], [room[i] for i in members], [draws[i] for i in members]
            job = Job(own, left, stop, decoding, drawn, count, ended, rules)
            how: list[object] = [
                decoding.max_new_tokens,
                decoding.temperature,
                decoding.top_p,
                decoding.top_k,
                decoding.seed,
            ]
            # Nothing where there is none, so that answers which were kept are found again.
            how += [] if rules is None else rules.how
            asked_for = ["write", [list(row) for row in job.rows], list(job.room), sorted(stop), [*how, *decoding.stop]]
            found = kept(asked_for, lambda job=job, way=way: job.run(model, way, batch_tokens), count)  # type: ignore[misc]
            for i, (ids, end) in zip(members, found, strict=True):
                out[i] = (list(ids), end)
            done += len(members)
            count.to(done)
    return out


Way = Literal["slots", "padded", "alone"]
"""How the rows of a job are decoded: over slots that are refilled; padded to one length, sharing one cache of
transformers; one after the other, through `model.generate`."""


def ways_of(
    model: Any, asked: Sequence[int], lengths: Sequence[int], batch_tokens: int
) -> Iterator[tuple[Way, list[int]]]:
    """Jobs: the way of each, and which rows. lengths: of every row with all that it may write."""
    if not asked:
        return
    fits = slots.fit(model)
    slotted = [i for i in asked if fits is not None and lengths[i] <= fits.longest]
    for batch in batches([lengths[i] for i in slotted], JOB * batch_tokens):
        yield "slots", [slotted[k] for k in batch]
    others = [i for i in asked if fits is None or lengths[i] > fits.longest]
    way: Way = "padded" if others and _can_step(model) else "alone"
    # A budget of one token makes batches of one row, for models that cannot share a cache.
    for batch in batches([lengths[i] for i in others], batch_tokens if way == "padded" else 1):
        yield way, [others[k] for k in batch]


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


class Job:
    """Rows being decoded together. rows: prompts; room: tokens that each may still write. count: is moved by each
    token and by each row that ends."""

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        room: Sequence[int],
        stop: frozenset[int],
        decoding: Decoding,
        draws: Sequence[np.ndarray[Any, Any] | None],
        count: Count,
        said_all: Ended | None = None,
        rules: RuleAdapter | None = None,
    ) -> None:
        self.rows, self.room, self.stop, self.decoding, self.draws = rows, room, stop, decoding, draws
        self.count, self.said_all, self.rules = count, said_all, rules
        self.written: list[list[int]] = [[] for _ in rows]
        self.ended: list[int | None] = [None] * len(rows)

    def _take(self, row: int, token: int) -> bool:
        """Record one token; whether the row goes on."""
        self.count.read(1)
        written = self.written[row]
        if token in self.stop:
            self.ended[row] = token
        else:
            written.append(token)
            if len(written) < self.room[row] and not (self.said_all is not None and self.said_all(written)):
                return True
        self.count.to(self.count.done + 1)
        return False

    def next_tokens(self, logits: torch.Tensor, live: Sequence[int]) -> list[int]:
        """The next token of each row in `live`. logits: float[B, V]."""
        if self.rules is not None:
            logits = self.rules(logits, [(self.rows[i], self.written[i]) for i in live])
        if self.decoding.temperature == 0:
            return [int(token) for token in logits.argmax(dim=-1).tolist()]
        uniform = [draw[len(self.written[i])] for i in live if (draw := self.draws[i]) is not None]
        return pick(logits, self.decoding, torch.tensor(uniform, dtype=torch.float64, device=logits.device))

    def run(self, model: Any, way: Way, batch_tokens: int) -> list[Decoded]:
        """Decode the rows. way: as `ways_of` found."""
        if way == "slots":
            with slots.switched(model):
                self.over_slots(model, batch_tokens)
        elif way == "padded":
            self.with_cache(model)
        else:
            self.one_by_one(model)
        return list(zip(self.written, self.ended, strict=True))

    def over_slots(self, model: Any, batch_tokens: int) -> None:
        """Rows that end make room for those that wait; a pass reads the next token of every row in progress and, up
        to batch_tokens in all, what is not read of prompts yet."""
        longest = max(len(row) + room for row, room in zip(self.rows, self.room, strict=True))
        scheduler = Scheduler(self.rows, Slots(self._slots(model, longest, batch_tokens), longest))
        while scheduler.admit():
            rows, pieces = scheduler.pieces(batch_tokens)
            logits = scheduler.slots.forward(model, pieces).float()
            # A row whose prompt is read in parts has nothing to say before the last.
            at = [k for k, row in enumerate(rows) if not scheduler.todo[row]]
            if not at:
                continue
            ready = [rows[k] for k in at]
            tokens = self.next_tokens(logits if len(at) == len(rows) else logits[at], ready)
            for row, token in zip(ready, tokens, strict=True):
                if self._take(row, token):
                    scheduler.todo[row] = [token]
                else:
                    scheduler.leave(row)

    def _slots(self, model: Any, longest: int, batch_tokens: int) -> int:
        """How many rows are in progress at most."""
        fits = slots.fit(model)
        assert fits is not None
        tokens = max(batch_tokens, CACHE_BYTES // max(1, fits.token_bytes))
        logits = LOGIT_BYTES // (4 * int(model.get_input_embeddings().weight.shape[0]))
        return max(1, min(len(self.rows), tokens // longest, logits))

    def with_cache(self, model: Any) -> None:
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
            tokens = self.next_tokens(logits.float(), live)
            keep = [k for k, (i, token) in enumerate(zip(live, tokens, strict=True)) if self._take(i, token)]
            if not keep:
                return
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

    def one_by_one(self, model: Any) -> None:
        """Each row alone, through `model.generate` and whatever state the model keeps, with our
        choice of token forced upon it."""
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

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
                over = StoppingCriteriaList([lambda ids, _, i=i: self._over(i, ids)])
                inner.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=asked,
                    logits_processor=forced,
                    stopping_criteria=over,
                )
        finally:
            inner.generation_config = kept

    def _forced(self, row: int, scores: torch.Tensor) -> torch.Tensor:
        token = self.next_tokens(scores.float(), [row])[0]
        self._take(row, token)
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([token], device=scores.device), 0.0)

    def _over(self, row: int, ids: torch.Tensor) -> torch.Tensor:
        over = self.said_all is not None and self.said_all(self.written[row])
        return torch.full((len(ids),), over, dtype=torch.bool, device=ids.device)


def pick(logits: torch.Tensor, decoding: Decoding, uniform: torch.Tensor) -> list[int]:
    """Sample one token a row by inverting the distribution function over tokens sorted from the
    most likely: temperature, then top_k, then top_p (transformers' order and meaning).

    logits: float[B, V]. uniform: float64[B] in [0, 1).
    """
    if logits.shape[-1] <= 4 * BEST or decoding.top_k > BEST:
        return [int(token) for token in _pick_of_all(logits, decoding, uniform).tolist()]
    tokens = _pick_of_best(logits, decoding, uniform)
    left = tokens < 0
    if bool(left.any()):
        tokens[left] = _pick_of_all(logits[left], decoding, uniform[left])
    return [int(token) for token in tokens.tolist()]


def _pick_of_all(logits: torch.Tensor, decoding: Decoding, uniform: torch.Tensor) -> torch.Tensor:
    """int64[B]: see `pick`."""
    # float64: cumulative sums over a whole vocabulary. Stable: equal logits keep the order of their ids.
    sorted_logits, tokens = (logits.double() / decoding.temperature).sort(dim=-1, descending=True, stable=True)
    if 0 < decoding.top_k < logits.shape[-1]:
        sorted_logits, tokens = sorted_logits[:, : decoding.top_k], tokens[:, : decoding.top_k]
    place = _place(sorted_logits.softmax(dim=-1), None, decoding.top_p, uniform)
    return tokens.gather(-1, place)[:, 0]


def _pick_of_best(logits: torch.Tensor, decoding: Decoding, uniform: torch.Tensor) -> torch.Tensor:
    """int64[B]: what `_pick_of_all` gives, from the BEST most likely tokens alone; -1 where these do not decide.
    top_k: BEST at most."""
    # Sorted by id first: among equal logits `topk` gives any order, and the smaller id comes first.
    tokens = logits.topk(BEST, dim=-1).indices.sort(dim=-1).values
    scaled, order = (logits.gather(-1, tokens).double() / decoding.temperature).sort(
        dim=-1, descending=True, stable=True
    )
    tokens, last = tokens.gather(-1, order), scaled[:, -1:]
    if decoding.top_k:
        scaled = scaled[:, : decoding.top_k]
        mass, whole = scaled.softmax(dim=-1), None
    else:
        norm = (logits.double() / decoding.temperature).logsumexp(dim=-1, keepdim=True)
        mass, whole = (scaled - norm).exp(), 1.0
    place = _place(mass, whole, decoding.top_p, uniform)
    # Of tokens as good as the last one of all BEST, others may have been left out.
    decided = scaled[:, -1:] > last if whole is None else scaled.gather(-1, place) > last
    if whole is not None and decoding.top_p < 1:
        # What top_p cuts off must begin among them.
        decided &= mass.sum(dim=-1, keepdim=True) > decoding.top_p
    return tokens.gather(-1, place).where(decided, -1)[:, 0]


def _place(mass: torch.Tensor, whole: float | None, top_p: float, uniform: torch.Tensor) -> torch.Tensor:
    """int64[B, 1]: where in `mass`, from the most likely, each number of `uniform` falls. whole: what all tokens sum
    to, where `mass` is only the beginning."""
    if top_p < 1:
        # A token stays while the mass before it is below top_p, so the one that crosses the bound is the last; the
        # first stays whatever top_p is.
        before = mass.cumsum(dim=-1) - mass
        mass = mass.masked_fill((before >= top_p).index_fill(1, torch.tensor([0], device=mass.device), False), 0)
        whole = None
    total = mass.cumsum(dim=-1)
    # The first place with F(place) > u * F(end): scaling u by what is left of the mass instead of dividing it anew.
    end = total[:, -1] if whole is None else torch.full_like(uniform, whole)
    place = torch.searchsorted(total, (uniform * end)[:, None], right=True)
    # The last token with any mass: rounding in u * F(end) could otherwise point behind it.
    allowed = (mass > 0).sum(dim=-1, keepdim=True) - 1
    return torch.minimum(place, allowed)
