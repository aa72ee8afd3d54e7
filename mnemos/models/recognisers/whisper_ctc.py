"""A Whisper encoder with a linear CTC head: a CTC model where no wav2vec2 checkpoint is at hand.

The directory is an ordinary one of transformers: ``config.json`` of model type "whisper" whose architecture is
WhisperEncoderForCTC, the encoder's weights under their names there, ``vocab.json`` of characters.

Deviation from Whisper (arXiv:2212.04356): 1. a clip is not padded to 30 s. The encoder's positions are learned for
places counted from the beginning, so a shorter clip uses the first of them; spectra are scaled by the clip's own
maximum, without the padding's floor. That makes a pass of 2 s fifteen times cheaper. 2. clips of one batch are padded
with zeros behind their spectra and masked in convolutions and attention, so that each is computed as if alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import WhisperConfig
from transformers.modeling_outputs import CausalLMOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder, WhisperPreTrainedModel

from mnemos.core.errors import ModelError, UsageError

WHISPER_CTC = "WhisperEncoderForCTC"
"""The architecture, as config.json names it."""
CHARACTERS = "abcdefghijklmnopqrstuvwxyz'"
BLANK, UNKNOWN, DELIMITER = "<pad>", "<unk>", "|"


class WhisperEncoderForCTC(WhisperPreTrainedModel):  # type: ignore[misc]
    """config: a WhisperConfig whose vocab_size counts the head's outputs, the blank at pad_token_id included; it has no
    decoder layers."""

    base_model_prefix = "encoder"
    main_input_name = "input_features"

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self.encoder = WhisperEncoder(config)
        self.head = nn.Linear(config.d_model, config.vocab_size)
        self.post_init()

    @property
    def longest_frames(self) -> int:
        """Spectra (10 ms each) that the positions reach."""
        return int(self.config.max_source_positions) * 2

    def get_input_embeddings(self) -> nn.Module:
        """Where sound enters."""
        module: nn.Module = self.encoder.conv1
        return module

    def inputs(self, processor: Any, samples: Sequence[Any]) -> dict[str, torch.Tensor]:
        """input_features float[B, M, T], padded with zeros; attention_mask int64[B, T]."""
        spectra = [self._spectrum(processor, one) for one in samples]
        longest = max(one.shape[-1] for one in spectra)
        padded = torch.stack([nn.functional.pad(one, (0, longest - one.shape[-1])) for one in spectra])
        mask = torch.stack([torch.arange(longest) < one.shape[-1] for one in spectra])
        return {"input_features": padded, "attention_mask": mask.long()}

    @staticmethod
    def _spectrum(processor: Any, samples: Any) -> torch.Tensor:
        # float[M, T]. A window of 25 ms reflected at its ends needs more samples than half of it.
        made = processor(
            samples,
            sampling_rate=processor.sampling_rate,
            padding="max_length",
            max_length=max(len(samples), processor.n_fft),
            truncation=False,
            return_tensors="pt",
        )
        spectrum: torch.Tensor = made["input_features"][0]
        return spectrum

    def front(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """float[B, (T + 1) // 2, D]: what the two convolutions make of spectra."""
        states = nn.functional.gelu(self.encoder.conv1(input_features))
        if attention_mask is not None:
            # What stands behind a clip's end is zero for the next convolution, as it is where the clip stands alone.
            states = states * attention_mask[:, None, :].to(states.dtype)
        states = nn.functional.gelu(self.encoder.conv2(states))
        return states.transpose(1, 2)

    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        front: torch.Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        """logits float[B, (T + 1) // 2, V]. front: of `front`, where it is known."""
        encoder = self.encoder
        states = self.front(input_features, attention_mask) if front is None else front
        places = states.shape[1]
        if places > encoder.embed_positions.num_embeddings:
            bound = f"more than the {encoder.embed_positions.num_embeddings} positions of the encoder"
            raise ModelError(f"a clip of {places} frames", bound, "cut it at pauses")
        states = states + encoder.embed_positions.weight[:places]
        states = nn.functional.dropout(states, p=encoder.dropout, training=self.training)
        hidden = self._hidden(attention_mask, places, states.dtype)
        for layer in encoder.layers:
            states = layer(states, hidden)
        return CausalLMOutput(logits=self.head(encoder.layer_norm(states)))

    def _hidden(self, mask: torch.Tensor | None, places: int, dtype: torch.dtype) -> torch.Tensor | None:
        """float[B, 1, places, places], added to attention: very small at padding; None where there is none."""
        if mask is None or bool(mask.all()):
            return None
        frames = self._get_feat_extract_output_lengths(mask.sum(-1))
        padding = torch.arange(places, device=mask.device)[None, :] >= frames[:, None]
        hidden = torch.zeros(padding.shape, dtype=dtype, device=mask.device)
        hidden = hidden.masked_fill(padding, torch.finfo(dtype).min)
        return hidden[:, None, None, :].expand(-1, 1, places, -1)


def vocabulary(characters: str = CHARACTERS) -> dict[str, int]:
    """Token -> index: the blank, unknown, the word delimiter, then the characters."""
    if len(set(characters)) != len(characters) or any(one.isspace() or one == DELIMITER for one in characters):
        raise UsageError(
            f"characters = {characters!r}", f"must differ from each other, from white space and {DELIMITER}", "mend it"
        )
    return {token: index for index, token in enumerate([BLANK, UNKNOWN, DELIMITER, *characters])}


def give_head(whisper: Any, processor: Any, folder: Path, characters: str = CHARACTERS, seed: int = 0) -> Path:
    """Write the directory of a Whisper model's encoder with a new CTC head for `characters`, drawn by `seed`.

    whisper: a transformers WhisperForConditionalGeneration or WhisperModel. The head is small and random: such a
    model hears nothing until it is trained. Returns `folder`.
    """
    tokens = vocabulary(characters)
    config = WhisperConfig(**{**whisper.config.to_dict(), **_changed(len(tokens))})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = WhisperEncoderForCTC(config)
    network.encoder.load_state_dict(whisper.get_encoder().state_dict())
    network.to(whisper.dtype).save_pretrained(folder)
    processor.save_pretrained(folder)
    write_tokenizer(folder, tokens)
    return folder


def _changed(tokens: int) -> dict[str, Any]:
    return {
        "architectures": [WHISPER_CTC],
        "vocab_size": tokens,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
        "decoder_start_token_id": 0,
        "decoder_layers": 0,
        "is_encoder_decoder": False,
        "tie_word_embeddings": False,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
    }


def write_tokenizer(folder: Path, tokens: dict[str, int]) -> None:
    """The files of a Wav2Vec2CTCTokenizer with these tokens."""
    (folder / "vocab.json").write_text(json.dumps(tokens, ensure_ascii=False), encoding="utf-8")
    settings = {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "pad_token": BLANK,
        "unk_token": UNKNOWN,
        "word_delimiter_token": DELIMITER,
        "bos_token": None,
        "eos_token": None,
        "do_lower_case": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
