"""Recognisers: every family hears a batch as it hears each clip alone, and says what it cannot hear."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.models.recognisers.ctc import frames_needed, nll_of
from mnemos.models.recognisers.decoding import beam, collapsed
from mnemos.models.recognisers.load import load
from tests.tiny_speech import sound, tiny_ctc, tiny_whisper, tiny_whisper_ctc

# WavLM hands torch a mask of another type than its bias.
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")

FAMILIES = ("wav2vec2", "hubert", "wavlm", "wav2vec2-bert", "parakeet", "whisper-ctc")


def made(folder: Path, family: str) -> Path:
    return tiny_whisper_ctc(folder / family) if family == "whisper-ctc" else tiny_ctc(folder / family, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_heard_as_each_clip_alone(family: str, tmp_path: Path) -> None:
    ears = load(made(tmp_path, family), device="cpu")
    clips = [sound(0.7, 1), sound(0.52, 2), sound(0.3, 3)]
    both = ears.features(clips)
    with torch.no_grad():
        together = ears.logits(both)
    for row, clip in enumerate(clips):
        alone = ears.features([clip])
        with torch.no_grad():
            expected = ears.logits(alone)[0]
        assert int(alone.frames[0]) == len(expected) == int(both.frames[row])
        assert torch.allclose(together[row, : len(expected)], expected, atol=2e-5), family
    assert ears.transcribe(clips) == [ears.transcribe([clip])[0] for clip in clips]


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_weight_that_hears(family: str, tmp_path: Path) -> None:
    ears = load(made(tmp_path, family), device="cpu")
    ears.loss([sound(0.7, 1), sound(0.5, 2)], ["ab", "c d"]).backward()
    silent = {name for name, one in ears.network.named_parameters() if one.grad is None and one.requires_grad}
    assert all("masked_spec_embed" in name or "pos_bias" in name for name in silent), silent


@pytest.mark.parametrize("family", ["wav2vec2", "whisper-ctc"])
def test_the_front_is_computed_once(family: str, tmp_path: Path) -> None:
    ears = load(made(tmp_path, family), device="cpu")
    features = ears.features([sound(0.6, 1), sound(0.4, 2)])
    names = [name for name, _ in ears.network.named_parameters()]
    front = ears.front(features)
    assert torch.equal(ears.logits_behind(front, features), ears.logits(features))
    assert names == [name for name, _ in ears.network.named_parameters()]


@pytest.mark.parametrize(("family", "norm"), [("wav2vec2", "group"), ("hubert", "group"), ("data2vec-audio", "layer")])
def test_a_model_that_hears_padding_refuses_it(family: str, norm: str, tmp_path: Path) -> None:
    ears = load(tiny_ctc(tmp_path / family, family, norm), device="cpu")
    clips = [sound(0.5, 1), sound(0.6, 2), sound(0.5, 3)]
    with pytest.raises(UsageError, match="hears padding"):
        ears.features(clips)
    assert list(ears.batches(clips)) == [[1], [0, 2]]
    assert ears.transcribe(clips) == [ears.transcribe([clip])[0] for clip in clips]
    # That it would have mattered: the same input, padded by half and masked, is heard otherwise.
    read = ears.features(clips[:1]).inputs["input_values"]
    padded = torch.nn.functional.pad(read, (0, read.shape[1] // 2))
    mask = (torch.arange(padded.shape[1]) < read.shape[1]).long()[None]
    with torch.no_grad():
        alone = ears.network(read).logits[0]
        longer = ears.network(padded, attention_mask=mask).logits[0, : len(alone)]
    assert (alone - longer).abs().max() > 1e-3 * alone.std()


def test_batches_hold_few_seconds_of_padding(tmp_path: Path) -> None:
    ears = load(tiny_ctc(tmp_path / "m"), device="cpu")
    clips = [sound(seconds, n) for n, seconds in enumerate([0.2, 1.0, 0.3, 0.9, 0.25])]
    groups = list(ears.batches(clips, seconds=2.0))
    assert sorted(itertools.chain(*groups)) == list(range(5))
    assert all(len(group) * max(clips[i].seconds for i in group) <= 2.0 for group in groups)
    assert groups[0] == [1, 3]


def test_any_rate_is_heard_at_the_models_own(tmp_path: Path) -> None:
    ears = load(tiny_ctc(tmp_path / "m"), device="cpu")
    clip = sound(0.5, 1, rate=8_000)
    assert torch.equal(
        ears.features([clip]).inputs["input_values"], ears.features([clip.at(16_000)]).inputs["input_values"]
    )


@pytest.mark.parametrize("family", ["wav2vec2", "whisper-ctc"])
def test_what_cannot_be_heard_is_said(family: str, tmp_path: Path) -> None:
    ears = load(made(tmp_path, family), device="cpu")
    with pytest.raises(DataError, match="shorter than"):
        ears.features([sound(1 / 16_000)])
    broken = sound(0.5)
    broken.samples[7] = math.nan
    with pytest.raises(DataError, match="no finite numbers"):
        ears.features([broken])
    if family == "whisper-ctc":
        with pytest.raises(DataError, match="longer than"):
            ears.features([sound(2.5)])


def test_whisper_reads_and_writes_token_by_token(tmp_path: Path) -> None:
    ears = load(tiny_whisper(tmp_path / "whisper"), device="cpu")
    clips = [sound(0.7, 1), sound(0.3, 2)]
    assert ears.kind == "sequence"
    with pytest.raises(UsageError, match="token by token"):
        ears.logits(ears.features(clips))
    texts = ["the river", "an old mill"]
    together = ears.nll(ears.features(clips), [ears.spell(text).ids for text in texts]).detach()
    for clip, text, both in zip(clips, texts, together, strict=True):
        ids = ears.spell(text).ids
        labels = torch.tensor([ids])
        # transformers' own loss, which shifts the labels behind the decoder's start itself.
        own = ears.network(**ears.features([clip]).inputs, labels=labels).loss.detach() * len(ids)
        assert float(both) == pytest.approx(float(own), rel=1e-4)
    heard = ears.transcribe(clips)
    assert heard == [ears.transcribe([clip])[0] for clip in clips]
    assert len(ears.transcribe(clips, beam=3)) == 2


def test_a_model_without_a_head_is_refused(tmp_path: Path) -> None:
    from transformers import Wav2Vec2ForCTC

    folder = tiny_ctc(tmp_path / "m")
    Wav2Vec2ForCTC.from_pretrained(folder).wav2vec2.save_pretrained(folder)
    with pytest.raises(ModelError, match="has no CTC head"):
        load(folder)


def test_a_language_model_is_no_recogniser(tmp_path: Path) -> None:
    from tests.tiny import save_tiny

    with pytest.raises(ModelError, match="is no recogniser"):
        load(save_tiny(tmp_path / "llm"))


def test_transcripts_are_spelled_in_the_vocabularys_case(tmp_path: Path) -> None:
    ears = load(tiny_ctc(tmp_path / "m"), device="cpu")
    assert ears.text_of(ears.spell("It\u2019s  ON").ids) == "it's on"
    assert ears.spell("a b\u00e9").missing == "\u00e9"
    assert ears.spell("\u4f60\u597d").ids == ()


def _paths(frames: int, vocabulary: int) -> itertools.product[tuple[int, ...]]:
    return itertools.product(range(vocabulary), repeat=frames)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(2, 4), st.integers(0, 10**6))
def test_the_beam_sums_over_all_paths_of_a_text(frames: int, vocabulary: int, seed: int) -> None:
    log_probs = np.log(np.random.default_rng(seed).dirichlet(np.ones(vocabulary), frames))
    expected: dict[tuple[int, ...], float] = {}
    for path in _paths(frames, vocabulary):
        text = tuple(collapsed(path, 0))
        expected[text] = expected.get(text, 0.0) + math.exp(sum(log_probs[t, v] for t, v in enumerate(path)))
    found = beam(log_probs, 0, width=10_000)
    assert {tuple(ids): pytest.approx(math.exp(score)) for ids, score in found} == expected
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(0, 10**6), st.lists(st.integers(1, 2), max_size=4))
def test_the_loss_sums_over_all_paths_of_the_target(frames: int, seed: int, target: list[int]) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, frames, 3)))
    p = logits[0].softmax(-1).numpy()
    total = sum(
        math.prod(p[t, v] for t, v in enumerate(path)) for path in _paths(frames, 3) if collapsed(path, 0) == target
    )
    found = float(nll_of(logits, torch.tensor([frames]), [target], 0)[0])
    assert math.isinf(found) == (frames_needed(target) > frames)
    assert found == pytest.approx(math.inf if total == 0 else -math.log(total), rel=1e-4)


def test_a_language_model_can_turn_the_beam() -> None:
    log_probs = np.log(np.array([[0.1, 0.5, 0.4], [0.8, 0.1, 0.1]]))
    assert beam(log_probs, 0, 5)[0][0] == [1]
    likes_two = beam(log_probs, 0, 5, language_model=lambda ids: 0.0 if list(ids) == [2] else -5.0, weight=1.0)
    assert likes_two[0][0] == [2]


def test_a_hub_id_is_known_by_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnemos.core.errors import ModelError as Missing
    from mnemos.models.recognisers import classes
    from tests.tiny import save_tiny

    there = {"lab/ears": tiny_ctc(tmp_path / "ears"), "lab/words": save_tiny(tmp_path / "words")}

    def folder(hub_id: str) -> Path:
        if hub_id not in there:
            raise Missing(hub_id, "cannot be had")
        return there[hub_id]

    monkeypatch.setattr(classes, "configuration_folder", folder)
    classes._configured.cache_clear()
    assert [classes.hears(name) for name in ("lab/ears", "lab/words", "lab/unknown")] == [True, False, False]
    assert classes.hears(str(there["lab/ears"]))
    classes._configured.cache_clear()
