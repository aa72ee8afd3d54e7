"""The shortest prompt that makes a model write a text: every prompt of up to a few tokens is tried.

One pass over the vocabulary serves all texts at once. Behind every beginning of n - 1 tokens, all last tokens are read
together, and the token that each prompt is continued by is looked up among the first tokens of the texts; the few
prompts that are left are then read with the whole text behind them. Deviation from arXiv:2404.15146: 1. no gradient
leads the search (GCG), which gives an upper bound of the length; this one is exact, and so only for small
vocabularies.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from mnemos.core.errors import UsageError
from mnemos.core.progress import counting
from mnemos.models.choose import score_options
from mnemos.models.tree import Item

MOST = 5_000_000
"""Prompts that are tried at most."""
ROWS = 4096
"""Prompts in one forward pass at most."""


@torch.inference_mode()
def shortest_prompts(
    model: Any,
    texts: Sequence[Sequence[int]],
    longest: int,
    vocabulary: Sequence[int],
    opening: Sequence[int],
    batch_tokens: int,
) -> list[tuple[int, ...] | None]:
    """For each text the first of its shortest prompts, in the order of `vocabulary`; None where no prompt of up to
    `longest` tokens gives it.

    A prompt gives a text where the text's every token is the most likely one behind `opening`, the prompt and the
    tokens before it. texts: token ids, none empty. vocabulary: ids that a prompt may hold. opening: what stands before
    every prompt (BOS); not empty. Raises UsageError where more than MOST prompts would have to be tried, and for a
    model whose cache cannot be repeated.
    """
    refuse_many(len(vocabulary), longest)
    found: list[tuple[int, ...] | None] = [None] * len(texts)
    with counting(sum(len(vocabulary) ** n for n in range(1, longest + 1)), "prompts") as count:
        done = 0
        for n in range(1, longest + 1):
            open_ = [i for i, prompt in enumerate(found) if prompt is None]
            firsts = {texts[i][0] for i in open_}
            if not firsts:
                break
            for prompts in _continued_by(model, vocabulary, opening, n, firsts):
                done += len(vocabulary)
                count.to(done)
                _take(model, texts, open_, prompts, found, opening, batch_tokens)
    return found


def refuse_many(vocabulary: int, longest: int) -> None:
    """Raise UsageError where the search would take more than MOST prompts."""
    number = sum(vocabulary**n for n in range(1, longest + 1))
    if number > MOST:
        raise UsageError(
            f"prompts of up to {longest} tokens out of {vocabulary:,}",
            f"are {number:,}, and {MOST:,} are tried at most",
            "search for shorter ones, or take a model of a smaller vocabulary",
        )


def _continued_by(
    model: Any, vocabulary: Sequence[int], opening: Sequence[int], n: int, firsts: set[int]
) -> Iterator[list[tuple[tuple[int, ...], int]]]:
    """Prompts of n tokens that are continued by one of `firsts`, and by which; those of one beginning together."""
    device = model.get_input_embeddings().weight.device
    last = torch.tensor(list(vocabulary), device=device)[:, None]
    for begun in itertools.product(vocabulary, repeat=n - 1):
        out = []
        for rows in torch.split(last, ROWS):
            ids = torch.tensor([[*opening, *begun]], device=device)
            cache = model(input_ids=ids, use_cache=True).past_key_values
            if not hasattr(cache, "batch_repeat_interleave"):
                raise UsageError("the model", "keeps no keys and values that can be repeated", "take another model")
            # One reading of the beginning for all last tokens.
            cache.batch_repeat_interleave(len(rows))
            logits = model(input_ids=rows, past_key_values=cache, use_cache=True).logits[:, -1]
            for token, by in zip(rows[:, 0].tolist(), logits.argmax(-1).tolist(), strict=True):
                if by in firsts:
                    out.append(((*begun, int(token)), int(by)))
        yield out


def _take(
    model: Any,
    texts: Sequence[Sequence[int]],
    open_: Sequence[int],
    prompts: Sequence[tuple[tuple[int, ...], int]],
    found: list[tuple[int, ...] | None],
    opening: Sequence[int],
    batch_tokens: int,
) -> None:
    """Read the texts behind the prompts that are continued by their first tokens."""
    asked = [(prompt, [i for i in open_ if found[i] is None and texts[i][0] == by]) for prompt, by in prompts]
    items = [Item([*opening, *prompt], [list(texts[i]) for i in places]) for prompt, places in asked if places]
    scores = score_options(model, items, batch_tokens) if items else []
    for (prompt, places), own in zip([one for one in asked if one[1]], scores, strict=True):
        for i, score in zip(places, own, strict=True):
            if score.greedy and found[i] is None:
                found[i] = prompt
