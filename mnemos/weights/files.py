"""Files of a checkpoint: which of them is the model, and whether they can be read at all.

One rule says which file holds the weights, transformers' own: what config.json names under
`transformers_weights`, else ``model.safetensors``, else the shards of
``model.safetensors.index.json``. Loading, merging and fingerprints follow it, so that a file left
over from an earlier save belongs to none of them.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
PICKLES = ("*.bin", "*.bin.index.json", "*.pt", "*.pth")
TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template*")
CONFIG = ("config.json", "generation_config.json", "adapter_config.json")
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""What makes features of sounds (and of pictures); the second is transformers 5's, which holds the tokenizer's too."""
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@[\w./-]+)?$")
"""Names of models on a hub, with a revision or without."""
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
VECTOR = "mnemos_vector.json"
"""What a directory holds that is a difference of checkpoints and no model."""
CONFIGURATIONS = {
    "config.json": "the model's configuration",
    "generation_config.json": "the generation configuration",
    "tokenizer_config.json": "the tokenizer's configuration",
}
"""JSON objects that transformers reads, and what each is called in a message."""
INTEGERS = frozenset({"I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL"})
"""What safetensors calls numbers that no gradient can move."""
WEIGHT_NAMES = ("weight", "bias", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector")
"""Last part of the names of tensors that are weights, and so must be floating-point numbers."""


@contextmanager
def readable(place: Path) -> Iterator[None]:
    """Turn an error of the system (permissions, a file in a folder's place) into a ModelError that says
    which, so that a forbidden file is not called a damaged one."""
    try:
        yield
    except OSError as error:
        file = Path(str(error.filename)) if error.filename else place
        if error.errno in (errno.EACCES, errno.EPERM):
            raise ModelError(f"{file}", "may not be read (permission denied)", f"chmod u+r {file}") from None
        text = error.strerror or str(error) or type(error).__name__
        raise ModelError(f"{file}", f"cannot be read ({text})", "check the path and the disk") from None


def read_config(file: Path, what: str) -> dict[str, Any]:
    """The JSON object in `file`; ModelError naming the file and `what` it is otherwise."""
    with readable(file):
        if not file.is_file():
            raise ModelError(f"{file}", f"{what} is missing", "copy the checkpoint again, with all of its files")
        data = file.read_bytes()
    try:
        value = json.loads(data.decode("utf-8"))
    except RecursionError:
        raise ModelError(f"{file}", f"{what} is nested too deep", "copy this file again") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"{file}", f"{what} is not JSON ({error})", "copy this file again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{file}", f"{what} is not a JSON object", "copy this file again")
    return value


def is_recogniser(config: Any) -> bool:
    """Whether a configuration (transformers', or its JSON object) names a model that hears and writes."""
    found = config if isinstance(config, dict) else config.to_dict()
    names = found.get("architectures")
    return isinstance(names, list) and any(
        str(name).endswith("ForCTC") or name == "WhisperForConditionalGeneration" for name in names
    )


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a file's name fits one of the patterns, upper and lower case apart."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def weight_files(folder: Path, stem: str = "model") -> tuple[Path, ...]:
    """The safetensors files that are the model, by the module's rule; empty where there are none.

    stem: ``model``, or ``vector`` for a saved difference. Raises ModelError for an index that cannot be
    read, names no file, or names one that is missing.
    """
    text = read_config(folder / "config.json", "the model's configuration") if _has(folder / "config.json") else {}
    named = text.get("transformers_weights") if stem == "model" else None
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if isinstance(named, str):
        if Path(named).name != named or not named.endswith((".safetensors", ".safetensors.index.json")):
            raise ModelError(
                f"{folder / 'config.json'}: transformers_weights = {named!r}",
                "must be a safetensors file, or the index of several, in this folder",
                "name such a file, or leave it out",
            )
        # The folder itself is no file, so that a named index is not passed over for a single file.
        single, index = (folder / named, index) if named.endswith(".safetensors") else (folder / "", folder / named)
        if not _has(single) and not _has(index):
            raise ModelError(f"{folder / named}", "is named by config.json but missing", "copy that file again")
    if _has(single):
        return (single,)
    return _shards(index) if _has(index) else ()


def chosen_files(folder: Path) -> list[Path]:
    """Every safetensors file that decides what a checkpoint is: a model's, a saved difference's, an
    adapter's own; empty where there is none."""
    found = list(weight_files(folder, "vector" if _has(folder / VECTOR) else "model"))
    own = folder / ADAPTER_WEIGHTS
    return [*found, own] if _has(folder / ADAPTER_CONFIG) and _has(own) else found


def _has(file: Path) -> bool:
    with readable(file):
        return file.is_file()


def _shards(index: Path) -> tuple[Path, ...]:
    where = read_config(index, "the index of shards").get("weight_map")
    if not isinstance(where, Mapping) or not where or not all(isinstance(name, str) for name in where.values()):
        raise ModelError(f"{index}", "has no weight_map of tensors and files", "copy this file again")
    names = sorted(set(where.values()))
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise ModelError(f"{index}: {outside[0]}", "is not in the index's own folder", "move the shards beside it")
    missing = [name for name in names if not _has(index.parent / name)]
    if missing:
        raise ModelError(f"{index.parent / missing[0]}", "is named by the index but missing", "copy that shard again")
    return tuple(index.parent / name for name in names)


def check_weights(folder: Path, allow_pickle: bool) -> None:
    """Raise ModelError when `folder` holds no weights, only pickles that nobody allowed, only a kind of
    file that is not read, fewer shards than its index names, a damaged file, or weights stored as
    integers that no quantisation explains. Reads headers only."""
    files = weight_files(folder, "vector" if _has(folder / VECTOR) else "model")
    if not files and not (allow_pickle and pickles(folder)):
        raise _no_weights(folder)
    config = read_config(folder / "config.json", "the model's configuration") if files else {}
    for file in files:
        check_safetensors(file)
        if not config.get("quantization_config"):
            refuse_integers(file)


def pickles(folder: Path) -> list[str]:
    """Names of files in a folder that may be pickled weights."""
    with readable(folder):
        return sorted(place.name for place in folder.iterdir() if matches(place.name, PICKLES))


def _no_weights(folder: Path) -> ModelError:
    with readable(folder):
        names = sorted(place.name for place in folder.iterdir())
    for name in names:
        if matches(name, WEIGHTS) and not (folder / name).is_file():
            return ModelError(f"{folder / name}", "is no regular file (a folder, a pipe, a device or a broken link)",
                              "copy the checkpoint again")  # fmt: skip
    pickled = [name for name in names if matches(name, PICKLES)]
    if pickled:
        return ModelError(
            f"{folder / pickled[0]}",
            "is a pickle, which can run any code when opened",
            "convert it to safetensors, or set allow_pickle if you trust its author",
        )
    loose = [name for name in names if name.endswith(".safetensors")]
    if loose:
        return ModelError(
            f"{folder}",
            f"holds {', '.join(loose[:3])} but neither model.safetensors nor model.safetensors.index.json",
            "copy the index, without which nobody knows which files belong together",
        )
    return ModelError(f"{folder}", "holds no *.safetensors weights", "copy the checkpoint again")


def check_safetensors(file: Path) -> None:
    """Raise ModelError naming `file` when it may not be read, or its header or length is wrong. Reads the
    header only."""
    from safetensors import SafetensorError, safe_open

    # First as a plain file: safe_open would call one that may not be read a damaged one.
    with readable(file), open(file, "rb"):
        pass
    try:
        with safe_open(file, framework="pt") as opened:
            opened.keys()
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{file}", f"is damaged ({error})", "copy or download this file again") from None


def stored_tensors(file: Path) -> dict[str, dict[str, Any]]:
    """name -> dtype, shape and data_offsets, as the header of a safetensors file has them."""
    with readable(file), open(file, "rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        value: dict[str, dict[str, Any]] = json.loads(opened.read(length))
    value.pop("__metadata__", None)
    return value


def refuse_integers(file: Path) -> None:
    """Raise ModelError where a weight is stored as integers: cast to floats they would be a model of
    nobody's, and nothing would say so."""
    for name, text in stored_tensors(file).items():
        if text.get("dtype") in INTEGERS and name.rsplit(".", 1)[-1] in WEIGHT_NAMES:
            raise ModelError(
                f"tensor {name} in {file}",
                f"is stored as {text['dtype']}: a weight must be a floating-point number",
                "give the checkpoint in bfloat16 or float32, or its quantization_config in config.json",
            )
