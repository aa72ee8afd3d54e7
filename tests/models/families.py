"""Tiny random models of many architectures, sharp enough that each token matters."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from mnemos.models.language import LocalModel
from tests.tiny import tiny_tokenizer

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", SHAPE),
    "qwen3": ("Qwen3Config", SHAPE),
    "gemma": ("GemmaConfig", SHAPE),
    # logits are soft-capped after the output embedding, which sdpa cannot do: eager attention
    "gemma2": ("Gemma2Config", {**SHAPE, "sliding_window": 16, "layer_types": MIXED, "final_logit_softcapping": 5.0}),
    "gemma3": ("Gemma3TextConfig", {**SHAPE, "sliding_window": 16, "layer_types": MIXED}),
    "mistral": ("MistralConfig", {**SHAPE, "sliding_window": 12}),
    "cohere": ("CohereConfig", {**SHAPE, "logit_scale": 0.5}),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}),
    "neox": ("GPTNeoXConfig", {k: v for k, v in SHAPE.items() if k not in ("num_key_value_heads", "head_dim")}),
    # attention of its own, not transformers' interface for it
    "gptj": ("GPTJConfig", {"n_embd": 32, "n_layer": 3, "n_head": 4, "rotary_dim": 8, "n_positions": 128}),
    # no position ids, a bias by distance
    "bloom": ("BloomConfig", {"hidden_size": 32, "n_layer": 3, "n_head": 4}),
    # no attention at all
    "mamba": ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 8}),
}
FAMILIES = sorted(CONFIGS)


def sharp(family: str, seed: int = 0, **more: Any) -> LocalModel:
    """A LocalModel whose weights are scaled up until its predictions hang on every token."""
    tokenizer = tiny_tokenizer()
    name, shape = CONFIGS[family]
    special = {f"{k}_token_id": getattr(tokenizer, f"{k}_token_id") for k in ("bos", "eos", "pad")}
    torch.manual_seed(seed)
    config = getattr(transformers, name)(**{"vocab_size": len(tokenizer), **special, **shape, **more})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                # a recurrent state amplifies rounding, so it gets less
                parameter.mul_(2 if family == "mamba" else 6)
    return LocalModel(model, tokenizer, family, f"{family}-{seed}")


@torch.inference_mode()
def next_log_probs(model: Any, ids: list[int]) -> torch.Tensor:
    """float64[T, V]: the reference, one sequence, all positions, nothing clever."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
