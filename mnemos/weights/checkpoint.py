"""Where a checkpoint lies and what it is: a Hugging Face directory, a GGUF file, a peft adapter directory or a hub id.

Found, named by content, and its tokenizer read; nothing here loads weights (`models.load` does), except that a GGUF
file is written anew once (`weights.gguf_convert`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.weights import gguf_convert
from mnemos.weights.adapter import adapter_base
from mnemos.weights.configuration import check_config
from mnemos.weights.explained import explained as explained
from mnemos.weights.files import (
    ADAPTER_CONFIG,
    CONFIG,
    CONFIGURATIONS,
    HUB_ID,
    PICKLES,
    PROCESSORS,
    TOKENIZER,
    WEIGHTS,
    chosen_files,
    is_recogniser,
    matches,
    pickles,
    read_config,
    readable,
)
from mnemos.weights.gguf_header import packed_file
from mnemos.weights.speech import PLACES, is_speech, speech_config, speech_folder


def named(path: str, *, trust_remote_code: bool = False, allow_pickle: bool = False) -> str:
    """The fingerprint of a checkpoint: changes exactly when weights, configuration, tokenizer or chat template do, and
    when what makes a recogniser's features of sounds does.

    A directory is named by its files' content, wherever it lies; a GGUF file by its content; a hub id by its commit;
    an adapter by its own files and its base. Raises ModelError when nothing lies at `path`.

    Trap: the parts of a model that listens are named without what makes features for them.
    """
    return _named(path, {"trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle}, features=True)


def _named(path: str, consent: dict[str, bool], *, features: bool) -> str:
    packed = _packed(Path(path), consent["allow_pickle"])
    if packed is not None:
        return fingerprint(gguf_convert.identity(packed))
    if not Path(path).is_dir():
        return fingerprint({"hub": path, "commit": _commit_or_unresolved(path)})
    folder = Path(path)
    with readable(folder):
        content: dict[str, Any] = {file.name: file_fingerprint(file) for file in _files(folder, **consent)}
        if features:
            content |= {file.name: file_fingerprint(file) for file in _processors(folder)}
    if (folder / ADAPTER_CONFIG).is_file():
        content["base"] = _named(adapter_base(folder), consent, features=features)
    elif is_speech(folder):
        content |= _parts(folder, consent)
    return fingerprint(content)


def parts_of(folder: Path) -> dict[str, Any]:
    """Of a model that listens, an adapter on one seen through: the fingerprint of each of its parts, whose weights lie
    outside its own; empty for any other model."""
    place = speech_folder(str(folder))
    return {} if place is None else _names_of_parts(place, {"trust_remote_code": False, "allow_pickle": False})


def _parts(folder: Path, consent: dict[str, bool]) -> dict[str, Any]:
    """Of a model that listens: its configuration without the places of its parts, and what these are."""
    config = read_config(folder / "config.json", CONFIGURATIONS["config.json"])
    return {
        "config.json": fingerprint({name: value for name, value in config.items() if name not in PLACES}),
        "parts": _names_of_parts(folder, consent),
    }


def _names_of_parts(folder: Path, consent: dict[str, bool]) -> dict[str, str]:
    # By the names under which runs of models that listen know them: with features they would all begin anew.
    return {name: _named(place, consent, features=False) for name, place in speech_config(folder).parts.items()}


def _processors(folder: Path) -> list[Path]:
    """What makes features of sounds for a recogniser, or an adapter on one; of no other model, whose name never looked
    at such files and need not."""
    there = [folder / name for name in PROCESSORS if (folder / name).is_file()]
    base = folder
    while there and (base / ADAPTER_CONFIG).is_file():
        base = Path(adapter_base(base))
    file = base / "config.json"
    heard = bool(there) and file.is_file() and is_recogniser(read_config(file, CONFIGURATIONS[file.name]))
    return there if heard else []


def _files(folder: Path, *, trust_remote_code: bool, allow_pickle: bool) -> list[Path]:
    """What decides what the model is; weights that `files.weight_files` passes over do not."""
    patterns: tuple[str, ...] = TOKENIZER + CONFIG
    patterns += PICKLES if allow_pickle else ()
    patterns += ("*.py",) if trust_remote_code else ()
    chosen = {file.name for file in chosen_files(folder)}
    # The index says something only where there are shards; one beside a single file is a leftover.
    patterns += ("*.safetensors.index.json",) if len(chosen) > 1 else () if chosen else WEIGHTS
    names = sorted(place.name for place in folder.iterdir() if place.is_file())
    return [folder / name for name in names if name in chosen or matches(name, patterns)]


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
            check_config(folder) if name == "config.json" else read_config(folder / name, what)
    template = folder / "chat_template.jinja"
    if template.is_file():
        with readable(template), explained(template, "is no text", "save it as UTF-8"):
            template.read_bytes().decode("utf-8")
    try:
        with explained(folder, "the tokenizer cannot be read", "copy the tokenizer files of the original again"):
            # transformers looks into config.json for the tokenizer's class, and knows no model that listens.
            listens = (
                {"config": usable_config(Path(speech_config(folder).language), False)} if is_speech(folder) else {}
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, **listens)
            tokenizer("A probe.", verbose=False)  # settings of the wrong kind are met in use alone
    except ModelError:
        if (folder / "config.json").is_file():
            usable_config(folder, trust_remote_code)  # it is read for the tokenizer's sake, and may be to blame
        raise
    return tokenizer


def tokenizer_of(handle: Any) -> Any:
    """The tokenizer of a model handle, with the chat settings that its study gives it (`models.load.Checkpoint`).
    Raises as `load_tokenizer`, and UsageError for settings that its chat template has no use for."""
    tokenizer = load_tokenizer(handle.path, trust_remote_code=bool(getattr(handle, "trust_remote_code", False)))
    chat = getattr(handle, "chat", None)
    return tokenizer if chat is None else chat.apply(tokenizer)


def usable_config(folder: Path, trust_remote_code: bool) -> Any:
    """transformers' configuration of a model (PreTrainedConfig); ModelError that names the file."""
    from transformers import AutoConfig

    cure = "restore config.json of the original model, or install the transformers that it was written for"
    with explained(folder / "config.json", "cannot be used", cure):
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)


def resolve(path: str, *, allow_pickle: bool, trust_remote_code: bool) -> Path:
    """The local directory of a checkpoint; a GGUF file is converted, a hub id downloaded, or found in the cache."""
    packed = _packed(Path(path), allow_pickle)
    if packed is not None:
        return gguf_convert.converted(packed)
    if Path(path).is_dir():
        return Path(path)
    patterns = [*WEIGHTS, *TOKENIZER, *CONFIG, "*.json", "*.model"]
    patterns += PICKLES if allow_pickle else ()
    patterns += ["*.py"] if trust_remote_code else []
    return _snapshot(path, patterns)


def configuration_folder(hub_id: str) -> Path:
    """The cached folder of a hub id's configuration, downloaded where it is not there; nothing else is. ModelError
    where it cannot be had."""
    return _snapshot(hub_id, [*CONFIG])


def _packed(place: Path, allow_pickle: bool) -> Path | None:
    """The GGUF file that is the model at `place`, unless pickles beside it were asked for."""
    found = packed_file(place)
    if found is not None and place.is_dir() and allow_pickle and pickles(place):
        return None
    return found


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
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return ModelError(
            f"{path}",
            f"neither a directory here nor a model in the hub's cache ({constants.HF_HUB_CACHE}), and nothing is "
            "downloaded while HF_HUB_OFFLINE is set",
            "check the path, name a revision that is in the cache (mnemos models lists it), or unset HF_HUB_OFFLINE",
        )
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelError(
        f"{path}",
        f"neither a directory here nor a model that the hub gave ({reason})",
        "check the path, the revision behind @ and the network; a private model needs HF_TOKEN",
    )
