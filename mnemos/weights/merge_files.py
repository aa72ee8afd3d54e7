"""Everything of a merged model's directory but its weights: configuration, tokenizer, chat template.

Configuration and other files come from the trunk, the tokenizer from one model, the chat template
and what belongs to it (special tokens, generation settings) from one model, often another.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mnemos.core.files import write_json
from mnemos.weights.combination import Combination
from mnemos.weights.files import TOKENIZER, VECTOR, matches, read_config
from mnemos.weights.tensors import Weights
from mnemos.weights.vocabulary import Alignment

LEFT_OUT = (".safetensors", ".bin", ".pt", ".pth", ".msgpack", ".h5", ".gguf", ".onnx")
"""Weights in whatever format: everything else of the parent's directory is copied."""
TRAINER_FILES = frozenset({"trainer_state.json", "training_args.bin", "optimizer.pt", "scheduler.pt", VECTOR})
TOKENIZER_FILES = (*TOKENIZER, "*.model", "*.tiktoken")
TEMPLATES = ("chat_template*", "additional_chat_templates")
SPECIAL = ("bos_token", "eos_token", "pad_token")
MARK = "mnemos_merge.json"
"""What was computed, in a form for programs; beside it stands README.md for people."""


@dataclass(frozen=True)
class Donors:
    """Who gives what, by name. trunk: configuration, shapes, dtypes, heads. tokenizer: token ids.
    template: chat template, special tokens, generation settings."""

    trunk: str
    tokenizer: str
    template: str


def donors(expression: Combination, opened: Mapping[str, Weights], trunk: str) -> Donors:
    """Who gives what unless the user says otherwise: the trunk, except that the chat model of a
    chat vector (what is added while something else is taken away) gives template and tokenizer."""
    template = trunk
    if "CausalLM" in opened[trunk].architecture or not opened[trunk].architecture:
        added = [name for name, factor in expression.terms if isinstance(name, str) and name != trunk
                 and isinstance(factor, float) and factor > 0]  # fmt: skip
        if any(isinstance(factor, float) and factor < 0 for _, factor in expression.terms):
            template = next((name for name in added if has_template(opened[name])), trunk)
        if not has_template(opened[template]):
            template = next((name for name in opened if has_template(opened[name])), trunk)
    return Donors(trunk, trunk, template)


def text_folder(weights: Weights) -> Path:
    """Where a checkpoint's tokenizer lies: an adapter may bring its own."""
    for folder in (weights.adapter, weights.folder):
        if folder is not None and any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
            return folder
    return weights.folder


def has_template(weights: Weights) -> bool:
    """Whether the checkpoint brings a chat template."""
    return not weights.is_vector and _template(text_folder(weights)) is not None


def _template(folder: Path) -> str | None:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    value = _json(folder / "tokenizer_config.json").get("chat_template")
    return value if isinstance(value, str) else json.dumps(value) if value else None


def write_rest(
    out: Path, opened: Mapping[str, Weights], who: Donors, alignment: Alignment | None, dtype: torch.dtype | None
) -> None:
    """Write everything but weights and card into `out`. dtype: None where it is the trunk's."""
    trunk = opened[who.trunk]
    _copy(trunk.folder, out, lambda name: not matches(name, TOKENIZER_FILES))
    _copy(text_folder(opened[who.tokenizer]), out, lambda name: matches(name, TOKENIZER_FILES))
    tokens = alignment.tokens if alignment is not None else None
    if who.template != who.tokenizer:
        _take_template(out, text_folder(opened[who.template]), tokens)
    if alignment is not None and alignment.added:
        _add_tokens(out, alignment)
    _configure(out, opened, who, alignment, dtype)


def _copy(folder: Path, out: Path, wanted: Any) -> None:
    for item in sorted(folder.iterdir()):
        left_out = item.name in TRAINER_FILES or item.name.endswith((*LEFT_OUT, ".safetensors.index.json"))
        if left_out or item.name.startswith(".") or item.name in (MARK, "adapter_config.json") or not wanted(item.name):
            continue
        if item.is_file():
            shutil.copyfile(item, out / item.name)
        elif item.name == "additional_chat_templates":
            shutil.copytree(item, out / item.name)


def _take_template(out: Path, folder: Path, tokens: Mapping[str, int] | None) -> None:
    """Chat template and the special tokens that it ends answers with; one that the result's
    tokenizer has no id for stays as it was."""
    for item in list(out.iterdir()):
        if matches(item.name, TEMPLATES):
            shutil.rmtree(item) if item.is_dir() else item.unlink()
    _copy(folder, out, lambda name: matches(name, TEMPLATES))
    theirs = _json(folder / "tokenizer_config.json")
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        ours = _json(out / file)
        if not ours:
            continue
        if file == "tokenizer_config.json":
            ours.pop("chat_template", None)
            if "chat_template" in theirs:
                ours["chat_template"] = theirs["chat_template"]
        for key in SPECIAL:
            token = _content(theirs.get(key))
            if token is not None and (tokens is None or token in tokens):
                ours[key] = theirs[key]
        write_json(out / file, ours)


def _add_tokens(out: Path, alignment: Alignment) -> None:
    if (out / "tokenizer.json").is_file():
        value = _json(out / "tokenizer.json")
        value["added_tokens"] = [*(value.get("added_tokens") or []), *map(dict, alignment.added)]
        write_json(out / "tokenizer.json", value)
    config = _json(out / "tokenizer_config.json")
    if "added_tokens_decoder" in config:
        own = {str(e["id"]): {k: v for k, v in e.items() if k != "id"} for e in alignment.added}
        write_json(out / "tokenizer_config.json",
                   {**config, "added_tokens_decoder": {**config["added_tokens_decoder"], **own}})  # fmt: skip


def _configure(
    out: Path, opened: Mapping[str, Weights], who: Donors, alignment: Alignment | None, dtype: torch.dtype | None
) -> None:
    config = dict(opened[who.trunk].config)
    original = _json(out / "config.json")
    if alignment is not None:
        config["vocab_size"] = alignment.rows
    if dtype is not None:
        key = "torch_dtype" if "torch_dtype" in config else "dtype"
        config[key] = str(dtype).removeprefix("torch.")
    if who.template != who.trunk:
        source = opened[who.template]
        words = {n: t for t, n in alignment_tokens(source).items()} if alignment is not None else {}
        config.update(_ids(source.config, words, alignment))
        generation = source.folder / "generation_config.json"
        if generation.is_file():
            text = _json(generation)
            write_json(out / generation.name, {**text, **_ids(text, words, alignment)})
    if config != original:
        write_json(out / "config.json", config)


def alignment_tokens(weights: Weights) -> dict[str, int]:
    """token -> id of a checkpoint's own tokenizer; empty where it has none."""
    from mnemos.weights.vocabulary import read_vocabulary

    # Without an embedding beside it no row is beyond the end.
    found = read_vocabulary(text_folder(weights), 2**62)
    return found.all if found is not None else {}


def _ids(configuration: Mapping[str, Any], words: Mapping[int, str], alignment: Alignment | None) -> dict[str, Any]:
    """bos, eos and pad ids as they are called in the result."""
    found: dict[str, Any] = {}
    for key in (f"{name}_id" for name in SPECIAL):
        value = configuration.get(key)
        if value is None or alignment is None:
            found.update({key: value} if value is not None else {})
            continue
        numbers = [alignment.tokens.get(words.get(n, "")) for n in (value if isinstance(value, list) else [value])]
        known = [number for number in numbers if number is not None]
        if known:
            found[key] = known if isinstance(value, list) else known[0]
    return found


def _content(token: Any) -> str | None:
    return token.get("content") if isinstance(token, Mapping) else token


def _json(file: Path) -> dict[str, Any]:
    return read_config(file, "a configuration") if file.is_file() else {}
