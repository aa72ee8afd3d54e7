"""Which special tokens stand before a raw text: the tokenizer decides.

A tokenizer that has a BOS token need not use it: GPT-2, Pythia, SmolLM2 and many converted files set one that
`tokenizer(text)` does not write, and their models never saw it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def prefix_ids(tokenizer: Any) -> list[int]:
    """What `tokenizer(text)` puts before a text's own tokens: [BOS] for Llama and Gemma, nothing for GPT-2 and Qwen."""
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    full = list(tokenizer("a")["input_ids"])
    at = next((i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare), 0)
    return [int(token) for token in full[:at]]


def stand_in_ids(tokenizer: Any) -> list[int]:
    """What stands before an empty text, of which something must be predicted: BOS, used otherwise or not, or EOS
    where there is no BOS, as lm-evaluation-harness has it; empty where the tokenizer has neither."""
    first = tokenizer.bos_token_id
    first = tokenizer.eos_token_id if first is None else first
    return [] if first is None else [int(first)]


def begun(prefix: Sequence[int], ids: Sequence[int]) -> list[int]:
    """`ids` behind `prefix`, unless the text itself spells it: it never stands there twice."""
    return list(ids) if list(ids[: len(prefix)]) == list(prefix) else [*prefix, *ids]
