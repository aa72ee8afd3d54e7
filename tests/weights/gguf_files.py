"""GGUF files of tiny models, written as llama.cpp's converter writes them: names, transposed heads, offset norms.

Written with the `gguf` package's own writer and name table, so that nothing of what is tested makes the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

SPECIAL, BYTE_OR_WORD = 3, 1
"""Kinds of tokens in a GGUF file: control, normal."""
OFFSET_NORMS = ("gemma2", "gemma3")
"""Architectures whose norms are stored as weight + 1."""


def write_gguf(
    file: Path,
    model: Any,
    tokenizer: Any,
    arch: str,
    kind: str = "F32",
    *,
    output_kind: str | None = None,
    pre: str = "gpt-2",
    template: bool = True,
    more: dict[str, Any] | None = None,
    extra: dict[str, np.ndarray] | None = None,
    raw: dict[str, tuple[np.ndarray, str]] | None = None,
) -> Path:
    """Write `model` (transformers.PreTrainedModel) and its byte-level tokenizer.

    kind: how matrices are stored (norms and biases stay float32): a name of gguf.GGMLQuantizationType that can be
    quantised. output_kind: of the output matrix; tied embeddings have one only where it is given. more: settings
    that are set last. extra: further tensors, float32. raw: blocks and their
    type, in place of a tensor's own.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(file, arch)
    config = model.config
    _settings(writer, config, arch)
    _vocabulary(writer, tokenizer, int(model.get_input_embeddings().weight.shape[0]), pre, template)
    for key, value in (more or {}).items():
        {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32, bool: writer.add_bool}[type(value)](
            key, value
        )
    for name, values in tensors_of(model, arch, output=output_kind is not None).items():
        if name in (raw or {}):
            blocks, type_ = (raw or {})[name]
            writer.add_tensor(name, blocks, raw_dtype=gguf.GGMLQuantizationType[type_])
            continue
        _tensor(writer, name, values, (output_kind or kind) if name == "output.weight" else kind)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def tensors_of(model: Any, arch: str, *, output: bool = False) -> dict[str, np.ndarray]:
    """name in the file -> float32 array. output: also of tied embeddings."""
    config = model.config
    number = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    tied = bool(config.tie_word_embeddings)
    found = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and tied and not output:
            continue
        stem, _, suffix = name.rpartition(".")
        other = names.get_name(stem)
        assert other is not None, name
        found[f"{other}.{suffix}"] = _as_stored(value.float(), f"{other}.{suffix}", arch, config).numpy()
    return found


def _as_stored(value: torch.Tensor, name: str, arch: str, config: Any) -> torch.Tensor:
    if arch in OFFSET_NORMS and name.endswith("norm.weight"):
        return value + 1
    if arch == "llama" and (".attn_q." in name or ".attn_k." in name):
        # As convert_hf_to_gguf.py permutes: pairs of a rotation lie beside each other there.
        heads = config.num_attention_heads if ".attn_q." in name else config.num_key_value_heads
        rest = value.shape[1:]
        return value.reshape(heads, 2, value.shape[0] // heads // 2, *rest).swapaxes(1, 2).reshape(value.shape)
    if (
        arch == "gpt2"
        and value.ndim == 2
        and any(part in name for part in ("attn_qkv", "ffn_down", "ffn_up", "attn_output"))
    ):
        return value.T.contiguous()
    return value


def _tensor(writer: Any, name: str, values: np.ndarray, kind: str) -> None:
    if values.ndim < 2 or kind == "F32":
        writer.add_tensor(name, values.astype(np.float32))
    elif kind == "F16":
        writer.add_tensor(name, values.astype(np.float16))
    else:
        number = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(values), number), raw_dtype=number)


def _settings(writer: Any, config: Any, arch: str) -> None:
    writer.add_name("Tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    if arch == "gpt2":
        writer.add_feed_forward_length(4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    if arch == "starcoder2":
        writer.add_layer_norm_eps(config.norm_epsilon)
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(width)
    writer.add_key_length(width)
    writer.add_value_length(width)
    rope = config.rope_parameters
    writer.add_rope_freq_base(float(rope.get("full_attention", rope)["rope_theta"]))
    if arch in OFFSET_NORMS:
        writer.add_sliding_window(config.sliding_window)


def _vocabulary(writer: Any, tokenizer: Any, rows: int, pre: str, template: bool) -> None:
    import json

    held = json.loads(tokenizer.backend_tokenizer.to_str())
    words = {number: word for word, number in tokenizer.get_vocab().items()}
    special = set(tokenizer.all_special_ids) | {token["id"] for token in held["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([words.get(number, f"[PAD{number}]") for number in range(rows)])
    writer.add_token_types([SPECIAL if number in special else BYTE_OR_WORD for number in range(rows)])
    writer.add_token_merges([" ".join(pair) for pair in held["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    # What it does, not its attribute: one that was read from files has BOS in its post-processor alone.
    writer.add_add_bos_token(tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id])
    if template and tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
