"""config.json before anything is built from it: sizes that can be meant, a model type that is a name.

transformers builds what it is told to: a billion layers until memory ends, a width of no digit until
a division by zero. And it reads the configuration for the tokenizer too, so that such a mistake is
blamed on whichever of the two is loaded first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError
from mnemos.weights.files import read_config

# Far beyond any model there is: only what cannot be meant is refused, and before anything is allocated.
MOST_LAYERS = 10_000
MOST_HEADS = 1 << 20
MOST_WIDE = 1 << 24
MOST_TOKENS = 1 << 28
MOST_POSITIONS = 1 << 40

SIZES: Mapping[str, int] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), MOST_LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_key_value_heads"), MOST_HEADS),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "intermediate_size", "head_dim"), MOST_WIDE),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), MOST_POSITIONS),
    "vocab_size": MOST_TOKENS,
}
"""Keys of config.json that are sizes, under the names of common architectures, and what each is at most. Some
architectures give one a layer, as a list, and null where it follows from others."""

_CURE = "restore config.json of the original model"


def check_config(folder: Path) -> dict[str, Any]:
    """The JSON object in a model's config.json. Raises ModelError with the key for a size that no model has, in
    nested configurations too, and for a model type or a quantisation that cannot be meant."""
    file = folder / "config.json"
    config = read_config(file, "the model's configuration")
    kind = config.get("model_type")
    if kind is not None and not (isinstance(kind, str) and re.fullmatch(r"[\w.-]{1,100}", kind)):
        raise ModelError(f"{file}: model_type = {kind!r}", "is no name of an architecture", _CURE)
    named = config.get("architectures")
    if named is not None and not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise ModelError(f"{file}: architectures = {named!r}", "must be a list of names", _CURE)
    _check_sizes(file, config, "")
    _check_quantisation(file, config.get("quantization_config"))
    return config


def _check_sizes(file: Path, config: Mapping[str, Any], under: str) -> None:
    for key, value in config.items():
        if key in SIZES and value is not None:
            each = isinstance(value, list)  # a layer without such a part has 0 there
            for one in value if each else [value]:
                _check_size(file, f"{under}{key}", one, 0 if each else 1, SIZES[key])
        elif isinstance(value, dict) and key.endswith("config") and not under.count("."):
            _check_sizes(file, value, f"{under}{key}.")


def _check_size(file: Path, key: str, value: Any, least: int, most: int) -> None:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not whole or value != int(value) or not least <= value <= most:
        raise ModelError(f"{file}: {key} = {value!r}", f"must be a whole number from {least} to {most:,}", _CURE)


def _check_quantisation(file: Path, scheme: Any) -> None:
    if not scheme:
        return
    known = isinstance(scheme, dict)
    if known:
        from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

        # bitsandbytes, written without its name
        bits = bool(scheme.get("load_in_4bit") or scheme.get("load_in_8bit"))
        known = bits or str(scheme.get("quant_method")) in AUTO_QUANTIZATION_CONFIG_MAPPING
    if not known:
        what = scheme.get("quant_method") if isinstance(scheme, dict) else scheme
        raise ModelError(
            f"{file}: quantization_config = {what!r}",
            "is no quantisation that transformers knows",
            "give the checkpoint in bfloat16 or float32",
        )
