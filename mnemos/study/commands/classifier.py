"""`mnemos data classifier`: a classifier of pages from labelled rows, kept in a file that `data filter` takes.

What it does on rows that it has not seen is measured in five folds: the area under the ROC curve, and what a threshold
does that was chosen on the four other folds.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mnemos.core.errors import DataError, ModelError, UsageError, printable, shortened
from mnemos.core.files import read_json, write_json
from mnemos.measure.auc import auc
from mnemos.measure.proportions import wilson
from mnemos.sources.bad_row import RowError
from mnemos.sources.filters.classifier import (
    FEATURES,
    FOLDS,
    LONGEST,
    Classifier,
    Linear,
    Vectors,
    best_cut,
    cross_scores,
    fit,
    folds_of,
    hashed,
    is_binary,
)
from mnemos.sources.filters.other import Scored
from mnemos.sources.read import read

Keep = Literal["above", "below"]
WORDS = "words"
LONGEST_NAME = 60
MOST_BYTES = 64_000_000
"""Of a classifier's file: 2^18 weights are a tenth of it."""


@dataclass(frozen=True)
class Learning:
    """How a classifier is trained. label: column of 0 or 1, or of other numbers. embeddings: directory of an encoder;
    without one, words and pairs of words. threshold: score at which pages are told apart; without one, where rows of
    other folds are told apart best. keep: pages at the threshold or above, or those below. text: column."""

    label: str = "label"
    embeddings: str | None = None
    threshold: float | None = None
    keep: Keep = "above"
    text: str = "text"
    limit: int | None = None


def train_classifier(location: str, out: Path, asked: Learning) -> dict[str, Any]:
    """Train on the rows at a location and write the classifier to `out`; returns what the file holds, without weights.

    Raises DataError for too few rows, UsageError for numbers without a threshold, and for an output that is there.
    """
    if out.exists():
        raise UsageError(f"{out}", "is there already", "name another file with --out, or remove it")
    texts, labels, bad = _rows(location, asked)
    binary = is_binary(labels)
    if not binary and asked.threshold is None:
        raise UsageError(
            f"labels in {asked.label!r} from {min(labels):g} to {max(labels):g}",
            "do not say which are good",
            "give --threshold: rows labelled so or higher are (arXiv:2406.17557 takes 3 of 5)",
        )
    if asked.threshold is not None and not math.isfinite(asked.threshold):
        raise UsageError(f"--threshold {asked.threshold}", "is no finite number", "give one, such as 0.5")
    vectors, encoder = vectors_of(asked.embeddings)
    matrix = vectors(texts)
    linear = fit(matrix, labels)
    good = np.asarray(labels) >= (1 if binary else asked.threshold)
    threshold, held = _held_out(texts, labels, good, matrix, asked.threshold)
    record = {
        "format": 1, "label": asked.label, "on": asked.embeddings or WORDS, "encoder": encoder,
        "probability": linear.probability, "keep": asked.keep, "threshold": threshold, "rows": len(texts),
        "good": int(good.sum()), "bad_rows": dict(bad), "held_out": held,
    }  # fmt: skip
    places = np.flatnonzero(linear.weights)
    # Seven digits: the sum of thousands of them still has six.
    weights = {str(place): float(f"{linear.weights[place]:.7g}") for place in places}
    write_json(out, {**record, "intercept": linear.intercept, "width": len(linear.weights), "weights": weights})
    return record


def _rows(location: str, asked: Learning) -> tuple[list[str], list[float], Counter[str]]:
    bad: Counter[str] = Counter()
    texts, labels = [], []
    raws = (raw for part in read(location, format="text", columns=None).parts for raw in part.rows())
    for raw in itertools.islice(raws, asked.limit):
        value = raw.value
        if isinstance(value, RowError):
            bad[value.reason] += 1
            continue
        text, label = value.get(asked.text), value.get(asked.label)
        if not isinstance(text, str) or not text.strip():
            bad[f"no text in {asked.text!r}"] += 1
        elif not isinstance(label, int | float) or not math.isfinite(label):
            bad[f"no number in {asked.label!r}"] += 1
        else:
            texts.append(text[:LONGEST])
            labels.append(float(label))
    if not texts:
        reasons = "; ".join(f"{reason}: {count:,}" for reason, count in bad.items()) or "it is empty"
        raise DataError(location, f"holds no labelled text ({reasons})", "name the columns: --label, --text-column")
    return texts, labels, bad


def _held_out(
    texts: list[str], labels: list[float], good: Any, matrix: Any, given: float | None
) -> tuple[float, dict[str, Any]]:
    """The threshold, and what it does on rows that neither weights nor threshold come from."""
    try:
        scores = cross_scores(texts, labels, lambda _: matrix)
    except DataError as error:
        raise DataError(f"outside one of {FOLDS} folds, {error.value}", error.bound, "give some more of each") from None
    threshold = best_cut(scores, good) if given is None else given
    above = np.zeros(len(texts), dtype=bool)
    fold = folds_of(texts)
    for one in np.unique(fold):
        inside = fold == one
        # The threshold itself is chosen on all folds; its figures must come from one that was not. The classifiers that
        # scored the others have learned from this one: to leave that out too would take five times as many.
        cut = best_cut(scores[~inside], good[~inside]) if given is None else given
        above[inside] = scores[inside] >= cut
    return threshold, {"auc": list(auc(scores, good)), "good": _share(above[good]), "others": _share(above[~good])}


def _share(above: Any) -> list[float]:
    return [float(above.mean()), *wilson(float(above.mean()), len(above))]


def vectors_of(embeddings: str | None) -> tuple[Vectors, str | None]:
    """What turns pages into vectors, and the fingerprint of the encoder that does; words have none."""
    if embeddings is None:
        return hashed, None
    from mnemos.stream.encoders import DirectoryEncoder

    encoder = DirectoryEncoder(embeddings)
    return encoder.encode, encoder.fingerprint


def load_filter(path: str) -> Scored:
    """The filter that `train_classifier` wrote. Raises UsageError where there is no file, DataError for another one,
    ModelError where its encoder is gone or has changed."""
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"classifier {path}", "is not a file", "train one: mnemos data classifier")
    if file.stat().st_size > MOST_BYTES:
        raise DataError(path, f"is no classifier: more than {MOST_BYTES:,} bytes", "train it again")
    try:
        found = read_json(file)
        linear = _linear(found)
        on, threshold, keep = str(found["on"]), float(found["threshold"]), found["keep"]
        if keep not in ("above", "below") or not math.isfinite(threshold):
            raise ValueError(f"keep {keep!r}, threshold {threshold}")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(path, f"is no classifier of pages ({error!r})", "train it again") from None
    vectors, encoder = vectors_of(None if on == WORDS else on)
    if encoder != found.get("encoder"):
        raise ModelError(on, f"is another encoder than {path} was trained on", "train it again")
    # The name of a filter stands in figures and tables, and this one comes from a file.
    name = printable(shortened(str(found["label"]), LONGEST_NAME))
    return Scored(Classifier(linear, vectors), threshold, name, keep)


def _linear(found: Any) -> Linear:
    width = int(found["width"])
    if not 0 < width <= FEATURES:
        raise ValueError(f"width {width}")
    weights = np.zeros(width)
    for place, weight in found["weights"].items():
        if not 0 <= int(place) < width:
            raise ValueError(f"weight {place} of {width}")
        weights[int(place)] = float(weight)
    intercept = float(found["intercept"])
    if not (np.isfinite(weights).all() and math.isfinite(intercept)):
        raise ValueError("weights that are not finite")
    return Linear(weights, intercept, bool(found["probability"]))


def lines(record: dict[str, Any]) -> list[str]:
    """What was learned, and what it does on rows that it has not seen."""
    held, label = record["held_out"], record["label"]
    area, low, high = held["auc"]
    good = "labelled 1" if record["probability"] else f"labelled {record['threshold']:g} or higher"
    kept = {"above": "kept", "below": "dropped"}[record["keep"]]
    out = [f"{label}: {record['rows']:,} rows, {record['good']:,} of them {good}; on {record['on']}"]
    out += [f"  bad row, {reason}: {count:,}" for reason, count in record["bad_rows"].items()]
    out.append(f"held out in folds: area under the ROC curve {area:.3f} [{low:.3f}, {high:.3f}]")
    out.append(f"pages with a score of {record['threshold']:.4g} or above are {kept}:")
    for name, what in (("good", f"rows {good}"), ("others", "the others")):
        share, low, high = (100 * value for value in held[name])
        out.append(f"  {share:5.1f} % [{low:.1f}, {high:.1f}] of {what}")
    return out
