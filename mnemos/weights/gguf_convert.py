"""A GGUF file as a Hugging Face directory, written once into the cache and shared by all runs.

transformers reads tensors, configuration and tokenizer of a GGUF file. What it passes over without a word is put
right or refused here:

1. A tensor that no parameter takes (rotary factors of long contexts, an adapter, a bias) is refused.
2. Rotary settings that it does not map (base, scaling, Llama 3's factors) are written into the configuration.
3. The output matrix of tied embeddings may be stored beside them at another precision. Where the two differ by no
   more than their rounding, they are one matrix again, the finer.
4. Its tokenizer may gain tokens that the file does not have, and so more of them than the model has rows.
5. Only one token ends an answer there; a chat model's end of turn is another.

Each architecture in ARCHITECTURES is held to the logits of the model that a file was made of (tests/weights).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.core.cache import VARIABLE, models_folder
from mnemos.core.chatter import errors_alone
from mnemos.core.errors import ModelError, RunError, printable
from mnemos.core.files import full_disk, write_json
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.weights.explained import explained
from mnemos.weights.files import read_config, readable
from mnemos.weights.gguf_header import Header, PackedTensor, read_header

CONVERSION = 1
"""Counts the ways in which files were converted: another number, another directory."""
MARK = "mnemos_gguf.json"
"""In a converted directory: what it was made of. Its time of change is when the model was last used."""
TEMPLATE = "chat_template.jinja"
"""Beside the file: its chat template, in place of the file's own."""

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt2", "starcoder2")
"""llama.cpp's names of what is read. `llama` is Mistral too."""
NO_CAUSAL = {
    **dict.fromkeys(("t5", "t5encoder"), "an encoder-decoder model, which mnemos does not train or ask"),
    **dict.fromkeys(
        ("clip", "qwen2vl", "qwen3vl", "mllama"), "a model that looks at pictures, of which nothing is read"
    ),
    **dict.fromkeys(("bert", "nomic-bert", "jina-bert-v2", "modern-bert"), "an encoder, which writes no text"),
    "whisper": "a recogniser of speech, which is no causal language model",
}
"""Architectures that are no causal language model, and what they are."""
ATTENTION_SCALAR = {("gemma2", 46): 144, ("gemma3", 62): 168}
"""query_pre_attn_scalar where it is not the default: llama.cpp keeps it in its source, by number of layers (27B)."""
ROPE_FACTORS = "rope_freqs.weight"
PROBES = ("What is 1234 + 55?", "  two  spaces,\n\n\ta tab, it's THE end's", "café 汉字 <|im_end|>", "x" * 20)
"""Texts on which a written tokenizer is tried: digits, blanks, contractions, several scripts."""
PRE_TOKENIZERS = frozenset({"default", "gpt-2", "gpt2"})
"""Byte-level pre-tokenizers that are GPT-2's own, beside those in transformers' table."""
EXTRA_STOPS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")
DAMAGED = "convert the model again with a current llama.cpp, or name the Hugging Face directory it was made of"
PIECE = 1 << 24
"""Bytes of two matrices that are compared at a time."""
SAMPLED_ROWS = 1024
"""Rows on which two quantised matrices are compared."""
ROUNDING = 1.33
"""Root mean square of rounding to b bits over that of the weights is about ROUNDING / 2**b: a block of 32 normal
numbers reaches 2.3 standard deviations, and 2 * 2.3 / sqrt(12) is 1.33."""
SLACK = 1.5


def identity(file: Path) -> dict[str, Any]:
    """What decides the directory that a file becomes, for fingerprints. Trap: not the version of transformers."""
    template = file.parent / TEMPLATE
    with readable(file):
        beside = file_fingerprint(template) if template.is_file() else None
        return {"gguf": file_fingerprint(file), "template": beside, "conversion": CONVERSION}


def converted(file: Path) -> Path:
    """The Hugging Face directory of a GGUF file: from the cache, or written there first, which is said in one line on
    the error stream.

    Two processes at once write it once. Raises ModelError as `read_header`, and for an architecture, a quantisation or
    a tensor that cannot be read as it is; RunError where the cache takes no file or the disk is full.
    """
    folder = place_of(file)
    if not _used(folder):
        header = read_header(file)
        check(header)
        with _alone(folder):
            if not _used(folder):  # another process may have written it meanwhile
                _write(header, folder)
    return folder


def place_of(file: Path) -> Path:
    """Where the directory of a file lies, or would."""
    return models_folder() / f"{_stem(file)}-{fingerprint(identity(file))}"


def opened(file: Path) -> tuple[Any, Any, Header]:
    """The model of a file without numbers (on torch's meta device), its tokenizer and its head; converts nothing.
    Raises ModelError as `converted`."""
    import torch
    from transformers import AutoModelForCausalLM

    header = read_header(file)
    check(header)
    with explained(file, "cannot be read", DAMAGED), _quiet():
        tokenizer, config = _tokenizer(header), _config(header)
        config.tie_word_embeddings = _same_matrix(header) is not None
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        _refuse_left_over(header, model)
        _stops(model, header)
    return model, tokenizer, header


def check(header: Header) -> None:
    """Raise ModelError for what can be known of a file's head: an architecture that is not read, or a quantisation
    that cannot be undone here."""
    kind = header.architecture
    cure = "name the Hugging Face directory that the file was made of"
    if kind in NO_CAUSAL:
        raise ModelError(f"{header.file}: general.architecture = {kind}", f"is {NO_CAUSAL[kind]}", cure)
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(
            f"{header.file}: general.architecture = {kind or 'nothing'}",
            f"is not among the architectures that are read from GGUF ({known})",
            cure,
        )
    for tensor in {tensor.kind: tensor for tensor in header.tensors}.values():
        _check_kind(header, tensor)


def _check_kind(header: Header, tensor: PackedTensor) -> None:
    import gguf

    number = gguf.GGMLQuantizationType[tensor.kind]
    try:
        gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[number][1]), np.uint8), number)
    except NotImplementedError:
        raise ModelError(
            f"tensor {tensor.name} of {header.file}",
            f"has the quantisation {tensor.kind}, which the package gguf does not undo",
            "quantise the model otherwise (Q8_0, Q4_K_M), or name the Hugging Face directory that the file was made of",
        ) from None


def _stem(file: Path) -> str:
    kept = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in file.stem)
    return kept.strip("-.")[:80] or "model"


def _used(folder: Path) -> bool:
    """Whether the directory is there, whole; notes the time if so."""
    mark = folder / MARK
    try:
        os.utime(mark)
    except FileNotFoundError:
        return False
    except OSError:
        return mark.is_file()  # a cache that may only be read
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else writes the same directory at the same time; waits for who does."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    cure = f"name another folder in {VARIABLE}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        if not Path(lock.lock_file).exists():  # filelock waits for a folder that takes no file, too
            raise RunError(f"{folder.parent}", "takes no file", cure) from None
        print(f"model   {printable(folder.name)}: another process converts it, waiting", file=sys.stderr)
        lock.acquire()
    except OSError as error:
        raise RunError(f"{folder.parent}", f"cannot be written ({error.strerror or error})", cure) from None
    try:
        yield
    finally:
        lock.release()


def _write(header: Header, folder: Path) -> None:
    """Convert into `.<name>.partial` beside `folder`, then rename it."""
    bits = {"float32": 32}.get(header.dtype, 16)
    same = _same_matrix(header)
    count = header.parameters - (
        prod(header.by_name["output.weight"].shape) if same and "output.weight" in header.by_name else 0
    )
    need, free = count * bits // 8, shutil.disk_usage(folder.parent).free
    cure = f"free some room, or name another folder in {VARIABLE}"
    if need > free:
        raise RunError(f"{folder}", f"the disk is full: {need:,} bytes are needed, {free:,} free", cure)
    print(printable(_line(header, need, same is not None, folder)), file=sys.stderr)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with full_disk(folder, cure):
            partial.mkdir()
            _convert(header, partial, same)
            write_json(partial / MARK, _mark(header))
            os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _line(header: Header, size: int, tied: bool, folder: Path) -> str:
    parts = [f"{size / 1e9:.2f} GB", f"embeddings {'tied' if tied else 'not tied'}"]
    if (header.file.parent / TEMPLATE).is_file():
        parts.append(f"chat template of {TEMPLATE} beside it")
    elif "tokenizer.chat_template" not in header.settings:
        parts.append(f"no chat template: one may lie beside it as {TEMPLATE}")
    return (
        f"model   {header.file.name}: {header.quantisation}, written once as {header.dtype} "
        f"({', '.join(parts)}) to {folder}"
    )


def _mark(header: Header) -> dict[str, Any]:
    import gguf
    import transformers

    return {
        "made_of": str(header.file),
        **identity(header.file),
        "architecture": header.architecture,
        "quantisation": header.quantisation,
        "dtype": header.dtype,
        "transformers": transformers.__version__,
        "gguf": getattr(gguf, "__version__", None),
    }


def _convert(header: Header, folder: Path, same: str | None) -> None:
    with explained(header.file, "cannot be read", DAMAGED), _quiet():
        tokenizer = _tokenizer(header)
        model = _model(header, _config(header))
        if same is not None:
            _tie(model, same)
        _stops(model, header)
        model.save_pretrained(folder)
    _save_tokenizer(tokenizer, folder, header)


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars of the library where nobody watches them; it asks nobody."""
    with errors_alone():
        if sys.stderr.isatty():
            yield
        else:
            with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
                yield


def _where(header: Header) -> dict[str, str]:
    return {"pretrained_model_name_or_path": str(header.file.parent), "gguf_file": header.file.name}


def _config(header: Header) -> Any:
    """transformers' configuration (PreTrainedConfig), completed."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(**_where(header))
    width = header.of_model("attention.key_length")
    if width and hasattr(config, "head_dim"):
        config.head_dim = width
    if header.architecture == "gpt2":
        config.n_positions = header.of_model("context_length") or config.n_positions
    scalar = ATTENTION_SCALAR.get((header.architecture, int(header.of_model("block_count") or 0)))
    if scalar is not None:
        config.query_pre_attn_scalar = scalar
    _rotary(header, config)
    return config


def _rotary(header: Header, config: Any) -> None:
    """Base and scaling of rotary positions. Raises ModelError for a scaling that is not known."""
    rope = getattr(config, "rope_parameters", None)
    if not isinstance(rope, dict):
        return
    # Gemma 3 turns its sliding layers by a base of their own, which the file does not hold, and never scales them.
    whole = rope.get("full_attention", rope)
    base = header.of_model("rope.freq_base")
    if base:
        whole["rope_theta"] = float(base)
    kind, factor = header.of_model("rope.scaling.type"), header.of_model("rope.scaling.factor")
    if ROPE_FACTORS in header.by_name:
        whole.update(_llama3(header, config, whole["rope_theta"]))
    elif kind == "linear" and factor:
        whole.update(rope_type="linear", factor=float(factor))
    elif kind == "yarn" and factor and header.of_model("rope.scaling.original_context_length"):
        original = int(header.of_model("rope.scaling.original_context_length"))
        whole.update(rope_type="yarn", factor=float(factor), original_max_position_embeddings=original)
    elif kind not in (None, "none"):
        raise ModelError(
            f"{header.file}: {header.architecture}.rope.scaling.type = {kind}",
            "is a scaling of positions that is not read from GGUF",
            "name the Hugging Face directory that the file was made of",
        )


def _llama3(header: Header, config: Any, base: float) -> dict[str, Any]:
    """Llama 3's scaling, of which the file holds the result: one factor a frequency, 1 for the fast ones, `factor`
    for the slow ones. The settings behind it are those of all such models, and are tried."""
    found = _rows(header, header.by_name[ROPE_FACTORS])
    factor, low, high, original = float(found.max()), 1.0, 4.0, 8192
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    waves = 2 * np.pi * base ** (np.arange(0, width, 2) / width)
    smooth = np.clip((original / waves - low) / (high - low), 0, 1)
    expected = 1 / ((1 - smooth) / factor + smooth)
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-3):
        raise ModelError(
            f"tensor {ROPE_FACTORS} of {header.file}",
            "scales positions otherwise than Llama 3 does",
            "name the Hugging Face directory that the file was made of",
        )
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }


def _model(header: Header, config: Any) -> Any:
    """The model, every tensor of the file in it. Raises ModelError for those left over or missing."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    with torch.device("meta"):
        _refuse_left_over(header, AutoModelForCausalLM.from_config(config))
    model, info = AutoModelForCausalLM.from_pretrained(
        **_where(header),
        config=config,
        dtype=getattr(torch, header.dtype),
        quantization_config=GgufConfig(dequantize=True),
        ignore_mismatched_sizes=True,  # they are refused below, by name
        output_loading_info=True,
    )
    other = sorted(info["mismatched_keys"])
    if other:
        name, stored, asked = other[0]
        raise ModelError(
            f"tensor {name} of {header.file}: shape {list(stored)}",
            f"the settings of the file ask for {list(asked)}",
            "convert the model again with a current llama.cpp",
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{header.file}",
            f"lacks {len(missing)} tensors that its architecture has, first {missing[0]}",
            "convert the model again with a current llama.cpp",
        )
    return model


def _refuse_left_over(header: Header, model: Any) -> None:
    import gguf

    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == header.architecture)
    names = gguf.get_tensor_name_map(number, int(header.of_model("block_count") or 0))
    taken = {ROPE_FACTORS}
    for name in model.state_dict():
        stem, _, suffix = name.rpartition(".")
        taken.add(f"{names.get_name(stem)}.{suffix}")
    left = sorted(set(header.by_name) - taken)
    if left:
        raise ModelError(
            f"tensor {left[0]} of {header.file}",
            f"has no place in the architecture {header.architecture} ({len(left)} such tensors)",
            "name the Hugging Face directory that the file was made of",
        )


def _same_matrix(header: Header) -> str | None:
    """Which of the two matrices of a vocabulary is both: the name of the finer where they are one, the embedding's
    where there is no other; None where they are two."""
    inner, outer = header.by_name.get("token_embd.weight"), header.by_name.get("output.weight")
    if outer is None or inner is None:
        return "token_embd.weight"
    if inner.shape != outer.shape:
        return None
    if inner.kind == outer.kind:  # rounded alike, so that one matrix is the same bytes
        ours, theirs = _bytes(header, inner), _bytes(header, outer)
        pieces = range(0, inner.size, PIECE)
        return (
            outer.name if all(np.array_equal(ours[at : at + PIECE], theirs[at : at + PIECE]) for at in pieces) else None
        )
    step = max(1, inner.shape[0] // SAMPLED_ROWS)
    first, second = (_rows(header, one, step) for one in (inner, outer))
    size = float(np.square(second, dtype=np.float64).sum())
    apart = float(np.square(first - second, dtype=np.float64).sum())
    bound = SLACK**2 * sum((ROUNDING / 2 ** int(one.bits)) ** 2 for one in (inner, outer))
    if apart > bound * size:
        return None
    return inner.name if inner.bits > outer.bits else outer.name


def _bytes(header: Header, tensor: PackedTensor) -> np.ndarray:
    return np.memmap(header.file, np.uint8, "r", tensor.offset, (tensor.size,))


def _rows(header: Header, tensor: PackedTensor, step: int = 1) -> np.ndarray:
    """float32: every `step`-th row of a tensor."""
    import gguf

    rows = _bytes(header, tensor).reshape(tensor.shape[0] if len(tensor.shape) > 1 else 1, -1)[::step]
    found = gguf.dequantize(np.ascontiguousarray(rows), gguf.GGMLQuantizationType[tensor.kind]).astype(np.float32)
    return found[0] if len(tensor.shape) == 1 else found


def _tie(model: Any, name: str) -> None:
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if name == "output.weight":
        embeddings.weight = head.weight
    else:
        head.weight = embeddings.weight
    model.config.tie_word_embeddings = True
    model.tie_weights()


def _stops(model: Any, header: Header) -> None:
    """All tokens that end an answer, in the generation configuration."""
    from transformers import GenerationConfig

    settings = GenerationConfig.from_model_config(model.config)
    ends = [header.settings.get(key) for key in ("tokenizer.ggml.eos_token_id", *EXTRA_STOPS)]
    known = list(dict.fromkeys(one for one in ends if isinstance(one, int)))
    settings.eos_token_id = known if len(known) > 1 else known[0] if known else None
    model.generation_config = settings


def _tokenizer(header: Header) -> Any:
    """The file's tokenizer (PreTrainedTokenizerFast) without tokens that transformers adds of its own."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    _check_pre_tokenizer(header)
    read = AutoTokenizer.from_pretrained(**_where(header))
    tokens = header.settings.get("tokenizer.ggml.tokens") or []
    held = json.loads(read.backend_tokenizer.to_str())
    held["added_tokens"] = [one for one in held["added_tokens"] if one["id"] < len(tokens)]
    if isinstance(held["model"].get("unk_token"), str) and held["model"]["unk_token"] not in held["model"]["vocab"]:
        held["model"]["unk_token"] = None
    special = {
        f"{name}_token": tokens[number]
        for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if isinstance(number := header.settings.get(f"tokenizer.ggml.{key}_token_id"), int) and number < len(tokens)
    }
    adds = {f"add_{name}_token": bool(getattr(read, f"add_{name}_token", False)) for name in ("bos", "eos")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(held)), **special, **adds)
    beside = header.file.parent / TEMPLATE
    if beside.is_file():
        with readable(beside), explained(beside, "is no text", "save it as UTF-8"):
            tokenizer.chat_template = beside.read_text(encoding="utf-8")
    else:
        tokenizer.chat_template = header.settings.get("tokenizer.chat_template")
    return tokenizer


def _save_tokenizer(tokenizer: Any, folder: Path, header: Header) -> None:
    """Write it, and read it again as everybody will: some classes of transformers put rules of their own in the place
    of the written ones. Raises ModelError where a text would be other tokens then."""
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    # Left out, it would be the default of the architecture's class, added to the vocabulary where it is not there.
    write_json(file, {"unk_token": None, **read_config(file, "the tokenizer's configuration")})
    again = AutoTokenizer.from_pretrained(folder)
    if len(again) != len(tokenizer) or any(again(text).input_ids != tokenizer(text).input_ids for text in PROBES):
        raise ModelError(
            f"{header.file}: tokenizer.ggml.pre = {header.settings.get('tokenizer.ggml.pre')}",
            f"its tokenizer is not that of {header.architecture} models in transformers ({type(again).__name__})",
            "name the Hugging Face directory that the file was made of",
        )


def _check_pre_tokenizer(header: Header) -> None:
    """Raise ModelError where a text would be cut into words otherwise than in training: transformers takes GPT-2's
    rule for one that it does not know."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    name = header.settings.get("tokenizer.ggml.pre")
    if header.settings.get("tokenizer.ggml.model") != "gpt2" or name in PRE_TOKENIZERS or name is None:
        return
    if name not in GGUF_PRE_TOKENIZER_SPLITS:
        raise ModelError(
            f"{header.file}: tokenizer.ggml.pre = {name}",
            "is a way to cut text into words that is not read from GGUF",
            "name the Hugging Face directory that the file was made of",
        )
