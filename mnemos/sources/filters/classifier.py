"""Classifiers of pages that are trained here: a linear model, of words and pairs of words or of any other vectors.

Of words it is what DCLM's fastText classifier is, without fastText: with word bigrams (`wordNgrams 2`), which its
released name says and its training script's default does not. Of the vectors of a frozen encoder it is what
FineWeb-Edu's is (arXiv:2406.17557). Labels of 0 and 1 make a logistic regression, other numbers a linear one.

Trap: what is like the good examples is kept. Score such a filter by downstream suites, never by perplexity on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from mnemos.core.errors import DataError
from mnemos.sources.words import words

Floats = npt.NDArray[np.float64]
Vectors = Callable[[Sequence[str]], Any]
"""Texts -> float[N, F], dense or sparse."""

FEATURES = 2**18
LONGEST = 20_000
"""Characters of a page that are looked at."""
FEWEST = 10
"""Examples of each kind below which nothing is learned."""
PENALTY = 10.0
"""Inverse strength of the logistic regression's penalty; not tuned on any labels."""
RIDGE = 1.0
"""Strength of the linear regression's; not tuned on any labels."""
FOLDS = 5


def features(text: str) -> list[str]:
    """Lower-case words and pairs of them."""
    found = words(text[:LONGEST].lower())
    return found + [f"{a} {b}" for a, b in pairwise(found)]


def hashed(texts: Sequence[str]) -> Any:
    """float[N, FEATURES], sparse: counts of words and pairs, hashed, each row of length 1."""
    return _hasher().transform(texts)


@cache
def _hasher() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=FEATURES, analyzer=features, alternate_sign=False, norm="l2")


@dataclass(frozen=True)
class Linear:
    """float[F] and what is added. probability: whether scores are put through a sigmoid."""

    weights: Floats
    intercept: float
    probability: bool

    def of(self, matrix: Any) -> Floats:
        """float[N]: the scores of vectors."""
        values = np.asarray(matrix @ self.weights, dtype=float).ravel() + self.intercept
        # exp overflows beyond 709.
        return 1 / (1 + np.exp(-np.clip(values, -700, 700))) if self.probability else values


@dataclass(frozen=True)
class Classifier:
    """A trained one: of labels 0 and 1 it gives the probability of 1, of other numbers an estimate of them."""

    linear: Linear
    vectors: Vectors

    def __call__(self, text: str) -> float:
        """The score of one page."""
        return float(self.scores([text])[0])

    def scores(self, texts: Sequence[str]) -> Floats:
        """float[N]."""
        return self.linear.of(self.vectors(texts))


def learn(texts: Sequence[str], labels: Sequence[float], vectors: Vectors = hashed, seed: int = 0) -> Classifier:
    """Train on labelled pages; of 0 and 1 both are weighed alike. Raises DataError for fewer than ten of a kind."""
    return Classifier(fit(vectors(texts), labels, seed), vectors)


def is_binary(labels: Sequence[float]) -> bool:
    """Whether labels say yes or no, and not how much."""
    return set(labels) <= {0, 1}


def fit(matrix: Any, labels: Sequence[float], seed: int = 0) -> Linear:
    """Train on vectors (N, F). Raises DataError for fewer than ten of a kind, or twenty numbers."""
    from sklearn.linear_model import LogisticRegression, Ridge

    y = np.asarray(labels, dtype=float)
    if is_binary(y.tolist()):
        if min((y == 1).sum(), (y == 0).sum()) < FEWEST:
            raise DataError(
                f"{int((y == 1).sum())} rows labelled 1 and {int((y == 0).sum())} labelled 0",
                "are too few to learn from",
                f"give at least {FEWEST} of each",
            )
        model = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=500, random_state=seed)
    else:
        if len(y) < 2 * FEWEST:
            raise DataError(f"{len(y)} labelled rows", "are too few to learn from", f"give at least {2 * FEWEST}")
        model = Ridge(alpha=RIDGE, random_state=seed)
    # What stands in no row has weight 0 under the penalty: without these columns the search is a hundred times as fast.
    there = np.unique(matrix.indices) if hasattr(matrix, "indices") else np.arange(matrix.shape[1])
    fitted = model.fit(matrix[:, there], y)
    weights = np.zeros(matrix.shape[1])
    weights[there] = np.ravel(fitted.coef_)
    return Linear(weights, float(np.ravel(fitted.intercept_)[0]), is_binary(y.tolist()))


def folds_of(texts: Sequence[str], folds: int = FOLDS, seed: int = 0) -> npt.NDArray[np.int64]:
    """int[N]: the fold of each page. It follows from its text, so that equal pages are in one."""
    from mnemos.sources.dedup import digest

    return np.array([int.from_bytes(digest(f"{seed} {text}")[:4], "big") % folds for text in texts], dtype=np.int64)


def cross_scores(
    texts: Sequence[str], labels: Sequence[float], vectors: Vectors = hashed, folds: int = FOLDS, seed: int = 0
) -> Floats:
    """float[N]: each page scored by a classifier that did not see it (nor its exact repetitions)."""
    y, fold, matrix = np.asarray(labels, dtype=float), folds_of(texts, folds, seed), vectors(texts)
    out = np.full(len(texts), np.nan)
    for one in np.unique(fold):
        inside = fold == one
        out[inside] = fit(matrix[~inside], y[~inside].tolist(), seed).of(matrix[inside])
    return out


def best_cut(scores: Floats, good: npt.NDArray[np.bool_]) -> float:
    """The score at which the mean of the shares of good pages at or above it and of others below it is largest: half
    way between two scores. Raises DataError for one kind alone."""
    if not good.any() or good.all():
        raise DataError(
            f"{int(good.sum())} good pages of {len(good)}", "give no threshold", "give both kinds, or --threshold"
        )
    levels = np.unique(scores)
    cuts = np.concatenate([levels[:1], (levels[1:] + levels[:-1]) / 2])
    # searchsorted: how many are below each cut, of the good ones and of the others.
    missed = np.searchsorted(np.sort(scores[good]), cuts) / good.sum()
    right = np.searchsorted(np.sort(scores[~good]), cuts) / (~good).sum()
    return float(cuts[int(np.argmax(right - missed))])
