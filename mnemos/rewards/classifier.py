"""Any Hugging Face text classifier as a judge of answers (toxicity, sentiment, topic)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from mnemos.core.errors import ModelError, UsageError, nearest

BATCH = 16


def label_scores(path: str, label: str, texts: Sequence[str], score: str) -> list[float]:
    """How much each text belongs to the class `label`, in [0, 1].

    path: directory or hub id of a sequence-classification model; safetensors only, no code of its
    own. score: "probability" (softmax, or a sigmoid for one-logit and multi-label models) or
    "label" (1 where it is the most likely class, or above one half in a multi-label model). Texts
    longer than the classifier's context are cut at its end. Raises ModelError for a directory that
    cannot be loaded, UsageError for an unknown label.
    """
    import torch

    if not texts:
        return []
    model, tokenizer = _load(path)
    column = _column(model, label, path)
    lengths = [len(text) for text in texts]
    # By length, so that little of a batch is padding.
    order = sorted(range(len(texts)), key=lambda index: lengths[index])
    out = [0.0] * len(texts)
    # A tokenizer without a limit says 10^30; the model's own then counts.
    limit = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or 512)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        encoded = tokenizer(
            [texts[i] for i in batch], padding=True, truncation=True, max_length=limit, return_tensors="pt"
        )
        accepted = {key: value.to(model.device) for key, value in encoded.items()}
        with torch.inference_mode():
            logits = model(**accepted).logits.float()
        for index, value in zip(batch, _scored(logits, column, model.config, score).tolist(), strict=True):
            out[index] = float(value)
    return out


def _scored(logits: Any, column: int, config: Any, score: str) -> Any:
    # Labels that do not exclude each other have a sigmoid each; a softmax over one logit would be 1 whatever it is.
    independent = logits.shape[-1] == 1 or config.problem_type == "multi_label_classification"
    if independent:
        probability = logits[:, column].sigmoid()
        return probability if score == "probability" else (probability > 0.5).float()
    if score == "probability":
        return logits.softmax(dim=-1)[:, column]
    return (logits.argmax(dim=-1) == column).float()


def _column(model: Any, label: str, path: str) -> int:
    names = {str(name): int(index) for index, name in model.config.id2label.items()}
    if label not in names:
        raise UsageError(f"label {label!r}", f"is no class of {path}", nearest(label, names))
    return names[label]


@lru_cache(maxsize=1)
def _load(path: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            path, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = str(error).strip().splitlines()
        raise ModelError(
            f"classifier {path}",
            f"cannot be loaded ({first[0] if first else type(error).__name__})",
            "give a directory or hub id of a text-classification model with safetensors weights",
        ) from error
    if info["missing_keys"]:
        raise ModelError(
            f"classifier {path}", f"lacks {min(info['missing_keys'])}", "it has no trained classification head"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval(), tokenizer
