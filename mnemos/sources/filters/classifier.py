"""A quality classifier trained here: words and pairs of words, hashed, and a logistic regression on them.

What DCLM's fastText classifier is, without fastText: with word bigrams (`wordNgrams 2`), which its released name says
and its training script's default does not.

Trap: what is like the good examples is kept. Score such a filter by downstream suites, never by perplexity on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from mnemos.core.errors import DataError
from mnemos.sources.words import words

FEATURES = 2**18
LONGEST = 20_000
"""Characters of a page that are looked at."""
FEWEST = 10
"""Examples of each kind below which nothing is learned."""
PENALTY = 10.0
"""Inverse strength of the regression's penalty; not tuned on any labels."""


def features(text: str) -> list[str]:
    """Lower-case words and pairs of them."""
    found = words(text[:LONGEST].lower())
    return found + [f"{a} {b}" for a, b in pairwise(found)]


@dataclass(frozen=True)
class Quality:
    """A trained classifier. Calling it gives the probability of a good page."""

    model: Any
    vectors: Any

    def __call__(self, text: str) -> float:
        """In [0, 1]."""
        return float(self.scores([text])[0])

    def scores(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float[N]."""
        return np.asarray(self.model.predict_proba(self.vectors.transform(texts))[:, 1])


def learn(texts: Sequence[str], good: Sequence[bool], seed: int = 0) -> Quality:
    """Train on labelled pages, both kinds weighed alike. Raises DataError for fewer than ten of a kind."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    label = np.asarray(good, dtype=bool)
    if min(label.sum(), (~label).sum()) < FEWEST:
        raise DataError(
            f"{int(label.sum())} good pages and {int((~label).sum())} others",
            "are too few to learn from",
            f"give at least {FEWEST} of each",
        )
    vectors = HashingVectorizer(n_features=FEATURES, analyzer=features, alternate_sign=False, norm="l2")
    model = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=500, random_state=seed)
    return Quality(model.fit(vectors.transform(texts), label), vectors)


def cross_scores(texts: Sequence[str], good: Sequence[bool], folds: int = 5, seed: int = 0) -> npt.NDArray[np.float64]:
    """float[N]: each page scored by a classifier that did not see it (nor its exact repetitions)."""
    from mnemos.sources.dedup import digest

    label = np.asarray(good, dtype=bool)
    # The fold of a page follows from its text, so that equal pages are in one.
    fold = np.array([int.from_bytes(digest(f"{seed} {text}")[:4], "big") % folds for text in texts])
    out = np.full(len(texts), np.nan)
    for one in range(folds):
        inside = fold == one
        if inside.any():
            rest = [text for text, held in zip(texts, inside, strict=True) if not held]
            held_out = [text for text, held in zip(texts, inside, strict=True) if held]
            out[inside] = learn(rest, label[~inside].tolist(), seed).scores(held_out)
    return out
