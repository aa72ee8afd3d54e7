"""From the distributions of a CTC model to tokens (Graves et al. 2006): greedy, and a prefix beam.

A path names a token or the blank at every frame; what it writes is the path with repeats merged and blanks taken out.
Greedy takes the best path. The beam sums over the paths of a text, which can be likelier than the best path of another
(Hannun et al., arXiv:1408.2873), and can ask a language model about what is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

LanguageScore = Callable[[Sequence[int]], float]
"""ln p of the tokens written so far under a language model, in nats."""

_NEVER = -math.inf
_Held = dict[tuple[int, ...], tuple[float, float]]


def collapsed(path: Iterable[int], blank: int) -> list[int]:
    """What a path writes: repeats merged, then blanks taken out."""
    return [token for token, _ in groupby(path) if token != blank]


def beam(
    log_probs: npt.NDArray[np.floating],
    blank: int,
    width: int,
    *,
    language_model: LanguageScore | None = None,
    weight: float = 0.5,
    per_token: float = 0.0,
    most: int = 32,
) -> list[tuple[list[int], float]]:
    """The likeliest texts, best first: (tokens, score), at most `width`.

    log_probs: float[T, V], ln p at every frame. width: prefixes held after each frame. language_model: asked for a
    prefix when it is first written; score = ln p_ctc + weight * ln p_lm + per_token * tokens. most: tokens looked at in
    each frame, the likeliest (all others have no path through a beam that is worth its cost).
    """
    scores: dict[tuple[int, ...], float] = {(): 0.0}

    def beside(prefix: tuple[int, ...]) -> float:
        if prefix not in scores:
            scores[prefix] = weight * language_model(prefix) if language_model is not None else 0.0
        return scores[prefix] + per_token * len(prefix)

    # Per prefix: ln p of its paths that end in a blank, and of those that end in its last token; a repeat of that
    # token is a new one only behind a blank.
    held: _Held = {(): (0.0, _NEVER)}
    for frame in np.asarray(log_probs, dtype=np.float64):
        found: _Held = {}
        likely = np.argpartition(-frame, min(most, len(frame)) - 1)[:most]
        for prefix, (in_blank, in_token) in held.items():
            for token in map(int, likely):
                p = float(frame[token])
                if token == blank:
                    _add(found, prefix, _sum(in_blank, in_token) + p, _NEVER)
                elif prefix and token == prefix[-1]:
                    _add(found, prefix, _NEVER, in_token + p)
                    _add(found, (*prefix, token), _NEVER, in_blank + p)
                else:
                    _add(found, (*prefix, token), _NEVER, _sum(in_blank, in_token) + p)
        found = {prefix: two for prefix, two in found.items() if _sum(*two) > _NEVER}
        ranked = sorted(found.items(), key=lambda item: (-(_sum(*item[1]) + beside(item[0])), item[0]))
        held = dict(ranked[:width])
    best = sorted(((_sum(*two) + beside(prefix), prefix) for prefix, two in held.items()), key=lambda x: (-x[0], x[1]))
    return [(list(prefix), score) for score, prefix in best]


def _add(
    found: dict[tuple[int, ...], tuple[float, float]], prefix: tuple[int, ...], blank: float, token: float
) -> None:
    before = found.get(prefix, (_NEVER, _NEVER))
    found[prefix] = (_sum(before[0], blank), _sum(before[1], token))


def _sum(a: float, b: float) -> float:
    """ln(e^a + e^b)."""
    if a < b:
        a, b = b, a
    return a if b == _NEVER else a + math.log1p(math.exp(b - a))
