"""Several answers to one item, and pass@k."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mnemos.core.nouns import Answer

SAMPLES = "samples"
"""Key of Answer.data: the texts of all answers that were drawn."""


def texts_of(answer: Answer) -> list[str | None]:
    """What was drawn for an item; one text where nothing was drawn several times."""
    drawn: list[str | None] = answer.data.get(SAMPLES) or [answer.text]
    return drawn


def pass_at(k: int, samples: Sequence[tuple[float, str | None]]) -> tuple[float, str | None, float, str]:
    """pass@k of one item: the chance that k of its samples, drawn without putting back, hold a right one.

    samples: (1 where right, None), or (NaN, why it could not be scored); the latter are left out, and the item is
    missing where fewer than k are left. The unbiased estimate 1 - C(n - c, k) / C(n, k) of arXiv:2107.03374, n samples
    with c right ones. Trap: 1 - (1 - c / n)^k is too low.
    """
    scored = [value for value, reason in samples if reason is None]
    if len(scored) < k:
        return math.nan, next(reason for _, reason in samples if reason is not None), 1.0, ""
    n, right = len(scored), sum(value == 1 for value in scored)
    # In whole numbers up to the one division: binomials of 1,000 samples are beyond any double.
    value = (math.comb(n, k) - math.comb(n - right, k)) / math.comb(n, k)
    return value, None, 1.0, f"{right} of {n} samples right"
