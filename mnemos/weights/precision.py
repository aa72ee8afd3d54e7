"""The precision that a checkpoint is stored in: what a model that is made of it is saved in, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError
from mnemos.core.files import write_json
from mnemos.weights.adapter import adapter_base
from mnemos.weights.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_config, stored_tensors, weight_files

FLOATS = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""What safetensors and torch call the kinds of number that weights are."""
SINGLE = "float32"
KEYS = ("dtype", "torch_dtype")
"""How config.json calls the dtype: now, and before transformers 5."""


@dataclass(frozen=True)
class Precision:
    """own: the name of the torch dtype that most numbers of a checkpoint have. of: tensor -> its dtype, for tensors
    that have another one, as the routers of some mixtures of experts."""

    own: str
    of: Mapping[str, str] = field(default_factory=dict)

    def dtype(self, tensor: str) -> str:
        """What a tensor of this name is saved in."""
        return self.of.get(tensor, self.own)


def stored_precision(folder: Path) -> Precision:
    """How the weights of a directory are stored; of an adapter's directory, those of its base. Reads headers only.

    Where these tell nothing (pickles, quantised numbers) it is what config.json names, else float32.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        from mnemos.weights.checkpoint import resolve

        return stored_precision(resolve(adapter_base(folder), allow_pickle=True, trust_remote_code=True))
    found, own = _counted(weight_files(folder))
    quantised, named = _configured(folder)
    if own is None or quantised:
        return Precision(named if named is not None and named in FLOATS.values() else SINGLE)
    return Precision(own, {name: kind for name, kind in found.items() if kind != own})


def written_dtype(folder: Path) -> str:
    """The torch dtype that most numbers of a directory have, as its files say; of an adapter's directory, those of the
    adapter itself, where `stored_precision` looks at its base."""
    adapter = folder / ADAPTER_WEIGHTS
    own = _counted([adapter])[1] if adapter.is_file() else None
    return own or stored_precision(folder).own


def _counted(files: Iterable[Path]) -> tuple[dict[str, str], str | None]:
    """Tensor -> its dtype, and the dtype that most numbers have; None where no file has any."""
    found: dict[str, str] = {}
    numbers: Counter[str] = Counter()
    for file in files:
        for name, text in stored_tensors(file).items():
            if text["dtype"] in FLOATS:
                found[name] = FLOATS[text["dtype"]]
                numbers[found[name]] += prod(text["shape"])
    # Of two that are equally many the wider one, whatever the order of the files.
    wider = list(FLOATS.values())
    return found, max(numbers, key=lambda kind: (numbers[kind], -wider.index(kind)), default=None)


def _configured(folder: Path) -> tuple[bool, str | None]:
    try:
        config = read_config(folder / "config.json", "the model's configuration")
    except ModelError:
        return False, None
    return bool(config.get("quantization_config")), next((config[key] for key in KEYS if config.get(key)), None)


def record_precision(folder: Path, own: str) -> None:
    """Write into config.json that the weights are in `own`, in nested configurations that name a dtype too."""
    file = folder / "config.json"
    config = read_config(file, "the model's configuration")
    changed = _named(config, own)
    if changed != config:
        write_json(file, changed)


def _named(config: Mapping[str, Any], own: str) -> dict[str, Any]:
    def value_of(key: str, value: Any) -> Any:
        if key.endswith("_config") and isinstance(value, dict):
            return _named(value, own)
        return own if key in KEYS else value

    return {key: value_of(key, value) for key, value in config.items()}
