"""Adapters of peft on a loaded model: put on, merged, and what that means for tied embeddings.

Where input embeddings and output layer are one tied weight, an adapter on one of the two was
trained on that one alone: the other kept the base's weight. Merged into the shared weight it would
change both, which is another model. So there is one rule, here and for merging out of core
(`weights.lora`): **an adapter that treats the two differently unties them**; the merged model has
two matrices and ``tie_word_embeddings: false``. peft's `ensure_weight_tying` treats both alike, and
leaves them tied.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError
from mnemos.core.places import resolved
from mnemos.weights.adapter_config import check_adapter_config
from mnemos.weights.files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    HUB_ID,
    check_safetensors,
    read_config,
    refuse_integers,
)
from mnemos.weights.gguf_header import is_gguf

MERGE_TOLERANCE = 1e-3
"""Largest difference between merged and adapted logits, as a share of the largest logit."""
CHECKED_TOKENS = 12
"""Tokens on which a merge is checked."""


def adapter_base(folder: Path) -> str:
    """Where the base model of an adapter directory lies; relative paths are tried from the
    current directory first, then from the adapter's. Raises ModelError where none is named, or
    where bases lead back to where they began."""
    # An adapter may stand on another adapter; only the chain is walked here, the answer is its first link.
    seen, here = [resolved(folder)], folder
    while True:
        base = _named_base(here)
        if not (Path(base) / ADAPTER_CONFIG).is_file():
            break
        here = Path(base)
        if resolved(here) in seen:
            raise ModelError(
                f"{folder / ADAPTER_CONFIG}: base_model_name_or_path = {_named_base(folder)}",
                "leads back to the adapter itself, so there is no model under it",
                "name the model that it was trained on",
            )
        seen.append(resolved(here))
    return _named_base(folder)


def _named_base(folder: Path) -> str:
    config = read_config(folder / ADAPTER_CONFIG, "the adapter's configuration")
    base = config.get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise ModelError(f"{folder}/{ADAPTER_CONFIG}", "names no base_model_name_or_path", "add the base's path")
    beside = folder / base
    here = _is_model(Path(base))
    if not here and not _is_model(beside) and not HUB_ID.match(base):
        raise ModelError(
            f"{folder / ADAPTER_CONFIG}: base_model_name_or_path = {base}",
            "there is no such directory or GGUF file, and it is no hub id",
            "name the model that the adapter was trained on",
        )
    return str(beside) if not here and _is_model(beside) else base


def _is_model(place: Path) -> bool:
    return place.is_dir() or (place.is_file() and is_gguf(place))


def check_adapter(folder: Path) -> None:
    """Raise ModelError where an adapter's own files are missing, damaged or stored as integers. Reads
    headers only."""
    file = folder / ADAPTER_WEIGHTS
    if not file.is_file():
        raise ModelError(f"{folder}", f"holds no {ADAPTER_WEIGHTS}", "save the adapter again as safetensors")
    check_safetensors(file)
    refuse_integers(file)


SOUNDS = {"mnemos_positions": "sounds"}
"""What stands in adapter_config.json, under a key that peft keeps as it is, where adapters count at sounds alone."""


def at_sounds(folder: Path) -> bool:
    """Whether the adapter of a directory counts at places of sounds alone."""
    config = read_config(folder / ADAPTER_CONFIG, "the adapter's configuration")
    return config.get("auto_mapping") == SOUNDS


def refuse_at_sounds(folder: Path) -> None:
    """ModelError for an adapter that counts at places of sounds alone: no weights do what it does."""
    if at_sounds(folder):
        cure = "use the adapter's directory as it is (mnemos listen ask, beside:), without keep_merged or arithmetic"
        raise ModelError(f"{folder}", "counts at places of sounds alone, so it cannot be merged", cure)


def attached(base: Any, folder: Path) -> Any:
    """`base` (transformers.PreTrainedModel) in a peft wrapper with the adapter of a directory on it, as it
    was trained. Raises what peft raises, and ModelError for a configuration that peft would not survive;
    absent tensors of the adapter are an error."""
    from peft import PeftModel

    file = folder / ADAPTER_CONFIG
    names = [name for name, _ in base.named_modules()]
    check_adapter_config(file, read_config(file, "the adapter's configuration"), names)
    with quiet_peft():
        # peft only warns of absent tensors.
        warnings.filterwarnings("error", message="Found missing adapter keys", category=UserWarning)
        # Without numbers there is nothing to copy into: tensors are put in whole, then emptied.
        empty = next(base.parameters()).is_meta
        adapted = PeftModel.from_pretrained(base, folder, low_cpu_mem_usage=empty).eval()
        return adapted.to("meta") if empty else adapted


def merged(adapted: Any, folder: Path) -> Any:
    """The plain model that computes what the wrapper does, its embeddings untied where they must be.

    folder: the adapter's, for messages. The logits on a few tokens are compared. Raises ModelError
    where they differ by more than MERGE_TOLERANCE of the largest: an adapter of a kind that cannot be
    merged as peft does it.
    """
    refuse_at_sounds(folder)
    empty = next(adapted.parameters()).is_meta
    probe = _probe(adapted)
    wanted = None if empty else _outputs(adapted, probe)
    alike = any(getattr(config, "ensure_weight_tying", False) for config in adapted.peft_config.values())
    model = adapted.get_base_model()
    # Before merging: peft adds to the matrix in place, and a shared one would take the change for both roles.
    was_tied = untie(model)
    with quiet_peft():
        plain = adapted.merge_and_unload().eval()
    if hasattr(plain, "note_changed"):  # a model that refers to the files of its parts
        plain.note_changed()
    # An adapter that touched neither, or both alike, left two equal matrices, which are one again then.
    if was_tied:
        _tie_again(plain, alike)
    if wanted is not None:
        _refuse_other(wanted, _outputs(plain, probe), folder)
    return plain


def _probe(model: Any) -> dict[str, Any]:
    """A few tokens, or half a second of a tone where the model hears, as its input."""
    import torch

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if inner.main_input_name != "input_ids":
        return _tone(inner)
    weight = model.get_input_embeddings().weight
    # Steps of a prime spread the few tokens over the vocabulary, whatever its size.
    ids = (torch.arange(CHECKED_TOKENS, device=weight.device) * 7919).remainder(weight.shape[0])
    return {"input_ids": ids.unsqueeze(0), "use_cache": False}


def _tone(model: Any) -> dict[str, Any]:
    import torch

    config, name = model.config, model.main_input_name
    shape: tuple[int, ...] = (1, 8000)
    if name != "input_values":
        bins = getattr(getattr(config, "encoder_config", config), "num_mel_bins", None)
        width = bins or config.feature_projection_input_dim
        # Whisper reads spectra bin by bin and all of its window, the others place by place.
        shape = (1, width, 2 * config.max_source_positions) if config.model_type == "whisper" else (1, 64, width)
    device = next(model.parameters()).device
    count = math.prod(shape)
    tone: dict[str, Any] = {name: torch.sin(torch.arange(count, device=device) * 0.7).view(shape)}
    if getattr(config, "is_encoder_decoder", False):
        tone["decoder_input_ids"] = torch.full((1, 4), config.decoder_start_token_id, device=device)
    return tone


def _outputs(model: Any, probe: dict[str, Any]) -> Any:
    import torch

    with torch.no_grad():
        if "input_ids" in probe and model.get_output_embeddings() is None:
            # A head for sequences looks for padding to find the last token; the trunk says as much.
            model = (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model
        out = model(**probe)
    return out[0].float()


def _refuse_other(wanted: Any, found: Any, folder: Path) -> None:
    if not bool(wanted.isfinite().all()):
        return  # Weights that are not finite are refused by name elsewhere.
    difference = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))
    # Not `>`: NaN from the merge must be refused too.
    if not difference <= MERGE_TOLERANCE:
        raise ModelError(
            f"{folder}: merged logits differ from the adapter's by {difference:.2g} of the largest",
            f"at most {MERGE_TOLERANCE} is rounding",
            "this kind of adapter cannot be merged: load it unmerged, or report model and peft version",
        )


def untie(model: Any) -> bool:
    """Give the output layer of a model (peft layers may be in it) a matrix of its own where it shares that
    of the input embeddings; says whether it did."""
    import torch

    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or embeddings is None:
        return False
    head, embeddings = _innermost(head), _innermost(embeddings)
    if head.weight is not embeddings.weight:
        return False
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
    _say_tied(model, False)
    return True


def _innermost(layer: Any) -> Any:
    """The layer of the base under peft's wrappers."""
    while True:
        inner = getattr(layer, "original_module", None) or getattr(layer, "base_layer", None)
        if inner is None:
            return layer
        layer = inner


def _tie_again(model: Any, alike: bool) -> None:
    """Share one matrix again where the adapter did the same to both."""
    import torch

    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if alike or (not head.weight.is_meta and torch.equal(head.weight, embeddings.weight)):
        head.weight = embeddings.weight
        _say_tied(model, True)


def _say_tied(model: Any, tied: bool) -> None:
    # Models of several kinds of input keep the setting of their text part in a configuration of its own.
    for config in {id(one): one for one in (model.config, model.config.get_text_config())}.values():
        config.tie_word_embeddings = tied


def untied_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json that says that embeddings and output layer are two matrices."""
    out = {**config, "tie_word_embeddings": False}
    if isinstance(out.get("text_config"), Mapping):
        out["text_config"] = {**out["text_config"], "tie_word_embeddings": False}
    return out


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Without peft's warnings about what is taken care of here."""
    with warnings.catch_warnings():
        for words in (
            "Model has `tie_word_embeddings=True`",  # untied on merging
            "Model with `tie_word_embeddings=True`",
            "Input and output embeddings are no longer tied",
            "Setting `save_embedding_layers`",  # the base's embedding is written along: complete, if large
            "fan_in_fan_out is set to",  # peft sets it right for GPT-2's Conv1D by itself
        ):
            warnings.filterwarnings("ignore", message=words)
        # peft asks transformers by a name that is on its way out.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield
