"""A small logistic model that reads refusals: the weight of wordings, and which words stand in the first sentences.

It is trained from labelled answers that the user has (`mnemos.recipes.refusal_classifier`), kept as JSON with one
number a feature, and asked without scikit-learn. None is shipped: it is as good as the labels of the models whose
style it has read, and on the words of other models it can be worse than the wording alone (docs/suites.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import read_json, write_json
from mnemos.rewards.refusal.cues import Cue
from mnemos.rewards.refusal.reading import CUES, opening_of, sentences, weights
from mnemos.sources.words import bare_words

SENTENCES, LONGEST_GRAM, FEWEST = 2, 3, 5
"""Sentences that are read, words of the longest feature, and answers that a feature must stand in."""

GRAM_SCALE = 0.3
"""Of an n-gram beside the wording: below 1 the ridge penalty holds single words back where the wording decides."""

BOUNDS = (-3.0, 4.0)
"""Total weight of wordings is cut off here."""


@dataclass(frozen=True)
class Classifier:
    """p(refused) = sigmoid(intercept + wording * total / 2 + the sum of `grams` that stand in the first sentences).

    rows: labelled answers that it was trained on. models: whose they were.
    """

    intercept: float
    wording: float
    grams: dict[str, float]
    rows: int
    models: tuple[str, ...] = ()

    def probability(self, answer: str, cues: Sequence[Cue] = CUES) -> float:
        """That an answer is a refusal."""
        total = self.intercept + self.wording * _wording(answer, cues)
        total += sum(self.grams.get(gram, 0.0) for gram in _grams(answer))
        # exp overflows beyond 709.
        return 1 / (1 + math.exp(-max(-700.0, min(700.0, total))))

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, {"format": 1, **asdict(self)})


@lru_cache(maxsize=4)
def load_classifier(path: str) -> Classifier:
    """What `Classifier.save` wrote. Raises UsageError for a file that is not there, DataError for another one."""
    if not Path(path).is_file():
        raise UsageError(
            f"classifier {path}", "is not a file", "train one: python -m mnemos.recipes.refusal_classifier"
        )
    try:
        found = read_json(Path(path))
        grams = {str(gram): float(weight) for gram, weight in found["grams"].items()}
        made = Classifier(
            float(found["intercept"]), float(found["wording"]), grams, int(found["rows"]), tuple(found["models"])
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(path, f"is no classifier of refusals ({error!r})", "train it again") from None
    if not all(map(math.isfinite, (made.intercept, made.wording, *made.grams.values()))):
        raise DataError(path, "holds weights that are not finite", "train it again")
    return made


def train(
    answers: Sequence[str],
    refused: Sequence[bool],
    *,
    models: Iterable[str] = (),
    strength: float = 1.0,
    cues: Sequence[Cue] = CUES,
) -> Classifier:
    """Fit it. refused: whether each answer refuses. strength: inverse of the ridge penalty.
    Raises DataError where one of both classes has fewer than `FEWEST` answers."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    counts = Counter(bool(label) for label in refused)
    if min(counts[True], counts[False]) < FEWEST:
        raise DataError(
            f"{counts[True]} refusals and {counts[False]} others",
            f"are too few: at least {FEWEST} of each",
            "label more",
        )
    text = [_grams(answer) for answer in answers]
    seen = Counter(gram for own in text for gram in own)
    known = sorted(gram for gram, count in seen.items() if count >= FEWEST)
    # Column 0 is the total weight of the wordings.
    column = {gram: place + 1 for place, gram in enumerate(known)}
    rows, columns, values = [], [], []
    for row, (answer, own) in enumerate(zip(answers, text, strict=True)):
        found: list[tuple[int, float]] = [(0, _wording(answer, cues))]
        found += [(column[gram], GRAM_SCALE) for gram in own if gram in column]
        for place, value in found:
            rows.append(row)
            columns.append(place)
            values.append(value)
    features: Any = csr_matrix((values, (rows, columns)), shape=(len(answers), len(known) + 1))
    fitted = LogisticRegression(C=strength, max_iter=3000).fit(features, [bool(label) for label in refused])
    wording, *grams = (float(weight) for weight in fitted.coef_[0])
    # The scale goes into the weight, so that asking needs only whether a gram is there.
    kept = {gram: round(GRAM_SCALE * weight, 6) for gram, weight in zip(known, grams, strict=True)}
    return Classifier(float(fitted.intercept_[0]), wording, kept, len(answers), tuple(sorted(set(models))))


def _wording(answer: str, cues: Sequence[Cue]) -> float:
    low, high = BOUNDS
    return max(low, min(high, sum(weights(answer, cues).values()))) / 2


def _grams(answer: str) -> set[str]:
    text = bare_words(" ".join(sentences(opening_of(answer))[:SENTENCES]))
    return {" ".join(text[i : i + n]) for n in range(1, LONGEST_GRAM + 1) for i in range(len(text) - n + 1)}
