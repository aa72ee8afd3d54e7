"""Training the bridge of a model that listens: states of the encoder read from the cache, beside encoding each time.

Both sides train the same bridge between the same random encoder (Whisper-base's shape: six layers, 512 wide) and the
same small language model on the same clips of two seconds, row by row with the same batches, in one thread, and must
reach the same losses: what comes from the cache is what the encoder gave. The peer is the same model with a cache that
forgets. Seconds are those of the processor, so that other work on the machine does not count. Beside a large language
model the difference is smaller, since the encoder is a smaller part of a step; the details have the share that encoding
takes on either side.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Result, compared

REPETITIONS, BATCH, SECONDS, RATE = 3, 8, 2.0, 16_000
LANGUAGE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}


def run(items: int = 32) -> Iterator[Result]:
    """items: clips of an epoch."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = os.environ.get("MNEMOS_CACHE")
        os.environ["MNEMOS_CACHE"] = str(folder / "cache")
        try:
            yield _measured(folder, items)
        finally:
            if kept is None:
                del os.environ["MNEMOS_CACHE"]
            else:
                os.environ["MNEMOS_CACHE"] = kept


def _measured(folder: Path, items: int) -> Result:
    from mnemos.train.memory import Peak

    place, batches = _model(folder), _rows(folder, items)
    losses: dict[bool, list[float]] = {}
    peak = Peak("train")

    def side(cached: bool) -> float:
        model = _loaded(place, batches, cached)
        began = time.process_time()
        losses[cached] = _epoch(model, batches, cached)
        return items / (time.process_time() - began)

    side(True)  # fills the cache
    sides = [(side(True), side(False)) for _ in range(REPETITIONS)]
    if losses[True] != losses[False]:
        raise AssertionError(f"other losses: {losses}")
    details = {
        "clips": items, "seconds of a clip": SECONDS, "batch": BATCH, "same losses": True,
        "peak memory in bytes": max(peak.phases().values()), "bytes in the cache": _size(folder / "cache"),
    }  # fmt: skip
    return compared(
        "listen-train",
        ([a for a, _ in sides], [b for _, b in sides]),
        unit="examples/s", direction="higher is better", bound=3.0, details=details,
    )  # fmt: skip


def _model(folder: Path) -> Path:
    """A directory: Whisper-base's encoder with random weights, a small Llama, a bridge of stacked frames."""
    import torch
    import transformers as t

    from mnemos.models.speech.files import make
    from tests.tiny import tiny_tokenizer

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    t.LlamaForCausalLM(t.LlamaConfig(vocab_size=len(tokenizer), **LANGUAGE)).save_pretrained(folder / "language")
    tokenizer.save_pretrained(folder / "language")
    shape = {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 8, "decoder_ffn_dim": 64}
    ids = {"vocab_size": 400, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0}
    rest = {"suppress_tokens": None, "begin_suppress_tokens": None}
    t.WhisperForConditionalGeneration(t.WhisperConfig(**shape, **decoder, **ids, **rest)).save_pretrained(
        folder / "ears"
    )
    t.WhisperFeatureExtractor().save_pretrained(folder / "ears")
    place = folder / "model"
    make(place, language=str(folder / "language"), encoder=str(folder / "ears"), bridge={"kind": "mlp"})
    return place


def _rows(folder: Path, items: int) -> list[list[Any]]:
    """Batches of rendered rows; every process knows what their ids stand for."""
    from mnemos.core.nouns import AudioPart, Example, TextPart, Turn
    from mnemos.models.load import Checkpoint
    from mnemos.models.renderer import renderer_of
    from mnemos.sources import audio

    random = np.random.default_rng(0)
    renderer = renderer_of(Checkpoint(str(folder / "model")))
    rows = []
    for number in range(items):
        file = folder / f"{number}.wav"
        noise = 0.1 * random.standard_normal(int(SECONDS * RATE))
        audio.write(audio.Clip(noise.astype(np.float32), RATE), file)
        asked = Turn("user", (AudioPart(str(file)), TextPart("\nWhich number?")))
        rows.append(renderer.render(Example(str(number), "messages", (asked, Turn("assistant", f"{number}.")))))
    return [rows[start : start + BATCH] for start in range(0, items, BATCH)]


def _loaded(place: Path, batches: list[list[Any]], cached: bool) -> Any:
    from mnemos.models.load import load_model

    model = load_model(str(place)).train()
    model.features.keep = cached
    # The encoder is loaded by both before the clock starts.
    assert model.features.encoder.network is not None
    return model


def _epoch(model: Any, batches: list[list[Any]], cached: bool) -> list[float]:
    """The losses of an epoch of AdamW on the bridge."""
    import torch

    from mnemos.train.documents import find_way, logits, micro_batch, plain_attention
    from mnemos.train.schedule import join

    moving = [one for one in model.parameters() if one.requires_grad]
    optimiser, losses = torch.optim.AdamW(moving, 1e-3), []
    with plain_attention(model):
        way = find_way(model, 64)
        for rows in batches:
            model.features.forget()  # what is in memory helps one side as much as the other
            batch = micro_batch(join([(row,) for row in rows]), way)
            loss = torch.nn.functional.cross_entropy(logits(model, batch, way), batch.targets)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            losses.append(float(loss.detach()))
    return losses


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
