"""Checkpoints: a Hugging Face directory, a peft adapter directory or a hub id, loaded or refused.

Refused with a cure: pickled weights and custom code that nobody asked for, damaged or missing
files, tensors that the architecture expects and the files lack, fewer embedding rows than the
tokenizer has tokens. More rows than tokens is a padded vocabulary and is fine.
"""

from __future__ import annotations

import fnmatch
import json
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import ModelError
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.core.plan import ModelHandle

if TYPE_CHECKING:
    from mnemos.models.language import LocalModel

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
PICKLES = ("*.bin", "*.bin.index.json", "*.pt", "*.pth")
TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template*")
CONFIG = ("config.json", "generation_config.json", "adapter_config.json")
REWARD_HEAD = "score."
"""What transformers calls the head of a model that gives a sequence one number."""
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@[\w./-]+)?$")


@dataclass(frozen=True)
class Checkpoint:
    """A model that is not loaded yet; implements `core.plan.ModelHandle`.

    path: a directory (model or peft adapter) or a hub id, `name@revision` for other than main.
    trust_remote_code, allow_pickle: consent, by name, to running code that the checkpoint brings.
    """

    path: str
    trust_remote_code: bool = False
    allow_pickle: bool = False

    @property
    def fingerprint(self) -> str:
        """Changes exactly when weights, configuration, tokenizer or chat template do.

        A directory is named by its files' content, wherever it lies; a hub id by its commit; an
        adapter by its own files and its base. Raises ModelError when nothing lies at `path`.
        """
        if not Path(self.path).is_dir():
            return fingerprint({"hub": self.path, "commit": _commit_or_unresolved(self.path)})
        folder = Path(self.path)
        patterns: tuple[str, ...] = WEIGHTS + TOKENIZER + CONFIG
        if self.allow_pickle:
            patterns += PICKLES
        if self.trust_remote_code:
            patterns += ("*.py",)
        files = sorted(p for p in folder.iterdir() if p.is_file() and _matches(p.name, patterns))
        content: dict[str, Any] = {p.name: file_fingerprint(p) for p in files}
        if (folder / "adapter_config.json").is_file():
            content["base"] = Checkpoint(adapter_base(folder), self.trust_remote_code, self.allow_pickle).fingerprint
        return fingerprint(content)

    def load(self) -> LocalModel:
        """The model ready to be asked: on the GPU in bfloat16 if there is one, else float32."""
        import torch

        from mnemos.models.language import LocalModel

        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = "bfloat16" if device == "cuda" else "float32"
        consent = {"trust_remote_code": self.trust_remote_code, "allow_pickle": self.allow_pickle}
        tokenizer = load_tokenizer(self.path, trust_remote_code=self.trust_remote_code)
        model = load_model(self.path, dtype=dtype, **consent)
        check_vocabulary(model, tokenizer, self.path)
        return LocalModel(model, tokenizer, self.path, self.fingerprint, device=device)


def handle(reference: str) -> ModelHandle:
    """The handle of a model named in a setting; loads nothing and needs no torch.

    reference: a directory or hub id (-> `Checkpoint`); ``vllm:`` before one of these for vLLM in this
    process (-> `models.vllm.Engine`); or ``http(s)://host:port/v1#model-name`` for a model behind an
    OpenAI-compatible server (-> `models.server.Server`; its fingerprint is made of address and name, so
    a server's weights can change behind it). Raises UsageError for a server without a model's name.
    """
    if reference.startswith("vllm:"):
        from mnemos.models.vllm import Engine

        return Engine(Checkpoint(reference.removeprefix("vllm:")))
    if reference.startswith(("http://", "https://")):
        from mnemos.models.server import server

        return server(reference)
    return Checkpoint(reference)


def load_model(
    path: str,
    *,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    merge: bool | None = None,
    reward: bool = False,
    new_head: bool = False,
) -> Any:
    """A model (transformers.PreTrainedModel) in eval mode, on the CPU: a causal language model, or with
    `reward` one that gives a sequence one number. new_head: take a language model's weights for it and
    let its head begin at zero.

    dtype: name of a torch dtype. merge: whether the adapters of an adapter directory are added
    into the base's weights (True) or stay a peft wrapper that `disable_adapter()` turns off
    (False). None merges in float32 only, because in 16 bits a small update is lost in rounding.
    Raises ModelError for everything that the module's docstring lists.
    """
    folder = resolve(path, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    if (folder / "adapter_config.json").is_file():
        base = load_model(
            adapter_base(folder),
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
            reward=reward,
            new_head=new_head,
        )
        return _adapt(base, folder, merge if merge is not None else dtype == "float32")
    read_config(folder / "config.json", "the model's configuration")
    check_weights(folder, allow_pickle)
    return _from_pretrained(folder, dtype, trust_remote_code, allow_pickle, reward, new_head)


def load_tokenizer(path: str, *, trust_remote_code: bool = False) -> Any:
    """The checkpoint's tokenizer (an adapter's own, else its base's). ModelError if it has none."""
    from transformers import AutoTokenizer

    folder = resolve(path, allow_pickle=False, trust_remote_code=trust_remote_code)
    names = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")
    if not any((folder / name).is_file() for name in names):
        if (folder / "adapter_config.json").is_file():
            return load_tokenizer(adapter_base(folder), trust_remote_code=trust_remote_code)
        raise ModelError(f"{folder}", "has no tokenizer files", "copy tokenizer.json and tokenizer_config.json there")
    with _explained(folder, "the tokenizer cannot be read", "copy the tokenizer files of the original again"):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)


def check_vocabulary(model: Any, tokenizer: Any, path: str) -> None:
    """Raise ModelError when the tokenizer has tokens that the embedding has no row for."""
    rows, tokens = int(model.get_input_embeddings().weight.shape[0]), len(tokenizer)
    if rows < tokens:
        raise ModelError(
            f"{path}: {rows} embedding rows",
            f"its tokenizer has {tokens} tokens",
            "use the tokenizer that the model was trained with, or model.resize_token_embeddings(len(tokenizer))",
        )


def adapter_base(folder: Path) -> str:
    """Where the base model of an adapter directory lies; relative paths are tried from the
    current directory first, then from the adapter's."""
    config = read_config(folder / "adapter_config.json", "the adapter's configuration")
    base = config.get("base_model_name_or_path")
    if not base:
        raise ModelError(f"{folder}/adapter_config.json", "names no base_model_name_or_path", "add the base's path")
    beside = folder / str(base)
    return str(beside) if not Path(base).is_dir() and beside.is_dir() else str(base)


def resolve(path: str, *, allow_pickle: bool, trust_remote_code: bool) -> Path:
    """The local directory of a checkpoint; a hub id is downloaded, or found in the cache."""
    if Path(path).is_dir():
        return Path(path)
    patterns = [*WEIGHTS, *TOKENIZER, *CONFIG, "*.json", "*.model"]
    patterns += PICKLES if allow_pickle else ()
    patterns += ["*.py"] if trust_remote_code else []
    return _snapshot(path, patterns)


def _snapshot(path: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = _hub_name(path).partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError) as error:
        raise _not_found(path, error) from None


_UNRESOLVED: ContextVar[dict[str, str] | None] = ContextVar("unresolved hub ids", default=None)


@contextmanager
def unresolved_hub_ids() -> Iterator[dict[str, str]]:
    """Within it, a hub id whose commit cannot be found out is fingerprinted by its name alone, and
    collected: name -> why. For plans that are only shown; nothing may be trained or measured under it."""
    found: dict[str, str] = {}
    token = _UNRESOLVED.set(found)
    try:
        yield found
    finally:
        _UNRESOLVED.reset(token)


def _commit_or_unresolved(path: str) -> str | None:
    collected = _UNRESOLVED.get()
    if collected is None or not HUB_ID.match(path) or Path(path).exists():
        return _hub_commit(path)
    if path not in collected:
        try:
            return _hub_commit(path)
        except ModelError as error:
            collected[path] = error.bound
    return None


def _hub_commit(path: str) -> str:
    """The commit that a hub id stands for: asked from the hub, offline read from the cache."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    name, _, revision = _hub_name(path).partition("@")
    if constants.HF_HUB_OFFLINE:
        return _snapshot(path, [*CONFIG]).name
    try:
        return str(HfApi().model_info(name, revision=revision or None).sha)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise _not_found(path, error) from None


def _hub_name(path: str) -> str:
    if Path(path).is_file():
        raise ModelError(f"{path}", "is a file, not a model directory", "name the folder that holds config.json")
    if not HUB_ID.match(path):
        raise ModelError(f"{path}", "there is no such directory", "check the path, or give a hub id such as org/name")
    return path


def _not_found(path: str, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelError(
        f"{path}",
        f"neither a directory here nor a model that the hub gave ({reason})",
        "check the path; offline (HF_HUB_OFFLINE=1) only models in the cache can be named by hub id",
    )


def check_weights(folder: Path, allow_pickle: bool) -> None:
    """Raise ModelError when `folder` holds no weights, only pickles that nobody allowed, fewer
    shards than its index names, or a damaged file. Reads headers only."""
    files = sorted(folder.glob("*.safetensors"))
    if not files and not allow_pickle:
        pickled = sorted(p.name for p in folder.iterdir() if _matches(p.name, PICKLES))
        if pickled:
            raise ModelError(
                f"{folder / pickled[0]}",
                "is a pickle, which can run any code when opened",
                "convert it to safetensors, or set allow_pickle if you trust its author",
            )
        raise ModelError(f"{folder}", "holds no *.safetensors weights", "copy the checkpoint again")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = set(read_config(index, "the index of shards").get("weight_map", {}).values())
        missing = sorted(named - {p.name for p in files})
        if missing:
            raise ModelError(f"{folder / missing[0]}", "is named by the index but missing", "copy that shard again")
    for file in files:
        check_safetensors(file)


def check_safetensors(file: Path) -> None:
    """Raise ModelError naming `file` when its header or length is wrong. Reads the header only."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            opened.keys()
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{file}", f"is damaged ({error})", "copy or download this file again") from None


def _from_pretrained(
    folder: Path, dtype: str, trust_remote_code: bool, allow_pickle: bool, reward: bool, new_head: bool
) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    with _explained(folder, "the model cannot be loaded", "check that weights and config.json belong together"):
        auto = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
        model, info = auto.from_pretrained(
            folder,
            **({"num_labels": 1} if reward else {}),
            dtype=getattr(torch, dtype),
            trust_remote_code=trust_remote_code,
            use_safetensors=None if allow_pickle else True,
            output_loading_info=True,
        )
    missing = sorted(info["missing_keys"])
    if reward and new_head:
        missing = [name for name in missing if not name.startswith(REWARD_HEAD)]
        # At zero every answer is worth the same, and no seed decides how training begins.
        torch.nn.init.zeros_(model.score.weight)
    if missing:
        raise ModelError(
            f"{folder}",
            f"lacks {len(missing)} tensors that config.json asks for, first {missing[0]}",
            "such a model would run on random numbers: copy the complete checkpoint",
        )
    return model.eval()


def _adapt(base: Any, folder: Path, merge: bool) -> Any:
    from peft import PeftModel

    for file in folder.glob("*.safetensors"):
        check_safetensors(file)
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(f"{folder}", "holds no adapter_model.safetensors", "save the adapter again as safetensors")
    with (
        _explained(folder, "the adapter does not fit its base", "check base_model_name_or_path"),
        warnings.catch_warnings(),
    ):
        # peft asks transformers for a name that it has given up; and only warns of absent tensors.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        warnings.filterwarnings("error", message="Found missing adapter keys", category=UserWarning)
        adapted = PeftModel.from_pretrained(base, folder)
    return (adapted.merge_and_unload() if merge else adapted).eval()


@contextmanager
def _explained(folder: Path, what: str, cure: str) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, UserWarning) as error:
        if "trust_remote_code" in str(error):
            raise ModelError(f"{folder}", "brings its own code", "read it, then set trust_remote_code") from None
        first = str(error).strip().splitlines()
        raise ModelError(f"{folder}", f"{what} ({first[0] if first else type(error).__name__})", cure) from error


def read_config(file: Path, what: str) -> dict[str, Any]:
    """The JSON object in `file`; ModelError naming the file and `what` it is otherwise."""
    if not file.is_file():
        raise ModelError(f"{file}", f"{what} is missing", "copy the checkpoint again, with all of its files")
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{file}", f"{what} is not JSON ({error})", "copy this file again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{file}", f"{what} is not a JSON object", "copy this file again")
    return value


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
