"""Tiny tokenizers and models, made on the spot: no hub, no files, a few milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXT = [
    "The river runs past the old mill and under the stone bridge.",
    "What is two plus three? The answer is five.",
    "Ada Lane was born in Orford in 1912. She studied chemistry.",
    "I cannot help with that. Here is the weather report instead.",
    '{"name": "Ada", "age": 12}',
    "0 1 2 3 4 5 6 7 8 9 user assistant system tool",
]

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tiny_tokenizer(chat: bool = True, vocabulary: int = 400, adds_bos: bool = True) -> Any:
    """A byte-level BPE with BOS, EOS, pad and ChatML turn tokens; `chat` adds the template. adds_bos: whether
    ``tokenizer(text)`` writes BOS, as Llama's does and GPT-2's does not."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|bos|>", "<|eos|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXT * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|bos|>",
        eos_token="<|im_end|>" if chat else "<|eos|>",
        pad_token="<|pad|>",
        add_bos_token=adds_bos,
    )
    if chat:
        tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_model(tokenizer: Any, family: str = "llama", seed: int = 0, hidden: int = 32, layers: int = 2) -> Any:
    """A random causal language model of the named family in float32, eval mode."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma3TextConfig, GemmaConfig, GPT2Config, LlamaConfig, Qwen3Config

    common = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    shape = {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "max_position_embeddings": 512,
    }
    configs = {
        "llama": lambda: LlamaConfig(**common, **shape),
        "qwen3": lambda: Qwen3Config(**common, **shape),
        "gemma": lambda: GemmaConfig(**common, **shape),
        "gemma3": lambda: Gemma3TextConfig(**common, **shape),
        "gpt2": lambda: GPT2Config(**common, n_embd=hidden, n_layer=layers, n_head=4, n_positions=512),
    }
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(configs[family]()).eval()


def save_tiny(path: Path, family: str = "llama", seed: int = 0, chat: bool = True, **shape: int) -> Path:
    """A complete Hugging Face directory with a tiny model and its tokenizer."""
    tokenizer = tiny_tokenizer(chat)
    tiny_model(tokenizer, family, seed, **shape).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def save_tiny_encoder(folder: Path, positions: int = 12) -> Path:
    """A tiny BERT as sentence-transformers saves it."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = tiny_tokenizer(chat=False)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=positions, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    return folder
