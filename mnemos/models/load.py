"""Checkpoints: a Hugging Face directory, a peft adapter directory or a hub id, loaded or refused.

Refused with a cure: pickled weights and custom code that nobody asked for, damaged or missing
files, tensors that the architecture expects and the files lack, fewer embedding rows than the
tokenizer has tokens. More rows than tokens is a padded vocabulary and is fine.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import MnemosError, ModelError
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.core.plan import ModelHandle
from mnemos.models.adapter import adapter_base
from mnemos.models.files import (
    ADAPTER_CONFIG,
    CONFIG,
    CONFIGURATIONS,
    PICKLES,
    TOKENIZER,
    WEIGHTS,
    check_weights,
    chosen_files,
    gguf_refusal,
    matches,
    read_config,
    readable,
)

if TYPE_CHECKING:
    from mnemos.models.language import LocalModel

REWARD_HEAD = "score."
"""What transformers calls the head of a model that gives a sequence one number."""
IN_A_LAYER = re.compile(r"\.\d+\..*weight$")
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
        with readable(folder):
            content: dict[str, Any] = {file.name: file_fingerprint(file) for file in self._files(folder)}
        if (folder / ADAPTER_CONFIG).is_file():
            content["base"] = Checkpoint(adapter_base(folder), self.trust_remote_code, self.allow_pickle).fingerprint
        return fingerprint(content)

    def _files(self, folder: Path) -> list[Path]:
        """What decides what the model is; weights that `files.weight_files` passes over do not."""
        patterns: tuple[str, ...] = TOKENIZER + CONFIG
        patterns += PICKLES if self.allow_pickle else ()
        patterns += ("*.py",) if self.trust_remote_code else ()
        chosen = {file.name for file in chosen_files(folder)}
        patterns += ("*.safetensors.index.json",) if len(chosen) > 1 else () if chosen else WEIGHTS
        names = sorted(place.name for place in folder.iterdir() if place.is_file())
        return [folder / name for name in names if name in chosen or matches(name, patterns)]

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
    headers_only: bool = False,
) -> Any:
    """A model (transformers.PreTrainedModel) in eval mode, on the CPU: a causal language model, or with
    `reward` one that gives a sequence one number. new_head: take a language model's weights for it and
    let its head begin at zero.

    dtype: name of a torch dtype. merge: whether the adapters of an adapter directory are added
    into the base's weights (True; tied embeddings are untied where `models.adapter` says so) or stay a
    peft wrapper that `disable_adapter()` turns off (False). None merges in float32 only, because in
    16 bits a small update is lost in rounding. headers_only: a model without numbers (torch's meta
    device), made of configurations and headers in a moment, to refuse what they can tell.
    Raises ModelError for everything that the module's docstring lists.
    """
    how = _How(dtype, trust_remote_code, allow_pickle, reward, new_head, headers_only)
    model = _loaded(path, how, merge if merge is not None else dtype == "float32")
    if not headers_only:
        from mnemos.models.finite import refuse_nonfinite

        refuse_nonfinite(model, path)
    return model


@dataclass(frozen=True)
class _How:
    dtype: str
    trust_remote_code: bool
    allow_pickle: bool
    reward: bool
    new_head: bool
    headers_only: bool


def _loaded(path: str, how: _How, merge: bool) -> Any:
    folder = resolve(path, allow_pickle=how.allow_pickle, trust_remote_code=how.trust_remote_code)
    if not (folder / ADAPTER_CONFIG).is_file():
        read_config(folder / "config.json", "the model's configuration")
        check_weights(folder, how.allow_pickle)
        return _from_pretrained(folder, how)
    from mnemos.models.adapter import attached, check_adapter, merged

    under = adapter_base(folder)
    check_adapter(folder)
    base = _loaded(under, how, merge=True)  # an adapter under it is part of what it was trained on
    with explained(folder, "the adapter does not fit its base", "check base_model_name_or_path"):
        adapted = attached(base, folder)
    return merged(adapted, folder) if merge else adapted


def load_tokenizer(path: str, *, trust_remote_code: bool = False) -> Any:
    """The checkpoint's tokenizer (an adapter's own, else its base's). ModelError if it has none."""
    from transformers import AutoTokenizer

    folder = resolve(path, allow_pickle=False, trust_remote_code=trust_remote_code)
    names = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")
    if not any((folder / name).is_file() for name in names):
        if (folder / "adapter_config.json").is_file():
            return load_tokenizer(adapter_base(folder), trust_remote_code=trust_remote_code)
        raise ModelError(f"{folder}", "has no tokenizer files", "copy tokenizer.json and tokenizer_config.json there")
    for name, what in CONFIGURATIONS.items():
        # transformers reads them all, and would blame the tokenizer for any.
        if (folder / name).is_file():
            read_config(folder / name, what)
    with explained(folder, "the tokenizer cannot be read", "copy the tokenizer files of the original again"):
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
    if Path(path).is_file() and path.endswith(".gguf"):
        raise gguf_refusal(Path(path))
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


def _from_pretrained(folder: Path, how: _How) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
    from transformers.utils import logging

    from mnemos.models.architecture import refuse_other_kinds

    if not sys.stderr.isatty() or how.headers_only:
        logging.disable_progress_bar()
    auto = AutoModelForSequenceClassification if how.reward else AutoModelForCausalLM
    with explained(folder, "the model cannot be loaded", "check that weights and config.json belong together"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=how.trust_remote_code)
        refuse_other_kinds(folder, config, reward=how.reward)
        model, info = auto.from_pretrained(
            folder,
            **({"num_labels": 1} if how.reward else {}),
            **({"device_map": "meta"} if how.headers_only else {}),
            dtype=getattr(torch, how.dtype),
            trust_remote_code=how.trust_remote_code,
            use_safetensors=None if how.allow_pickle else True,
            output_loading_info=True,
        )
    missing = sorted(info["missing_keys"])
    if how.reward and how.new_head:
        missing = [name for name in missing if not name.startswith(REWARD_HEAD)]
        # At zero every answer is worth the same, and no seed decides how training begins.
        torch.nn.init.zeros_(model.score.weight)
    if missing:
        raise ModelError(
            f"{folder}",
            f"lacks {len(missing)} tensors that config.json asks for, first {missing[0]}",
            "such a model would run on random numbers: copy the complete checkpoint",
        )
    surplus = sorted(name for name in info["unexpected_keys"] if IN_A_LAYER.search(name))
    if surplus:
        raise ModelError(
            f"{folder}",
            f"holds {len(surplus)} weights of layers that config.json has no place for, first {surplus[0]}",
            "they would be left out without a word: check that config.json (num_hidden_layers) is this model's",
        )
    _check_stops(folder, model)
    return model.eval()


def _check_stops(folder: Path, model: Any) -> None:
    """Where an answer ends must be said in token ids: anything else would be asked of every answer."""
    found = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = found if isinstance(found, list | tuple) else [found]
    if not all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in ids):
        file = folder / "generation_config.json"
        raise ModelError(
            f"{file if file.is_file() else folder / 'config.json'}: eos_token_id = {found!r}"[:200],
            "must be a token id (an integer) or a list of them",
            "write the ids of the tokens that end an answer",
        )


@contextmanager
def explained(folder: Path, what: str, cure: str) -> Iterator[None]:
    """Turn whatever a library raises while it reads a checkpoint into a ModelError: it was given these
    files and nothing else, so it is about them. Lack of memory and interrupts stay what they are."""
    try:
        yield
    except (MnemosError, MemoryError):
        raise
    except BaseException as error:
        # tokenizers and safetensors panic in Rust, which is no Exception in Python.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if "trust_remote_code" in str(error):
            raise ModelError(f"{folder}", "brings its own code", "read it, then set trust_remote_code") from None
        if isinstance(error, PermissionError):
            raise ModelError(f"{folder}", f"may not be read ({error})", "chmod -R u+r on it") from None
        first = str(error).strip().splitlines()
        said = first[0] if first else type(error).__name__
        raise ModelError(f"{folder}", f"{what} ({said[:300]})", cure) from error
