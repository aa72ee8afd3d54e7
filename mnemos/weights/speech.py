"""The directory of a language model that listens: config.json names its parts, which are plain checkpoints.

    config.json          model_type mnemos_speech: the parts' places, the bridge's settings, how a sound is worded
    model.safetensors    the bridge (bridge.*), and of the language model (language.*) what was trained
    language/            a plain checkpoint, as transformers reads it; or, named by config.json, one that lies elsewhere
    encoder/             the same of the encoder
    tokenizer files, chat template, preprocessor_config.json: those of the parts

`mnemos listen new` puts the parts into the directory. A model that was trained from it refers to them where they are,
because a run of ten arms would otherwise hold ten copies of weights that nobody moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError
from mnemos.core.files import write_json
from mnemos.core.places import resolved
from mnemos.weights.files import ADAPTER_CONFIG, HUB_ID, read_config

MODEL_TYPE = "mnemos_speech"
ARCHITECTURE = "SpeechLanguageModel"
LANGUAGE, ENCODER, RECOGNISER = "language", "encoder", "recogniser"
PLACES = ("language_model", "encoder", "recogniser")
"""Keys of config.json that say where a part lies, from the directory or in full, or as a hub id."""
WINDOW_SECONDS = (0.5, 600.0)


@dataclass(frozen=True)
class SpeechConfig:
    """What config.json says. language: the language model's place. encoder: the encoder's; None of a cascade.
    recogniser: whose words stand beside a sound (or in its place, in a cascade); None for no words. bridge: its
    settings (`models.speech.bridges`); None of a cascade. window_seconds: a longer sound is heard in windows of so
    many, one after the other. before, behind: words around a sound. audio_lora: adapters count at places of sound
    alone. text: the language model's own configuration, for readers."""

    folder: Path
    language: str
    encoder: str | None
    recogniser: str | None
    bridge: dict[str, Any] | None
    window_seconds: float = 30.0
    before: str = ""
    behind: str = ""
    audio_lora: bool = False
    text: dict[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, str]:
        """Name -> place of the parts that there are."""
        found = {LANGUAGE: self.language, ENCODER: self.encoder, RECOGNISER: self.recogniser}
        return {name: place for name, place in found.items() if place is not None}


def is_speech(folder: Path) -> bool:
    """Whether a directory's config.json is that of a language model that listens. ModelError where it is no JSON."""
    file = folder / "config.json"
    return file.is_file() and read_config(file, "the model's configuration").get("model_type") == MODEL_TYPE


def speech_folder(path: str) -> Path | None:
    """The directory of the language model that listens at `path`, an adapter on one seen through; None for any other
    model, and for a hub id, which is none until it is downloaded."""
    from mnemos.weights.adapter import adapter_base

    folder = Path(path)
    if not folder.is_dir():
        return None
    if (folder / ADAPTER_CONFIG).is_file():
        return speech_folder(adapter_base(folder))
    return folder if is_speech(folder) else None


def speech_config(folder: Path) -> SpeechConfig:
    """config.json, read. ModelError for a part that is not there and for values that cannot be meant."""
    file = folder / "config.json"
    found = read_config(file, "the model's configuration")
    cure = "write the directory again (mnemos listen new)"
    if not isinstance(found.get(PLACES[0]), str):
        raise ModelError(f"{file}: language_model = {found.get(PLACES[0])!r}", "must name the language model", cure)
    language, encoder, recogniser = (_place(folder, file, name, found.get(name)) for name in PLACES)
    assert language is not None
    bridge = found.get("bridge")
    if (bridge is None) != (encoder is None) or not isinstance(bridge, dict | None):
        raise ModelError(f"{file}: encoder and bridge", "must both be there, or neither (a cascade)", cure)
    if encoder is None and recogniser is None:
        raise ModelError(f"{file}", "names neither an encoder with its bridge nor a recogniser", cure)
    seconds = found.get("window_seconds", 30.0)
    low, high = WINDOW_SECONDS
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not low <= seconds <= high:
        raise ModelError(f"{file}: window_seconds = {seconds!r}"[:200], f"must lie in [{low:g}, {high:g}]", cure)
    words = {name: found.get(name, "") for name in ("before", "behind")}
    for name, value in words.items():
        if not isinstance(value, str) or len(value) > 1000:
            raise ModelError(f"{file}: {name}", "must be a text of up to 1,000 characters", cure)
    text = found.get("text_config")
    return SpeechConfig(
        folder, language, encoder, recogniser, bridge, float(seconds), words["before"], words["behind"],
        found.get("audio_lora") is True, text if isinstance(text, dict) else {},
    )  # fmt: skip


def name_parts(folder: Path, source: Path) -> None:
    """Where a directory of a model that listens has the configuration of another, name the parts in full: they lie
    there and not here. source: that other directory."""
    if not is_speech(folder):
        return
    file = folder / "config.json"
    config = read_config(file, "the model's configuration")
    for name in PLACES:
        value = config.get(name)
        if isinstance(value, str) and (source / value).is_dir():
            config[name] = str(resolved(source / value))
    write_json(file, config)


def _place(folder: Path, file: Path, name: str, value: Any) -> str | None:
    """Where a part lies: beside the configuration or in full; a hub id is taken at its word."""
    if value is None:
        return None
    if not isinstance(value, str) or not value or "\0" in value:
        raise ModelError(f"{file}: {name} = {value!r}"[:200], "must be a place or a hub id", "mend it")
    beside = folder / value
    if beside.is_dir():
        return str(beside)
    if Path(value).is_dir() or (HUB_ID.match(value) and not Path(value).is_absolute() and value.count("/") == 1):
        return value
    raise ModelError(
        f"{file}: {name} = {value}",
        "is not there any more: this model refers to that directory and holds no copy of it",
        "put it back, or mend the place in config.json",
    )
