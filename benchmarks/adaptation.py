"""SUTA beside the procedure of its published code, the convolutions computed once, and DSUTA's real-time factor.

The published procedure, written here from its description: tensors collected module by module, so that nested ones
stand several times in the optimiser's list; the state of the whole model and of the optimiser deep-copied and loaded
before every utterance; ten steps; one more pass for the transcript. Both sides adapt the same random wav2vec 2.0 (192
wide, 4 layers, the convolutions of the base model) to the same clips with the same objective, in one thread, and must
write the same transcripts. Seconds are those of the processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.common import Result, compared
from mnemos.sources.audio import Clip
from mnemos.stream.adaptation import objectives
from mnemos.stream.adaptation.methods import make

STEPS, RATE = 10, 2e-5
REPETITIONS = 3


class Ears:
    """A random wav2vec 2.0 with a CTC head, as adapters see a recogniser."""

    kind, name, fingerprint, rate, blank = "ctc", "random", "random", 16000, 0

    def __init__(self) -> None:
        import torch
        from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

        torch.manual_seed(0)
        shape = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 768}
        self.network = Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=32, **shape)).eval()
        with torch.no_grad():
            self.network.lm_head.weight.mul_(20)

    def features(self, clips: Any) -> Any:
        import torch

        samples = clips[0].samples
        return torch.from_numpy((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7))[None]

    def logits(self, features: Any) -> Any:
        return self.network(features).logits

    def front(self, features: Any) -> Any:
        import torch

        with torch.no_grad():
            return self.network.wav2vec2.feature_extractor(features)

    def logits_behind(self, front: Any, features: Any) -> Any:
        from mnemos.models.recognisers.ctc import _given

        with _given(self.network.base_model, front):
            return self.logits(features)

    def decode(self, logits: Any, **_: Any) -> list[str]:
        return [" ".join(str(int(label)) for label in objectives.labels_of(one, self.blank)) for one in logits]


def run(items: int = 2) -> Iterator[Result]:
    """items: clips of a second."""
    import torch

    torch.set_num_threads(1)
    clips = [clip(seed) for seed in range(items)]
    ears, published, found = Ears(), Ears(), dict[str, list[str]]()

    def ours() -> float:
        adapter = make("suta", ears, {"duplicates": True})
        began = time.process_time()
        found["ours"] = [adapter.hear(adapter.ears.sound("", one)).text for one in clips]
        took = time.process_time() - began
        adapter.ears.close()
        return took

    def peer() -> float:
        took, found["peer"] = as_published(published, clips)
        return took

    sides = [(ours(), peer()) for _ in range(REPETITIONS)]
    if found["ours"] != found["peer"]:
        raise AssertionError(f"other transcripts: {found}")
    details = {"clips": items, "seconds of a clip": 1.0, "steps": STEPS, "same transcripts": True}
    yield compared(
        "suta-vs-authors",
        ([a for a, _ in sides], [b for _, b in sides]),
        unit="s", direction="lower is better", bound=1.0, details=details,
    )  # fmt: skip
    yield kept_front(clips)


def kept_front(clips: list[Clip]) -> Result:
    """Norms alone: with what the convolutions make of a clip computed once, and computed in every pass. The real-time
    factor of DSUTA stands in the details."""
    ears, texts = Ears(), dict[bool, list[str]]()

    def side(kept: bool) -> float:
        adapter = make("suta", ears, {"moves": "norms"})
        began = time.process_time()
        sounds = [adapter.ears.sound("", one) for one in clips]
        if not kept:
            for sound in sounds:
                object.__setattr__(sound, "front", None)
        texts[kept] = [adapter.hear(sound).text for sound in sounds]
        took = time.process_time() - began
        adapter.ears.close()
        return 1 / took

    sides = [(side(True), side(False)) for _ in range(REPETITIONS)]
    if texts[True] != texts[False]:
        raise AssertionError("keeping the front changed a transcript")
    adapter = make("dsuta", ears)
    began = time.process_time()
    for place, one in enumerate(clips * 2):
        adapter.hear(adapter.ears.sound(str(place), one))
    factor = (time.process_time() - began) / sum(one.seconds for one in clips * 2)
    print(f"dsuta: a real-time factor of {factor:.2f} (random wav2vec 2.0, 192 wide, 4 layers, one thread)")
    return compared(
        "adapt-kept-front",
        ([a for a, _ in sides], [b for _, b in sides]),
        unit="1/s", direction="higher is better", bound=1.25,
        details={"clips": len(clips), "real-time factor of dsuta": factor},
    )  # fmt: skip


def as_published(ears: Ears, clips: list[Clip]) -> tuple[float, list[str]]:
    """(seconds, transcripts) of the published procedure."""
    import torch
    from torch import nn

    network, listed = ears.network, list[Any]()
    network.requires_grad_(False)
    for name, module in network.named_modules():
        parts = name.split(".")
        front = len(parts) > 1 and parts[1] in ("feature_extractor", "feature_projection")
        if isinstance(module, nn.LayerNorm):
            listed += list(module.parameters())
        if front:
            listed += list(module.parameters())
    for one in listed:
        one.requires_grad_(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that tensors stand in the list several times
        optimiser = torch.optim.AdamW(listed, lr=RATE, weight_decay=0.0)
    began = time.process_time()
    kept = copy.deepcopy(network.state_dict()), copy.deepcopy(optimiser.state_dict())
    texts = []
    for one in clips:
        network.load_state_dict(copy.deepcopy(kept[0]), strict=True)
        optimiser.load_state_dict(copy.deepcopy(kept[1]))
        features = ears.features([one])
        for _ in range(STEPS):
            loss = objectives.suta(ears.logits(features)[0], ears.blank)
            network.zero_grad()
            loss.backward()
            optimiser.step()
            network.zero_grad()
        with torch.no_grad():
            texts += ears.decode(ears.logits(features))
    took = time.process_time() - began
    network.load_state_dict(kept[0])
    return took, texts


def clip(seed: int) -> Clip:
    """A second of tones in noise."""
    draw = np.random.default_rng(seed)
    t = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * np.cumsum(draw.uniform(100, 900, 10)[(t * 10).astype(int)]) / 16000)
    return Clip((tone + 0.3 * draw.standard_normal(len(t))).astype(np.float32), 16000)
