"""Encoders of sound: Whisper's, and the convolutional ones (wav2vec 2.0, HuBERT, WavLM, Data2Vec), frozen.

What an encoder says of a clip must not depend on what else is heard at the time, because it is kept on disk: a clip is
encoded by itself, without padding.

Deviation from Whisper (arXiv:2212.04356): 1. a clip is not padded to 30 s. The encoder's positions are counted from the
beginning, so a shorter clip uses the first of them; the spectrum is scaled by the clip's own maximum. A clip of half a
second is encoded forty times faster.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mnemos.core.chatter import errors_alone
from mnemos.core.errors import ModelError
from mnemos.weights.checkpoint import explained, resolve, usable_config
from mnemos.weights.files import check_weights

CONVOLUTIONAL = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat")
"""Model types whose frames are made by a stack of convolutions over samples."""
HALF_RANGE = 6e4
"""States beyond it are no float16."""


class Encoder:
    """An encoder that is loaded when it is first asked.

    place: a directory or hub id of any checkpoint that has such an encoder, its head or decoder left aside.
    Raises ModelError for another kind of model.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.folder = resolve(place, allow_pickle=False, trust_remote_code=False)
        self.config = usable_config(self.folder, False)
        self.whisper = self.config.model_type == "whisper"
        if not self.whisper and self.config.model_type not in CONVOLUTIONAL:
            raise ModelError(
                f"{self.folder}: model_type {self.config.model_type}",
                "is no encoder that a bridge can stand on",
                f"name a model of one of these types: whisper, {', '.join(CONVOLUTIONAL)}",
            )
        self.device = torch.device("cpu")

    @cached_property
    def processor(self) -> Any:
        """What makes features of samples."""
        from transformers import AutoFeatureExtractor

        with explained(self.folder, "what makes features of sound cannot be read", "copy preprocessor_config.json"):
            return AutoFeatureExtractor.from_pretrained(self.folder)

    @property
    def rate(self) -> int:
        """Samples a second that it hears."""
        return int(self.processor.sampling_rate)

    @property
    def width(self) -> int:
        """Of its states."""
        return int(self.config.d_model if self.whisper else self.config.hidden_size)

    @property
    def layers(self) -> int:
        """How many transformer layers it has."""
        return int(self.config.encoder_layers if self.whisper else self.config.num_hidden_layers)

    @property
    def longest(self) -> float:
        """Seconds that it can hear at once; infinite where its positions set no bound."""
        if not self.whisper:
            return float("inf")
        return float(2 * self.config.max_source_positions * self.processor.hop_length / self.rate)

    @property
    def least(self) -> int:
        """Samples of the shortest clip that has a frame."""
        if self.whisper:
            return 1
        field = 1
        for kernel, stride in zip(reversed(self.config.conv_kernel), reversed(self.config.conv_stride), strict=True):
            field = (field - 1) * int(stride) + int(kernel)
        return field

    def frames(self, samples: int) -> int:
        """How many states a clip of so many samples has."""
        if self.whisper:
            # Spectra, the last window left out as Whisper does; then a convolution of stride 2 that rounds up.
            return -(-(max(samples, int(self.processor.n_fft)) // int(self.processor.hop_length)) // 2)
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            samples = (samples - int(kernel)) // int(stride) + 1
        return samples

    @cached_property
    def network(self) -> Any:
        """The encoder alone, in float32, in eval mode, frozen."""
        from transformers import AutoModel

        check_weights(self.folder, False)
        cure = "check that weights and config.json fit"
        with explained(self.folder, "the encoder cannot be loaded", cure), _headless():
            model, info = AutoModel.from_pretrained(
                self.folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
        missing = sorted(name for name in info["missing_keys"] if not name.endswith("masked_spec_embed"))
        missing = [name for name in missing if not self.whisper or name.startswith("encoder.")]
        if missing:
            raise ModelError(
                f"{self.folder}", f"lacks {len(missing)} tensors of the encoder, first {missing[0]}", "copy all of it"
            )
        model = model.encoder if self.whisper else model
        return model.eval().requires_grad_(False).to(self.device)

    def to(self, device: torch.device) -> None:
        """Where it computes from now on."""
        self.device = device
        if "network" in self.__dict__:
            self.network.to(device)

    @torch.no_grad()
    def states(self, samples: npt.NDArray[np.float32], taps: Sequence[int]) -> torch.Tensor:
        """float32[L, T, D], on the CPU: the states of the tapped layers for one clip. ModelError where they are not
        finite."""
        # What is kept must not hang on the precision of whatever asks for it first.
        with torch.autocast(self.device.type, enabled=False):
            if self.whisper:
                layers = self._whisper(samples)
            else:
                made = self.processor(samples, sampling_rate=self.rate, return_tensors="pt").to(self.device)
                out = self.network(made["input_values"], output_hidden_states=True)
                # Some families have the last entry before their last norm.
                layers = [*out.hidden_states[1:-1], out.last_hidden_state]
        found = torch.stack([layers[tap][0] for tap in taps]).float().cpu()
        if not bool(torch.isfinite(found).all()):
            raise ModelError(f"{self.folder}", "gives states that are not finite", "its weights are damaged")
        wanted = self.frames(len(samples))
        if found.shape[1] != wanted:
            raise ModelError(
                f"{self.folder}: {found.shape[1]} frames for {len(samples)} samples",
                f"its configuration asks for {wanted}", "restore config.json and preprocessor_config.json",
            )  # fmt: skip
        return found

    def _whisper(self, samples: npt.NDArray[np.float32]) -> list[torch.Tensor]:
        """Each layer's states, float[1, T, D], the last behind the final norm."""
        encoder = self.network
        made = self.processor(
            samples, sampling_rate=self.rate, padding="max_length", max_length=max(len(samples), self.processor.n_fft),
            truncation=False, return_tensors="pt",
        )  # fmt: skip
        spectra = made["input_features"].to(self.device)
        one = torch.nn.functional.gelu(encoder.conv1(spectra))
        one = torch.nn.functional.gelu(encoder.conv2(one)).transpose(1, 2)
        one = one + encoder.embed_positions.weight[: one.shape[1]]
        out = []
        for layer in encoder.layers:
            one = layer(one, None)
            out.append(one)
        out[-1] = encoder.layer_norm(out[-1])
        return out


@contextmanager
def _headless() -> Iterator[None]:
    """Inside: no report of a head or decoder that is left aside on purpose, and no bar without a terminal."""
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    with errors_alone():
        yield


def rounded(states: torch.Tensor) -> npt.NDArray[Any]:
    """The states as they are kept: float16, or float32 where one is beyond its range."""
    return states.numpy().astype(np.float16 if float(states.abs().max()) < HALF_RANGE else np.float32)


def encoder_folder(place: str) -> Path:
    """Where an encoder lies; a hub id is downloaded."""
    return resolve(place, allow_pickle=False, trust_remote_code=False)
