"""Token shift (URIAL, arXiv:2312.01552): which tokens of a model's answers the model before would not have written.

Each token of an answer has a rank in the next-token distribution of the model before, given the same prompt and the
same tokens before it: unshifted at rank 1, marginal at 2 and 3, shifted beyond. It needs no labels, and asked on old
prompts it says where a training moved the model.

Deviation from the paper: 1. the stop token that ends an answer is not counted. Trap: the answers are the model's own,
so two arms are compared along different texts; `kl` goes along the same ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mnemos.core.nouns import Answer

MARGINAL = 3
"""The last rank that counts as marginal."""

TENTHS = 10
"""Stretches of an answer, by the share of it that has been written."""

SHOWN = 12
"""Most shifted tokens that are listed."""


def shares(ranks: Sequence[int]) -> tuple[float, float, float]:
    """Shares of unshifted, marginal and shifted tokens."""
    first = sum(rank == 1 for rank in ranks)
    beyond = sum(rank > MARGINAL for rank in ranks)
    return first / len(ranks), (len(ranks) - first - beyond) / len(ranks), beyond / len(ranks)


def pooled(answers: Sequence[Answer]) -> dict[str, Any] | None:
    """Over all tokens of some answers to a suite of this kind; None where there are none.

    tokens; unshifted, marginal, shifted: shares; kl: mean nats a token; tenths: shifted (share) and kl by tenth of the
    answer, None where no token lies in one; most: [token, times that it was shifted, times that it was written there].
    """
    there = [answer.data for answer in answers if answer.data.get("ranks")]
    ranks = [rank for data in there for rank in data["ranks"]]
    if not ranks:
        return None
    unshifted, marginal, shifted = shares(ranks)
    tenths: list[list[tuple[int, float]]] = [[] for _ in range(TENTHS)]
    for data in there:
        pairs = list(zip(data["ranks"], data["kl"], strict=True))
        for at, pair in enumerate(pairs):
            tenths[at * TENTHS // len(pairs)].append(pair)
    # By id, not by text: several ids may be shown alike.
    moved = Counter((data["ids"][at], text) for data in there for at, text, _ in data["shifted"])
    written = Counter(token for data in there for token in data["ids"])
    return {
        "tokens": len(ranks),
        "unshifted": unshifted,
        "marginal": marginal,
        "shifted": shifted,
        "kl": math.fsum(nats for data in there for nats in data["kl"]) / len(ranks),
        "tenths": [
            {
                "shifted": sum(rank > MARGINAL for rank, _ in pairs) / len(pairs) if pairs else None,
                "kl": math.fsum(nats for _, nats in pairs) / len(pairs) if pairs else None,
            }
            for pairs in tenths
        ],
        "most": [
            [text, times, written[token]]
            for (token, text), times in sorted(moved.items(), key=lambda one: (-one[1], one[0]))[:SHOWN]
        ],
    }
