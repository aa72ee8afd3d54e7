"""Adapters through peft, as values of Plan.trainable."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from mnemos.core.errors import ModelError

RescaledPart = Literal["keys", "values", "feedforward"]

RESCALED: dict[RescaledPart, tuple[str, ...]] = {
    "keys": ("k_proj",),
    "values": ("v_proj",),
    "feedforward": ("down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "fc2", "fc_out"),
}
"""(IA)³'s three places by module name; peft's own table rescales queries instead of keys for
Gemma and Qwen."""

FUSED = ("attn.c_attn", "query_key_value", "qkv_proj")
"""Projections that make queries, keys and values at once."""


@dataclass(frozen=True)
class LowRank:
    """LoRA, or DoRA: the same with a trained magnitude per output channel. load_in_4bit: on a base that is held in
    4 bits, which the trainer sees to."""

    kind: Literal["lora", "dora"]
    rank: int
    alpha: float
    dropout: float
    targets: str | tuple[str, ...]
    learning_rate: float | None
    load_in_4bit: bool = False

    def prepare(self, model: Any) -> Any:
        """Wrap `model`; it computes the same as before until it is trained (B starts at zero, A
        at random: seed torch first). ModelError when a target names no such layer."""
        from peft import LoraConfig

        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        for target in targets if isinstance(targets, list) else ():
            if not _present(model, [target]):
                raise ModelError(
                    f"{self.kind}.targets = {target}",
                    f"names no linear layer or embedding of {type(model).__name__}",
                    _known_layers(model),
                )
        # A matrix has no higher rank than its shorter side, nor has B A; more would only cost memory.
        most = max((min(p.shape) for p in model.parameters() if p.dim() == 2), default=self.rank)
        if self.rank > most:
            raise ModelError(
                f"{self.kind}.rank = {self.rank}",
                f"is above {most}, the highest rank of a matrix of this model",
                "lower it",
            )
        config = LoraConfig(
            task_type=_task(model),
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=_within(model, targets),
            modules_to_save=_beside(model),
            use_dora=self.kind == "dora",
        )
        return _wrapped(model, config)


@dataclass(frozen=True)
class AtSounds:
    """Low-rank adapters of a model that listens, counting at places of sounds alone."""

    adapters: LowRank

    @property
    def kind(self) -> str:
        """That of the adapters."""
        return self.adapters.kind

    @property
    def learning_rate(self) -> float | None:
        """That of the adapters."""
        return self.adapters.learning_rate

    @property
    def load_in_4bit(self) -> bool:
        """Whether the base is held in 4 bits."""
        return self.adapters.load_in_4bit

    def prepare(self, model: Any) -> Any:
        """As `LowRank.prepare`; ModelError for a model that hears nothing."""
        from mnemos.models.adapter_scale import at_sounds_alone
        from mnemos.weights.adapter import SOUNDS

        wrapped = self.adapters.prepare(model)
        at_sounds_alone(wrapped)
        for config in wrapped.peft_config.values():
            config.auto_mapping = dict(SOUNDS)
        return wrapped


@dataclass(frozen=True)
class Rescaled:
    """(IA)³: one factor per channel, 1 at the start."""

    parts: tuple[RescaledPart, ...]
    learning_rate: float | None

    def prepare(self, model: Any) -> Any:
        """Wrap `model`; it computes the same as before until it is trained. ModelError when the
        model's modules are not known by name, or fused where parts name only one of them."""
        from peft import IA3Config

        targets: list[str] = []
        attention = {"keys", "values"} & set(self.parts)
        # Only where no projection of keys stands by itself.
        fused = _present(model, FUSED) if attention and not _present(model, RESCALED["keys"]) else []
        if fused and len(attention) == 1:
            raise ModelError(
                f"ia3.parts = {list(self.parts)}",
                f"{fused[0]} makes queries, keys and values at once",
                "name both keys and values, or neither",
            )
        for part in self.parts:
            found = fused if fused and part in attention else _present(model, RESCALED[part])
            if not found:
                raise ModelError(
                    f"ia3.parts: {part}", f"no such module is known in {type(model).__name__}", _known_layers(model)
                )
            targets += [name for name in found if name not in targets]
        # (IA)^3 rescales what comes out of keys and values, but what goes into the MLP's last layer.
        forward = [name for name in targets if name in RESCALED["feedforward"]]
        config = IA3Config(
            task_type=_task(model),
            target_modules=_within(model, targets),
            feedforward_modules=_within(model, forward),
        )
        return _wrapped(model, config)


LANGUAGE, BRIDGE = "language", "bridge"
"""What the parts of a model that listens are called in it."""


def _beside(model: Any) -> list[str] | None:
    """What is trained whole beside adapters: the bridge of a model that listens, which no sound passes without."""
    return [BRIDGE] if getattr(model, BRIDGE, None) is not None else None


def _within(model: Any, targets: str | list[str]) -> str | list[str]:
    """The targets as peft takes them; of a model that listens, those of its language model alone."""
    if getattr(model, BRIDGE, None) is None or not targets:
        return targets
    names = targets if isinstance(targets, list) else _linear(getattr(model, LANGUAGE))
    return rf"{LANGUAGE}\.(?:.*\.)?(?:{'|'.join(re.escape(name) for name in names)})"


def _linear(model: Any) -> list[str]:
    """Last parts of the names of all linear layers but the output layer: what peft calls all-linear."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    found = (name for name, one in model.named_modules() if isinstance(one, nn.Linear | Conv1D) and one is not head)
    return sorted({name.rsplit(".", 1)[-1] for name in found})


def _task(model: Any) -> str | None:
    """What peft takes the model for: it knows of none that hears."""
    return "CAUSAL_LM" if getattr(model, "main_input_name", "input_ids") == "input_ids" else None


def _wrapped(model: Any, config: Any) -> Any:
    from peft import get_peft_model

    from mnemos.weights.adapter import quiet_peft

    with quiet_peft():
        wrapped = get_peft_model(model, config)
    # peft saves these sets in the order of Python's hash seed: the same adapter, another file.
    for setting in ("target_modules", "feedforward_modules"):
        value = getattr(config, setting, None)
        if isinstance(value, set):
            setattr(config, setting, sorted(value))
    return wrapped


def _adaptable(model: Any) -> list[str]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D | nn.Embedding)]


def _present(model: Any, candidates: Iterable[str]) -> list[str]:
    """Those of `candidates` that name a layer as peft matches them: whole, or from a dot on."""
    names = _adaptable(model)
    return [target for target in candidates if any(name == target or name.endswith(f".{target}") for name in names)]


def _known_layers(model: Any) -> str:
    return "known: " + ", ".join(dict.fromkeys(re.sub(r"\.\d+\.", ".N.", name) for name in _adaptable(model)))
