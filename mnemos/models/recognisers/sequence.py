"""Whisper: an encoder that hears 30 s and a decoder that writes token by token (arXiv:2212.04356)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch

from mnemos.core.chatter import errors_alone
from mnemos.core.errors import UsageError
from mnemos.models.recognisers.base import Features, Recogniser, Spelled
from mnemos.models.recognisers.ctc import evaluating
from mnemos.sources.audio import Clip

IGNORED = -100


class SequenceRecogniser(Recogniser):
    """network: a WhisperForConditionalGeneration. Every clip is padded to the window (30 s), as it was trained."""

    kind: Literal["sequence"] = "sequence"

    @property
    def longest(self) -> float:
        """The window, in seconds."""
        return float(self.processor.n_samples / self.rate)

    @property
    def shortest(self) -> float:
        """One sample; the rest of the window is silence."""
        return 1 / self.rate

    def features(self, clips: Sequence[Clip]) -> Features:
        """See `Recogniser.features`. frames: how many of the encoder's places hold sound; its states have all."""
        found = self.heard(clips)
        made = self.processor(
            [clip.samples for clip in found], sampling_rate=self.rate, return_tensors="pt", padding="max_length"
        )
        places = 2 * self.processor.hop_length
        frames = torch.tensor([-(-len(clip.samples) // places) for clip in found])
        return Features({"input_features": made["input_features"]}, frames).to(self.device)

    def logits(self, features: Features) -> torch.Tensor:
        """UsageError: what is written next depends on what was written."""
        raise UsageError(
            f"{self.name or 'this model'}",
            "writes token by token and has no distribution at every frame",
            "use a CTC model, or give a Whisper encoder a CTC head (mnemos asr head)",
        )

    @cached_property
    def prefix(self) -> tuple[int, ...]:
        """What the decoder is given before a transcript: its start, language and task where it has several, and that
        no times are written."""
        config = self.network.generation_config
        start = config.decoder_start_token_id
        ids = [self.network.config.decoder_start_token_id if start is None else start]
        if getattr(config, "is_multilingual", False):
            languages = getattr(config, "lang_to_id", None) or {}
            named = getattr(config, "language", None) or "<|en|>"
            ids += [languages[named] if named in languages else languages.get(f"<|{named}|>", languages["<|en|>"])]
            ids += [config.task_to_id[getattr(config, "task", None) or "transcribe"]]
        no_times = getattr(config, "no_timestamps_token_id", None)
        return (*map(int, ids), *([] if no_times is None else [int(no_times)]))

    @property
    def end(self) -> int:
        """The token that ends a transcript."""
        end = self.network.generation_config.eos_token_id
        return int(end[0] if isinstance(end, list | tuple) else end)

    def spell(self, text: str) -> Spelled:
        """A transcript as the decoder writes it: behind a space, and with its end."""
        ids = self.tokenizer(f" {' '.join(text.split())}", add_special_tokens=False)["input_ids"]
        return Spelled((*map(int, ids), self.end))

    def nll(self, features: Features, targets: Sequence[Sequence[int]]) -> torch.Tensor:
        """See `Recogniser.nll`: the decoder reads the right transcript so far."""
        prefix = list(self.prefix)
        longest = max(map(len, targets))
        read = torch.full((len(targets), len(prefix) + longest - 1), self.end)
        wanted = torch.full((len(targets), longest), IGNORED)
        for row, target in enumerate(targets):
            ids = torch.tensor([*prefix, *target[:-1]])
            read[row, : len(ids)] = ids
            wanted[row, : len(target)] = torch.tensor(list(target), dtype=torch.long)
        out = self.network(**features.inputs, decoder_input_ids=read.to(self.device), use_cache=False)
        logits = out.logits[:, len(prefix) - 1 :].float()  # [B, U, V]: what stands at u - 1 predicts u
        each = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), wanted.to(self.device), ignore_index=IGNORED, reduction="none"
        )
        return each.sum(-1)

    @torch.inference_mode()
    def transcribe(self, clips: Sequence[Clip], *, beam: int = 1) -> list[str]:
        """See `Recogniser.transcribe`; transformers writes, within the decoder's context."""
        out = [""] * len(clips)
        room = int(self.network.config.max_target_positions) - len(self.prefix)
        # Whisper's own generate hands its settings to transformers in a way that transformers warns of.
        with evaluating(self.network), errors_alone():
            for batch in self.batches(clips):
                features = self.features([clips[i] for i in batch])
                start = torch.tensor([self.prefix] * len(batch), device=self.device)
                ids = self.network.generate(
                    **features.inputs,
                    decoder_input_ids=start,
                    num_beams=beam,
                    do_sample=False,
                    max_new_tokens=room - 1,
                )
                texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
                for index, text in zip(batch, texts, strict=True):
                    out[index] = " ".join(text.split())
        return out

    def batches(self, clips: Sequence[Clip], seconds: float | None = None) -> Any:
        """As of every recogniser, each clip counting as the window that it is padded to."""
        window = self.longest
        most = max(1, int((seconds or {"cpu": 120.0}.get(self.device.type, 1200.0)) // window))
        order = range(len(clips))
        return (list(order[at : at + most]) for at in range(0, len(clips), most))
