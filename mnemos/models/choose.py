"""ln p(option | context) for several options of one context, the context computed once.

A row is a context followed by all of its options. A mask lets each option see the context and
itself only, and position ids restart behind the context for each, so one forward pass gives the
same numbers as one pass per (context, option) pair. The output embedding sees only the
positions that predict an option's token; the first tokens of all options share one position.

The packed row is right for models whose layers are all softmax attention under the mask that
they are given. That is read from the configuration and then checked on the model itself with
two tiny passes; every other model (recurrent layers, ALiBi, rows beyond a sliding window) takes
the plain path, one row per option.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from mnemos.core.errors import UsageError
from mnemos.core.nouns import OptionScore, Prompt
from mnemos.models.forward import (
    batches,
    context_length,
    log_probs,
    logits_at,
    right_padded,
)
from mnemos.sources.render import Renderer

RAW_ROLES = frozenset({"prompt", "text"})


class Item(NamedTuple):
    """Token ids of a context (never empty) and of its options (none empty)."""

    context: list[int]
    options: list[list[int]]


MISSING = OptionScore(math.nan, 0, False)
"""The score of an option that does not fit behind its context."""


def score_options(model: Any, items: Sequence[Item], batch_tokens: int) -> list[list[OptionScore]]:
    """Scores in the order of `items` and their options; NaN where context and option together
    exceed the model's context length."""
    limit = context_length(model)
    out = [[MISSING] * len(item.options) for item in items]
    asked = [(i, o) for i, item in enumerate(items) for o in range(len(item.options)) if _fits(item, o, limit)]
    for (i, o), value in zip(
        asked, _plain(model, [(items[i].context, items[i].options[o]) for i, o in asked], batch_tokens), strict=True
    ):
        out[i][o] = value
    return out


def _fits(item: Item, option: int, limit: int) -> bool:
    return len(item.context) + len(item.options[option]) - 1 <= limit


def _plain(model: Any, pairs: Sequence[tuple[list[int], list[int]]], batch_tokens: int) -> list[OptionScore]:
    """One row per (context, option) pair."""
    device = model.get_input_embeddings().weight.device
    out = [MISSING] * len(pairs)
    rows = [[*context, *option[:-1]] for context, option in pairs]
    for batch in batches([len(row) for row in rows], batch_tokens):
        ids = right_padded([rows[k] for k in batch], device)
        width = ids.shape[1]
        flat = [b * width + len(pairs[k][0]) - 1 + t for b, k in enumerate(batch) for t in range(len(pairs[k][1]))]
        targets = torch.tensor([token for k in batch for token in pairs[k][1]], device=device)
        logits, _ = logits_at(model, torch.tensor(flat, device=device), input_ids=ids)
        values, greedy = log_probs(logits, targets)
        sizes = [len(pairs[k][1]) for k in batch]
        for k, v, g in zip(batch, values.split(sizes), greedy.split(sizes), strict=True):
            out[k] = OptionScore(float(v.double().sum()), len(v), bool(g.all()))
    return out


def tokenized(
    tokenizer: Any, renderer: Renderer, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]
) -> list[Item]:
    """Token ids of contexts and options.

    Raw prompts: context and option are encoded together and split at the length of the context
    encoded alone, after trailing white space of the context has moved to the option (the rule
    of lm-evaluation-harness, so that scores agree). Chats: the rendered prompt, then the option
    encoded alone, as training renders an answer. An empty option raises UsageError.
    """
    if len(contexts) != len(options):
        raise UsageError(f"{len(contexts)} contexts and {len(options)} lists of options", "must be as many")
    for i, texts in enumerate(options):
        if not texts or not all(texts):
            raise UsageError(f"options[{i}] = {list(texts)!r}", "must be texts, none of them empty", "")
    raw = [i for i, prompt in enumerate(contexts) if _is_raw(prompt)]
    out: list[Item | None] = [None] * len(contexts)
    for i, item in zip(
        raw, _raw_items(tokenizer, [(contexts[i].turns[0].content, options[i]) for i in raw]), strict=True
    ):
        out[i] = item
    for i, prompt in enumerate(contexts):
        if out[i] is None:
            encoded = tokenizer(list(options[i]), add_special_tokens=False)["input_ids"]
            out[i] = Item(renderer.prompt_ids(prompt), encoded)
    return [item for item in out if item is not None]


def _is_raw(prompt: Prompt) -> bool:
    return len(prompt.turns) == 1 and prompt.turns[0].role in RAW_ROLES


def _raw_items(tokenizer: Any, pairs: Sequence[tuple[str, Sequence[str]]]) -> list[Item]:
    texts: list[str] = []
    for context, options in pairs:
        kept = context.rstrip()
        texts += [kept, *(context + option for option in options)]
    encoded = iter(tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    out = []
    for _, options in pairs:
        head = next(encoded)
        tails = [next(encoded)[len(head) :] for _ in options]
        # A merge across the boundary can swallow a short option whole.
        tails = [
            tail or tokenizer(option, add_special_tokens=False)["input_ids"]
            for tail, option in zip(tails, options, strict=True)
        ]
        prefix = [] if bos is None or head[:1] == [bos] else [bos]
        out.append(Item([*prefix, *head] or [eos if eos is not None else tails[0][0]], tails))
    return out
