"""A tiny wav2vec 2.0 with a CTC head, made on the spot, and clips for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

LETTERS = " abcdefgh"


class Given(torch.nn.Module):
    """Gives a value, whatever it is asked."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, *_: Any) -> Any:
        return self.value


@dataclass(frozen=True)
class Sounded:
    """What adapters need of a clip. samples: float32[N]."""

    samples: npt.NDArray[np.float32]
    rate: int = 16000

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate


class TinyEars:
    """As `models.recognisers.ctc`, for one clip at a time. dropout: while it trains."""

    kind = "ctc"
    name = fingerprint = "tiny ears"
    rate, blank = 16000, 0

    def __init__(self, seed: int = 0, norm: str = "group", dropout: float = 0.0) -> None:
        from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

        config = Wav2Vec2Config(
            vocab_size=len(LETTERS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
            conv_dim=(8, 8), conv_kernel=(10, 4), conv_stride=(40, 8), num_feat_extract_layers=2, pad_token_id=0,
            num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, feat_extract_norm=norm,
            conv_bias=norm == "layer",
            hidden_dropout=dropout, attention_dropout=dropout, activation_dropout=0.0, feat_proj_dropout=0.0,
            final_dropout=0.0, layerdrop=0.0, mask_time_prob=0.0, apply_spec_augment=False,
        )  # fmt: skip
        torch.manual_seed(seed)
        self.network = Wav2Vec2ForCTC(config).eval()
        # A random head is unsure of everything; this one has something to be confused by, and hears some blanks.
        with torch.no_grad():
            self.network.lm_head.weight.mul_(60)

    def features(self, clips: Sequence[Any]) -> Any:
        samples = np.stack([clip.samples for clip in clips])
        scaled = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        return torch.from_numpy(scaled.astype(np.float32))

    def logits(self, features: Any) -> Any:
        return self.network(features).logits

    def front(self, features: Any) -> Any:
        with torch.no_grad():
            return self.network.wav2vec2.feature_extractor(features)

    def logits_behind(self, front: Any, features: Any) -> Any:
        modules = self.network.wav2vec2._modules
        own = modules["feature_extractor"]
        # A module whose forward pass gives what is known.
        modules["feature_extractor"] = Given(front)
        try:
            return self.network(features).logits
        finally:
            modules["feature_extractor"] = own

    def decode(self, logits: Any, *, beam: int = 1, language_model: Any = None, weight: float = 0.5) -> list[str]:
        from mnemos.stream.adaptation.objectives import labels_of

        return ["".join(LETTERS[int(label)] for label in labels_of(one, self.blank)) for one in logits]


def clip(seed: int, seconds: float = 0.25, noise: float = 0.3) -> Sounded:
    """A tone that changes, in noise."""
    draw = np.random.default_rng(seed)
    t = np.arange(int(16000 * seconds)) / 16000
    tone = np.sin(2 * np.pi * np.cumsum(draw.uniform(100, 900, 5)[(t * 10).astype(int) % 5]) / 16000)
    return Sounded((tone + noise * draw.standard_normal(len(t))).astype(np.float32))
