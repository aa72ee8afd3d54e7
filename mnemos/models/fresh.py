"""A language model of random weights: where pre-training from nothing begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError


def fresh_llama(tokenizer: Any, shape: Mapping[str, Any], seed: int, folder: Path) -> Path:
    """Write a Llama of random weights and its tokenizer to `folder`, and return it.

    shape: keys of transformers.LlamaConfig; its vocabulary and special tokens are the tokenizer's. The same seed and
    shape give the same weights. Raises UsageError for a shape that transformers refuses or cannot build.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModelForCausalLM, LlamaConfig

    known = set(LlamaConfig().to_dict())
    unknown = next((key for key in shape if key not in known), None)
    if unknown is not None:
        raise UsageError(f"{unknown}", "is no key of LlamaConfig", "num_hidden_layers, hidden_size, … are")
    try:
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **shape,
        )
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError, StrictDataclassError) as error:
        raise UsageError(
            f"a Llama of {dict(shape)}", " ".join(str(error).split()), "hidden_size is a multiple of the heads"
        ) from None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
