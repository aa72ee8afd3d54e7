"""Likelihood of given text, and divergence between two models on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from mnemos.core.progress import counting
from mnemos.models.chunked import outputs_at
from mnemos.models.forward import LOGIT_BYTES, batches, context_length, kept, log_probs, right_padded

Window = tuple[list[int], int]
"""Token ids, and the index of the first one that is scored in this window."""


def windows(ids: Sequence[int], length: int) -> Iterator[Window]:
    """Cover `ids` with windows of at most `length` model inputs (the last id of a window is a
    target only), so that each id after the first is scored exactly once.

    Each window but the first leaves at least length // 2 ids of context before its first target;
    the last one moves back to use the whole context.
    """
    done = 1
    while done < len(ids):
        # `done`: the first id that is not scored yet; it has all ids from `start` on before it.
        start = 0 if done == 1 else max(0, min(done - max(1, length // 2), len(ids) - length - 1))
        # One id more than the model reads: the last one is a target only.
        end = min(start + length + 1, len(ids))
        yield list(ids[start:end]), done - start
        done = end


def nats(model: Any, rows: Sequence[Sequence[int]], batch_tokens: int) -> list[tuple[float, int]]:
    """Per row of token ids: sum of -ln p(token | tokens before it), in nats, over all tokens but
    the first, and how many those are. Rows longer than the model's context are read in
    overlapping windows."""
    return [(math.fsum(values), len(values)) for values in token_nats(model, rows, batch_tokens)]


def token_nats(model: Any, rows: Sequence[Sequence[int]], batch_tokens: int) -> list[list[float]]:
    """Per row of token ids: -ln p(token | tokens before it), in nats, of each token but the first.
    Rows longer than the model's context are read in overlapping windows."""
    pieces = [(row, piece) for row, ids in enumerate(rows) for piece in windows(ids, context_length(model))]
    found: list[list[float]] = [[] for _ in pieces]
    vocabulary = model.get_input_embeddings().weight.shape[0]
    budget = min(batch_tokens, max(1, LOGIT_BYTES // (4 * vocabulary)))
    parts = Counter(row for row, _ in pieces)
    with counting(len(rows)) as count:
        done = float(len(rows) - len(parts))
        # The budget is that of float32 logits, since nearly every position is scored.
        for batch in batches([len(ids) for _, (ids, _) in pieces], budget):
            members = [pieces[k][1] for k in batch]
            asked, tokens = ["nats", [[fed, first] for fed, first in members]], sum(len(fed) for fed, _ in members)
            values_of = kept(asked, lambda members=members: _window_nats(model, members), count, tokens)  # type: ignore[misc]
            for k, values in zip(batch, values_of, strict=True):
                found[k] = values
                done += 1 / parts[pieces[k][0]]
            count.to(done)
    out: list[list[float]] = [[] for _ in rows]
    for (row, _), values in zip(pieces, found, strict=True):
        out[row] += values
    return out


def _window_nats(model: Any, batch: Sequence[Window]) -> list[list[float]]:
    device = model.get_input_embeddings().weight.device
    ids = right_padded([fed[:-1] for fed, _ in batch], device)
    # (flat position that predicts the first target, how many targets follow it).
    spans = [(b * ids.shape[1] + first - 1, len(fed) - first) for b, (fed, first) in enumerate(batch)]
    targets = torch.tensor([token for fed, first in batch for token in fed[first:]], device=device)
    found = outputs_at(model, _flat(spans, device), input_ids=ids)
    values = found.each(lambda logits, given: -log_probs(logits, given)[0], targets).tolist()
    out, at = [], 0
    for _, count in spans:
        out.append(values[at : at + count])
        at += count
    return out


def divergence(
    model: Any,
    other: Any,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    tokens: int,
    batch_tokens: int,
) -> list[tuple[float, int]]:
    """Per item: sum over the answer's tokens of KL(model ‖ other) between the two full next-token
    distributions, in nats, and how many tokens; the answer is given to both models.

    Exactly 0 for equal weights. (nan, 0) where prompt and answer exceed the shorter context of
    the two. tokens: both distributions are taken over the first `tokens` ids, those that the
    tokenizer knows: rows beyond pad the vocabulary to a round number, differently from model to
    model, and no text ever becomes one of them.
    """
    limit = min(context_length(model), context_length(other))
    out: list[tuple[float, int]] = [(0.0, 0)] * len(prompts)
    fits = []
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if answer and len(prompt) + len(answer) <= limit:
            fits.append(i)
        elif answer:
            out[i] = (math.nan, 0)
    ask = partial(_batch_divergence, model, other, tokens=tokens)
    for i, value in _by_batch("divergence", ask, model, prompts, answers, fits, batch_tokens):
        out[i] = (value, len(answers[i]))
    return out


def _by_batch(
    name: str,
    ask: Callable[..., list[Any]],
    model: Any,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    fits: Sequence[int],
    batch_tokens: int,
) -> Iterator[tuple[int, Any]]:
    """(item, what `ask` says of it) for the items that fit, asked in batches whose logits fit too, each kept under its
    name for a run that is continued."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    budget = min(batch_tokens, max(1, LOGIT_BYTES // (4 * vocabulary)))
    with counting(len(prompts)) as count:
        done = len(prompts) - len(fits)
        for batch in batches([len(prompts[i]) + len(answers[i]) - 1 for i in fits], budget):
            members = [fits[k] for k in batch]
            pairs = [(list(prompts[i]), list(answers[i])) for i in members]
            read = sum(len(prompt) + len(answer) for prompt, answer in pairs)
            yield from zip(members, kept([name, pairs], partial(ask, pairs), count, read), strict=True)
            done += len(members)
            count.to(done)


def _batch_divergence(
    model: Any, other: Any, items: Sequence[tuple[Sequence[int], Sequence[int]]], tokens: int
) -> list[float]:
    device = model.get_input_embeddings().weight.device
    ids = right_padded([[*prompt, *answer[:-1]] for prompt, answer in items], device)
    spans = [(b * ids.shape[1] + len(prompt) - 1, len(answer)) for b, (prompt, answer) in enumerate(items)]
    flat = _flat(spans, device)
    ours, theirs = (outputs_at(one, flat, input_ids=ids) for one in (model, other))

    def each(*logits: torch.Tensor) -> torch.Tensor:
        # ln p, ln q: float32[n, tokens], each normalised over the tokens that the tokenizer has.
        p, q = (one[..., :tokens].float().log_softmax(dim=-1) for one in logits)
        # KL(p || q) = sum_v p_v (ln p_v - ln q_v) at each position, in nats. It is at least 0; what lies below is
        # rounding.
        return _kl(p, q).clamp_min(0)

    values = ours.each(each, theirs).tolist()
    out, at = [], 0
    for _, count in spans:
        out.append(math.fsum(values[at : at + count]))
        at += count
    return out


def shift(
    model: Any,
    other: Any,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    tokens: int,
    batch_tokens: int,
) -> list[list[tuple[int, float]]]:
    """Per item, of each token of an answer that `other` wrote: its rank in `model`'s next-token distribution (1: none
    is likelier), and KL(other || model) there, in nats.

    Of equally likely tokens none is likelier. No pairs where prompt and answer exceed the shorter context of the two.
    tokens: as in `divergence`.
    """
    limit = min(context_length(model), context_length(other))
    fits = [i for i, answer in enumerate(answers) if answer and len(prompts[i]) + len(answer) <= limit]
    out: list[list[tuple[int, float]]] = [[] for _ in prompts]
    ask = partial(_batch_shift, model, other, tokens=tokens)
    for i, values in _by_batch("shift", ask, model, prompts, answers, fits, batch_tokens):
        out[i] = [(int(rank), float(nats)) for rank, nats in values]
    return out


def _batch_shift(
    model: Any, other: Any, items: Sequence[tuple[Sequence[int], Sequence[int]]], tokens: int
) -> list[list[tuple[int, float]]]:
    device = model.get_input_embeddings().weight.device
    ids = right_padded([[*prompt, *answer[:-1]] for prompt, answer in items], device)
    spans = [(b * ids.shape[1] + len(prompt) - 1, len(answer)) for b, (prompt, answer) in enumerate(items)]
    flat = _flat(spans, device)
    given = torch.tensor([token for _, answer in items for token in answer], device=device)
    ours, theirs = (outputs_at(one, flat, input_ids=ids) for one in (model, other))

    def rank(logits: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        known = logits[..., :tokens].float()
        return 1 + (known > known.gather(-1, written[:, None])).sum(dim=-1)

    def nats(*logits: torch.Tensor) -> torch.Tensor:
        q, p = (one[..., :tokens].float().log_softmax(dim=-1) for one in logits)
        # KL(other || model) = sum_v p_v (ln p_v - ln q_v), p being that of the model that wrote the answer.
        return _kl(p, q).clamp_min(0)

    values = list(zip(ours.each(rank, given).tolist(), ours.each(nats, theirs).tolist(), strict=True))
    out, at = [], 0
    for _, count in spans:
        out.append(values[at : at + count])
        at += count
    return out


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """float[n]: sum_v p_v (ln p_v - ln q_v) of log-probabilities float[n, V]; a token that p rules out adds 0."""
    mass = p.exp()
    return (mass * (p - q).masked_fill(mass == 0, 0.0)).sum(dim=-1)


def _flat(spans: Sequence[tuple[int, int]], device: torch.device) -> torch.Tensor:
    """Flat positions of spans (start, count)."""
    return torch.cat([torch.arange(start, start + count, device=device) for start, count in spans])
