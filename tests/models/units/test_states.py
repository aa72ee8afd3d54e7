"""Hidden states of a layer are transformers' own, with a head or without."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as t

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.models.units.states import LayerStates
from tests.tiny import save_tiny
from tests.tiny_speech import sound, tiny_ctc, tiny_whisper

# WavLM's attention in torch, which only the library can mend.
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")

CLIP = sound(0.5, 2)


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
    for layer in (1, 2):
        states, headed = LayerStates(str(bare), layer), LayerStates(str(tmp_path / "ears"), layer)
        assert (states.layers, states.rate) == (2, 16_000)
        read = processor(CLIP.samples, sampling_rate=16_000, return_tensors="pt").input_values
        with torch.no_grad():
            out = network(read, output_hidden_states=True)
        # The last is behind the last norm, where transformers has it in no family's hidden_states but some.
        wanted = (out.last_hidden_state if layer == 2 else out.hidden_states[layer])[0]
        np.testing.assert_allclose(states(CLIP), wanted.numpy(), rtol=1e-3, atol=2e-5)
        np.testing.assert_array_equal(headed(CLIP), states(CLIP))


def test_states_of_whisper_cover_the_clip_alone(tmp_path: Path) -> None:
    states = LayerStates(str(tiny_whisper(tmp_path / "whisper")), 2)
    assert (states.layers, states.longest) == (2, 2.0)
    found = states(CLIP)
    assert found.shape == (25, 16)  # 0.5 s at 50 a second, of a window of 100
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(states(CLIP.at(8000)), found, atol=0.5)
    with pytest.raises(DataError, match=r"3 s: must last from .* to 2 s"):
        states(sound(3.0))


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    path = tiny_ctc(tmp_path / "ears", "hubert")
    for layer in (0, 3):
        with pytest.raises(UsageError, match="has layers from 1 to 2"):
            LayerStates(str(path), layer)
    with pytest.raises(ModelError, match="is no encoder that a bridge can stand on"):
        LayerStates(str(save_tiny(tmp_path / "text")), 1)
    before = LayerStates(str(path), 1).fingerprint
    (path / "preprocessor_config.json").write_text(
        (path / "preprocessor_config.json").read_text().replace('"do_normalize": true', '"do_normalize": false')
    )
    assert LayerStates(str(path), 1).fingerprint != before
