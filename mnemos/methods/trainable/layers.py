"""Which part of a transformer each parameter belongs to, by its name, across model families."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Literal

Part = Literal["attention", "mlp", "embeddings", "norms", "head"]

PATTERNS: list[tuple[Part, re.Pattern[str]]] = [
    ("norms", re.compile(r"norm|^ln_|^ln\d*$")),
    ("head", re.compile(r"^(lm_head|embed_out|output_projection|score|classifier)$")),
    ("embeddings", re.compile(r"embed|^(wte|wpe)$")),
    ("attention", re.compile(r"attn|attention")),
    ("mlp", re.compile(r"^(mlp|ffn|feed_forward|fc\d|fc_in|fc_out)$|moe|expert")),
]
"""Tried in this order on each component of a dotted name: a norm inside attention is a norm.
Covers Llama, Mistral, Qwen, Gemma, Phi, OLMo, GPT-2, GPT-NeoX, OPT, BLOOM, Falcon and whoever
names modules as they do; a family that names them otherwise is a row more."""


def parts_of(model: Any) -> dict[str, frozenset[Part]]:
    """Parameter name -> its parts: one, none where no pattern fits, and both embeddings and head
    for a weight that the model uses as both (tied)."""
    both: frozenset[Part] = frozenset({"embeddings", "head"})
    tied = tied_weight(model)
    # A tied weight comes once, under one of its two names.
    named = model.named_parameters()
    return {name: both if parameter is tied else _part(name) for name, parameter in named}


def _part(name: str) -> frozenset[Part]:
    components = name.split(".")
    for part, pattern in PATTERNS:
        if any(pattern.search(component) for component in components):
            return frozenset({part})
    return frozenset()


def tied_weight(model: Any) -> Any:
    """The weight shared by input embeddings and output layer, or None."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or embeddings is None or head.weight is not embeddings.weight:
        return None
    return head.weight


def layers_of(model: Any) -> tuple[dict[str, int], int]:
    """Parameter name -> index of its transformer layer, counted from 0, and how many there are.

    The stack is the numbered list of modules that holds most weights; parameters outside it
    (embeddings, last norm, head) are absent.
    """
    places: dict[str, tuple[str, int]] = {}
    weights: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        # The first number in a name is the layer's: experts numbered within a layer make no list of their own.
        found = re.match(r"(.*?)\.(\d+)\.", name)
        if found:
            places[name] = (found[1], int(found[2]))
            weights[found[1]] += parameter.numel()
    if not weights:
        return {}, 0
    stack = weights.most_common(1)[0][0]
    inside = {name: index for name, (prefix, index) in places.items() if prefix == stack}
    return inside, max(inside.values()) + 1


def known_names(model: Any, limit: int = 12) -> str:
    """Some parameter names for an error message, layer numbers written as N."""
    shapes = list(dict.fromkeys(re.sub(r"\.\d+\.", ".N.", name) for name, _ in model.named_parameters()))
    rest = f", … ({len(shapes) - limit} more)" if len(shapes) > limit else ""
    return ", ".join(shapes[:limit]) + rest
