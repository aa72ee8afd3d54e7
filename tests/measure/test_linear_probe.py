"""The linear probe: on states that hold the answer, on states that do not, and on a model's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Answer
from mnemos.measure.ask import measure, score
from mnemos.measure.linear_probe import folds
from mnemos.measure.suite import Suite, load_suites
from mnemos.models.language import LocalModel
from tests.measure.fakes import FakeModel
from tests.tiny import tiny_model, tiny_tokenizer


def suite(number: int = 60, **more: Any) -> Suite:
    items = [{"id": f"{n}", "prompt": f"name {n}", "answer": "abc"[n % 3]} for n in range(number)]
    return load_suites([{"name": "probe", "kind": "linear_probe", "items": items, **more}], Path("."))[0]


def answered(own: Suite, states: Any) -> list[float]:
    answers = [
        Answer("probe", item.id, data={"hidden": list(map(float, state))})
        for item, state in zip(own.items, states, strict=True)
    ]
    return [one.value for one in score(own, answers)]


def test_what_stands_in_the_state_is_read_and_what_does_not_is_not() -> None:
    rng, own = np.random.default_rng(0), suite(150)
    labels = np.arange(150) % 3
    noise = rng.normal(size=(150, 16))
    with_it = noise.copy()
    with_it[:, 4] += 6 * (labels == 1)
    with_it[:, 7] += 6 * (labels == 2)
    assert np.mean(answered(own, with_it)) > 0.97
    # Sixteen numbers separate hardly anything by chance once the fold was not seen.
    assert 0.2 < np.mean(answered(own, noise)) < 0.47
    assert answered(own, np.hstack([with_it, np.ones((150, 1))])) == answered(own, with_it), "a constant says nothing"


def test_scores_are_those_of_a_classifier_fitted_without_the_fold() -> None:
    rng, own = np.random.default_rng(1), suite(40, folds=4, inverse_penalty=0.5)
    states, labels = rng.normal(size=(40, 5)), [item.answers[0] for item in own.items]
    fold = np.array(folds(own.items, 4))
    expected = np.zeros(40)
    for number in range(4):
        out = fold != number
        scaled = (states - states[out].mean(0)) / states[out].std(0)
        model = LogisticRegression(C=0.5, max_iter=1000).fit(scaled[out], np.array(labels)[out])
        expected[~out] = model.predict(scaled[~out]) == np.array(labels)[~out]
    assert answered(own, states) == expected.tolist()
    assert np.bincount(fold).tolist() == [10] * 4


def test_items_without_a_state_leave_the_others_in_their_folds() -> None:
    """Each item's classifier is fitted on all states of the other folds, as these are in the whole suite."""
    rng, own = np.random.default_rng(2), suite(60, folds=5)
    states, gone = rng.normal(size=(60, 12)), 7
    fold, labels = np.array(folds(own.items, 5)), np.array([item.answers[0] for item in own.items])
    there = np.arange(60) != gone
    answers = [
        Answer("probe", item.id, data={"hidden": list(map(float, states[n]))} if there[n] else {})
        for n, item in enumerate(own.items)
    ]
    found = [one.value for one in score(own, answers)]
    expected = np.full(60, math.nan)
    for number in range(5):
        fitted, asked = (fold != number) & there, (fold == number) & there
        scaled = (states - states[fitted].mean(0)) / states[fitted].std(0)
        model = LogisticRegression(C=own.settings.inverse_penalty, max_iter=1000)  # type: ignore[attr-defined]
        expected[asked] = model.fit(scaled[fitted], labels[fitted]).predict(scaled[asked]) == labels[asked]
    assert np.array_equal(found, expected, equal_nan=True)


def test_items_of_a_cluster_share_a_fold_and_few_items_say_nothing() -> None:
    items = [{"id": f"{n}", "prompt": "x", "answer": "ab"[n % 2], "cluster": f"{n // 5}"} for n in range(40)]
    own = load_suites([{"name": "probe", "kind": "linear_probe", "items": items}], Path("."))[0]
    fold = folds(own.items, 3)
    assert all(len({fold[n] for n in range(start, start + 5)}) == 1 for start in range(0, 40, 5))
    assert all(math.isnan(value) for value in answered(suite(8), np.eye(8)))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_shows_the_state_behind_each_prompt(family: str) -> None:
    tokenizer = tiny_tokenizer()
    model = LocalModel(tiny_model(tokenizer, family), tokenizer, "tiny", "tiny")
    own = suite(24)
    prompts = [item.prompt for item in own.items if item.prompt is not None]
    with torch.no_grad():
        ids = torch.tensor([list(model.renderer.prompt_ids(prompts[3]))])
        layers = model.model(input_ids=ids, output_hidden_states=True).hidden_states
    for layer in (None, 0, 1):
        expected = layers[-1 if layer is None else layer][0, -1].tolist()
        assert model.hidden(prompts, layer)[3] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UsageError, match="layer 9"):
        model.hidden(prompts, 9)
    assert all(one.reason is None for one in measure(model, [own])["probe"].scores)


def test_models_and_items_that_cannot_be_probed_are_refused() -> None:
    with pytest.raises(UsageError, match="does not show"):
        measure(FakeModel(lambda prompt: ""), [suite()])
    for wrong in ({"prompt": "x"}, {"prompt": "x", "answers": ["a", "b"]}):
        with pytest.raises((UsageError, DataError), match="answer"):
            load_suites([{"name": "probe", "kind": "linear_probe", "items": [wrong]}], Path("."))
