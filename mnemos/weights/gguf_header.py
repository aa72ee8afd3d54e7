"""The head of a GGUF file: its settings, vocabulary and where each tensor lies. No tensor is read.

Layout, little-endian (github.com/ggml-org/ggml, docs/gguf.md): magic, version, number of tensors, number of
settings; the settings (name, type, value); a row for each tensor (name, dimensions, type, offset); then, from the
next multiple of the alignment, the tensors. Everything is a length followed by bytes, so a file that was cut short or
is something else is met here, with its name, before any library reads it.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError
from mnemos.weights.files import ADAPTER_CONFIG, VECTOR, readable, weight_files

MAGIC = b"GGUF"
VERSIONS = (2, 3)
"""Version 1 counted in 32 bits; no file in use has it."""
ALIGNMENT = 32
"""Bytes, unless the file says otherwise."""
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Type of a setting -> how `struct` calls it."""


@dataclass(frozen=True)
class PackedTensor:
    """Where a tensor lies. kind: its type, e.g. Q4_K. shape: as in torch, rows first. offset: bytes from the file's
    start. size: in bytes."""

    name: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def bits(self) -> float:
        """Bits a weight, with its share of the block's scales."""
        return 8 * self.size / max(prod(self.shape), 1)


@dataclass(frozen=True)
class Header:
    """What the head of a file says. settings: as named there, e.g. ``llama.block_count``."""

    file: Path
    settings: Mapping[str, Any]
    tensors: tuple[PackedTensor, ...]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture; empty where there is none."""
        return str(self.settings.get("general.architecture", ""))

    def of_model(self, key: str) -> Any:
        """A setting of the architecture, e.g. ``block_count``; None where it is not there."""
        return self.settings.get(f"{self.architecture}.{key}")

    @cached_property
    def by_name(self) -> Mapping[str, PackedTensor]:
        """The tensors by name."""
        return {tensor.name: tensor for tensor in self.tensors}

    @property
    def quantisation(self) -> str:
        """How the file calls it, e.g. Q4_K_M; else the type that most bytes have."""
        from gguf import LlamaFileType

        try:
            name = LlamaFileType(self.settings.get("general.file_type", -1)).name
            return name.removeprefix("MOSTLY_").removeprefix("ALL_")
        except ValueError:
            sizes: dict[str, int] = {}
            for tensor in self.tensors:
                sizes[tensor.kind] = sizes.get(tensor.kind, 0) + tensor.size
            return max(sizes, key=lambda kind: sizes[kind], default="empty")

    @property
    def dtype(self) -> str:
        """The torch dtype that its matrices are written in anew: their own where they are plain numbers, bfloat16
        where they are quantised, as such models are published."""
        kinds = {tensor.kind for tensor in self.tensors if len(tensor.shape) > 1} - {"F32"}
        if not kinds:
            return "float32"
        if kinds == {"F16"}:
            return "float16"
        # Two kinds of 16 bits are exact in 32 bits alone.
        return "float32" if kinds == {"F16", "BF16"} or "F64" in kinds else "bfloat16"

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(prod(tensor.shape) for tensor in self.tensors)


def packed_file(place: Path) -> Path | None:
    """The GGUF file that is the model at `place`: the file itself, or the only one of a directory without
    safetensors; None where there is none. Raises ModelError for a directory of several."""
    with readable(place):
        if place.is_file():
            return place if is_gguf(place) else None
        found = sorted(place.glob("*.gguf")) if place.is_dir() else []
        if not found or any((place / name).is_file() for name in (ADAPTER_CONFIG, VECTOR)) or weight_files(place):
            return None
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:5]) + (" …" if len(found) > 5 else "")
        raise ModelError(f"{place}", f"holds {len(found)} GGUF files: {names}", f"name one of them, e.g. {found[0]}")
    return found[0]


def is_gguf(file: Path) -> bool:
    """Whether a file calls itself GGUF, by its name or its first bytes: a hub's cache keeps files under their hash."""
    if file.suffix == ".gguf":
        return True
    with open(file, "rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC


def read_header(file: Path) -> Header:
    """The head of a GGUF file. Raises ModelError where it is no GGUF file, of a version that is not read, cut short,
    one part of several, or holds a type of quantisation that nobody knows here."""
    with readable(file), open(file, "rb") as opened:
        size = file.stat().st_size
        if size < 24 or opened.read(4) != MAGIC:
            raise ModelError(f"{file}", "is no GGUF file, or cut short: it does not begin as one", "download it again")
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(file, data, size).header()


class _Reader:
    """One pass over the head, from byte to byte."""

    def __init__(self, file: Path, data: mmap.mmap, size: int) -> None:
        self.file, self.data, self.size, self.at = file, data, size, 4

    def header(self) -> Header:
        (version,) = self.numbers("I")
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
            what = "is big-endian" if swapped else f"is GGUF version {version}, and only 2 and 3 are read"
            raise ModelError(f"{self.file}", what, "convert the model again with a current llama.cpp")
        tensors, settings = self.numbers("QQ")
        self.count(tensors, 24), self.count(settings, 12)
        values = {}
        for _ in range(settings):
            key = self.text()
            values[key] = self.value(*self.numbers("I"))
        if values.get("split.count") not in (None, 0, 1):
            raise ModelError(
                f"{self.file}",
                f"is one of {values['split.count']} parts",
                "join them first: llama-gguf-split --merge FIRST-PART OUT.gguf",
            )
        rows = [self.row() for _ in range(tensors)]
        alignment = values.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise self.damaged(f"its alignment is {alignment!r}")
        start = -(-self.at // alignment) * alignment
        placed = tuple(self.placed(start, *row) for row in rows)
        return Header(self.file, values, placed)

    def row(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.text()
        (dimensions,) = self.numbers("I")
        shape = self.numbers(f"{self.count(dimensions, 8)}Q")
        kind, offset = self.numbers("IQ")
        return name, tuple(reversed(shape)), kind, offset

    def placed(self, start: int, name: str, shape: tuple[int, ...], kind: int, offset: int) -> PackedTensor:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        try:
            known = GGMLQuantizationType(kind)
        except ValueError:
            raise ModelError(
                f"tensor {name} of {self.file}",
                f"has the quantisation {kind}, which the package gguf does not know",
                "pip install -U gguf, or name the Hugging Face directory that the file was made of",
            ) from None
        block, width = GGML_QUANT_SIZES[known]
        if not shape or shape[-1] % block:
            raise self.damaged(f"tensor {name} of the shape {list(shape)} has no whole blocks of {known.name}")
        size = prod(shape) // block * width
        if start + offset + size > self.size:
            raise self.short(f"tensor {name} ends at byte {start + offset + size:,}, the file at {self.size:,}")
        return PackedTensor(name, known.name, shape, start + offset, size)

    def numbers(self, form: str) -> tuple[Any, ...]:
        try:
            found = struct.unpack_from(f"<{form}", self.data, self.at)
        except struct.error:
            raise self.short(f"its head goes on where it ends, at byte {self.size:,}") from None
        self.at += struct.calcsize(f"<{form}")
        return found

    def count(self, number: int, width: int) -> int:
        """`number` elements of `width` bytes at least, where so many can be in the rest of the file."""
        if number * width > self.size - self.at:
            raise self.short(f"its head goes on where it ends, at byte {self.size:,}")
        return number

    def text(self) -> str:
        (length,) = self.numbers("Q")
        start = self.at
        self.at += self.count(length, 1)
        return self.data[start : self.at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.numbers(_SCALARS[kind])[0]
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, length = self.numbers("IQ")
            if inner in _SCALARS:
                form = _SCALARS[inner]
                return list(self.numbers(f"{self.count(length, struct.calcsize(form))}{form}"))
            if inner == _STRING:
                return [self.text() for _ in range(self.count(length, 8))]
            kind = inner  # llama.cpp writes no array of arrays
        raise self.damaged(f"a setting of the type {kind}")

    def damaged(self, why: str) -> ModelError:
        return ModelError(f"{self.file}", f"is damaged: {why}", "download it again")

    def short(self, why: str) -> ModelError:
        return ModelError(f"{self.file}", f"is cut short: {why}", "download it again")
