"""A suite of word error rates transcribed in batches and one clip at a time, and where a CPU's batches should end.

Random models of the sizes that run here: a Whisper encoder as wide and deep as whisper-tiny's with a CTC head, which is
the figure, and a wav2vec 2.0 (192 wide, 4 layers, the convolutions of the base model), in the details with batches of
several lengths. Both sides must write the same transcripts. Seconds are those of the processor, in one thread, so that
other work on the machine does not count. The arithmetic of a batch is that of its clips: what batches save on a CPU is
the cost of starting operations, and what they lose is that intermediate results no longer fit the caches.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Result, compared
from mnemos.sources.audio import Clip

REPETITIONS = 3
LENGTHS = (2.0, 4.0, 8.0, 16.0, 60.0)
"""Seconds of sound in one batch that are tried beside the default."""


def run(items: int = 24) -> Iterator[Result]:
    """items: clips, of 0.6 to 1.5 s."""
    import torch

    torch.set_num_threads(1)
    clips = [clip(number) for number in range(items)]
    with tempfile.TemporaryDirectory() as folder:
        ears, other = whisper(Path(folder) / "whisper"), wav2vec2(Path(folder) / "wav2vec2")
        seconds(ears, clips)  # the first pass of a process is slower
        sides = [(items / seconds(ears, clips), items / one_by_one(ears, clips)) for _ in range(REPETITIONS)]
        apart = {name: one_by_one(model, clips) for name, model in (("whisper", ears), ("wav2vec2", other))}
        tried = {
            f"{name}, {length:g} s a batch": apart[name] / seconds(model, clips, length)
            for name, model in (("whisper", ears), ("wav2vec2", other))
            for length in LENGTHS
        }
    yield compared(
        "wer-suite", ([a for a, _ in sides], [b for _, b in sides]), unit="clips/s", direction="higher is better",
        bound=2.0, details={"clips": items, "speed beside one by one": tried},
    )  # fmt: skip


heard: dict[str, list[str]] = {}
"""What each model wrote first; every other way must write the same."""


def seconds(ears: Any, clips: Sequence[Clip], length: float | None = None) -> float:
    """Of the processor, in batches of `length` seconds of sound, or as the recogniser makes them."""
    own = ears.batches
    if length is not None:
        ears.batches = lambda clips: own(clips, length)
    began = time.process_time()
    texts = ears.transcribe(clips)
    took = time.process_time() - began
    ears.batches = own
    if texts != heard.setdefault(ears.name, texts):
        raise AssertionError("batches changed a transcript")
    return took


def one_by_one(ears: Any, clips: Sequence[Clip]) -> float:
    """Of the processor, clip after clip."""
    began = time.process_time()
    texts = [ears.transcribe([one])[0] for one in clips]
    took = time.process_time() - began
    if texts != heard.setdefault(ears.name, texts):
        raise AssertionError("batches changed a transcript")
    return took


def whisper(folder: Path) -> Any:
    """A random encoder of whisper-tiny's shape with a CTC head."""
    import torch
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    from mnemos.models.recognisers.load import load
    from mnemos.models.recognisers.whisper_ctc import give_head

    torch.manual_seed(0)
    shape = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536}
    model = WhisperModel(WhisperConfig(**shape, decoder_layers=1, vocab_size=100, pad_token_id=0))
    return load(give_head(model, WhisperFeatureExtractor(), folder), device="cpu")


def wav2vec2(folder: Path) -> Any:
    """A random wav2vec 2.0 that hears padding no more than its attention mask says."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    from mnemos.models.recognisers.load import load
    from mnemos.models.recognisers.whisper_ctc import vocabulary, write_tokenizer

    torch.manual_seed(0)
    tokens = vocabulary()
    shape = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 768}
    words = {"vocab_size": len(tokens), "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    norms = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    Wav2Vec2ForCTC(Wav2Vec2Config(**shape, **words, **norms)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    write_tokenizer(folder, tokens)
    return load(folder, device="cpu")


def clip(seed: int) -> Clip:
    """Noise of 0.6 to 1.5 s."""
    draw = np.random.default_rng(seed)
    samples = 0.1 * draw.standard_normal(int((0.6 + 0.1 * (seed % 10)) * 16000))
    return Clip(samples.astype(np.float32), 16000, id=f"clip-{seed}")
