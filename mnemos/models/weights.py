"""Arithmetic on checkpoints: sum_i coefficient_i * checkpoint_i, one tensor at a time.

Interpolation with the model before (WiSE-FT, arXiv:2109.01903; arXiv:2412.19512), chat vectors
(arXiv:2310.04799) and task vectors (arXiv:2212.04089) are all such sums. Sums are accumulated
in float32 (float64 where the parent is) and rounded once, to the parent's dtype.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mnemos.core.errors import ModelError, RunError, UsageError, nearest
from mnemos.core.expression import Combination
from mnemos.models.load import check_safetensors, read_config

INDEX = "model.safetensors.index.json"
LEFT_OUT = (".safetensors", ".bin", ".pt", ".pth", ".msgpack", ".h5", ".gguf", ".onnx")
"""Weights in whatever format: everything else of the parent's directory is copied."""
TRAINER_FILES = frozenset({"trainer_state.json", "training_args.bin", "optimizer.pt", "scheduler.pt"})
OUTPUT_NAMES = ("lm_head.weight", "embed_out.weight")
INPUT_NAMES = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")


def combine(expression: Combination, checkpoints: Mapping[str, Path], out: Path, *, parent: str) -> None:
    """Write the combination as a complete Hugging Face directory at `out`, atomically.

    checkpoints: name -> directory with safetensors weights, for every name of `expression`.
    parent: the name whose configuration, tokenizer, templates, dtypes, shard layout and
    tensors without arithmetic (integers, booleans) the result has; its embeddings stay tied if
    they are. With {parent: 1.0} every tensor is bit-identical to the parent's.

    Needs memory for one shard of the parent. Raises UsageError for an unknown name, ModelError
    naming the tensor and both shapes where checkpoints do not fit each other, for different
    vocabularies, and for values that are not finite; RunError when `out` is there already.
    """
    unknown = sorted({parent, *expression.names} - set(checkpoints))
    if unknown:
        raise UsageError(f"checkpoint {unknown[0]!r} in {expression}", "is not given", nearest(unknown[0], checkpoints))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}", "is there already", "remove it or choose another place")
    names = list(dict.fromkeys([parent, *expression.names]))
    _same_vocabulary({name: checkpoints[name] for name in names}, parent)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with ExitStack() as stack:
            opened = {name: _Tensors(Path(checkpoints[name]), name, stack) for name in names}
            _same_tensors(opened, parent)
            for shard in opened[parent].files:
                _write_shard(shard, expression, opened, parent, temporary)
        _copy_rest(Path(checkpoints[parent]), temporary)
        if out.is_dir():
            out.rmdir()
        os.replace(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


class _Tensors:
    """The tensors of one checkpoint, opened but not read. files: shard -> its tensor names."""

    def __init__(self, folder: Path, name: str, stack: ExitStack) -> None:
        self.folder, self.name = folder, name
        self.files: dict[Path, list[str]] = {}
        self._handles: dict[str, Any] = {}
        self.metadata: dict[Path, dict[str, str]] = {}
        for file in self._shards():
            check_safetensors(file)
            handle = stack.enter_context(safe_open(file, framework="pt"))
            self.files[file] = list(handle.keys())
            self.metadata[file] = dict(handle.metadata() or {"format": "pt"})
            self._handles.update(dict.fromkeys(self.files[file], handle))
        self.tied = _tied(folder)

    def _shards(self) -> list[Path]:
        if (self.folder / INDEX).is_file():
            named = read_config(self.folder / INDEX, "the index of shards").get("weight_map", {})
            return [self.folder / file for file in sorted(set(named.values()))]
        single = self.folder / "model.safetensors"
        if not single.is_file():
            raise ModelError(
                f"{self.name} = {self.folder}",
                f"holds neither model.safetensors nor {INDEX}",
                "give a full model in safetensors; merge an adapter into its base first",
            )
        return [single]

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self._handles)

    def find(self, key: str) -> str | None:
        """Where the tensor is stored: under its own name, or under the embedding it is tied to."""
        if key in self._handles:
            return key
        if self.tied and key.endswith(OUTPUT_NAMES):
            return next((k for k in self._handles if k.endswith(INPUT_NAMES)), None)
        return None

    def shape(self, key: str) -> list[int]:
        return list(self._handles[key].get_slice(key).get_shape())

    def read(self, key: str) -> torch.Tensor:
        tensor: torch.Tensor = self._handles[key].get_tensor(key)
        return tensor


def _tied(folder: Path) -> bool:
    config = read_config(folder / "config.json", "the model's configuration")
    # Only asked where no output embedding is stored: that alone means tied unless denied here.
    return bool(config.get("tie_word_embeddings", True))


def _same_tensors(opened: Mapping[str, _Tensors], parent: str) -> None:
    ours = opened[parent]
    for name, theirs in opened.items():
        for key in sorted(ours.keys):
            place = theirs.find(key)
            if place is None:
                raise ModelError(
                    f"tensor {key}: in {parent} with shape {ours.shape(key)}",
                    f"{name} has none of that name",
                    "combine checkpoints of one architecture",
                )
            if theirs.shape(place) != ours.shape(key):
                raise ModelError(
                    f"tensor {key}: shape {ours.shape(key)} in {parent}",
                    f"shape {theirs.shape(place)} in {name}",
                    "combine checkpoints of one architecture and vocabulary",
                )
        # A tied model may store its output embedding all the same; an untied one means it.
        tied = {key for key in theirs.keys if theirs.tied and key.endswith(OUTPUT_NAMES)}
        extra = sorted(theirs.keys - ours.keys - (tied if ours.tied else set()))
        if extra:
            raise ModelError(
                f"tensor {extra[0]}: in {name} with shape {theirs.shape(extra[0])}",
                f"{parent} has none of that name",
                "combine checkpoints of one architecture",
            )


def _write_shard(
    shard: Path, expression: Combination, opened: Mapping[str, _Tensors], parent: str, folder: Path
) -> None:
    made = {key: _combined(key, expression, opened, parent).contiguous() for key in opened[parent].files[shard]}
    save_file(made, folder / shard.name, metadata=opened[parent].metadata[shard])


def _combined(key: str, expression: Combination, opened: Mapping[str, _Tensors], parent: str) -> torch.Tensor:
    original = opened[parent].read(key)
    if not original.is_floating_point():
        return original
    wide = torch.float64 if original.dtype == torch.float64 else torch.float32
    total: torch.Tensor | None = None
    for name, coefficient in expression.terms:
        place = opened[name].find(key)
        assert place is not None
        term = opened[name].read(place).to(wide) * coefficient
        total = term if total is None else total + term
    result = (torch.zeros_like(original) if total is None else total).to(original.dtype)
    if not bool(torch.isfinite(result).all()):
        raise ModelError(
            f"tensor {key} of {expression}",
            f"{int((~torch.isfinite(result)).sum())} of {result.numel()} values are not finite in {original.dtype}",
            "one of the checkpoints is broken, or the coefficients are too large",
        )
    return result


def _same_vocabulary(folders: Mapping[str, Path], parent: str) -> None:
    """Rows of an embedding mean the same token only under one vocabulary."""
    ours = _vocabulary(folders[parent])
    for name, folder in folders.items():
        theirs = _vocabulary(folder)
        if ours is None or theirs is None or ours == theirs:
            continue
        differ = sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token))
        raise ModelError(
            f"token {differ[0]!r}: {ours.get(differ[0], 'absent')} in {parent}",
            f"{theirs.get(differ[0], 'absent')} in {name} ({len(differ)} tokens differ)",
            "combine checkpoints of one vocabulary: equal rows must mean equal tokens",
        )


def _vocabulary(folder: Path) -> dict[str, int] | None:
    """token -> id of tokenizer.json's model, added tokens apart (a chat model may add some in
    rows that its base keeps unused); None where there is none."""
    file = Path(folder) / "tokenizer.json"
    if not file.is_file():
        return None
    vocabulary = read_config(file, "the tokenizer").get("model", {}).get("vocab")
    if isinstance(vocabulary, list):
        return {str(entry[0]): number for number, entry in enumerate(vocabulary)}
    return vocabulary if isinstance(vocabulary, dict) else None


def _copy_rest(folder: Path, out: Path) -> None:
    for item in sorted(folder.iterdir()):
        if item.name in TRAINER_FILES or item.name.endswith(LEFT_OUT) or item.name.startswith("."):
            continue
        if item.is_file():
            shutil.copyfile(item, out / item.name)
        elif item.name == "additional_chat_templates":
            shutil.copytree(item, out / item.name)
