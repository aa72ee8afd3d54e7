"""A LoRA adapter as a checkpoint: each row of a weight is adapted when it is read.

LoRA (arXiv:2106.09685): W + s B A with s = alpha / r, or alpha / sqrt(r) under rsLoRA
(arXiv:2312.03732). DoRA (arXiv:2402.09353): m * (W + s B A) / ||W + s B A||, the norm of each
output's row. Files are peft's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mnemos.core.errors import ModelError
from mnemos.weights.adapter import adapter_base, refuse_at_sounds
from mnemos.weights.adapter_config import check_adapter_config
from mnemos.weights.checkpoint import resolve
from mnemos.weights.files import read_config
from mnemos.weights.tensors import INPUT_NAMES, OUTPUT_NAMES, Patch, Stored, Weights, open_model, read_header

PREFIX = "base_model.model."
KINDS = ("lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector",
         "lora_magnitude_vector.weight")  # fmt: skip
CHANGES_ITS_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that also change the base, so that the saved adapter does not fit the original."""
REFUSED = (
    "target_parameters",
    "layer_replication",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "megatron_config",
    "trainable_token_indices",
    "monteclora_config",
    "kasa_config",
    "arrow_config",
)
"""Settings under which peft's files mean something else than W + s B A."""
MERGE_FIRST = "merge it with peft first"


@dataclass(frozen=True)
class LowRank:
    """Adds scaling * left @ right to a weight whose rows are left's. left: float32[rows, r];
    right: float32[r, columns]. magnitude: float32[rows] of DoRA, or None."""

    left: torch.Tensor
    right: torch.Tensor
    scaling: float
    magnitude: torch.Tensor | None = None

    def apply(self, block: torch.Tensor, start: int, width: int) -> torch.Tensor:
        """The rows from element `start` on, adapted."""
        rows = slice(start // width, (start + block.numel()) // width)
        # weight: [block's rows, columns] of the block's own memory; W + s B A for these rows only.
        weight = block.view(-1, width)
        weight.addmm_(self.left[rows].to(block.dtype), self.right.to(block.dtype), alpha=self.scaling)
        if self.magnitude is not None:
            # [block's rows]: the norm of the adapted row, so it needs whole rows and the sum above to be done.
            norm = torch.linalg.vector_norm(weight, dim=1)
            weight.mul_((self.magnitude[rows].to(block.dtype) / norm).unsqueeze(1))
        return block


@dataclass(frozen=True)
class Stacked:
    """An adapter on an adapter: the outer one sees the weights that the inner one left."""

    inner: Patch
    outer: Patch

    def apply(self, block: torch.Tensor, start: int, width: int) -> torch.Tensor:
        """The rows from element `start` on, adapted twice."""
        return self.outer.apply(self.inner.apply(block, start, width), start, width)


def open_weights(name: str, folder: Path) -> Weights:
    """Open a checkpoint's tensors, an adapter's on those of its base, without reading them.

    Raises ModelError as `tensors.open_model`, and for an adapter of a kind that cannot be added in
    or whose base is not here.
    """
    if not (folder / "adapter_config.json").is_file():
        return open_model(name, folder)
    base = resolve(adapter_base(folder), allow_pickle=False, trust_remote_code=False)
    return adapt(open_weights(name, base), folder)


def adapt(base: Weights, folder: Path) -> Weights:
    """`base` with the adapter of a directory on it; closes `base` where that is refused.

    Tensors that the adapter holds whole (modules_to_save) stand in for the base's. Raises
    ModelError for another kind of adapter, one that changed its base, or tensors that do not fit.
    """
    try:
        config = read_config(folder / "adapter_config.json", "the adapter's configuration")
        refuse_at_sounds(folder)
        _refuse(folder, config)
        file = folder / "adapter_model.safetensors"
        if not file.is_file():
            raise ModelError(f"{folder}", "holds no adapter_model.safetensors", "save the adapter again as safetensors")
        _, entries = read_header(file)
        modules = sorted({_module(key)[0] for key in entries})
        check_adapter_config(folder / "adapter_config.json", config, modules)
        base.adapter = folder
        # First of all: where roles are untied, the head gets a place of its own, which the two lines below look up.
        entries = _roles_apart(base, entries, config)
        for place, stored in _whole(base, entries, folder).items():
            base.own.setdefault(place, base.stored[place].dtype)
            base.stored[place] = stored
            # What stands in for the adapted tensor already holds what an adapter below did to it.
            base.patches.pop(place, None)
        for place, patch in _patches(base, entries, config, folder).items():
            base.patches[place] = Stacked(base.patches[place], patch) if place in base.patches else patch
    except BaseException:
        base.close()
        raise
    return base


def _roles_apart(base: Weights, entries: Mapping[str, Stored], config: Mapping[str, Any]) -> dict[str, Stored]:
    """Untie `base` where the adapter touches one role of a tied embedding, by the rule of `weights.adapter`.

    Returns the tensors that are to be read: where peft kept both roles alike (ensure_weight_tying),
    those of the output layer say the same again and are left out.
    """
    names = {key: _module(key)[0].removesuffix(".weight") + ".weight" for key in entries}
    touched = [key for key, name in names.items() if name.endswith((*INPUT_NAMES, *OUTPUT_NAMES))]
    if not touched or not base.shares_embeddings:
        return dict(entries)
    if config.get("ensure_weight_tying"):
        return {key: stored for key, stored in entries.items() if not names[key].endswith(OUTPUT_NAMES)}
    base.untie()
    return dict(entries)


def _refuse(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ModelError(f"{folder}", f"is an adapter of kind {kind}, not LoRA or DoRA", MERGE_FIRST)
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(CHANGES_ITS_BASE):
        raise ModelError(
            f"{folder}: init_lora_weights = {start!r}",
            "its training changed the base weights too",
            "save it again with peft's path_initial_model_for_weight_conversion",
        )
    odd = [key for key in REFUSED if config.get(key)]
    # There a row of the stored weight is an input, and DoRA's norm is taken of each output.
    if config.get("use_dora") and config.get("fan_in_fan_out"):
        odd.append("use_dora with fan_in_fan_out")
    if odd:
        raise ModelError(f"{folder}: {odd[0]}", "is not read here", MERGE_FIRST)


def _module(key: str) -> tuple[str, str]:
    """(module, what of it) of an adapter's tensor; the second is empty for a whole tensor."""
    bare = key.removeprefix(PREFIX)
    for kind in KINDS:
        if bare.endswith("." + kind):
            return bare.removesuffix("." + kind), kind.removesuffix(".weight")
    # Names of peft's wrappers, which stand between the module's own.
    return re.sub(r"\.(base_layer|modules_to_save|original_module)(?=\.)", "", bare), ""


def _whole(base: Weights, entries: Mapping[str, Stored], folder: Path) -> dict[str, Stored]:
    found = {}
    for key, stored in entries.items():
        name, kind = _module(key)
        if kind:
            continue
        place = base.find(name)
        if "lora_" in name or place is None or (place != name and name.endswith(OUTPUT_NAMES)):
            raise ModelError(f"tensor {key} of {folder}", "has no counterpart in its base", MERGE_FIRST)
        if base.stored[place].shape != stored.shape:
            raise ModelError(
                f"tensor {key} of {folder}: shape {list(stored.shape)}",
                f"shape {base.shape(place)} in its base",
                MERGE_FIRST,
            )
        found[place] = stored
    return found


def _patches(
    base: Weights, entries: Mapping[str, Stored], config: Mapping[str, Any], folder: Path
) -> dict[str, LowRank]:
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, stored in entries.items():
        module, kind = _module(key)
        if kind:
            tensor = stored.block(0, math.prod(stored.shape), torch.float32).view(stored.shape)
            parts.setdefault(module, {})[kind] = tensor
    return dict(_patch(base, module, found, config, folder) for module, found in parts.items())


def _patch(
    base: Weights, module: str, parts: Mapping[str, torch.Tensor], config: Mapping[str, Any], folder: Path
) -> tuple[str, LowRank]:
    embedding = "lora_embedding_A" in parts
    a, b = (parts.get(f"lora_{'embedding_' if embedding else ''}{side}") for side in "AB")
    place = base.find(f"{module}.weight")
    if a is None or b is None or place is None or a.dim() != 2 or b.dim() != 2:
        raise ModelError(f"{module} of {folder}", "is not adapted in a way that is read here", MERGE_FIRST)
    # The weight is [in, out] there: an embedding's factors are A [r, tokens], B [width, r], a Conv1D's A [r, in],
    # B [out, r], and the update is (B A)^T = A^T B^T.
    turned = embedding or bool(config.get("fan_in_fan_out"))
    left, right = (a.T.contiguous(), b.T.contiguous()) if turned else (b, a)
    shape = base.stored[place].shape
    if (left.shape[0], right.shape[1]) != shape or left.shape[1] != right.shape[0]:
        raise ModelError(
            f"{module} of {folder}: an update of shape {[left.shape[0], right.shape[1]]}",
            f"shape {list(shape)} in its base",
            "check base_model_name_or_path",
        )
    magnitude = parts.get("lora_magnitude_vector")
    if magnitude is not None and turned:
        raise ModelError(f"{module} of {folder}", "is a DoRA of an embedding", MERGE_FIRST)
    scaling = _scaling(module, config)
    return place, LowRank(left, right, scaling, None if magnitude is None else magnitude.flatten())


def _scaling(module: str, config: Mapping[str, Any]) -> float:
    def of(name: str, patterns: str) -> float:
        found = config.get(patterns) or {}
        # The first pattern that fits wins, by the same expression as in peft.
        match = next((key for key in found if re.match(rf"(.*\.)?({key})$", module)), None)
        return float(found[match] if match is not None else config[name])

    rank, alpha = of("r", "rank_pattern"), of("lora_alpha", "alpha_pattern")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
