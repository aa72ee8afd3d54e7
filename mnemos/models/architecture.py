"""Is this checkpoint what its reader needs: a causal language model, or a model that scores sequences?

Known from config.json alone. transformers loads an encoder as a "causal" model without a word, and
other kinds fail deep inside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError

SCORERS = ("ForSequenceClassification", "ForTokenClassification", "ForRewardModel")


def refuse_other_kinds(folder: Path, config: Any, *, reward: bool) -> None:
    """Raise ModelError for what is no causal language model (or, with `reward`, no model that transformers
    can give a head for sequences). config: transformers.PreTrainedConfig. Trap: an architecture that
    brings its own code is taken at its word."""
    text = ", ".join(getattr(config, "architectures", None) or ()) or f"model_type {config.model_type}"
    if getattr(config, "auto_map", None):
        return
    if reward:
        _refuse_unscored(folder, config, text)
        return
    from transformers.models.auto import modeling_auto as auto

    causal, kind = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, config.model_type
    cure = "name a causal (decoder-only) language model, one whose architecture ends in ForCausalLM"
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{folder}: {text}", "is an encoder-decoder model, which mnemos does not train or ask", cure)
    if kind not in causal:
        raise ModelError(f"{folder}: {text}", "is no causal language model (text in, text out)", cure)
    named = set(getattr(config, "architectures", None) or ())
    if any(name.endswith(SCORERS) for name in named):
        cure = "name it as a reward (reward: {model: DIR}), or name the language model that it was made of"
        raise ModelError(f"{folder}: {text}", "gives a text a number or a class and writes none", cure)
    encoders = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if kind in encoders and not named & _listed(causal[kind]) and not getattr(config, "is_decoder", False):
        raise ModelError(f"{folder}: {text}", "is an encoder, which reads a text both ways and writes none", cure)


def _listed(names: Any) -> set[str]:
    return {names} if isinstance(names, str) else set(names)


def _refuse_unscored(folder: Path, config: Any, text: str) -> None:
    from transformers.models.auto import modeling_auto as auto

    if config.model_type not in auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise ModelError(
            f"{folder}: {text}",
            "has no head for sequences in transformers, which a reward model needs",
            "name another base",
        )
