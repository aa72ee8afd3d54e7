"""What every recogniser of speech can do, and how clips share a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from mnemos.core.errors import DataError, UsageError
from mnemos.sources.audio import Clip

BATCH_SECONDS = {"cpu": 4.0, "cuda": 1200.0}
"""Seconds of sound, padding included, that share one forward pass. On a CPU a pass of a minute takes up to twice the
time of its clips one by one: what convolutions make of it no longer fits the caches (`benchmarks.wer_suite`)."""


@dataclass(frozen=True, eq=False)
class Features:
    """Clips as a network reads them. inputs: keywords of its forward pass, tensors whose first axis is the B clips.
    frames: int64[B], how many of the logits' T places belong to each clip; the others are padding."""

    inputs: Mapping[str, torch.Tensor]
    frames: torch.Tensor

    def __len__(self) -> int:
        return len(self.frames)

    def to(self, device: torch.device | str) -> Features:
        """The same on a device."""
        return Features({name: one.to(device) for name, one in self.inputs.items()}, self.frames.to(device))


@dataclass(frozen=True)
class Spelled:
    """A transcript in tokens. ids: of what the vocabulary can write. missing: the characters that it cannot."""

    ids: tuple[int, ...]
    missing: str = ""


class Recogniser(ABC):
    """A network that hears, and what turns clips and texts into its numbers.

    network: a transformers.PreTrainedModel; whether it is in eval mode is the caller's affair, `load` leaves it there.
    rate: samples a second that it hears. kind: "ctc" gives a distribution at every frame, "sequence" writes token by
    token. name, fingerprint: as of a `core.nouns.LanguageModel`.
    """

    kind: Literal["ctc", "sequence"]

    def __init__(self, network: Any, processor: Any, tokenizer: Any, name: str = "", fingerprint: str = "") -> None:
        self.network, self.processor, self.tokenizer = network, processor, tokenizer
        self.rate = int(processor.sampling_rate)
        self.name, self.fingerprint = name, fingerprint

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.network.parameters()).device
        return device

    @property
    def equal_lengths(self) -> bool:
        """Whether clips of one batch must have exactly the same number of samples; see `ctc.hears_padding`."""
        return False

    @property
    def longest(self) -> float:
        """Seconds of the longest clip that it can hear at once; infinite where its positions set no bound."""
        return float("inf")

    @property
    def shortest(self) -> float:
        """Seconds of the shortest clip of which it can say anything."""
        return 0.0

    @abstractmethod
    def features(self, clips: Sequence[Clip]) -> Features:
        """The clips as input of the network, on its device; resampled where their rate is another.

        Raises DataError for a clip shorter or longer than it hears, and UsageError for clips of different lengths
        where `equal_lengths`.
        """

    @abstractmethod
    def logits(self, features: Features) -> torch.Tensor:
        """float[B, T, V] of a CTC model, with gradients. UsageError of a model that writes token by token."""

    @abstractmethod
    def spell(self, text: str) -> Spelled:
        """A transcript as target tokens."""

    @abstractmethod
    def nll(self, features: Features, targets: Sequence[Sequence[int]]) -> torch.Tensor:
        """float32[B]: -ln p(target | clip) in nats, summed over the target's tokens. Infinite where a CTC target does
        not fit into the clip's frames."""

    @abstractmethod
    def transcribe(self, clips: Sequence[Clip], *, beam: int = 1) -> list[str]:
        """What was said, clip by clip in their order; "" for nothing. beam: hypotheses held at a time, 1 is greedy."""

    def loss(self, clips: Sequence[Clip], texts: Sequence[str]) -> torch.Tensor:
        """Scalar with a gradient: mean -ln p in nats over all target tokens of the batch."""
        targets = [self.spell(text).ids for text in texts]
        return self.nll(self.features(clips), targets).sum() / max(1, sum(map(len, targets)))

    def batches(self, clips: Sequence[Clip], seconds: float | None = None) -> Iterator[list[int]]:
        """Indices of clips that share a batch of at most `seconds` of sound, padding included: clips of one length
        where `equal_lengths`, else neighbours by length, so that little is padding."""
        most = seconds if seconds is not None else BATCH_SECONDS.get(self.device.type, 60.0)
        lengths = [round(clip.seconds * self.rate) for clip in clips]
        order = sorted(range(len(clips)), key=lambda i: (-lengths[i], i))
        batch: list[int] = []
        for index in order:
            longest = lengths[batch[0]] if batch else lengths[index]
            full = (len(batch) + 1) * longest > most * self.rate
            if batch and (full or (self.equal_lengths and lengths[index] != longest)):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def heard(self, clips: Sequence[Clip]) -> list[Clip]:
        """The clips at this model's rate. DataError for one that it cannot hear, or of which a sample is not finite."""
        found = [clip.at(self.rate) for clip in clips]
        for clip in found:
            where = clip.id or clip.path or "a clip"
            if not bool(torch.isfinite(torch.from_numpy(clip.samples)).all()):
                raise DataError(where, "holds samples that are no finite numbers", "leave it out")
            if len(clip.samples) < max(1, round(self.shortest * self.rate)):
                bound = f"is shorter than the {self.shortest:g} s that {self.name or 'the model'} makes a frame of"
                raise DataError(f"{where}: {len(clip.samples)} samples", bound, "leave it out, or join it to another")
            if clip.seconds > self.longest:
                bound = f"is longer than the {self.longest:g} s that {self.name or 'the model'} hears at once"
                raise DataError(f"{where}: {clip.seconds:.1f} s", bound, "cut it at pauses")
        if self.equal_lengths and len({len(clip.samples) for clip in found}) > 1:
            raise UsageError(
                f"a batch of {len(found)} clips of different lengths",
                "this model hears padding, attention mask or not (it normalises over time)",
                "batch clips of exactly one length (Recogniser.batches does)",
            )
        return found
