"""Tiny models of every family that the methods know by name."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from tests.tiny import tiny_model, tiny_tokenizer

FAMILIES = ("llama", "qwen3", "gemma", "gemma3", "gpt2", "neox", "opt", "phi3")
LAYERS = 3


@cache
def _tokenizer() -> Any:
    return tiny_tokenizer()


def build(family: str, **changed: Any) -> Any:
    """A random model of three layers, of width 32."""
    tokenizer = _tokenizer()
    if family in ("neox", "opt", "phi3"):
        return _from_config(family, len(tokenizer), **changed)
    model = tiny_model(tokenizer, family, layers=LAYERS)
    if not changed:
        return model
    config = model.config
    for key, value in changed.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    return type(model)(config).eval()


def _from_config(family: str, vocabulary: int, **changed: Any) -> Any:
    from transformers import AutoModelForCausalLM, GPTNeoXConfig, OPTConfig, Phi3Config

    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        **changed,
    }
    config = {
        "neox": lambda: GPTNeoXConfig(intermediate_size=64, **shape),
        "opt": lambda: OPTConfig(ffn_dim=64, word_embed_proj_dim=32, **shape),
        "phi3": lambda: Phi3Config(intermediate_size=64, **shape),
    }[family]()
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def moving(model: Any) -> set[str]:
    """Names of the parameters that training would change."""
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def logits(model: Any) -> torch.Tensor:
    """float[2, 9, V] for fixed inputs."""
    ids = torch.arange(18).reshape(2, 9) * 7 % 300
    with torch.no_grad():
        return model(input_ids=ids).logits
