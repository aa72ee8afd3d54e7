"""Checkpoints as mappings name -> tensor that stay on disk: a few rows are read at a time.

A model directory (sharded or not), a peft adapter directory (its base with the adapter added row
by row, see `weights.lora`) and a difference that `mnemos vector save` wrote all open the same way.
Everything that can be refused is refused on opening, before anything is computed.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from mnemos.core.errors import ModelError
from mnemos.weights.adapter import untied_config
from mnemos.weights.configuration import check_config
from mnemos.weights.files import VECTOR, check_safetensors, check_weights, read_config, weight_files
from mnemos.weights.tied import INPUT_NAMES as INPUT_NAMES
from mnemos.weights.tied import OUTPUT_NAMES as OUTPUT_NAMES

HEADS = ("lm_head.", "embed_out.", "score.", "classifier.", "v_head.", "qa_outputs.", "cls.")
"""How tensors of a task's head begin; models of different tasks share the rest."""
TRUNKS = ("model.", "transformer.")
"""What stands before a trunk's names in a model with a head, and nowhere in a bare trunk."""

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}


def bytes_of(values: torch.Tensor) -> memoryview:
    """The memory of a flat tensor; what is written into it is in the tensor."""
    # As bytes, because numpy has no bfloat16.
    raw: Any = values.view(torch.uint8).numpy()
    return memoryview(raw)


class View(Protocol):
    """One tensor of one checkpoint, not read yet. Elements are counted in row-major order."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Its dtype on disk."""
        ...

    def block(self, start: int, stop: int, wide: torch.dtype) -> torch.Tensor:
        """Elements [start, stop) as a new flat tensor of dtype `wide`; whole rows, where rows matter."""
        ...


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file. offset: of its first byte in the file."""

    file: Path
    descriptor: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    def raw(self, start: int, stop: int) -> torch.Tensor:
        """Elements [start, stop), flat, as they are stored."""
        # Read, not mapped: pages of a mapping count as resident memory, and the copy costs 0.1 ns an element.
        out = torch.empty(stop - start, dtype=self.dtype)
        if stop > start:
            space, at = bytes_of(out), self.offset + start * self.dtype.itemsize
            while space:
                # One call may give less than was asked for: Linux ends each at about 2 GiB.
                got = os.preadv(self.descriptor, [space], at)
                if not got:
                    raise ModelError(f"{self.file}", "became shorter while it was read", "copy this file again")
                space, at = space[got:], at + got
        return out

    def block(self, start: int, stop: int, wide: torch.dtype) -> torch.Tensor:
        """Elements [start, stop) in `wide`."""
        return self.raw(start, stop).to(wide)


class Patch(Protocol):
    """What an adapter does to one stored tensor."""

    def apply(self, block: torch.Tensor, start: int, width: int) -> torch.Tensor:
        """The adapted rows. block: float[rows * width] from element `start` on; may be written into."""
        ...


@dataclass(frozen=True)
class Patched:
    """A stored tensor with an adapter on it."""

    stored: Stored
    patch: Patch

    @property
    def shape(self) -> tuple[int, ...]:
        """The base's."""
        return self.stored.shape

    @property
    def dtype(self) -> torch.dtype:
        """The base's."""
        return self.stored.dtype

    def block(self, start: int, stop: int, wide: torch.dtype) -> torch.Tensor:
        """Elements [start, stop), adapted; must be whole rows."""
        return self.patch.apply(self.stored.block(start, stop, wide), start, row_width(self.shape))


def row_width(shape: tuple[int, ...]) -> int:
    """Elements of one row: the last dimension. A vector is one row."""
    return max(shape[-1], 1) if shape else 1


@dataclass
class Weights:
    """An opened checkpoint. files: (file, header as it stands in it, names of its tensors). own: dtypes of tensors that
    an adapter holds whole, as its base stores them."""

    name: str
    folder: Path
    config: dict[str, Any]
    is_vector: bool
    stored: dict[str, Stored] = field(default_factory=dict)
    files: list[tuple[Path, bytes, list[str]]] = field(default_factory=list)
    patches: dict[str, Patch] = field(default_factory=dict)
    adapter: Path | None = None
    own: dict[str, torch.dtype] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Only asked where no output embedding is stored: that alone means tied unless denied here.
        self.tied = bool(self.config.get("tie_word_embeddings", True))
        self.untied = False

    def find(self, key: str) -> str | None:
        """Where the tensor is stored: under its name, with or without the trunk's prefix, or under
        the embedding that it is tied to."""
        if key in self.stored:
            return key
        bare = key.split(".", 1)[1] if key.startswith(TRUNKS) else key
        for name in (bare, *(prefix + bare for prefix in TRUNKS)):
            if name in self.stored:
                return name
        if self.tied and key.endswith(OUTPUT_NAMES):
            return next((k for k in self.stored if k.endswith(INPUT_NAMES)), None)
        return None

    @property
    def shares_embeddings(self) -> bool:
        """Whether transformers gives input embeddings and output layer one weight."""
        return self.tied and any(key.endswith(INPUT_NAMES) for key in self.stored)

    def untie(self) -> None:
        """Give the output layer a tensor of its own: from here on what an adapter does to one of the two
        says nothing of the other, and configuration and files of a result say so too."""
        place = next(key for key in self.stored if key.endswith(INPUT_NAMES))
        head = OUTPUT_NAMES[1] if place.endswith("embed_in.weight") else OUTPUT_NAMES[0]
        if not any(key.endswith(OUTPUT_NAMES) for key in self.stored):
            self.stored[head] = self.stored[place]
            # Both begin as the same numbers with the same adapters; only what follows tells them apart.
            if place in self.patches:
                self.patches[head] = self.patches[place]
            for _, _, keys in self.files:
                if place in keys:
                    keys.append(head)
                    keys.sort()
        self.tied, self.untied = False, True
        self.config = untied_config(self.config)

    def view(self, key: str) -> View:
        """The tensor at a place that `find` gave."""
        stored = self.stored[key]
        return Patched(stored, self.patches[key]) if key in self.patches else stored

    def shape(self, key: str) -> list[int]:
        """For messages."""
        return list(self.stored[key].shape)

    @property
    def architecture(self) -> str:
        """The class that config.json names, such as LlamaForCausalLM; empty where it names none."""
        return str((self.config.get("architectures") or [""])[0])

    def identity(self) -> dict[str, list[Any]]:
        """Size and time of each file that is read: cheap, and enough to notice a change."""
        files = dict.fromkeys(file for file, _, _ in self.files)
        files.update(dict.fromkeys(stored.file for stored in self.stored.values()))
        return {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files}

    def close(self) -> None:
        """Close its files."""
        for descriptor in {stored.descriptor for stored in self.stored.values()}:
            os.close(descriptor)


def open_model(name: str, folder: Path) -> Weights:
    """Open the tensors of a model or a saved difference without reading them; `lora.open_weights`
    opens adapters too.

    Raises ModelError for missing, damaged or pickled weights, a missing shard, an unreadable
    configuration and a quantised checkpoint.
    """
    if not folder.is_dir():
        raise ModelError(f"{name} = {folder}", "there is no such directory", "give a Hugging Face model directory")
    check_weights(folder, allow_pickle=False)
    config = check_config(folder)
    _refuse_quantised(name, folder, config)
    opened = Weights(name, folder, config, (folder / VECTOR).is_file())
    if opened.is_vector:
        # A difference to or from an adapter on tied embeddings has two parts, and unties what it is added to.
        opened.untied = read_config(folder / VECTOR, "the saved difference's description").get("untied") is True
    try:
        for file in weight_files(folder, "vector" if opened.is_vector else "model"):
            header, entries = read_header(file)
            opened.stored.update(entries)
            opened.files.append((file, header, list(entries)))
    except BaseException:
        opened.close()
        raise
    return opened


def read_header(file: Path) -> tuple[bytes, dict[str, Stored]]:
    """The header of a safetensors file as it stands there (length and padding included), and its
    tensors in the order of their names. Raises ModelError where it does not fit the file."""
    check_safetensors(file)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        # safetensors: 8 bytes of length, little-endian, then that much JSON, then the numbers; data_offsets count
        # from the end of the JSON.
        (length,) = struct.unpack("<Q", os.pread(descriptor, 8, 0))
        raw = os.pread(descriptor, 8 + length, 0)
        value = json.loads(raw[8:])
        value.pop("__metadata__", None)
        entries = {key: _entry(file, descriptor, key, value[key], 8 + length) for key in sorted(value)}
    except BaseException:
        os.close(descriptor)
        raise
    # Weights.close closes the descriptors of its tensors, so one without tensors would stay open.
    if not entries:
        os.close(descriptor)
    return raw, entries


def _entry(file: Path, descriptor: int, key: str, entry: Mapping[str, Any], data: int) -> Stored:
    if entry["dtype"] not in DTYPES:
        raise ModelError(
            f"tensor {key} in {file}", f"is stored as {entry['dtype']}", "save the model in bfloat16 or float32 first"
        )
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    start, stop = entry["data_offsets"]
    # Before anything is read: a length that does not fit would be read into the next tensor.
    if stop - start != math.prod(shape) * dtype.itemsize:
        raise ModelError(f"{file}", f"is damaged (tensor {key} has the wrong length)", "copy this file again")
    return Stored(file, descriptor, dtype, shape, data + start)


def _refuse_quantised(name: str, folder: Path, config: Mapping[str, Any]) -> None:
    text = config.get("quantization_config")
    if text:
        kind = text.get("quant_method", "unknown") if isinstance(text, Mapping) else text
        raise ModelError(
            f"{name} = {folder}",
            f"is quantised ({kind}): its numbers are codes, which cannot be added",
            "give the checkpoint that it was quantised from, and quantise the result",
        )


# The first number between dots: in model.layers.3.mlp.experts.7.w1 the layer is 3, the expert within it 7.
LAYER = re.compile(r"^(.*?\.)??(\d+)\.")


def places(keys: Collection[str]) -> dict[str, float]:
    """Depth of each tensor in [0, 1]: layer i of N lies at i / (N - 1), what comes before the
    layers (embeddings) at 0, what comes behind them (last norm, heads) at 1."""
    found = {key: match for key in keys if (match := LAYER.match(key))}
    # By what stands before the number: an encoder and a decoder in one model each have a depth of their own.
    last: dict[str | None, int] = {}
    for match in found.values():
        last[match[1]] = max(last.get(match[1], 0), int(match[2]))
    inside = {key: int(match[2]) / max(last[match[1]], 1) for key, match in found.items()}
    return {key: inside[key] if key in inside else 0.0 if _leads(key) else 1.0 for key in keys}


def layer_of(key: str) -> str:
    """The layer's number as text, "embeddings" or "end": how per-layer figures are grouped."""
    match = LAYER.match(key)
    return match[2] if match else "embeddings" if _leads(key) else "end"


def _leads(key: str) -> bool:
    # GPT-NeoX calls its output layer embed_out; wte and wpe are GPT-2's tokens and positions.
    return "embed" in key.removesuffix("embed_out.weight") or key.endswith(("wte.weight", "wpe.weight"))
