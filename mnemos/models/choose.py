"""ln p(option | context) for several options of one context, the context computed once.

A row is a context followed by all of its options. A mask lets each option see the context and
itself only, and position ids restart behind the context for each, so one forward pass gives the
same numbers as one pass per (context, option) pair. The output embedding sees only the
positions that predict an option's token; the first tokens of all options share one position.

What the contexts of several rows share at their start is computed once too: `prefix`.

The packed row is right for models whose layers are all softmax attention under the mask that
they are given. That is read from the configuration and then checked on the model itself with
two tiny passes; every other model (recurrent layers, ALiBi, rows beyond a sliding window) takes
the plain path, one row per option.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

import torch

from mnemos.core.errors import UsageError
from mnemos.core.nouns import OptionScore, Prompt
from mnemos.core.progress import counting
from mnemos.models.forward import (
    accepted_inputs,
    batches,
    context_length,
    cost,
    kept,
    log_probs,
    logits_at,
    right_padded,
)
from mnemos.models.prefix import SHORTEST, Family, cached_tokens, families, family_scores, shares, together
from mnemos.models.tree import Item, agrees, longest_packed_row, packed_scores, tolerance
from mnemos.sources.opening import begun, prefix_ids, stand_in_ids
from mnemos.sources.render import RAW_ROLES, Renderer

MISSING = OptionScore(math.nan, 0, False)
"""The score of an option that does not fit behind its context."""

_PACKS: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""The longest packed row that each model met so far was seen to treat right."""

_SHARES: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""Whether each model met so far was seen to go on from a shared beginning right."""


def score_options(model: Any, items: Sequence[Item], batch_tokens: int) -> list[list[OptionScore]]:
    """Scores in the order of `items` and their options; NaN where context and option together
    exceed the model's context length."""
    limit = context_length(model)
    out = [[MISSING] * len(item.options) for item in items]
    # (item, which of its options): as many as can be packed in a row, else option by option
    packed: list[tuple[int, list[int]]] = []
    plain: list[tuple[int, list[int]]] = []
    longest = _longest(model)
    for i, item in enumerate(items):
        # An option's last token is only predicted, never read, so it takes no place in the context.
        fits = [o for o, option in enumerate(item.options) if len(item.context) + len(option) - 1 <= limit]
        for chosen in _rows(item, fits, longest):
            # A single option gains nothing from packing.
            (packed if len(chosen) > 1 else plain).append((i, chosen))
    with counting(len(items)) as count:
        done = 0.0
        for jobs, batch, score in _batches(model, items, packed, plain, batch_tokens):
            members = [_part(items[i], chosen) for i, chosen in (jobs[k] for k in batch)]
            # Everything that decides the numbers, so that a kept answer is never taken for another question.
            asked = ["choose", [[list(one.context), [list(option) for option in one.options]] for one in members]]
            read = sum(one.width for one in members)
            found = kept(asked, lambda members=members, score=score: score(members), count, read)  # type: ignore[misc]
            for k, values in zip(batch, found, strict=True):
                i, chosen = jobs[k]
                for o, (value, greedy) in zip(chosen, values, strict=True):
                    out[i][o] = OptionScore(value, len(items[i].options[o]), greedy)
                done += len(chosen) / len(items[i].options)
            count.to(done)
    return out


Jobs = Sequence[tuple[int, list[int]]]
"""(item, which of its options) of each row."""

Scored = Callable[[Sequence[Item]], list[list[tuple[float, bool]]]]


def _batches(
    model: Any, items: Sequence[Item], packable: Jobs, plain: Jobs, batch_tokens: int
) -> Iterator[tuple[Jobs, list[int], Scored]]:
    """(jobs, indices into them, how these are scored) of one batch after the other: rows whose contexts begin alike,
    other packed rows, rows of one option."""
    parts = [_part(items[i], chosen) for i, chosen in packable]
    alone = list(range(len(parts)))
    if parts and _shares(model):
        most = min(batch_tokens, cached_tokens(model))
        found, alone = families(parts, [_cost(model, part, most) for part in parts], most)
        for several in together(found, most):
            batch = [k for one in several for k in one.members]
            yield packable, batch, _of_families(model, several)
    for jobs, indices, score in ((packable, alone, packed_scores), (plain, list(range(len(plain))), plain_scores)):
        costs = [_cost(model, _part(items[jobs[k][0]], jobs[k][1]), batch_tokens) for k in indices]
        for batch in batches(costs, batch_tokens):
            yield jobs, [indices[b] for b in batch], partial(score, model)


def _of_families(model: Any, several: Sequence[Family]) -> Scored:
    """Scores of the members of these families, given in their order."""
    ends = list(accumulate(len(one.members) for one in several))
    placed = [
        one._replace(members=list(range(end - len(one.members), end))) for one, end in zip(several, ends, strict=True)
    ]
    return lambda members: family_scores(model, members, placed)


def _rows(item: Item, fits: Sequence[int], longest: int) -> list[list[int]]:
    """Options in their order, as many in a row as it holds beside the context; what is longer stands alone."""
    rows: list[list[int]] = []
    width = math.inf
    for o in fits:
        more = len(item.options[o]) - 1
        if width + more > longest:
            rows.append([])
            width = len(item.context)
        rows[-1].append(o)
        width += more
    return rows


def _part(item: Item, chosen: Sequence[int]) -> Item:
    return item if len(chosen) == len(item.options) else Item(item.context, [item.options[o] for o in chosen])


def _cost(model: Any, item: Item, batch_tokens: int) -> int:
    # Positions that predict: the context's last one, shared by all first tokens, and all that are read of options.
    picks = 1 + sum(len(option) - 1 for option in item.options)
    return cost(item.width, picks, model.get_input_embeddings().weight.shape[0], batch_tokens)


def _longest(model: Any) -> int:
    if model not in _PACKS:
        rows = int(model.get_input_embeddings().weight.shape[0])
        # Two widths, so that padding is tried; options of several tokens, so that masks and positions are.
        probe = [
            Item([(7 * t + 3) % rows for t in range(9)], [[5 % rows, 11 % rows, 2 % rows], [8 % rows, 1 % rows]]),
            Item([(5 * t + 1) % rows for t in range(4)], [[4 % rows, 9 % rows], [6 % rows] * 3]),
        ]
        longest = longest_packed_row(model)
        if longest:
            singles = [[plain_scores(model, [Item(item.context, [o])])[0][0] for o in item.options] for item in probe]
            longest = longest if agrees(model, singles, probe) else 0
        _PACKS[model] = longest
    return _PACKS[model]


def _shares(model: Any) -> bool:
    """Only where all that packed rows may hold is full attention: a window may end within a beginning. Not for a model
    that listens, whose sounds are runs of tokens that must stay whole."""
    if model not in _SHARES:
        rows = int(model.get_input_embeddings().weight.shape[0])
        ours = "past_key_values" in accepted_inputs(model) and not hasattr(model, "language")
        if ours and _longest(model) >= 2**20:
            # Beginnings of two lengths behind one heading, so that their padding is tried; members of two lengths.
            heading = [(11 * t + 1) % rows for t in range(SHORTEST)]
            first, second = ([*heading, *((3 * t + n) % rows for t in range(n))] for n in (6, 11))
            probe = [
                Item([*start, *[(7 * t + 2) % rows for t in range(n)]], [[5 % rows, 11 % rows], [2 % rows]])
                for start in (first, second)
                for n in (3, 8)
            ]
            probe = [Item([*one.context, at], one.options) for at, one in enumerate(probe)]
            singles = [[plain_scores(model, [Item(item.context, [o])])[0][0] for o in item.options] for item in probe]
            _SHARES[model] = shares(model, singles, probe, tolerance(model))
        else:
            _SHARES[model] = False
    return _SHARES[model]


def plain_scores(model: Any, items: Sequence[Item]) -> list[list[tuple[float, bool]]]:
    """What `packed_scores` gives, for items of one option each, with nothing but token ids given
    to the model: right for every causal model."""
    device = model.get_input_embeddings().weight.device
    pairs = [(item.context, item.options[0]) for item in items]
    ids = right_padded([[*context, *option[:-1]] for context, option in pairs], device)
    # Token t of an option is predicted at the position before it: b * T + len(context) - 1 + t in the flattened batch.
    flat = [b * ids.shape[1] + len(c) - 1 + t for b, (c, option) in enumerate(pairs) for t in range(len(option))]
    targets = torch.tensor([token for _, option in pairs for token in option], device=device)
    logits, _ = logits_at(model, torch.tensor(flat, device=device), input_ids=ids, use_cache=False)
    values, greedy = log_probs(logits, targets)
    sizes = [len(option) for _, option in pairs]
    return [
        # Summed in float64: an option of many tokens must not lose its small terms.
        [(float(v.sum()), bool(g.all()))]
        for v, g in zip(torch.split(values.double().cpu(), sizes), torch.split(greedy.cpu(), sizes), strict=True)
    ]


def tokenized(
    tokenizer: Any, renderer: Renderer, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]
) -> list[Item]:
    """Token ids of contexts and options.

    Raw prompts: context and option are encoded together, behind BOS where the tokenizer itself puts it
    there, and split at the length of the context encoded alone, after trailing white space of the
    context has moved to the option (the rule of lm-evaluation-harness, so that scores agree). Before an
    empty context stands BOS, or EOS where there is none. Chats: the rendered prompt, then the option
    encoded alone, as training renders an answer. An empty option raises UsageError.
    """
    if len(contexts) != len(options):
        raise UsageError(f"{len(contexts)} contexts and {len(options)} lists of options", "must be as many")
    for i, texts in enumerate(options):
        if not texts or not all(texts):
            raise UsageError(f"options[{i}] = {list(texts)!r}", "must be texts, none of them empty", "")
    raw = [i for i, prompt in enumerate(contexts) if all(turn.role in RAW_ROLES for turn in prompt.turns)]
    texts = ["".join(turn.text for turn in contexts[i].turns) for i in raw]
    found = dict(zip(raw, _raw_items(tokenizer, texts, [options[i] for i in raw]), strict=True))
    for i, prompt in enumerate(contexts):
        if i not in found:
            found[i] = Item(renderer.prompt_ids(prompt), [_inner(tokenizer, option) for option in options[i]])
    return [found[i] for i in range(len(contexts))]


def _inner(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text that does not begin its document: some tokenizers put a space before
    a first word, so it is encoded behind a line break, which is then cut off."""
    guard: list[int] = tokenizer("\n", add_special_tokens=False)["input_ids"]
    ids: list[int] = tokenizer("\n" + text, add_special_tokens=False)["input_ids"]
    if ids[: len(guard)] == guard and len(ids) > len(guard):
        return ids[len(guard) :]
    alone: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return alone


def _raw_items(tokenizer: Any, contexts: Sequence[str], options: Sequence[Sequence[str]]) -> list[Item]:
    texts: list[str] = []
    for context, choices in zip(contexts, options, strict=True):
        texts += [context.rstrip(), *(context + choice for choice in choices)]
    encoded = iter(tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])
    prefix, stand_in = prefix_ids(tokenizer), stand_in_ids(tokenizer)
    out = []
    for choices in options:
        head = next(encoded)
        # A merge across the border can swallow a short option whole; it is then encoded alone.
        # Split by the number of tokens of the context alone, as the harness does.
        tails = [next(encoded)[len(head) :] or _inner(tokenizer, choice) for choice in choices]
        out.append(Item(begun(prefix, head) or stand_in or [tails[0][0]], tails))
    return out


def started(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text behind BOS (whether or not the tokenizer uses it: something must stand before the
    first token), or EOS where there is no BOS, as lm-evaluation-harness has it; with neither, the text's first
    token stands there and is not counted.

    Deviation from the harness: it writes BOS a second time where the tokenizer adds it by itself, and counts it;
    here it stands once, as with the harness's ``add_bos_token=False``."""
    prefix = stand_in_ids(tokenizer)
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    return [[*prefix, *ids] for ids in encoded]
