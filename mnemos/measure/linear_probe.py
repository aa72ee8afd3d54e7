"""A linear probe: can the answer be read off the model's state behind a prompt, by a linear classifier?

Asked of a name alone it says what a model has stored about it, whether or not it can say so when it is asked (the
Q-probe of arXiv:2309.14316, 2309.14402). The classifier is fitted anew for each model, on all items but those of a
fold, and tested on that fold, so that a right answer is one about an item that the classifier has not seen.

Deviations from the paper: 1. the model is frozen; no low-rank change of its embeddings is fitted beside the classifier.
2. the state is that of the prompt's last token, where the paper puts a token that ends the text behind the name.
Trap: with as many items as the state has numbers any labels can be separated, and those of the next fold cannot: ask
many items, and set the score beside that of the model before and of the commonest answer.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnemos.core.errors import DataError, UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Answer
from mnemos.measure.items import Item
from mnemos.measure.settings import LinearProbeSettings

HIDDEN = "hidden"
"""Key of Answer.data: the state."""
FEWEST = 10
"""Items that a classifier is fitted on at least."""


def scores(settings: LinearProbeSettings, items: Sequence[Item], answers: Sequence[Answer]) -> list[Any]:
    """1 where the classifier that never saw the item names its answer; NaN, with the reason, where there is no state
    to read or too few items to fit (a `kinds.Value` each)."""
    values: list[Any] = [(math.nan, "no state to read")] * len(items)
    there = [i for i, answer in enumerate(answers) if HIDDEN in answer.data]
    labels = [items[i].answers[0] for i in there]
    # Of all items: those without a state must not move the others to other folds, or two models' scores would differ
    # by their classifiers' rows.
    every = folds(items, settings.folds)
    fold = [every[i] for i in there]
    states = np.array([answers[i].data[HIDDEN] for i in there], dtype=float)
    for number in sorted(set(fold)):
        inside = [k for k, own in enumerate(fold) if own == number]
        outside = [k for k, own in enumerate(fold) if own != number]
        found = _predicted(states, labels, outside, inside, settings.inverse_penalty)
        for k, label in zip(inside, found, strict=True):
            values[there[k]] = (
                (math.nan, f"fewer than {FEWEST} items or two answers to fit a classifier on")
                if label is None
                else (float(label == labels[k]), None)
            )
    return values


def folds(items: Sequence[Item], number: int) -> list[int]:
    """The fold of each item, as even as can be; items of a cluster share one, whatever else is in the suite's order."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        groups[item.cluster or item.id].append(place)
    out = [0] * len(items)
    for rank, name in enumerate(sorted(groups, key=lambda one: fingerprint(["fold", one]))):
        for place in groups[name]:
            out[place] = rank % number
    return out


def _predicted(
    states: Any, labels: Sequence[str], fitted: Sequence[int], asked: Sequence[int], inverse_penalty: float
) -> list[str | None]:
    if len(fitted) < FEWEST or len({labels[k] for k in fitted}) < 2:
        return [None] * len(asked)
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    known, new = states[fitted], states[asked]
    mean, spread = known.mean(0), known.std(0)
    # A number that never changes says nothing, and must not be divided by 0.
    scale = np.where(spread > 0, spread, 1.0)
    # One thread: sums in another order could turn a close decision around.
    with threadpool_limits(1):
        model = LogisticRegression(C=inverse_penalty, max_iter=1000)
        model.fit((known - mean) / scale, [labels[k] for k in fitted])
        return [str(label) for label in model.predict((new - mean) / scale)]


def check(settings: LinearProbeSettings, item: Item, where: str) -> None:
    """Refuse an item without an answer, or with a chat of which no last token is the prompt's own."""
    if not item.answers:
        raise DataError(where, "names no answer, which kind linear_probe needs", "answer: what the classifier names")
    if len(item.answers) > 1:
        raise UsageError(f"{where}: answers", "are several, and a classifier names one", "give answer: one")
