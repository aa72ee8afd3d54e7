"""Contexts that begin alike: what they share is computed once, and each goes on from its keys and values.

The two orders in which a judge is shown a pair share the question and the principle; questions behind the same examples
share the examples. A family is such contexts with their common beginning. One pass reads the beginnings of several
families (behind their common heading, which a pass of its own reads once); the next one reads what is left of every
member, packed with its options as in `tree`, beside the keys and values of its own beginning. So the numbers are those
of one row per (context, option) pair, but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from mnemos.models.forward import logits_at, right_padded
from mnemos.models.tree import Item, option_scores, packed, seen_by

CACHE_BYTES = 2**30
"""Upper bound of the keys and values of one batch, which grow with its rows and not with what is computed."""

SHORTEST = 16
"""Tokens that contexts must share: fewer cost about as much as the second pass."""

Scores = list[tuple[float, bool]]


class Family(NamedTuple):
    """members: indices of the items. shared: how many tokens their contexts have in common; each has at least one more
    of its own. own: what the costliest member's row counts behind them, options included, as a number of tokens."""

    members: list[int]
    shared: int
    own: int


def families(items: Sequence[Item], costs: Sequence[int], batch_tokens: int) -> tuple[list[Family], list[int]]:
    """Families of items, those with the longest rows of their own first, and the items that are in none.

    Contexts are sorted, so that those that begin alike are neighbours, and joined while that saves more tokens than it
    costs. costs: tokens that each item's whole row counts; a family is cut where its rows would be more than
    batch_tokens.
    """
    order = sorted(range(len(items)), key=lambda i: items[i].context)
    found: list[Family] = []
    alone: list[int] = []
    current: list[int] = []
    shared = width = 0

    def close() -> None:
        if len(current) > 1:
            found.append(Family(list(current), shared, width - shared))
        else:
            alone.extend(current)

    for i in order:
        item = items[i]
        if current:
            common = _common(items[current[-1]].context, item.context)
            # The last token stays each one's own: behind it the options are predicted.
            common = min(common, shared, len(item.context) - 1)
            wider = max(width, costs[i])
            # n members save (n - 1) x shared tokens: one more that has less in common must not cost what they save.
            saves = common >= SHORTEST and len(current) * common >= (len(current) - 1) * shared
            if saves and (len(current) + 1) * wider <= batch_tokens:
                current.append(i)
                shared, width = common, wider
                continue
            close()
        current, shared, width = [i], len(item.context) - 1, costs[i]
    close()
    return sorted(found, key=lambda one: (-one.own, -one.shared, one.members)), sorted(alone)


def cached_tokens(model: Any) -> int:
    """How many tokens' keys and values are CACHE_BYTES."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    each = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    a_token = 2 * config.num_hidden_layers * heads * each * torch.finfo(model.dtype).bits // 8
    return int(max(1, CACHE_BYTES // a_token))


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two contexts share at the start."""
    for place, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return place
    return min(len(a), len(b))


def together(found: Sequence[Family], batch_tokens: int) -> Iterator[list[Family]]:
    """Families in batches whose rows, beginnings included, are at most batch_tokens (one family may exceed it)."""
    # Neighbours have rows of their own of like length, so that hardly any padding is computed; beginnings are
    # fewer, and their padding costs less.
    batch: list[Family] = []
    rows = shared = 0
    for one in found:
        rows, shared = rows + len(one.members), max(shared, one.shared)
        if batch and rows * (batch[0].own + shared) > batch_tokens:
            yield batch
            batch, rows, shared = [], len(one.members), one.shared
        batch.append(one)
    if batch:
        yield batch


def family_scores(model: Any, items: Sequence[Item], batch: Sequence[Family]) -> list[Scores]:
    """What `tree.packed_scores` gives, of the members of the families in their order. Two or three forward passes."""
    device = model.get_input_embeddings().weight.device
    cache = _beginnings(model, [items[one.members[0]].context[: one.shared] for one in batch])
    owners = [number for number, one in enumerate(batch) for _ in one.members]
    cache.batch_select_indices(torch.tensor(owners, device=device))
    rows = [Item(items[i].context[one.shared :], items[i].options) for one in batch for i in one.members]
    read = torch.tensor([batch[number].shared for number in owners])
    made = packed(rows)
    # seen: bool[B, T, P + T]: a row sees the beginning of its own family, without padding, and itself as in `tree`.
    width = max(one.shared for one in batch)
    beginning = torch.arange(width)[None, None, :] < read[:, None, None]
    seen = torch.cat([beginning.expand(-1, made.ids.shape[1], -1), seen_by(made.owner)], dim=2).to(device)
    mask = torch.zeros(seen.shape, dtype=model.dtype, device=device).masked_fill_(~seen, torch.finfo(model.dtype).min)
    logits, _ = logits_at(
        model,
        torch.tensor(made.flat, device=device),
        input_ids=made.ids.to(device),
        position_ids=(made.position + read[:, None]).to(device),
        attention_mask=mask[:, None],
        past_key_values=cache,
        use_cache=True,
    )
    return option_scores(logits, made, rows)


def _beginnings(model: Any, texts: Sequence[list[int]]) -> Any:
    """Keys and values of the beginnings, one row each; a heading that all of them have is read once."""
    device = model.get_input_embeddings().weight.device
    # The head is asked about one position alone: nobody reads its logits.
    first = torch.zeros(1, dtype=torch.long, device=device)
    heading = min(min(_common(texts[0], text) for text in texts), min(map(len, texts)) - 1)
    inputs: dict[str, Any] = {}
    if len(texts) > 1 and heading >= SHORTEST:
        ids = torch.tensor([texts[0][:heading]], device=device)
        cache = logits_at(model, first, input_ids=ids, use_cache=True)[1].past_key_values
        cache.batch_select_indices(torch.zeros(len(texts), dtype=torch.long, device=device))
        texts, inputs = [text[heading:] for text in texts], {"past_key_values": cache}
    # Right-padded, so that no mask is needed; nobody looks at what stands behind a beginning.
    return logits_at(model, first, input_ids=right_padded(texts, device), use_cache=True, **inputs)[1].past_key_values


def shares(model: Any, reference: Sequence[Scores], items: Sequence[Item], tolerance: float) -> bool:
    """Whether this model gives its `reference` scores of `items`, whose contexts begin alike in twos, from a shared
    beginning. Models that ignore masks or positions, or keep another kind of state, do not."""
    batch = [
        Family([at, at + 1], _common(items[at].context, items[at + 1].context), 0) for at in range(0, len(items), 2)
    ]
    try:
        found = family_scores(model, items, batch)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False
    pairs = [(a[0], b[0]) for x, y in zip(found, reference, strict=True) for a, b in zip(x, y, strict=True)]
    return all(abs(a - b) <= tolerance * max(1.0, abs(b)) for a, b in pairs)
