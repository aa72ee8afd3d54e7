"""Centres against scipy, samples against counting, and directories that are refused."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import kmeans2, vq
from scipy.stats import entropy

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.models.units import centres
from mnemos.models.units.sample import FrameSample


@dataclass
class Layer:
    """What the fit is told of an encoder."""

    layer: int = 3
    layers: int = 4
    path: str = "models/ears"
    fingerprint: str = "00112233aabbccdd"


STATES: Any = Layer()


def blobs(spread: float = 0.05, width: int = 5, clusters: int = 6, count: int = 120) -> Any:
    """(float32[N, width] around as many middles as clusters, the middles)."""
    random = np.random.default_rng(0)
    middles = random.normal(scale=3, size=(clusters, width))
    frames = np.repeat(middles, count // clusters, axis=0) + spread * random.normal(size=(count, width))
    return frames.astype(np.float32), middles


@pytest.mark.parametrize("normalisation", ["none", "standard"])
def test_the_centres_are_those_of_another_implementation(normalisation: Any) -> None:
    frames, middles = blobs()
    units, fitted = centres.fit(frames, 6, STATES, normalisation=normalisation)
    mean, scale = (frames.mean(0), frames.std(0)) if normalisation == "standard" else (0, 1)
    np.testing.assert_allclose(units.mean, mean, atol=1e-5)
    # Lloyd's algorithm of scipy from the true middles; ours starts elsewhere, and finds the same clusters.
    theirs, found = kmeans2((frames - mean) / scale, (middles - mean) / scale, minit="matrix", iter=50)
    order = [int(np.abs(units.centres - one).sum(1).argmin()) for one in theirs]
    assert sorted(order) == list(range(6))
    np.testing.assert_allclose(units.centres[order], theirs, atol=2e-2)
    assert [order[one] for one in found] == units.nearest(frames)
    counts = np.bincount(found)
    assert (fitted.frames, fitted.used) == (120, 6)
    assert fitted.perplexity == pytest.approx(math.exp(entropy(counts)))
    scaled = (frames - mean) / scale
    lost = np.square(scaled - theirs[found]).sum() / np.square(scaled - scaled.mean(0)).sum()
    assert fitted.explained == pytest.approx(1 - lost, abs=1e-3)


def test_units_are_the_nearest_centres() -> None:
    random = np.random.default_rng(1)
    frames = random.normal(size=(9000, 7)).astype(np.float32)  # more than one block
    units, _ = centres.fit(frames[:400], 11, STATES, normalisation="standard")
    wanted, _ = vq((frames - units.mean) / units.scale, units.centres)
    assert units.nearest(frames) == wanted.tolist()


def test_the_same_frames_give_the_same_centres_and_another_seed_others() -> None:
    frames = np.random.default_rng(2).normal(size=(300, 4)).astype(np.float32)
    first, again, other = (centres.fit(frames, 8, STATES, seed=seed)[0].centres for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_dimension_that_never_moves_is_not_divided_by_nothing() -> None:
    frames, _ = blobs()
    frames[:, 2] = 7.0
    units, _ = centres.fit(frames, 6, STATES, normalisation="standard")
    assert units.scale[2] == 1
    assert np.isfinite(units.centres).all()


def test_what_cannot_be_fitted_is_refused() -> None:
    frames, _ = blobs()
    with pytest.raises(UsageError, match="clusters = 1"):
        centres.fit(frames, 1, STATES)
    with pytest.raises(UsageError, match="normalisation = 'whitened'"):
        centres.fit(frames, 6, STATES, normalisation="whitened")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="120 frames: hold 120 different states, too few for 121"):
        centres.fit(frames, 121, STATES)
    with pytest.raises(DataError, match="hold 3 different states, too few for 5"):
        centres.fit(np.repeat(frames[:3], 40, axis=0), 5, STATES)
    with pytest.raises(DataError, match="not finite"):
        centres.fit(np.where(frames == frames[4, 1], np.nan, frames), 6, STATES)


def test_states_of_another_encoder_layer_or_width_are_refused() -> None:
    frames, _ = blobs()
    units, _ = centres.fit(frames, 6, STATES)
    units.refuse_other(STATES)
    with pytest.raises(ModelError, match="layer 2: these units are of layer 3"):
        units.refuse_other(replace(STATES, layer=2))
    for other in (replace(STATES, fingerprint="other"), replace(STATES, layers=6)):
        with pytest.raises(ModelError, match="is not the encoder that these units were fitted on: models/ears"):
            units.refuse_other(other)
    with pytest.raises(ModelError, match="states of width 4: these units are of width 5"):
        units.nearest(frames[:, :4])
    with pytest.raises(DataError, match="not finite"):
        units.nearest(np.full((2, 5), np.inf, np.float32))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    units, fitted = centres.fit(blobs()[0], 6, STATES, normalisation="standard")
    centres.save(units, tmp_path / "units", fitted)
    return tmp_path / "units"


def test_what_is_saved_comes_back(saved: Path) -> None:
    frames, _ = blobs()
    units, back = centres.fit(frames, 6, STATES, normalisation="standard")[0], centres.load(saved)
    assert back.nearest(frames) == units.nearest(frames)
    assert (back.layer, back.layers, back.encoder, back.normalisation) == (3, 4, "models/ears", "standard")
    back.refuse_other(STATES)
    assert (saved / "tokens.txt").read_text().splitlines() == [f"<|unit_{n}|>" for n in range(6)]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"layer": "3"}, "layer = '3'"),
        ({"layer": 9}, "numbers that cannot be meant"),
        ({"clusters": 10**9}, "numbers that cannot be meant"),
        ({"width": 4}, "does not have the shapes"),
        ({"normalisation": "none?"}, "normalisation"),
        ({"centres_print": "0" * 16}, "is not the one that units.json was written with"),
    ],
)
def test_settings_that_were_changed_are_refused(saved: Path, changed: dict[str, Any], match: str) -> None:
    file = saved / "units.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    with pytest.raises(ModelError, match=match):
        centres.load(saved)


def test_a_directory_that_is_not_whole_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no units\.json"):
        centres.load(tmp_path)
    (saved / "centres.safetensors").write_bytes(b"{")
    with pytest.raises(ModelError, match="cannot be read"):
        centres.load(saved)
    for text in ("[]", "{", "[" * 100_000):
        (saved / "units.json").write_text(text)
        with pytest.raises(ModelError, match=r"units\.json"):
            centres.load(saved)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 40), st.integers(0, 99))
def test_a_sample_is_of_what_was_added_however_it_was_cut(sizes: list[int], most: int, seed: int) -> None:
    frames = np.arange(sum(sizes), dtype=np.float32)[:, None]
    whole, parts = FrameSample(most, seed), FrameSample(most, seed)
    whole.add(frames)
    for part in np.split(frames, np.cumsum(sizes)[:-1]):
        parts.add(part)
    found = parts.frames()[:, 0].tolist()
    assert parts.seen == len(frames)
    assert found == whole.frames()[:, 0].tolist() == sorted(set(found))
    assert len(found) == min(most, len(frames))


def test_every_frame_is_as_likely_as_any_other() -> None:
    counts = np.zeros(40)
    for seed in range(2000):
        sample = FrameSample(10, seed)
        for start in range(0, 40, 8):
            sample.add(np.arange(start, start + 8, dtype=np.float32)[:, None])
        counts[sample.frames()[:, 0].astype(int)] += 1
    # Each is kept with probability 1 / 4; four standard deviations of 2,000 draws are 0.039.
    assert np.abs(counts / 2000 - 0.25).max() < 0.039
