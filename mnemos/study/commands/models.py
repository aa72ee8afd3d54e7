"""Models as a user has them: which lie in the caches, and what one of them is and needs, without its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnemos.core.cache import models_folder
from mnemos.core.errors import ModelError
from mnemos.core.files import read_json

PROBED = "a probe of what the template takes"
RANK = 16
"""Rank of the LoRA whose size is shown: the one that examples begin with."""
TOKENS = 512
"""Tokens of the micro-batch by which the memory of training is shown."""
SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn"}
TOOL = {
    "type": "function",
    "function": {
        "name": "probe_of_tools",
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {}, "required": []},
    },
}


@dataclass(frozen=True)
class Cached:
    """A model in a cache. name: what a study may say as `model:`. cache: mnemos or hub. size: in bytes. family and
    dtype: as config.json says, None where it does not. used: the last time, ISO 8601, UTC."""

    name: str
    cache: str
    size: int
    family: str | None
    dtype: str | None
    path: str
    used: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def cached() -> list[Cached]:
    """What was converted by mnemos and what the Hugging Face hub's cache holds, the last used first."""
    return sorted([*_converted(), *_downloaded()], key=lambda one: one.used, reverse=True)


def _converted() -> Iterator[Cached]:
    from mnemos.weights.gguf_convert import MARK

    for mark in sorted(models_folder().glob(f"*/{MARK}")):
        folder = mark.parent
        config = _config(folder)
        yield Cached(
            str(read_json(mark).get("made_of", folder)),
            "mnemos",
            sum(file.stat().st_size for file in folder.iterdir()),
            config.get("model_type"),
            _dtype(config),
            str(folder),
            _time(mark.stat().st_mtime),
        )


def _downloaded() -> Iterator[Cached]:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        found = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return
    for repo in found.repos:
        if repo.repo_type != "model":
            continue
        for revision in repo.revisions:
            name = "" if "main" in revision.refs else next(iter(sorted(revision.refs)), revision.commit_hash)
            config = _config(Path(revision.snapshot_path))
            yield Cached(
                f"{repo.repo_id}@{name}" if name else repo.repo_id,
                "hub",
                revision.size_on_disk,
                config.get("model_type"),
                _dtype(config),
                str(revision.snapshot_path),
                _time(repo.last_accessed),
            )


def _config(folder: Path) -> Mapping[str, Any]:
    """config.json of a cached model; empty where it has none that can be read, which a listing survives."""
    from mnemos.weights.files import read_config

    try:
        return read_config(folder / "config.json", "the model's configuration")
    except ModelError:
        return {}


def _dtype(config: Mapping[str, Any]) -> str | None:
    found = config.get("dtype") or config.get("torch_dtype")
    return str(found) if found else None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def describe(path: str) -> dict[str, Any]:
    """What a model is and what training it needs, from configuration, tokenizer and headers.

    Keys: model, path, made_of (a GGUF file's quantisation, an adapter's base, or None), family, architecture,
    parameters, bytes (of weights on disk), dtype, tied_embeddings, context_length, vocabulary, special_tokens,
    stop_tokens, chat_template (None, or hash, system, tools, thinking), lora, memory. A GGUF file is not converted for
    it. Raises ModelError as loading does.
    """
    from mnemos.sources.render import Renderer
    from mnemos.train.quiet import quieted

    with quieted(True):
        model, tokenizer, files = _opened(path)
        renderer = Renderer(tokenizer)
        counted = sum(parameter.numel() for parameter in model.parameters())
        config = model.config.get_text_config()
        rows = int(model.get_input_embeddings().weight.shape[0])
        tied = _tied(model)
        lora, adapted = _lora(model)
        memory = {
            "lora_bytes": _memory(adapted),
            # Another one: the estimate takes a model's layers away.
            "full_bytes": _memory(_opened(path)[0]),
            "tokens": TOKENS,
        }
    return {
        "model": path,
        **files,
        "family": model.config.model_type,
        "architecture": type(model).__name__,
        "parameters": counted,
        "tied_embeddings": tied,
        "context_length": getattr(config, "max_position_embeddings", None),
        "vocabulary": {"tokens": len(tokenizer), "rows": rows},
        "special_tokens": {
            name: {"text": str(token), "id": tokenizer.convert_tokens_to_ids(str(token))}
            for name, token in tokenizer.special_tokens_map.items()
            if isinstance(token, str)
        },
        "stop_tokens": _stops(model, renderer),
        "chat_template": _template(renderer),
        "lora": lora,
        "memory": memory,
    }


def _opened(path: str) -> tuple[Any, Any, dict[str, Any]]:
    """A model without numbers, its tokenizer, and what is known of its files."""
    from mnemos.models.load import load_model
    from mnemos.weights import gguf_convert
    from mnemos.weights.adapter import adapter_base
    from mnemos.weights.checkpoint import load_tokenizer, resolve
    from mnemos.weights.files import ADAPTER_CONFIG, chosen_files
    from mnemos.weights.gguf_header import packed_file

    packed = packed_file(Path(path))
    if packed is not None:
        model, tokenizer, header = gguf_convert.opened(packed)
        place = gguf_convert.place_of(packed)
        files = {
            "path": str(place) if place.is_dir() else str(packed),
            "made_of": f"GGUF, {header.quantisation}",
            "bytes": packed.stat().st_size,
            "dtype": header.dtype,
        }
        return model, tokenizer, files
    model = load_model(path, headers_only=True)
    folder = resolve(path, allow_pickle=False, trust_remote_code=False)
    base = adapter_base(folder) if (folder / ADAPTER_CONFIG).is_file() else None
    found = chosen_files(folder)
    files = {
        "path": str(folder),
        "made_of": f"an adapter on {base}" if base else None,
        "bytes": sum(file.stat().st_size for file in found),
        "dtype": _stored_dtype(found),
    }
    return model, load_tokenizer(path), files


def _stored_dtype(files: list[Path]) -> str | None:
    """The dtype that most bytes of some safetensors files have."""
    from mnemos.weights.files import stored_tensors

    sizes: dict[str, int] = {}
    for file in files:
        for text in stored_tensors(file).values():
            start, end = text["data_offsets"]
            sizes[text["dtype"]] = sizes.get(text["dtype"], 0) + end - start
    most = max(sizes, key=lambda name: sizes[name], default=None)
    return SAFETENSORS.get(most, most) if most else None


def _tied(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _stops(model: Any, renderer: Any) -> list[dict[str, Any]]:
    """Tokens that end an answer: what chat template, tokenizer and generation configuration say together."""
    from mnemos.models.language import stops_of

    numbers = sorted(stops_of(model, renderer))
    return [{"text": renderer.tokenizer.convert_ids_to_tokens(number), "id": number} for number in numbers]


def _template(renderer: Any) -> dict[str, Any] | None:
    tokenizer = renderer.tokenizer
    if not tokenizer.chat_template:
        return None
    asked = [{"role": "user", "content": "Hello."}]
    plain = _rendered(tokenizer, asked)
    system = _rendered(tokenizer, [{"role": "system", "content": PROBED}, *asked])
    with_tools = _rendered(tokenizer, asked, tools=[TOOL])
    on, off = (_rendered(tokenizer, asked, enable_thinking=value) for value in (True, False))
    return {
        "hash": renderer.template_fingerprint,
        "system": system is not None and PROBED in system,
        "tools": with_tools is not None and "probe_of_tools" in with_tools,
        # A variable that turns it on and off, or a tag that the template itself opens or takes away.
        "thinking": on != off or "<think>" in (plain or "") or "</think>" in str(tokenizer.chat_template),
    }


def _rendered(tokenizer: Any, messages: list[dict[str, str]], **variables: Any) -> str | None:
    """The conversation as text; None where the template refuses it, in whatever way."""
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **variables))
    except Exception:
        return None


def _lora(model: Any) -> tuple[dict[str, Any], Any]:
    """Which layers the method `lora` would adapt by default, and how many parameters move at rank RANK; the adapted
    model."""
    from peft import LoraConfig, get_peft_model

    from mnemos.weights.adapter import quiet_peft

    with quiet_peft():
        config = LoraConfig(task_type="CAUSAL_LM", r=RANK, target_modules="all-linear")
        adapted = get_peft_model(model, config, low_cpu_mem_usage=True)
    names = sorted({name.rsplit(".", 1)[-1] for name in adapted.targeted_module_names})
    moving = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    return {"targets": names, "rank": RANK, "parameters": moving}, adapted


def _memory(model: Any) -> int:
    """Bytes that training takes at its peak with AdamW, one row of TOKENS tokens at a time, beside the program itself;
    0 where the model cannot be run without numbers."""
    from mnemos.core.plan import AllParameters
    from mnemos.core.settings import TrainSettings
    from mnemos.train.estimate import needs_of
    from mnemos.train.simulate import Shape

    if not hasattr(model, "peft_config"):
        model = AllParameters().prepare(model)
    try:
        needs = needs_of(model, TrainSettings(), Shape((TOKENS,), TOKENS))
    except ModelError:
        return 0
    return needs.peak - needs.program
