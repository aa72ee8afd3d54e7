"""A model and rows made on the spot: random weights in the shape of Qwen3-0.6B, words of Python's own documentation."""

from __future__ import annotations

import pydoc_data.topics
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import byte_level_bpe
from mnemos.core.nouns import Example, Turn

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Size:
    """How much is done. layers, hidden, vocabulary: of the model. batch: rows a step; pairs of preferences: half of it.
    steps: of a training, the first outside the clock. length: tokens of a row at most. items: of multiple choice.
    prompts, written: of generation, and the tokens of each answer. answers, group: of a step of GRPO."""

    layers: int
    hidden: int
    vocabulary: int
    batch: int
    steps: int
    length: int
    items: int
    prompts: int
    written: int
    answers: int
    group: int


FULL = Size(28, 1024, 151_936, 32, 9, 512, 400, 64, 128, 64, 8)
SMALL = Size(2, 64, 2_048, 4, 3, 64, 12, 4, 8, 4, 2)
"""To try the whole script where there is no GPU; its figures are not kept."""


def make(folder: Path, size: Size) -> Path:
    """Write model and tokenizer into `folder`, in bfloat16; returns it."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    tokenizer = _tokenizer(min(8_192, size.vocabulary))
    config = Qwen3Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=3 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=16 if size.hidden >= 1024 else 4,
        num_key_value_heads=8 if size.hidden >= 1024 else 2,
        head_dim=128 if size.hidden >= 1024 else 16,
        max_position_embeddings=4_096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def examples(size: Size) -> tuple[Example, ...]:
    """Prompts and completions, as many as all steps need, of lengths as instructions have them."""
    rows = texts(size, size.batch * size.steps)
    return tuple(
        Example(f"row{n}", "completion", (Turn("prompt", prompt), Turn("completion", answer)))
        for n, (prompt, answer) in enumerate(rows)
    )


def texts(size: Size, count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Prompts and answers of words: log-normal lengths, together well below `size.length` tokens."""
    rng = random.Random(seed)
    words = " ".join(pydoc_data.topics.topics.values()).split()

    def piece(share: float) -> str:
        # A word of this documentation is about two tokens.
        most = int(share * size.length / 4)
        number = max(2, min(most, int(most * rng.lognormvariate(-1.0, 0.6))))
        start = rng.randrange(len(words) - number)
        return " ".join(words[start : start + number])

    return [(piece(0.5), piece(0.5)) for _ in range(count)]


def _tokenizer(vocabulary: int) -> Any:
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    core = byte_level_bpe(pydoc_data.topics.topics.values(), vocabulary, special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer
