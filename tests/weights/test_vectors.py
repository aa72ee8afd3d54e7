"""Norms, cosines and sign conflicts against numpy on whole tensors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mnemos.core.errors import ModelError, UsageError
from mnemos.weights.expression import parse
from mnemos.weights.vectors import compare_vectors
from tests.weights.checkpoints import some, tensors, write


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    return {name: write(tmp_path / name, some(i)) for i, name in enumerate(("base", "a", "b"))}


def test_figures_are_those_of_the_whole_tensors(places: dict[str, Path]) -> None:
    found = compare_vectors([parse("a - base"), parse("b - base"), parse("a - b")], places)
    values = {name: {k: v.double().numpy() for k, v in tensors(place).items()} for name, place in places.items()}
    groups = {"embeddings": ["model.embed_tokens.weight"], "end": ["lm_head.weight", "model.norm.weight"],
              "1": [k for k in values["a"] if ".1." in k], "all": list(values["a"])}  # fmt: skip
    assert [row.layer for row in found.layers] == ["embeddings", "0", "1", "2", "end", "all"]
    rows = {row.layer: row for row in found.layers}
    for layer, keys in groups.items():
        flat = {n: np.concatenate([values[n][k].ravel() for k in keys]) for n in values}
        vectors = [flat["a"] - flat["base"], flat["b"] - flat["base"], flat["a"] - flat["b"]]
        np.testing.assert_allclose(rows[layer].norms, [np.linalg.norm(v) for v in vectors], rtol=1e-5)
        for (i, j), cosine in rows[layer].cosines.items():
            x, y = vectors[i], vectors[j]
            assert cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-5)
            assert rows[layer].conflicts[i, j] == pytest.approx(np.mean(np.sign(x) != np.sign(y)), abs=1e-9)


def test_a_vector_beside_itself_its_negative_and_nothing(places: dict[str, Path]) -> None:
    twice = {**places, "twin": places["a"]}
    found = compare_vectors([parse("a - base"), parse("base - a"), parse("a - twin")], twice).layers[-1]
    assert found.cosines[0, 1] == pytest.approx(-1)
    assert found.conflicts[0, 1] == 1
    assert found.norms[2] == 0
    assert math.isnan(found.cosines[0, 2])
    assert math.isnan(found.conflicts[0, 2])
    with pytest.raises(UsageError, match="is nothing: its checkpoints cancel"):
        compare_vectors([parse("a - base"), parse("a - a")], places)


def test_what_is_not_shared_is_left_out_by_name(places: dict[str, Path], tmp_path: Path) -> None:
    places["wide"] = write(tmp_path / "wide", some(5, rows=9))
    found = compare_vectors([parse("a - base"), parse("wide - base")], places)
    assert set(found.left_out) == {"model.embed_tokens.weight", "lm_head.weight"}
    other = write(tmp_path / "other", {"x": tensors(places["a"])["model.norm.weight"]})
    with pytest.raises(ModelError, match="share no tensor"):
        compare_vectors([parse("a - other")], {**places, "other": other})
    with pytest.raises(UsageError, match="did you mean 'base'"):
        compare_vectors([parse("a - bas")], places)
