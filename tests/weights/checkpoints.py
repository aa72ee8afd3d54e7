"""Checkpoints of a few tensors, written on the spot, for tests of the arithmetic on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False}


def write(folder: Path, tensors: Mapping[str, Any], tokens: list[str] | None = None, *,
          special: tuple[str, ...] = (), added: tuple[str, ...] = (), template: str | None = None,
          **config: Any) -> Path:  # fmt: skip
    """A directory with these tensors. tokens: its vocabulary, a row each; special, added: further
    tokens behind them. template: its chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {key: torch.as_tensor(value).contiguous() for key, value in tensors.items()}
    save_file(values, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    if tokens is not None:
        extra = [{"id": len(tokens) + i, "content": token, "special": token in special, "single_word": False,
                  "lstrip": False, "rstrip": False, "normalized": False}
                 for i, token in enumerate((*special, *added))]  # fmt: skip
        model = {"type": "WordLevel", "vocab": {token: i for i, token in enumerate(tokens)}, "unk_token": tokens[0]}
        value = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": extra, "normalizer": None,
                 "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
                 "model": model}  # fmt: skip
        (folder / "tokenizer.json").write_text(json.dumps(value))
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a directory."""
    found: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        found.update(load_file(file))
    return found


def some(seed: int, scale: float = 1.0, rows: int = 6, dtype: str = "float32") -> dict[str, torch.Tensor]:
    """Random tensors of a two-layer model."""
    draw = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (rows, 8), "lm_head.weight": (rows, 8), "model.norm.weight": (8,)}
    for layer in range(3):
        shapes[f"model.layers.{layer}.mlp.up_proj.weight"] = (12, 8)
        shapes[f"model.layers.{layer}.self_attn.q_proj.weight"] = (8, 8)
    return {
        key: torch.tensor(scale * draw.standard_normal(shape)).to(getattr(torch, dtype))
        for key, shape in shapes.items()
    }
