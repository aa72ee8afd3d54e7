"""`mnemos data classifier`: what is learned, what its figures are of, and what the filter makes of its file."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.sources.filters.classifier import best_cut, cross_scores, fit, hashed
from mnemos.sources.filters.page import Page
from mnemos.study.commands.classifier import Learning, load_filter, train_classifier
from mnemos.study.commands.filter_parts import Asked, filters_of
from tests.study.worlds import write_jsonl
from tests.tiny import save_tiny_encoder

NICE = ["river", "mill", "stone", "bridge", "town", "light", "garden", "letter"]
RUDE = ["stupid", "fool", "idiot", "shut", "hate", "liar"]


def comments(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Every second one is rude."""
    rng = random.Random(seed)
    return [{"text": f"{n} {' '.join(rng.choices((NICE, RUDE)[n % 2], k=8))}", "toxic": n % 2} for n in range(count)]


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def run(*words: str | Path) -> str:
    done = CliRunner().invoke(app, ["data", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_a_filter_of_anything_that_is_labelled_drops_what_it_learned(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [*comments(60), {"text": "x", "toxic": None}, {"toxic": 1}])
    made = tmp_path / "toxic.json"
    output = run("classifier", tmp_path / "rows.jsonl", "--label", "toxic", "--keep", "below", "--out", made)
    assert "60 rows, 30 of them labelled 1; on words" in output
    assert "bad row, no number in 'toxic': 1" in output
    assert "area under the ROC curve 1.000" in output
    assert "100.0 % [88.6, 100.0] of rows labelled 1" in output
    write_jsonl(tmp_path / "pages.jsonl", comments(20, seed=1))
    out = tmp_path / "filtered"
    run("filter", tmp_path / "pages.jsonl", "--preset", "none", "--classifier", made, "--out", out)
    assert [row["toxic"] for row in lines(out / "pages.jsonl.gz")] == [0] * 10
    dropped = lines(out / "dropped.jsonl.gz")
    assert all(row["toxic"] == 1 and row["dropped"].startswith("toxic: score of 0.") for row in dropped)
    with pytest.raises(UsageError, match="is there already"):
        train_classifier(str(tmp_path / "rows.jsonl"), made, Learning("toxic"))
    with pytest.raises(UsageError, match="another filter of that name"):
        filters_of(Asked(("none",), classifiers=(str(made), str(made))))


def test_numbers_on_a_frozen_encoder_are_ridge_regression(tmp_path: Path) -> None:
    rows = [{"text": row["text"], "score": (n * 7) % 6} for n, row in enumerate(comments(40))]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    folder = save_tiny_encoder(tmp_path / "encoder")
    with pytest.raises(UsageError, match="from 0 to 5"):
        train_classifier(str(tmp_path / "rows.jsonl"), tmp_path / "a.json", Learning("score", str(folder)))
    asked = Learning("score", str(folder), threshold=3)
    record = train_classifier(str(tmp_path / "rows.jsonl"), tmp_path / "a.json", asked)
    assert (record["good"], record["probability"], record["threshold"]) == (19, False, 3)
    scored = load_filter(str(tmp_path / "a.json"))
    # The normal equations, with the intercept left out of the penalty.
    x = np.asarray(scored.score.vectors([row["text"] for row in rows]), float)  # type: ignore[attr-defined]
    y = np.array([row["score"] for row in rows], float)
    centred = x - x.mean(0)
    weights = np.linalg.solve(centred.T @ centred + np.eye(16), centred.T @ (y - y.mean()))
    wanted = (x - x.mean(0)) @ weights + y.mean()
    assert [scored.score(row["text"]) for row in rows] == pytest.approx(wanted, abs=1e-4)
    kept = [isinstance(scored(Page(row["text"])), Page) for row in rows]
    assert kept == [score >= 3 for score in wanted]
    # Another encoder gives other vectors.
    file = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**file, "layer_norm_eps": 1e-3}))
    with pytest.raises(ModelError, match="another encoder"):
        load_filter(str(tmp_path / "a.json"))


def test_words_are_the_logistic_regression_of_scikit_learn_and_the_file_keeps_it(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    rows = comments(40)
    for row in rows[:10]:
        row["toxic"] = 1 - row["toxic"]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    train_classifier(str(tmp_path / "rows.jsonl"), tmp_path / "a.json", Learning("toxic"))
    texts, labels = [row["text"] for row in rows], [row["toxic"] for row in rows]
    reference = LogisticRegression(C=10, class_weight="balanced", max_iter=500).fit(hashed(texts), labels)
    wanted = reference.predict_proba(hashed(texts))[:, 1]
    scored = load_filter(str(tmp_path / "a.json"))
    assert [scored.score(text) for text in texts] == pytest.approx(wanted, abs=1e-5)


def test_figures_are_of_rows_that_neither_weights_nor_threshold_saw(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [{"text": f"{n} {rng.random()}", "label": rng.randrange(2)} for n in range(100)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    record = train_classifier(str(tmp_path / "rows.jsonl"), tmp_path / "a.json", Learning())
    write_jsonl(tmp_path / "few.jsonl", comments(20))
    with pytest.raises(DataError, match="outside one of 5 folds"):
        train_classifier(str(tmp_path / "few.jsonl"), tmp_path / "few.json", Learning("toxic"))
    # Labels drawn at random are learned by heart, and say nothing of other rows.
    learned = load_filter(str(tmp_path / "a.json"))
    assert all((learned.score(row["text"]) > 0.5) == row["label"] for row in rows)
    held = record["held_out"]
    assert held["auc"][0] < 0.6
    assert held["good"][0] - held["others"][0] < 0.2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30))
def test_no_other_cut_tells_pages_apart_better(rows: list[tuple[int, bool]]) -> None:
    scores, good = np.array([score for score, _ in rows], float), np.array([label for _, label in rows])
    if not good.any() or good.all():
        with pytest.raises(DataError, match="give no threshold"):
            best_cut(scores, good)
        return

    def apart(cut: float) -> float:
        return float((scores[good] >= cut).mean() + (scores[~good] < cut).mean())

    assert apart(best_cut(scores, good)) == pytest.approx(max(apart(cut) for cut in np.arange(-0.5, 7)))


def test_equal_pages_are_in_one_fold() -> None:
    texts = [row["text"] for row in comments(20)] * 2
    # Labels that only a page that was seen could give away.
    labels = [n % 2 for n in range(10) for _ in range(2)] * 2
    scores = cross_scores(texts, labels)
    assert scores[:20] == pytest.approx(scores[20:])
    with pytest.raises(DataError, match="too few"):
        fit(hashed(texts[:12]), [0.5] * 12)


def test_a_file_that_is_no_classifier_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", comments(40))
    train_classifier(str(tmp_path / "rows.jsonl"), tmp_path / "a.json", Learning("toxic"))
    found = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**found, "label": "x\x1b[31m" * 99}))
    assert load_filter(str(tmp_path / "a.json")).name.startswith("x\\x1b[31m")
    wrong: list[dict[str, Any]] = [
        {"weights": {"0": float("inf")}}, {"weights": {"-1": 1}}, {"weights": 7}, {"width": 10**9}, {"keep": "all"},
        {"threshold": None},
    ]  # fmt: skip
    for change in wrong:
        (tmp_path / "a.json").write_text(json.dumps({**found, **change}))
        with pytest.raises(DataError, match="is no classifier"):
            load_filter(str(tmp_path / "a.json"))
    with pytest.raises(UsageError, match="is not a file"):
        load_filter(str(tmp_path / "b.json"))
