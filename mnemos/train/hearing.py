"""Rows of sound in the one loop: what a recogniser is given of a micro-batch, and what its loss is made of.

A row is a transcript's tokens that names its sound (`Tokens.sound`). A model that writes token by token (Whisper) gives
logits at every token of the transcript, as any language model does, so every term and every weight means what it means
there. A CTC model gives the likelihood of whole transcripts: `Likelihood` is -ln p(transcript | sound), the sum over
all paths that write it, shared out evenly among its tokens, and EWC, L2 and replay stand on it. Terms that compare
distributions token by token have nothing to look at and are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.core.nouns import AudioPart, Example, Tokens
from mnemos.core.outputs import Outputs, Whole, log_prob
from mnemos.models.recognisers.base import Features, Recogniser
from mnemos.models.recognisers.ctc import CTCRecogniser, frames_needed, nll_of
from mnemos.models.recognisers.decoding import collapsed
from mnemos.sources import audio
from mnemos.sources.bad_row import RowError
from mnemos.sources.clips import Clips
from mnemos.train.documents import MicroBatch, Pass, padded

LEAST_WRITTEN = 0.5
"""Share of a transcript's letters that the vocabulary must be able to write: below it, it is in another script."""


class TranscriptRenderer:
    """What turns rows of sound and transcript into tokens, in the place of a chat renderer.

    recogniser: the model before, perhaps without numbers: what is asked of it is how it spells, and how many frames
    it makes. bounds: of clips.
    """

    def __init__(self, recogniser: Recogniser, bounds: audio.Bounds) -> None:
        self.recogniser, self.tokenizer = recogniser, recogniser.tokenizer
        self.clips = Clips(recogniser.rate, bounds)

    def learned(self, example: Example, counts: Counter[str]) -> list[Tokens]:
        """The example as one row, or none: why it is left out is counted. DataError for a row without a sound."""
        sounds = [part for turn in example.turns for part in turn.sounds]
        if len(sounds) != 1 or example.turns[-1].role != "assistant":
            bound = f"holds {len(sounds)} sounds; a recogniser learns one sound and its transcript a row"
            raise DataError(f"{example.place or example.id}", bound, 'like {"audio": "clips/a.wav", "text": "…"}')
        try:
            clip = self.clips(sounds[0])
        except RowError as problem:
            counts[f"left out: {problem.reason}"] += 1
            return []
        if clip.clipped_share > 1e-3:
            counts["clips distorted at full scale"] += 1
        text = example.turns[-1].text
        spelled = self.recogniser.spell(text)
        letters = sum(not one.isspace() for one in text)
        if not spelled.ids or sum(map(str.isalnum, spelled.missing)) > (1 - LEAST_WRITTEN) * letters:
            counts["left out: a transcript in another script than the vocabulary"] += 1
            return []
        if spelled.missing:
            counts["characters that the vocabulary lacks"] += len(spelled.missing)
        if (why := self._too_short(clip, spelled.ids)) is not None:
            counts[f"left out: {why}"] += 1
            return []
        return [self._tokens(example, sounds[0], spelled.ids)]

    def _too_short(self, clip: audio.Clip, ids: Sequence[int]) -> str | None:
        if isinstance(self.recogniser, CTCRecogniser):
            frames = int(self.recogniser.frames_of([clip])[0])
            return "more characters than the sound has frames for" if frames < frames_needed(ids) else None
        room = int(self.recogniser.network.config.max_target_positions)
        return "a transcript longer than the decoder's context" if len(self._prefix) + len(ids) > room else None

    @property
    def _prefix(self) -> tuple[int, ...]:
        # One token stands before a CTC target too: nothing predicts a row's first token, so it is never learned.
        own = getattr(self.recogniser, "prefix", None)
        return (self.recogniser.blank,) if own is None else own  # type: ignore[attr-defined]

    def _tokens(self, example: Example, sound: AudioPart, ids: Sequence[int]) -> Tokens:
        taught = np.array([0] * len(self._prefix) + [1] * len(ids))
        every = np.array([*self._prefix, *ids], np.int32)
        weight = taught.astype(np.float32)
        return Tokens(every, weight, taught.astype(np.bool_), example.id, example.origin, sound=sound)

    def take_batch(self, sounds: Sequence[AudioPart | None]) -> list[audio.Clip]:
        """The clips of a micro-batch; ModelError where a method made rows without their sounds."""
        missing = sum(one is None for one in sounds)
        if missing:
            raise ModelError(
                f"{missing} of {len(sounds)} rows", "have lost their sound", "leave out the arm's methods on tokens"
            )
        return [self.clips(one) for one in sounds if one is not None]


@dataclass(frozen=True, eq=False)
class Ears:
    """How a micro-batch of sounds passes through a recogniser (`documents.Way.ears`). recogniser: around the model in
    training, whose processor and frames every copy of it shares."""

    recogniser: Recogniser
    renderer: TranscriptRenderer

    def micro_batch(self, batch: Mapping[str, Any]) -> MicroBatch:
        """As `documents.micro_batch`: clips of one pass are padded, or of one length where padding would be heard."""
        lengths = list(batch["lengths"])
        ids, weight = (torch.split(batch[name][0], lengths) for name in ("input_ids", "weight"))
        places = torch.split(torch.arange(sum(lengths), device=ids[0].device), lengths)
        clips = self.renderer.take_batch(batch.get("sounds") or [None] * len(lengths))
        groups = list(self.recogniser.batches(clips))
        make = self._written if self.recogniser.kind == "sequence" else self._heard
        passes = [make(group, clips, ids, weight) for group in groups]
        order = [index for group in groups for index in group]
        # A CTC target is whole: tokens without weight are part of it all the same.
        kept = [weight[i] != 0 if self.recogniser.kind == "sequence" else _behind_first(ids[i]) for i in order]
        return MicroBatch(
            tuple(passes),
            torch.cat([ids[i][mask] for i, mask in zip(order, kept, strict=True)]),
            torch.cat([weight[i][mask] for i, mask in zip(order, kept, strict=True)]),
            torch.cat([places[i][mask] for i, mask in zip(order, kept, strict=True)]),
        )

    def _features(self, group: Sequence[int], clips: Sequence[audio.Clip]) -> Features:
        return self.recogniser.features([clips[i] for i in group])

    def _written(self, group: Sequence[int], clips: Any, ids: Any, weight: Any) -> Pass:
        one, _, _ = padded([ids[i] for i in group], [weight[i] for i in group])
        read = {"decoder_input_ids": one.inputs["input_ids"]}
        return Pass({**self._features(group, clips).inputs, **read}, one.predicts)

    def _heard(self, group: Sequence[int], clips: Any, ids: Any, weight: Any) -> Pass:
        features = self._features(group, clips)
        return Pass(dict(features.inputs), features.frames, tuple(len(ids[i]) - 1 for i in group))

    def outputs(self, run: Callable[..., Any], batch: MicroBatch) -> Outputs:
        """What a model says of a micro-batch. run: the model, or what is called in its place."""
        if self.recogniser.kind == "sequence":
            parts = [run(**one.inputs, use_cache=False).logits[one.predicts] for one in batch.passes]
            return Whole(parts[0] if len(parts) == 1 else torch.cat(parts))
        logits = tuple(run(**one.inputs).logits for one in batch.passes)
        return Heard(logits, batch, self.recogniser.blank)  # type: ignore[attr-defined]


def _behind_first(ids: torch.Tensor) -> torch.Tensor:
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0] = False
    return mask


@dataclass(frozen=True, eq=False)
class Heard:
    """What a CTC model says of a micro-batch, as `core.outputs.Outputs`. logits: of each pass, float[B, T, V]."""

    logits: tuple[torch.Tensor, ...]
    batch: MicroBatch
    blank: int

    def whole(self) -> torch.Tensor:
        """Refused: there is no distribution at a token."""
        raise _token_by_token()

    def at(self, rows: Any) -> Heard:
        """Itself, for all of the micro-batch."""
        if rows != slice(None):
            raise _token_by_token()
        return self

    def each(self, value: Callable[..., torch.Tensor], *beside: Any) -> torch.Tensor:
        """float32[N]: for ln p of the targets, each transcript's share of a token; any other number is refused."""
        if value is not log_prob:
            raise _token_by_token()
        return torch.cat([(-nll / max(1, count)).expand(count) for nll, count in self._each_clip(self._targets())])

    def drawn_loss(self, weight: torch.Tensor, seeds: Sequence[Sequence[int]]) -> torch.Tensor:
        """Scalar: sum over clips of -ln p of a transcript that the model draws itself, times the mean weight of the
        clip's own tokens. A path is drawn frame by frame and collapsed, which is a draw from p(transcript | sound)."""
        targets = [
            self._drawn(logits[row, : int(one.predicts[row])], seed)
            for (logits, one, row), seed in zip(self._rows(), seeds, strict=True)
        ]
        means = [part.mean() for part in torch.split(weight, [n for one in self.batch.passes for n in one.counts])]
        return torch.stack([nll * mean for (nll, _), mean in zip(self._each_clip(targets), means, strict=True)]).sum()

    def _drawn(self, logits: torch.Tensor, seed: Sequence[int]) -> list[int]:
        # Through the inverse distribution function, so that a draw depends on no device's generator.
        uniform = torch.from_numpy(np.random.default_rng(list(seed)).random((len(logits), 1))).to(logits.device)
        steps = logits.detach().double().softmax(-1).cumsum(-1)
        path = torch.searchsorted(steps, uniform * steps[:, -1:], right=True)[:, 0].clamp_max(logits.shape[-1] - 1)
        return collapsed(path.tolist(), self.blank)

    def _rows(self) -> Iterator[tuple[torch.Tensor, Pass, int]]:
        for logits, one in zip(self.logits, self.batch.passes, strict=True):
            for row in range(len(one.counts)):
                yield logits, one, row

    def _targets(self) -> list[list[int]]:
        counts = [count for one in self.batch.passes for count in one.counts]
        return [part.tolist() for part in torch.split(self.batch.targets, counts)]

    def _each_clip(self, targets: Sequence[Sequence[int]]) -> Iterator[tuple[torch.Tensor, int]]:
        start = 0
        for logits, one in zip(self.logits, self.batch.passes, strict=True):
            part = targets[start : start + len(one.counts)]
            yield from zip(nll_of(logits, one.predicts, part, self.blank), one.counts, strict=True)
            start += len(one.counts)


def _token_by_token() -> UsageError:
    return UsageError(
        "a method that compares distributions of single tokens",
        "has nothing to compare in a CTC model, which gives the likelihood of whole transcripts",
        "use replay, ewc, l2_to_before, freeze, lora or weights, or a model that writes token by token (Whisper)",
    )
