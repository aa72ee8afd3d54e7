"""Directories of language models that listen: made anew, put together, written after training."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.files import write_json, write_text
from mnemos.core.places import resolved
from mnemos.models.speech.bridges import STANDARD, bridge_of, refuse_width
from mnemos.models.speech.encoders import Encoder
from mnemos.models.speech.features import Features
from mnemos.models.speech.model import BRIDGE, SpeechLanguageModel
from mnemos.models.speech.standard import measured
from mnemos.models.speech.transcripts import speller_of
from mnemos.models.speech.write import written
from mnemos.weights.checkpoint import explained, load_tokenizer, resolve
from mnemos.weights.files import ADAPTER_CONFIG, CONFIG, PROCESSORS, TOKENIZER, matches, weight_files
from mnemos.weights.speech import SpeechConfig, speech_config


def assembled(
    folder: Path, language_of: Callable[[str], Any], recogniser_of: Callable[[str], Any], *, empty: bool
) -> SpeechLanguageModel:
    """The model of a directory, in eval mode, only its bridge moving.

    language_of, recogniser_of: load the language model, and the recogniser, at a place. empty: without numbers
    (torch's meta device). Raises ModelError for parts and weights that do not fit together.
    """
    config = speech_config(folder)
    language = language_of(config.language).requires_grad_(False)
    speller = speller_of(config, recogniser_of)
    stored = {} if empty else _stored(folder)
    own = {name.removeprefix(BRIDGE): one for name, one in stored.items() if name.startswith(BRIDGE)}
    bridge, features = None, None
    if speller.bridge is not None:
        assert speller.encoder is not None
        taps = speller.bridge.taps(speller.encoder.layers)
        out = int(language.get_input_embeddings().weight.shape[1])
        # Drawn and then overwritten; draws of others must not hang on it.
        with torch.random.fork_rng(devices=[]), torch.device("meta" if empty else "cpu"):
            bridge = speller.bridge.module(speller.encoder.width, len(taps), out)
        if set(own) >= STANDARD:  # directories that were made before have none
            states = (len(taps), 1, speller.encoder.width)
            bridge.standardise(torch.zeros(states), torch.ones(states))
        features = Features(speller.encoder, taps)
    if bridge is not None and not empty:
        refuse_width(bridge, own, f"{folder}: bridge")
        bridge.load_state_dict({name: one.float() for name, one in own.items()}, assign=True)
    model = SpeechLanguageModel(language, bridge, features, speller)
    _put_in(model, {name: one for name, one in stored.items() if not name.startswith(BRIDGE)}, folder)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.is_floating_point() and model.moves_by_default(name))
    model.eval()
    return model


def _stored(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        with explained(file, "cannot be read", "copy it again"):
            found |= load_file(file)
    return found


def _put_in(model: SpeechLanguageModel, stored: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Weights of the language model that this directory holds itself, over those that it refers to."""
    from mnemos.weights.adapter import untie

    wanted = model.state_dict()
    for name, one in stored.items():
        if name not in wanted or wanted[name].shape != one.shape:
            there = tuple(wanted[name].shape) if name in wanted else "nothing"
            raise ModelError(
                f"{folder}: {name} {tuple(one.shape)}", f"the language model that it refers to has {there} there",
                "refer to the language model that it was trained on",
            )  # fmt: skip
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is embeddings.weight:
        names = {name for name, module in model.named_modules() if module is head}
        if any(f"{name}.weight" in stored for name in names):
            untie(model)
            wanted = model.state_dict()
    with torch.no_grad():
        for name, one in stored.items():
            wanted[name].copy_(one)
    model.stored = frozenset(stored)


def make(
    out: Path,
    *,
    language: str,
    encoder: str | None,
    recogniser: str | None = None,
    bridge: Mapping[str, Any] | None = None,
    window_seconds: float = 30.0,
    words: tuple[str, str] = ("", ""),
    seed: int = 0,
) -> int:
    """Write a directory whose bridge is untrained at `out`, and give the number of the bridge's parameters.

    The parts are put into it: weights as hard links where the file system has them, else copied, so that the directory
    is whole. bridge: {kind, settings…}; None with encoder None makes a cascade. words: before and behind a sound.
    Raises ModelError for a language model without a chat template, and for parts that do not fit.
    """
    tokenizer = load_tokenizer(language)
    if not tokenizer.chat_template:
        raise ModelError(
            language, "has no chat template, and a sound is put into a user's turn", "name a chat (instruct) model"
        )
    parts = {"language": language, "encoder": encoder, "recogniser": recogniser}
    if recogniser is not None and recogniser == encoder:
        parts["recogniser"] = None  # one directory serves as both
    out.mkdir(parents=True)
    for name, place in parts.items():
        if place is not None:
            _put_part(resolve(place, allow_pickle=False, trust_remote_code=False), out / name)
    words_of = None if recogniser is None else "encoder" if parts["recogniser"] is None else "recogniser"
    described = SpeechConfig(
        out, "language", None if encoder is None else "encoder", words_of,
        None if bridge is None else dict(bridge), window_seconds, *words,
    )  # fmt: skip
    text = _configuration(out / "language")
    write_json(out / "config.json", written(replace(described, text=text)))
    _copy_names(out / "language", out, (*TOKENIZER, "generation_config.json"))
    if encoder is not None:
        _copy_names(out / "encoder", out, PROCESSORS)
    state = {} if bridge is None else _fresh(out, _width(text), seed)
    if state:
        from safetensors.torch import save_file

        save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    trained = sum(one.numel() for name, one in state.items() if name.removeprefix(BRIDGE) not in STANDARD)
    write_text(out / "README.md", card(speech_config(out), trained))
    return trained


def _configuration(folder: Path) -> dict[str, Any]:
    from mnemos.weights.checkpoint import usable_config

    if (folder / ADAPTER_CONFIG).is_file():
        raise UsageError(f"{folder}", "is an adapter", "merge it first (mnemos merge), and name the merged model")
    found: dict[str, Any] = usable_config(folder, False).get_text_config().to_dict()
    return found


def _width(text: Mapping[str, Any]) -> int:
    found = text.get("hidden_size", text.get("n_embd"))
    if not isinstance(found, int):
        raise ModelError("the language model's config.json", "names no hidden_size", "name another language model")
    return found


def _fresh(out: Path, width: int, seed: int) -> dict[str, torch.Tensor]:
    config = speech_config(out)
    assert config.encoder is not None
    assert config.bridge is not None
    encoder, bridge = Encoder(config.encoder), bridge_of(config.bridge, "--bridge")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        taps = bridge.taps(encoder.layers)
        module = bridge.module(encoder.width, len(taps), width)
    module.standardise(*measured(encoder, taps))
    return {f"{BRIDGE}{name}": one.contiguous() for name, one in module.state_dict().items()}


def _put_part(source: Path, target: Path) -> None:
    """A directory's files of a checkpoint: weights linked where that can be, all else copied."""
    target.mkdir(parents=True)
    chosen = {file.name for file in weight_files(source)}
    for file in sorted(source.iterdir()):
        if not file.is_file() or (file.suffix == ".safetensors" and file.name not in chosen):
            continue
        if file.name in chosen:
            try:
                os.link(resolved(file), target / file.name)
                continue
            except OSError:  # another file system, or one without links
                pass
        if file.name in chosen or matches(file.name, (*TOKENIZER, *CONFIG, "*.json", "*.model", "*.txt")):
            shutil.copyfile(file, target / file.name)


def _copy_names(source: Path, target: Path, patterns: tuple[str, ...]) -> None:
    for file in source.iterdir():
        if file.is_file() and matches(file.name, patterns):
            shutil.copyfile(file, target / file.name)


def card(config: SpeechConfig, parameters: int) -> str:
    """The model card of an untrained directory."""
    if config.bridge is None:
        how = "A recogniser writes down what it hears, and the language model reads that alone (a cascade)."
    else:
        how = (
            f"A bridge of kind `{config.bridge['kind']}` ({parameters:,} parameters, untrained) stands between the "
            "encoder and the language model, both frozen."
        )
    parts = [f"| {name} | {_type_of(place)} | `{Path(place).name}/` |" for name, place in config.parts.items()]
    return "\n".join(
        [
            "---",
            "pipeline_tag: audio-text-to-text",
            "---",
            "",
            "# A language model that listens",
            "",
            how,
            "",
            "| part | model type | where |",
            "|---|---|---|",
            *parts,
            "",
            "`language/` and `encoder/` are plain checkpoints that transformers reads by itself; the weights of the",
            "bridge are `bridge.*` of `model.safetensors`.",
            "",
            'Ask it: `mnemos listen ask DIRECTORY clip.wav "Who speaks?"`',
            "",
        ]
    )


def _type_of(place: str) -> str:
    from mnemos.weights.files import read_config

    file = Path(place) / "config.json"
    return str(read_config(file, "the configuration").get("model_type")) if file.is_file() else "hub"
