"""Hidden states of a layer are transformers' own, whatever shares a batch, with a head or without."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as t

from mnemos.core.errors import ModelError, UsageError
from mnemos.models.units.states import LayerStates
from tests.tiny import save_tiny
from tests.tiny_speech import sound, tiny_ctc, tiny_whisper, tiny_whisper_ctc

# WavLM's attention in torch, which only the library can mend.
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")

CLIPS = [sound(0.3, 1), sound(0.5, 2), sound(0.3, 3)]


def alone(path: Path, folder: Path) -> Path:
    """The encoder of a recogniser without its head, as a directory of its own."""
    t.AutoModel.from_pretrained(path).save_pretrained(folder)
    shutil.copy(path / "preprocessor_config.json", folder)
    return folder


@pytest.mark.parametrize(("family", "norm"), [("hubert", "group"), ("wavlm", "layer"), ("wav2vec2", "layer")])
def test_states_are_those_of_transformers(tmp_path: Path, family: str, norm: str) -> None:
    bare = alone(tiny_ctc(tmp_path / "ears", family, norm), tmp_path / "bare")
    network = t.AutoModel.from_pretrained(bare).eval()
    processor = t.AutoFeatureExtractor.from_pretrained(bare)
    for layer in (0, 1, 2):
        states = LayerStates(str(bare), layer)
        assert (states.layers, states.ears.rate) == (2, 16_000)
        for clip, found in zip(CLIPS, states(CLIPS), strict=True):
            read = processor(clip.samples, sampling_rate=16_000, return_tensors="pt").input_values
            with torch.no_grad():
                out = network(read, output_hidden_states=True)
            wanted = (out.last_hidden_state if layer == 2 else out.hidden_states[layer])[0]
            assert found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-3, atol=2e-5)
    headed = LayerStates(str(tmp_path / "ears"), 2)(CLIPS)
    assert all(np.array_equal(a, b) for a, b in zip(headed, states(CLIPS), strict=True))


def test_states_of_whisper_are_those_of_its_window_without_what_is_padding(tmp_path: Path) -> None:
    path = tiny_whisper(tmp_path / "whisper")
    network = t.WhisperModel.from_pretrained(path).eval()
    processor = t.AutoFeatureExtractor.from_pretrained(path)
    for layer in (0, 1, 2):
        (found,) = LayerStates(str(path), layer)([CLIPS[1]])
        read = processor(CLIPS[1].samples, sampling_rate=16_000, return_tensors="pt").input_features
        with torch.no_grad():
            wanted = network.encoder(read, output_hidden_states=True).hidden_states[layer][0]
        assert found.shape == (25, 16)  # 0.5 s at 50 a second, of a window of 100
        np.testing.assert_allclose(found, wanted[:25].numpy(), rtol=1e-3, atol=2e-5)


def test_a_whisper_encoder_below_a_ctc_head_has_states_too(tmp_path: Path) -> None:
    path = tiny_whisper_ctc(tmp_path / "ctc")
    first, last = (LayerStates(str(path), layer)(CLIPS) for layer in (1, 2))
    assert [one.shape for one in first] == [one.shape for one in last] == [(15, 16), (25, 16), (15, 16)]
    # The last ones are behind the encoder's last normalisation, whose weights are still 1 and biases 0.
    np.testing.assert_allclose(last[0].mean(axis=1), 0, atol=1e-5)
    assert abs(first[0].mean(axis=1)).max() > 1e-3


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    path = tiny_ctc(tmp_path / "ears", "hubert")
    with pytest.raises(UsageError, match=r"layer = 3.*\n*.*from 0 to 2"):
        LayerStates(str(path), 3)
    with pytest.raises(ModelError, match="is no encoder of speech"):
        LayerStates(str(save_tiny(tmp_path / "text")), 0)
    before = LayerStates(str(path), 1).fingerprint
    (path / "preprocessor_config.json").write_text(
        (path / "preprocessor_config.json").read_text().replace('"do_normalize": true', '"do_normalize": false')
    )
    assert LayerStates(str(path), 1).fingerprint != before
