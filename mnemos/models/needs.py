"""Memory of a model that is asked: keys and values, logits and what passes by, from its configuration."""

from __future__ import annotations

from typing import Any

from mnemos.models.forward import LOGIT_BYTES

LOGITS_HELD = 3
"""Arrays of the size of a batch's logits at once: as the model gives them, in float32, and what is made of them."""


def cache_bytes_per_token(model: Any) -> int:
    """Bytes of one token's keys and values over all layers; 0 for a model whose configuration does not say."""
    config = model.config.get_text_config()
    layers = getattr(config, "num_hidden_layers", 0) or 0
    heads = getattr(config, "num_attention_heads", 0) or 0
    kept = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0)
    return int(2 * layers * kept * width * model.get_input_embeddings().weight.element_size())


def asking_bytes(model: Any, *, rows: int, tokens: int, writes: bool = True) -> int:
    """Bytes beside the weights while `rows` prompts are answered or scored.

    tokens: of the longest, its answer included. writes: answers are written token by token, which keeps keys and
    values of what was read.
    """
    import torch

    from mnemos.models.decode import CACHE_BYTES
    from mnemos.models.language import BATCH_TOKENS

    embedded = model.get_input_embeddings().weight
    vocabulary, size = int(embedded.shape[0]), embedded.element_size()
    batch = BATCH_TOKENS["cuda" if torch.cuda.is_available() else "cpu"]
    each = cache_bytes_per_token(model)
    held = min(rows * tokens, max(batch, CACHE_BYTES // max(1, each))) * each if writes else 0
    read = min(rows * tokens, batch)
    asked = min(rows if writes else read, max(1, LOGIT_BYTES // (4 * vocabulary)))
    # Without gradients a layer's tensors are gone when the next one runs: what is widest is the MLP, twice.
    config = model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * int(embedded.shape[1])
    passing = read * size * (3 * int(embedded.shape[1]) + 3 * int(inner if isinstance(inner, int) else max(inner)))
    return int(held + passing + LOGITS_HELD * 4 * asked * vocabulary)
