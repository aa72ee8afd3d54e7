"""Checkpoints: a Hugging Face directory, a peft adapter directory or a hub id, loaded or refused.

Refused with a cure: pickled weights and custom code that nobody asked for, damaged or missing
files, tensors that the architecture expects and the files lack, fewer embedding rows than the
tokenizer has tokens. More rows than tokens is a padded vocabulary and is fine.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import ModelError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.plan import ModelHandle
from mnemos.models.precision import HALVES, compute_dtype, stacked
from mnemos.weights.adapter import adapter_base
from mnemos.weights.checkpoint import explained, named, resolve, tokenizer_of, usable_config
from mnemos.weights.configuration import check_config
from mnemos.weights.files import (
    ADAPTER_CONFIG,
    check_weights,
)
from mnemos.weights.precision import SINGLE
from mnemos.weights.speech import is_speech
from mnemos.weights.tied import OUTPUT_NAMES, check_tied

if TYPE_CHECKING:
    from mnemos.models.language import LocalModel
    from mnemos.sources.chat_settings import ChatSettings

REWARD_HEAD = "score."
"""What transformers calls the head of a model that gives a sequence one number."""
IN_A_LAYER = re.compile(r"\.\d+\..*weight$")


@dataclass(frozen=True)
class Checkpoint:
    """A model that is not loaded yet; implements `core.plan.ModelHandle`.

    path: a directory (model or peft adapter) or a hub id, `name@revision` for other than main.
    trust_remote_code, allow_pickle: consent, by name, to running code that the checkpoint brings.
    chat: what a study gives to its chat template.
    torch_dtype: what it computes in; unless given, what is fast here (`models.precision`).
    lora_scale: how much its adapters, which stay beside the weights then, count; 1 is as trained
    (`models.adapter_scale`).
    """

    path: str
    trust_remote_code: bool = False
    allow_pickle: bool = False
    chat: ChatSettings | None = None
    torch_dtype: str | None = None
    lora_scale: float | None = None

    @property
    def fingerprint(self) -> str:
        """Changes exactly when weights, configuration, tokenizer or chat template do (`weights.checkpoint.named`), or
        the dtype that was asked for."""
        name = named(self.path, trust_remote_code=self.trust_remote_code, allow_pickle=self.allow_pickle)
        name = name if self.chat is None else fingerprint([name, self.chat.fingerprint])
        name = name if self.torch_dtype is None else fingerprint([name, self.torch_dtype])
        return name if self.lora_scale is None else fingerprint([name, "lora_scale", self.lora_scale])

    def load(self) -> LocalModel:
        """The model ready to be asked, on the GPU if there is one, in the dtype that it computes in; of a recogniser,
        a `models.recognisers.base.Recogniser`, which is asked otherwise."""
        import torch

        from mnemos.models.language import LocalModel
        from mnemos.models.recognisers.classes import hears
        from mnemos.models.suppress import suppress

        if hears(self.path):
            ears: Any = self._ears()
            return ears  # type: ignore[no-any-return]

        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = compute_dtype(self)
        consent = {"trust_remote_code": self.trust_remote_code, "allow_pickle": self.allow_pickle}
        tokenizer = tokenizer_of(self)
        model = load_model(self.path, dtype=dtype, merge=None if self.lora_scale is None else False, **consent)
        if self.lora_scale is not None:
            from mnemos.models.adapter_scale import scale_by

            scale_by(model, self.lora_scale)
        check_vocabulary(model, tokenizer, self.path)
        return LocalModel(suppress(model, self.path), tokenizer, self.path, self.fingerprint, device=device)

    def _ears(self) -> Any:
        from mnemos.models.recognisers.wrap import wrapped

        network = load_model(self.path, hears=True, merge=True, allow_pickle=self.allow_pickle)
        network.to("cuda" if _on_gpu() else "cpu")
        return wrapped(network, self.path, self.fingerprint)


def _on_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def handle(reference: str) -> ModelHandle:
    """The handle of a model named in a setting; loads nothing and needs no torch.

    reference: a directory or hub id (-> `Checkpoint`); ``vllm:`` before one of these for vLLM in this
    process (-> `models.vllm.Engine`); or ``http(s)://host:port/v1#model-name`` for a model behind an
    OpenAI-compatible server (-> `models.server.Server`; its fingerprint is made of address and name, so
    a server's weights can change behind it), where several addresses with commas between them are replicas that share
    the questions. Raises UsageError for a server without a model's name.
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
    load_in_4bit: bool = False,
    hears: bool = False,
) -> Any:
    """A model (transformers.PreTrainedModel) in eval mode, on the CPU: a causal language model, or with
    `reward` one that gives a sequence one number, or with `hears` a recogniser of speech. new_head: take a language
    model's weights for it and let its head begin at zero.

    dtype: name of a torch dtype. merge: whether the adapters of an adapter directory are added
    into the base's weights (True; tied embeddings are untied where `weights.adapter` says so) or stay a
    peft wrapper that `disable_adapter()` turns off (False). None merges in float32 only, because in
    16 bits a small update is lost in rounding; what is merged all the same is added in float32, then cast.
    headers_only: a model without numbers (torch's meta device), made of configurations and headers in a
    moment, to refuse what they can tell. load_in_4bit: its linear layers in 4 bits (NF4, by bitsandbytes),
    computing in `dtype`; ModelError for an adapter's directory.
    Raises ModelError for everything that the module's docstring lists.
    """
    how = _How(dtype, trust_remote_code, allow_pickle, reward, new_head, headers_only, load_in_4bit, hears)
    model = _loaded(path, how, merge if merge is not None else dtype == "float32" and not _stays(path))
    if not headers_only:
        from mnemos.weights.finite import refuse_nonfinite

        refuse_nonfinite(model, path)
    return model


def _stays(path: str) -> bool:
    """Whether an adapter's directory cannot be merged, because it counts at places of sounds alone."""
    from mnemos.weights.adapter import at_sounds

    return (Path(path) / ADAPTER_CONFIG).is_file() and at_sounds(Path(path))


@dataclass(frozen=True)
class _How:
    dtype: str
    trust_remote_code: bool
    allow_pickle: bool
    reward: bool
    new_head: bool
    headers_only: bool
    load_in_4bit: bool
    hears: bool


def _loaded(path: str, how: _How, merge: bool) -> Any:
    folder = resolve(path, allow_pickle=how.allow_pickle, trust_remote_code=how.trust_remote_code)
    if is_speech(folder):
        return _listening(folder, how)
    if not (folder / ADAPTER_CONFIG).is_file():
        check_config(folder)
        check_weights(folder, how.allow_pickle)
        check_tied(folder)
        return _from_pretrained(folder, how)
    from mnemos.weights.adapter import at_sounds, attached, check_adapter, merged

    if how.load_in_4bit:
        raise ModelError(
            f"{folder}",
            "is an adapter, which cannot be added to a base in 4 bits",
            "merge it first (mnemos merge), or leave load_in_4bit out",
        )
    under = adapter_base(folder)
    check_adapter(folder)
    # In 16 bits a small update is lost where it is added to a large weight, so what is merged is merged in float32,
    # and the sum is cast: an adapter under this one is part of what it was trained on, and always merged.
    exact = replace(how, dtype=SINGLE) if how.dtype in HALVES else how
    consent = {"allow_pickle": how.allow_pickle, "trust_remote_code": how.trust_remote_code}
    base = _loaded(under, exact if merge or stacked(folder, **consent) else how, merge=True)
    with explained(folder, "the adapter does not fit its base", "check base_model_name_or_path"):
        adapted = attached(base if merge else _cast(base, how), folder)
    if at_sounds(folder) and not merge:
        from mnemos.models.adapter_scale import at_sounds_alone

        at_sounds_alone(adapted)
    return _cast(merged(adapted, folder), how) if merge else adapted


def _listening(folder: Path, how: _How) -> Any:
    """A language model that listens, whose parts are checkpoints of their own."""
    from mnemos.models.speech.files import assembled

    check_config(folder)
    if how.reward or how.hears:
        raise ModelError(f"{folder}", "is a language model that listens, and no model of this kind", "name another")
    ears = lambda place: Checkpoint(place)._ears()  # noqa: E731 - only called where a sound has no transcript yet
    return assembled(folder, lambda place: _loaded(place, how, merge=True), ears, empty=how.headers_only)


def _cast(model: Any, how: _How) -> Any:
    """The model with its weights in the dtype asked for, as if it had been loaded so: what no file holds, such as the
    frequencies of rotary positions, keeps its own dtype, which `model.to` would round."""
    wanted = _torch_dtype(how)
    stored = set(model.state_dict())
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if name in stored and value.is_floating_point():
            value.data = value.data.to(wanted)
    return model


def _torch_dtype(how: _How) -> Any:
    import torch

    return getattr(torch, how.dtype)


def parameters_of(handle: ModelHandle) -> int:
    """How many parameters a checkpoint has, tied ones once, from configuration and headers. Raises as `load_model`."""
    code, pickle = (bool(getattr(handle, name, False)) for name in ("trust_remote_code", "allow_pickle"))
    from mnemos.models.recognisers.classes import hears

    heard = hears(handle.path)
    model = load_model(handle.path, headers_only=True, hears=heard, trust_remote_code=code, allow_pickle=pickle)
    return sum(parameter.numel() for parameter in model.parameters())


def check_vocabulary(model: Any, tokenizer: Any, path: str) -> None:
    """Raise ModelError when the tokenizer has tokens that the embedding has no row for."""
    rows, tokens = int(model.get_input_embeddings().weight.shape[0]), len(tokenizer)
    if rows < tokens:
        raise ModelError(
            f"{path}: {rows} embedding rows",
            f"its tokenizer has {tokens} tokens",
            "use the tokenizer that the model was trained with, or model.resize_token_embeddings(len(tokenizer))",
        )


def _from_pretrained(folder: Path, how: _How) -> Any:
    import torch
    from transformers.utils import logging

    if not sys.stderr.isatty() or how.headers_only:
        logging.disable_progress_bar()
    auto = _class_for(folder, usable_config(folder, how.trust_remote_code), how)
    with explained(folder, "the model cannot be loaded", "check that weights and config.json belong together"):
        model, info = auto.from_pretrained(
            folder,
            **({"num_labels": 1} if how.reward else {}),
            **({"device_map": "meta"} if how.headers_only else {}),
            **(_in_4bit(how.dtype) if how.load_in_4bit else {}),
            dtype=_torch_dtype(how),
            trust_remote_code=how.trust_remote_code,
            # None lets transformers take a pickle where there is nothing else.
            use_safetensors=None if how.allow_pickle else True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    other = sorted(info["mismatched_keys"])
    if other:
        name, stored, asked = other[0]
        raise ModelError(
            f"tensor {name} of {folder}: shape {list(stored)}",
            f"config.json asks for {list(asked)} ({len(other)} such tensors)",
            "check that weights and config.json belong together",
        )
    missing = sorted(info["missing_keys"])
    if how.reward and how.new_head:
        missing = [name for name in missing if not name.startswith(REWARD_HEAD)]
        # At zero every answer is worth the same, and no seed decides how training begins.
        torch.nn.init.zeros_(model.score.weight)
    if how.hears:
        from mnemos.models.recognisers.classes import refuse_missing, without_embeddings

        missing = refuse_missing(folder, missing)
        without_embeddings(model)
    if missing:
        cure = "such a model would run on random numbers: copy the complete checkpoint"
        if all(name.endswith(OUTPUT_NAMES) for name in missing):
            cure = "say tie_word_embeddings: true in config.json where its embeddings are tied; else copy all of it"
        raise ModelError(
            f"{folder}", f"lacks {len(missing)} tensors that config.json asks for, first {missing[0]}", cure
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


def _class_for(folder: Path, config: Any, how: _How) -> Any:
    """What loads the model that is wanted. ModelError for a checkpoint of another kind."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    from mnemos.models.architecture import refuse_other_kinds
    from mnemos.weights.files import is_recogniser

    if how.hears:
        from mnemos.models.recognisers.classes import class_for

        return class_for(folder, config)
    refuse_other_kinds(folder, config, reward=how.reward)
    if is_recogniser(config):
        cure = "teach it rows of audio and text, and measure it by suites of kind wer"
        raise ModelError(f"{folder}", "is a recogniser of speech and answers no texts", cure)
    return AutoModelForSequenceClassification if how.reward else AutoModelForCausalLM


def _in_4bit(dtype: str) -> dict[str, Any]:
    """What from_pretrained is given for a model in 4 bits."""
    import torch
    from transformers import BitsAndBytesConfig

    # NF4 with quantised constants: the settings of the QLoRA paper (arXiv:2305.14314).
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    # Quantised where it will compute: the packed numbers of one device are not those of another.
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    return {"quantization_config": how, "device_map": {"": device}}


def _check_stops(folder: Path, model: Any) -> None:
    """Where an answer ends must be said in token ids: anything else would be asked of every answer."""
    found = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = found if isinstance(found, list | tuple) else [found]
    if not all(
        value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0) for value in ids
    ):
        file = folder / "generation_config.json"
        raise ModelError(
            f"{file if file.is_file() else folder / 'config.json'}: eos_token_id = {found!r}"[:200],
            "must be a token id (a whole number from 0) or a list of them",
            "write the ids of the tokens that end an answer",
        )
