"""How a micro-batch passes through a model: without padding where the model allows it.

The examples of a micro-batch are joined into one row, every position-wise layer sees no padding,
and attention is computed example by example. Whether a model can be run like that, and whether
it computes logits only where asked, is found out by trying on a dozen tokens and comparing with
the plain forward pass, not from a list of model families. A model that cannot is run on padded
rows of similar length, which gives the same loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F

from mnemos.core.errors import ModelError
from mnemos.core.outputs import Outputs, Whole
from mnemos.models.chunked import Chunked, fits_whole
from mnemos.models.forward import FAILURES
from mnemos.models.head import Head, bare, head_of, states_only

ATTENTION = "mnemos_documents"
"""Name of `document_attention` among transformers' attention functions."""

LEAK = 0.01
"""Largest tolerated error of a joined pass, as a share of what attending across examples does."""


@dataclass(frozen=True)
class Way:
    """How a model is run. joined: one row without padding, attention within each example; else
    padded rows. picks: the model computes logits at chosen positions (`logits_to_keep`); else
    all are computed and picked. split: padded rows may be cut into several passes by length. chunks:
    large logits may be made a few positions at a time, by the output layer alone. ears: the model hears (a
    `hearing.Ears`), and rows pass through it with their sounds."""

    joined: bool
    picks: bool
    split: bool = True
    chunks: bool = True
    ears: Any = None


@dataclass(frozen=True)
class Pass:
    """One forward pass. inputs: keywords of the model. predicts: the positions whose next token
    carries weight, int64[N] of a joined row or bool[B, T] of padded ones; of a CTC model how many frames each clip
    has, int64[B], and counts: the tokens of each transcript."""

    inputs: dict[str, Any]
    predicts: torch.Tensor
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class MicroBatch:
    """What is forwarded, and what is to be predicted in the order of `logits`: targets int64[N],
    weight float32[N]. place: int64[N], where each target stands in the joined batch."""

    passes: tuple[Pass, ...]
    targets: torch.Tensor
    weight: torch.Tensor
    place: torch.Tensor


def micro_batch(batch: dict[str, Any], way: Way) -> MicroBatch:
    """Arrange a batch of `schedule.join` for a model that is run in the given way."""
    if way.ears is not None:
        heard: MicroBatch = way.ears.micro_batch(batch)
        return heard
    if way.joined:
        taught, ids = batch["taught"], batch["input_ids"]
        inputs = {
            "input_ids": ids,
            "position_ids": batch["position_ids"],
            "document_lengths": batch["lengths"],
        }
        # int64[N]: what stands at t - 1 predicts the token at t. `schedule.join` gives an example's first token no
        # weight, so t - 1 never lies in the example before.
        return MicroBatch((Pass(inputs, taught - 1),), ids[0, taught], batch["weight"][0, taught], taught)
    ids, weight = (torch.split(batch[name][0], list(batch["lengths"])) for name in ("input_ids", "weight"))
    # Where each token would stand in the joined batch: groups by length bring the targets into another order, and
    # references that are run joined must be put into the same.
    places = torch.split(torch.arange(batch["input_ids"].shape[1], device=ids[0].device), list(batch["lengths"]))
    groups = list(_groups(batch["lengths"], way))
    parts = [padded([ids[i] for i in group], [weight[i] for i in group]) for group in groups]
    return MicroBatch(
        tuple(part for part, _, _ in parts),
        torch.cat([targets for _, targets, _ in parts]),
        torch.cat([weights for _, _, weights in parts]),
        torch.cat([places[i][weight[i] != 0] for group in groups for i in group]),
    )


def _groups(lengths: Sequence[int], way: Way) -> Iterator[list[int]]:
    """Indices by falling length; a new group where a row would be more than half padding."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    group: list[int] = []
    for index in order:
        # Against the longest of the group: at most half of what is computed is then padding.
        if group and way.split and lengths[index] * 2 < lengths[group[0]]:
            yield group
            group = []
        group.append(index)
    yield group


def padded(ids: list[torch.Tensor], weight: list[torch.Tensor]) -> tuple[Pass, torch.Tensor, torch.Tensor]:
    """Rows side by side in one pass, with the targets int64[N] and weights float32[N] of those that carry any."""
    # [B, T], padded on the right: under causal attention no token sees what comes behind it.
    rows = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    weights = torch.nn.utils.rnn.pad_sequence(weight, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(one) for one in ids], batch_first=True)
    taught = weights != 0
    # What is taught at t is predicted at t - 1. Rolling brings each row's first place to its end, and that never has
    # weight.
    return Pass({"input_ids": rows, "attention_mask": mask}, taught.roll(-1, 1)), rows[taught], weights[taught]


def logits(model: Any, batch: MicroBatch, way: Way) -> torch.Tensor:
    """float[N, V]: the model's logits for `batch.targets`, computed at those positions only."""
    return _cat([_logits(model, one, way) for one in batch.passes])


def outputs(
    model: Any,
    batch: MicroBatch,
    way: Way,
    run: Callable[..., Any] | None = None,
    layer: Callable[[torch.nn.Module], Any] | None = None,
) -> Outputs:
    """The model's logits for `batch.targets`: as `logits` where they are small or nobody knows how to make them of
    what the output layer reads, else made chunk by chunk.

    run: is called in the model's place, where it is run with other weights than its own. layer: gives the output
    layer as it is run then.
    """
    run = run or model
    if way.ears is not None:
        heard: Outputs = way.ears.outputs(run, batch)
        return heard
    head = head_of(model) if way.chunks and not fits_whole(len(batch.targets), _vocabulary(model)) else None
    if head is None:
        return Whole(logits(run, batch, way))
    with states_only(model) as read:
        for one in batch.passes:
            _run(run, one, way)
    states = _cat([_picked(found, one, way) for found, one in zip(read, batch.passes, strict=True)])
    return Chunked(states, head if layer is None else Head(layer(head.layer), head.change), _vocabulary(model))


def _vocabulary(model: Any) -> int:
    """Rows of the embedding: as many as logits, or a few less."""
    return int(bare(model).get_input_embeddings().weight.shape[0])


def outputs_and_states(model: Any, batch: MicroBatch, way: Way) -> tuple[Outputs, torch.Tensor]:
    """`outputs`, and float[N, H]: what the output layer reads to make them. Raises ModelError for a model
    that does not call its output layer as a module."""
    read: list[torch.Tensor] = []
    layer = bare(model).get_output_embeddings()
    handle = layer.register_forward_pre_hook(lambda _, args: read.append(args[0])) if layer is not None else None
    try:
        found = outputs(model, batch, way)
    finally:
        if handle is not None:
            handle.remove()
    if isinstance(found, Chunked):
        return found, found.states
    if len(read) != len(batch.passes):
        raise ModelError(
            "this loss",
            f"needs the states that the output layer reads; the model showed {len(read)} of {len(batch.passes)}",
            "use another one for this architecture (for ppo: grpo, rloo or reinforce)",
        )
    # Where the model picks positions its output layer has read those alone, so states are picked as logits are.
    return found, _cat([_picked(one, part, way) for one, part in zip(read, batch.passes, strict=True)])


def _logits(model: Any, one: Pass, way: Way) -> torch.Tensor:
    return _picked(_run(model, one, way).logits, one, way)


def _run(model: Any, one: Pass, way: Way) -> Any:
    keep = {"logits_to_keep": one.predicts} if way.picks else {}
    return model(**one.inputs, **keep, use_cache=False)


def _cat(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    # One part is not copied.
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _picked(out: torch.Tensor, one: Pass, way: Way) -> torch.Tensor:
    """float[N, D] of the predicting positions."""
    if one.predicts.dim() == 1:
        return out[0] if way.picks else out[0, one.predicts]
    return out if way.picks else out[one.predicts]


def reordered(found: Outputs, of: MicroBatch, to: MicroBatch) -> Outputs:
    """Logits for one arrangement of a batch, in the order of another."""
    if of.place is to.place:
        return found
    # Both hold the same targets in the order of their places or in another: the k-th by place in one is the k-th by
    # place in the other, also where prompts before it differ.
    rank = torch.empty_like(to.place)
    rank[to.place.argsort()] = of.place.argsort()
    return found.at(rank)


def document_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    document_lengths: tuple[int, ...] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each of the joined examples, in transformers' attention interface.

    query: float[1, H, T, D]. key, value: float[1, H or fewer, T, D]. document_lengths: sums to
    T; None is one example. Returns float[1, T, H, D]. Costs sum of squared lengths, not the
    square of their sum. Raises NotImplementedError for what it would compute wrongly (a mask,
    soft caps, sinks, a window shorter than an example); `find_way` then chooses padded rows.
    """
    lengths = document_lengths or (query.shape[2],)
    refuse_attention(module, attention_mask, key.shape[2] != query.shape[2], lengths, kwargs)
    if _flash_fits(query, key, dropout):
        return _flash(query, key, value, lengths, scaling), None
    return _one_by_one(query, key, value, lengths, dropout, scaling), None


def _one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: tuple[int, ...],
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    # Grouped queries: each head of keys serves as many neighbouring heads of queries.
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    queries, keys, values = (torch.split(one, list(lengths), 2) for one in (query, key, value))
    parts = [
        F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling).transpose(1, 2)
        for q, k, v in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(parts, 1)


def refuse_attention(module: Any, mask: Any, crossed: bool, lengths: tuple[int, ...], kwargs: dict[str, Any]) -> None:
    """Raise NotImplementedError for what `document_attention` would compute wrongly."""
    # As in transformers, what a call says goes before what its module says.
    causal = kwargs.get("is_causal")
    if not (getattr(module, "is_causal", True) if causal is None else causal):
        raise NotImplementedError("attention that is not causal")
    for name in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(name) is not None:
            raise NotImplementedError(name)
    if mask is not None or crossed:
        raise NotImplementedError("an attention mask or cross attention")
    window = kwargs.get("sliding_window")
    if window is not None and max(lengths) > window:
        raise NotImplementedError(f"a window of {window}")


def _flash_fits(query: torch.Tensor, key: torch.Tensor, dropout: float) -> bool:
    """Whether torch's variable-length kernel can be used: 16 bits on CUDA, and it agrees."""
    # Widths that flash kernels have; the variable-length one knows no dropout.
    if not query.is_cuda or dropout or query.shape[-1] % 8 or query.shape[-1] > 256:
        return False
    # Under autocast queries may come in float32 and be computed in 16 bits.
    dtype = _compute_dtype(query)
    if dtype not in (torch.bfloat16, torch.float16):
        return False
    return _flash_agrees(query.shape[1], key.shape[1], query.shape[-1], dtype, query.device)


def _compute_dtype(query: torch.Tensor) -> torch.dtype:
    kind = query.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype


def _flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: tuple[int, ...], scaling: float | None
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    dtype, longest = _compute_dtype(query), max(lengths)
    # [T, H, D], and int32[E + 1] where each of the E examples ends; a window of (-1, 0) is causal.
    q, k, v = (one[0].transpose(0, 1).to(dtype) for one in (query, key, value))
    ends = _ends(lengths, query.device)
    grouped = query.shape[1] != key.shape[1]
    out = varlen_attn(q, k, v, ends, ends, longest, longest, scale=scaling, window_size=(-1, 0), enable_gqa=grouped)
    assert isinstance(out, torch.Tensor)
    return out.unsqueeze(0)


@lru_cache(maxsize=8)
def _ends(lengths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


@lru_cache(maxsize=8)
def _flash_agrees(heads: int, kv_heads: int, width: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Try the kernel once per shape against the plain one; False when it fails or differs."""
    lengths = (9, 70)
    made = torch.Generator().manual_seed(0)
    shapes = (heads, kv_heads, kv_heads)
    q, k, v = (torch.randn(1, h, sum(lengths), width, generator=made).to(device, dtype) for h in shapes)
    try:
        # Any failure of a kernel that this GPU or this torch does not have only means the slower way.
        got = _flash(q, k, v, lengths, None)
    except (ImportError, TypeError, RuntimeError, NotImplementedError, ValueError):
        return False
    return bool(torch.allclose(got.float(), _one_by_one(q, k, v, lengths).float(), atol=2e-2, rtol=2e-2))


def find_way(model: Any, longest: int, *, split: bool = True, chunks: bool = True) -> Way:
    """Try out how `model` can be run on examples of up to `longest` tokens, and set it up.

    Leaves `document_attention` switched on in the model when it can be run joined; see
    `plain_attention` for switching back.
    """
    with _quiet_forward(model):
        # Two lengths, so that an attention that mixes the examples up cannot be right by symmetry.
        first, second = _tokens(model, 9), _tokens(model, 5)
        alone = [_plain(model, ids) for ids in (first, second)]
        joined = longest <= local_span(bare(model).config) and _can_join(model, first, second, alone)
        picks = _can_pick(model, first, alone[0], joined)
    return Way(joined, picks, split, chunks)


def set_way(model: Any, way: Way) -> None:
    """Set up another model of the same architecture to be run the same way."""
    if way.joined:
        _register()
        bare(model).set_attn_implementation(ATTENTION)


@contextmanager
def plain_attention(model: Any) -> Iterator[None]:
    """Restore the attention implementation that the model came with afterwards."""
    original = bare(model).config._attn_implementation
    try:
        yield
    finally:
        if bare(model).config._attn_implementation != original:
            bare(model).set_attn_implementation(original)


def local_span(config: Any) -> int:
    """The shortest distance beyond which some layer does not attend; 2**62 where all do."""
    text = config.get_text_config()
    sliding = (
        # Some families name a window in their configuration that they do not use.
        text.sliding_window if getattr(text, "use_sliding_window", True) and hasattr(text, "sliding_window") else None
    )
    spans = [sliding, getattr(text, "attention_chunk_size", None)]
    return min((span for span in spans if isinstance(span, int) and span > 0), default=2**62)


@contextmanager
def _quiet_forward(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _tokens(model: Any, count: int) -> torch.Tensor:
    device, size = next(model.parameters()).device, bare(model).get_input_embeddings().weight.shape[0]
    # Steps of a prime spread the ids over the vocabulary; `count` makes the two examples differ.
    return (torch.arange(count, device=device) * 7919 + count).remainder(size)[None]


def _plain(model: Any, ids: torch.Tensor) -> torch.Tensor:
    every: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return every


def _can_pick(model: Any, ids: torch.Tensor, every: torch.Tensor, joined: bool) -> bool:
    # Not all and not only the last: models that know only a number of last logits must fail here.
    keep = torch.arange(1, ids.shape[1], 3, device=ids.device)
    wanted = every[:, keep]
    if not joined:
        keep = torch.zeros_like(ids, dtype=torch.bool).index_fill(1, keep, True)
        wanted = every[keep]
    try:
        picked = model(input_ids=ids, logits_to_keep=keep, use_cache=False).logits
    except FAILURES:
        return False
    return bool(picked.shape == wanted.shape and torch.allclose(picked, wanted, rtol=1e-3, atol=1e-4))


def _can_join(model: Any, first: torch.Tensor, second: torch.Tensor, alone: list[torch.Tensor]) -> bool:
    inner, ids, lengths = bare(model), torch.cat([first, second], 1), (first.shape[1], second.shape[1])
    wanted = torch.cat(alone, 1)
    # How much the logits of this very model change when examples see each other. A fixed bound would call a model safe
    # whose attention hardly moves its logits yet.
    leak = float((_plain(model, ids) - wanted).abs().max())
    positions = torch.cat([torch.arange(length, device=ids.device) for length in lengths])[None]
    original = inner.config._attn_implementation
    try:
        _register()
        inner.set_attn_implementation(ATTENTION)
        got = model(input_ids=ids, position_ids=positions, document_lengths=lengths, use_cache=False).logits
        fits = got.shape == wanted.shape and float((got - wanted).abs().max()) <= LEAK * leak
    except FAILURES:
        fits = False
    # A model that cannot be run like that must come out as it came in.
    if not fits and inner.config._attn_implementation != original:
        inner.set_attn_implementation(original)
    return fits


def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, document_attention)
