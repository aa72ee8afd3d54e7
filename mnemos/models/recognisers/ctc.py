"""Recognisers that give a distribution over tokens and a blank at every frame: any CTC class of transformers."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F

from mnemos.core.errors import ModelError
from mnemos.models.recognisers.base import Features, Recogniser, Spelled
from mnemos.models.recognisers.decoding import LanguageScore, beam, collapsed
from mnemos.sources.audio import Clip

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'"})


class CTCRecogniser(Recogniser):
    """A network of transformers with a CTC head; its blank is the padding token, as in transformers."""

    kind: Literal["ctc"] = "ctc"

    def __init__(self, network: Any, processor: Any, tokenizer: Any, name: str = "", fingerprint: str = "") -> None:
        super().__init__(network, processor, tokenizer, name, fingerprint)
        blank = network.config.pad_token_id
        if blank is None or not 0 <= blank < network.config.vocab_size:
            raise ModelError(
                f"{name}: pad_token_id = {blank}", "must be the blank's index among the logits", "mend config.json"
            )
        self.blank = int(blank)

    @property
    def equal_lengths(self) -> bool:
        """See `hears_padding`."""
        return hears_padding(self.network)

    @cached_property
    def shortest(self) -> float:
        """Seconds that one frame needs: the convolutions' field of view."""
        field = 1
        kernels, strides = (getattr(self.network.config, f"conv_{name}", ()) or () for name in ("kernel", "stride"))
        for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
            field = (field - 1) * stride + kernel
        # Where features are spectra, a window of 25 ms is the least that any of them takes.
        return field / self.rate if kernels else 0.025

    @property
    def longest(self) -> float:
        """Seconds that the positions of a Whisper encoder reach; infinite for convolutional positions."""
        reach = getattr(self.network, "longest_frames", None)
        return float("inf") if reach is None else reach * self.processor.hop_length / self.rate

    def features(self, clips: Sequence[Clip]) -> Features:
        """See `Recogniser.features`. Each clip is normalised by itself; then padded on the right, with a mask."""
        found = self.heard(clips)
        inputs = self._inputs([clip.samples for clip in found])
        device = self.device
        return Features(inputs, self._frames(inputs)).to(device)

    def _inputs(self, samples: Sequence[Any]) -> dict[str, torch.Tensor]:
        if hasattr(self.network, "inputs"):
            own: dict[str, torch.Tensor] = self.network.inputs(self.processor, samples)
            return own
        masked = not self.equal_lengths
        made = self.processor(
            list(samples), sampling_rate=self.rate, padding=True, return_attention_mask=masked, return_tensors="pt"
        )
        return {name: value for name, value in made.items() if masked or name != "attention_mask"}

    def _frames(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        mask = inputs.get("attention_mask")
        read = inputs[self.network.main_input_name]
        lengths = mask.sum(-1) if mask is not None else torch.full((len(read),), read.shape[-1])
        for owner in (self.network, getattr(self.network, "encoder", None)):
            for method in ("_get_feat_extract_output_lengths", "_get_subsampling_output_length"):
                if hasattr(owner, method):
                    frames: torch.Tensor = getattr(owner, method)(lengths.long())
                    return frames.long()
        raise ModelError(type(self.network).__name__, "does not say how many frames it makes", "use another class")

    def frames_of(self, clips: Sequence[Clip]) -> torch.Tensor:
        """int64[B]: how many frames each clip makes; asks no weight of the network."""
        return torch.cat([self._frames(self._inputs([clip.samples])) for clip in self.heard(clips)])

    def logits(self, features: Features) -> torch.Tensor:
        """float[B, T, V], with gradients; what lies behind `features.frames` is padding."""
        found: torch.Tensor = self.network(**features.inputs).logits
        return found

    def front(self, features: Features) -> torch.Tensor | None:
        """What the convolutions make of sound, without gradient, to begin from in `logits_behind`; None of a network
        whose convolutions do not stand in a module of their own."""
        base = self.network.base_model
        with torch.no_grad():
            if hasattr(self.network, "front"):
                own: torch.Tensor = self.network.front(**features.inputs)
                return own
            extractor = getattr(base, "feature_extractor", None)
            if extractor is None or "input_values" not in features.inputs:
                return None
            found: torch.Tensor = extractor(features.inputs["input_values"])
            return found

    def logits_behind(self, front: torch.Tensor, features: Features) -> torch.Tensor:
        """`logits` where `front(features)` is known: the same numbers, without its cost. Trap: nothing moves that
        stands before the front."""
        if hasattr(self.network, "front"):
            own: torch.Tensor = self.network(**features.inputs, front=front).logits
            return own
        with _given(self.network.base_model, front):
            return self.logits(features)

    def nll(self, features: Features, targets: Sequence[Sequence[int]]) -> torch.Tensor:
        """See `Recogniser.nll`; the sum over all paths that write the target (Graves et al. 2006)."""
        return nll_of(self.logits(features), features.frames, targets, self.blank)

    def decode(
        self,
        logits: torch.Tensor,
        frames: torch.Tensor | None = None,
        *,
        beam: int = 1,
        language_model: Callable[[str], float] | None = None,
        weight: float = 0.5,
    ) -> list[str]:
        """What distributions say, clip by clip: the best path, or with `beam` > 1 the likeliest text of a prefix beam.

        logits: float[B, T, V]. frames: int64[B], all T unless given. language_model: ln p of a text in nats, asked for
        what is written so far, `weight` beside the recogniser's 1.
        """
        best = self.n_best(logits, frames, beam=beam, language_model=language_model, weight=weight)
        return [texts[0][0] for texts in best]

    def n_best(
        self,
        logits: torch.Tensor,
        frames: torch.Tensor | None = None,
        *,
        beam: int = 5,
        language_model: Callable[[str], float] | None = None,
        weight: float = 0.5,
    ) -> list[list[tuple[str, float]]]:
        """Per clip the likeliest texts with their scores in nats, best first; see `decode`."""
        counts = [logits.shape[1]] * len(logits) if frames is None else [int(n) for n in frames]
        scored: LanguageScore | None = None
        if language_model is not None:
            ask = language_model

            def scored(ids: Sequence[int]) -> float:
                return ask(self.text_of(ids))

        out = []
        for one, count in zip(logits.detach(), counts, strict=True):
            out.append([(self.text_of(ids), score) for ids, score in self._best(one[:count], beam, scored, weight)])
        return out

    def _best(
        self, logits: torch.Tensor, width: int, language_model: LanguageScore | None, weight: float
    ) -> list[tuple[list[int], float]]:
        log_probs = logits.float().log_softmax(-1)
        if width <= 1 and language_model is None:
            best, path = log_probs.max(-1)
            return [(collapsed(path.tolist(), self.blank), float(best.sum()))]
        found = beam(log_probs.cpu().numpy(), self.blank, width, language_model=language_model, weight=weight)
        return found

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of tokens without repeats and blanks; the tokenizer's special tokens write nothing."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True, group_tokens=False)
        return " ".join(text.split())

    @torch.inference_mode()
    def transcribe(self, clips: Sequence[Clip], *, beam: int = 1) -> list[str]:
        """See `Recogniser.transcribe`. The same for any cut into batches, up to float tolerance."""
        out = [""] * len(clips)
        with evaluating(self.network):
            for batch in self.batches(clips):
                features = self.features([clips[i] for i in batch])
                texts = self.decode(self.logits(features), features.frames, beam=beam)
                for index, text in zip(batch, texts, strict=True):
                    out[index] = text
        return out

    def spell(self, text: str) -> Spelled:
        """A transcript as tokens, in the case that the vocabulary has; white space is the word delimiter."""
        delimiter = getattr(self.tokenizer, "word_delimiter_token", None)
        if delimiter is None:
            unknown = self.tokenizer.unk_token_id
            ids = [int(token) for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]]
            missing = "?" * sum(token == unknown for token in ids)
            return Spelled(tuple(token for token in ids if token != unknown), missing)
        found: list[int] = []
        missing = ""
        for character in " ".join(unicodedata.normalize("NFC", text).translate(_APOSTROPHES).split()):
            token = self._characters.get(delimiter if character == " " else character)
            if token is None:
                missing += character
            else:
                found.append(token)
        return Spelled(tuple(found), missing)

    @cached_property
    def _characters(self) -> dict[str, int]:
        """Character -> token, the other case of each letter included where the vocabulary has one case."""
        special = set(self.tokenizer.all_special_tokens) - {self.tokenizer.word_delimiter_token}
        own = {text: int(token) for text, token in self.tokenizer.get_vocab().items() if text not in special}
        own = {text: token for text, token in own.items() if token < self.network.config.vocab_size}
        other = {text.lower(): token for text, token in own.items()} | {
            text.upper(): token for text, token in own.items()
        }
        return other | own


def nll_of(logits: torch.Tensor, frames: torch.Tensor, targets: Sequence[Sequence[int]], blank: int) -> torch.Tensor:
    """float32[B]: -ln p of each target in nats. logits: float[B, T, V]. frames: int64[B] of these T. Infinite where a
    target (with a blank between repeats) needs more frames than there are."""
    lengths = torch.tensor([len(target) for target in targets], device=logits.device)
    flat = torch.tensor([token for target in targets for token in target], dtype=torch.long, device=logits.device)
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)  # [T, B, V]
    # The native kernel: cuDNN's takes only targets on the CPU and answers otherwise for long ones.
    with torch.backends.cudnn.flags(enabled=False):
        return F.ctc_loss(log_probs, flat, frames.to(logits.device), lengths, blank=blank, reduction="none")


def frames_needed(target: Sequence[int]) -> int:
    """How many frames a target takes at least: one each, and a blank between repeats."""
    return len(target) + sum(a == b for a, b in pairwise(target))


def hears_padding(network: Any) -> bool:
    """Whether padding changes what the network hears, whatever its attention mask says.

    Where the first convolution is normalised over all samples of a clip (`feat_extract_norm: group`, as in
    wav2vec2-base-960h and hubert-base); and in Data2Vec, whose positions come of several convolutions behind one
    another, of which only the first sees padding as zeros.
    """
    config = network.config
    return getattr(config, "feat_extract_norm", None) == "group" or config.model_type == "data2vec-audio"


class _Given(torch.nn.Module):
    """Stands where a module was whose output is known."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, *_: Any, **__: Any) -> torch.Tensor:
        return self.value


@contextmanager
def _given(base: Any, front: torch.Tensor) -> Iterator[None]:
    modules = base._modules
    own = modules["feature_extractor"]
    modules["feature_extractor"] = _Given(front)
    try:
        yield
    finally:
        modules["feature_extractor"] = own


@contextmanager
def evaluating(network: Any) -> Iterator[None]:
    """In eval mode within it, and as it was behind it."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
