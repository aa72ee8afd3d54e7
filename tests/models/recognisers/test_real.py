"""Whisper tiny on real speech: what it writes, alone and in a batch, and what is left of it under a CTC head."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

from mnemos.measure.recognition import errors, units
from mnemos.models.recognisers.load import load
from mnemos.models.recognisers.whisper_ctc import give_head
from mnemos.sources import audio
from mnemos.sources.augment import noisy

MODELS = Path(os.environ.get("MNEMOS_MODELS", Path.home() / ".cache" / "mnemos-models")) / "whisper-tiny"
DATA = Path(os.environ.get("MNEMOS_DATA", Path(__file__).parents[4] / "shared" / "data"))
SPEECH = DATA / "speech_llm_fixtures" / "audio" / "jfk.flac"
NOISE = DATA / "noise_ms_snsd"
JFK = (
    "And so, my fellow Americans, ask not what your country can do for you, "
    "ask what you can do for your country."
)  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (MODELS / "config.json").is_file(), reason=f"no whisper-tiny at {MODELS}"),
    pytest.mark.skipif(not SPEECH.is_file(), reason=f"no real speech at {SPEECH} (set MNEMOS_DATA)"),
]


def rate(text: str) -> float:
    how = {"normaliser": "basic", "kind": "wer"}
    found = errors(units(JFK, **how), units(text, **how))
    return found.total / found.units


def test_whisper_writes_a_famous_sentence() -> None:
    ears = load(MODELS, device="cpu")
    clip = audio.read(SPEECH)
    short = audio.Clip(clip.samples[: clip.rate * 4], clip.rate)
    together = ears.transcribe([clip, short])
    assert rate(together[0]) == 0
    assert together[1] == ears.transcribe([short])[0]


def test_noise_makes_it_harder() -> None:
    noises = sorted(path for path in NOISE.rglob("*") if path.suffix in audio.SUFFIXES)
    if not noises:
        pytest.skip(f"no noises at {NOISE}")
    ears = load(MODELS, device="cpu")
    clip, noise = audio.read(SPEECH, rate=16_000), audio.read(noises[0], rate=16_000)
    clean, drowned = ears.transcribe([clip, noisy(clip, noise, -15)])
    assert rate(clean) < rate(drowned)


def test_its_encoder_hears_under_a_new_head(tmp_path: Path) -> None:
    whisper = load(MODELS, device="cpu")
    ears = load(give_head(whisper.network, whisper.processor, tmp_path / "ears"), device="cpu")
    clip = audio.read(SPEECH, rate=16_000)
    short = audio.Clip(clip.samples[:48_000], 16_000)
    both = ears.logits(ears.features([clip, short])).detach()
    alone = ears.logits(ears.features([short])).detach()[0]
    assert (both[1, : len(alone)] - alone).abs().max() < 1e-3
    # 20 ms a frame, without the padding of 30 s.
    assert both.shape[1] == pytest.approx(50 * clip.seconds, abs=2)
