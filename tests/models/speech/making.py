"""Tiny models that listen, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnemos.models.speech.files import make
from mnemos.sources import audio
from tests.tiny import save_tiny
from tests.tiny_speech import sound, tiny_ctc, tiny_whisper


def tiny_listener(
    path: Path, bridge: str = "mlp", encoder: str = "whisper", family: str = "llama", **settings: Any
) -> Path:
    """A complete directory of a random model that listens. settings: of the bridge."""
    parts = path.with_name(f"{path.name}-parts")
    ears = tiny_whisper(parts / "ears") if encoder == "whisper" else tiny_ctc(parts / "ears", encoder)
    language = save_tiny(parts / "language", family)
    small = {"mlp": {"stack": 4}, "conv": {"inner": 8}, "qformer": {"queries": 3, "depth": 1, "every": 1}}
    asked = {"kind": bridge, **small.get(bridge, {}), **settings}
    make(path, language=str(language), encoder=str(ears), bridge=asked)
    return path


def clip(folder: Path, seconds: float = 0.5, seed: int = 0, rate: int = 16_000) -> Path:
    """A file of sound."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{seed}-{seconds}.wav"
    audio.write(sound(seconds, seed, rate), file)
    return file
