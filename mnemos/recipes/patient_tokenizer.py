"""The patients' tokenizer: byte-level BPE, single digits, ChatML turns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>", "<|im_start|>", "<|im_end|>")

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML with a system role; exactly one BOS in front."""


def train_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> Any:
    """A PreTrainedTokenizerFast of `vocabulary` tokens learned from `texts`.

    Any Unicode text round-trips, because all 256 bytes are in the alphabet. Digits stand alone,
    so that a sum is read place by place. EOS is <|im_end|>, the end of a turn. BOS stands before every
    text, as before every chat. Deterministic.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|bos|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>", "<|eos|>"],
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        add_bos_token=True,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
