"""What objective terms may ask about the state before the stage: logits and parameter values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch

from mnemos.core.errors import UsageError
from mnemos.core.outputs import Outputs, Whole
from mnemos.models.head import bare
from mnemos.sources.sound_marks import FIRST_SOUND
from mnemos.train.documents import (
    MicroBatch,
    Way,
    find_way,
    micro_batch,
    outputs,
    outputs_and_states,
    reordered,
    set_way,
)


class Before:
    """The frozen model before the stage, brought to life when a term first asks for its outputs.

    With adapters whose base does not move, it is the trained model with its adapters turned off
    and costs no memory; otherwise it is a second copy, loaded by `load` onto `device`.
    """

    def __init__(self, model: Any, load: Callable[[], Any], way: Way, device: torch.device) -> None:
        self.adapted = model if _only_adapters_move(model) else None
        self.reader = model if _text_stands_still(model) else None
        self.load, self.way, self.device = load, way, device
        self.copy: Any = None

    def outputs(self, batch: MicroBatch) -> Outputs:
        """The logits for `batch.targets`, without gradient and with dropout off."""
        with torch.no_grad():
            if self.adapted is None:
                return outputs(self._copy(), batch, self.way)
            training = self.adapted.training
            self.adapted.eval()
            try:
                with self.adapted.disable_adapter():
                    return outputs(self.adapted, batch, self.way, layer=self._unadapted)
            finally:
                self.adapted.train(training)

    def read(self, batch: MicroBatch) -> tuple[Outputs, torch.Tensor]:
        """The logits for `batch.targets`, and float[N, H], what the output layer reads there; as `outputs`. Of a model
        that listens, whose bridge moves and whose language model does not, text is read by the model itself."""
        sounds = any(bool((one.inputs["input_ids"] >= FIRST_SOUND).any()) for one in batch.passes)
        with torch.no_grad():
            model = self.adapted if sounds or self.reader is None else self.reader
            if model is None:
                return outputs_and_states(self._copy(), batch, self.way)
            training = model.training
            model.eval()
            try:
                with model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext():
                    found, states = outputs_and_states(model, batch, self.way)
                    # Logits are made while the adapters are off, the output layer's among them.
                    return (Whole(found.whole()) if hasattr(model, "disable_adapter") else found), states
            finally:
                model.train(training)

    def _unadapted(self, layer: torch.nn.Module) -> Any:
        """The output layer as it was before: it may be asked when the adapters are on again."""
        if type(layer) is torch.nn.Linear:
            return layer

        adapted: Any = self.adapted

        def off(states: torch.Tensor) -> torch.Tensor:
            with torch.no_grad(), adapted.disable_adapter():
                found: torch.Tensor = layer(states)
            return found

        return off

    def _copy(self) -> Any:
        if self.copy is None:
            # In float32, as the model in training was loaded: dropout aside, both are the same before the first step.
            self.copy = self.load().to(self.device).requires_grad_(False).eval()
            set_way(self.copy, self.way)
        return self.copy


class Other:
    """Another frozen checkpoint of the same vocabulary, perhaps of another architecture: it is
    loaded by `load` when first asked, and run in whatever way it can be."""

    def __init__(self, load: Callable[[], Any], device: torch.device, longest: int, split: bool) -> None:
        self.load, self.device, self.longest, self.split = load, device, longest, split
        self.model: Any = None
        self.way = Way(joined=False, picks=False)

    def outputs(self, inputs: dict[str, Any], batch: MicroBatch) -> Outputs:
        """The logits for `batch.targets`, where `batch` was made from `inputs`; no gradient."""
        with torch.no_grad():
            if self.model is None:
                self.model = self.load().to(self.device).requires_grad_(False).eval()
                self.way = find_way(self.model, self.longest, split=self.split)
            # Another architecture may not run joined: its logits come in its own order and are put into the trained
            # model's.
            own = micro_batch(inputs, self.way)
            return reordered(outputs(self.model, own, self.way), own, batch)


def _text_stands_still(model: Any) -> bool:
    """Whether the model listens, and what reads text in it is as it was once adapters are turned off."""
    if not hasattr(bare(model), "bridged"):
        return False
    moving = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return all("bridge." in name or "lora_" in name for name in moving)


def _only_adapters_move(model: Any) -> bool:
    if not hasattr(model, "disable_adapter") or not hasattr(model, "base_model"):
        return False
    prefix = str(getattr(model.base_model, "prefix", "lora_"))
    # Parameters that turning the adapters off takes away. If anything else moves, the base is no longer the model
    # before.
    ours = (prefix, "lora_", ".modules_to_save.", ".trainable_tokens_")
    moving = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return all(any(part in name for part in ours) for name in moving)


class Start:
    """Values of the trainable parameters at the start of the stage, copied when first asked for.

    A fresh stage copies at its first step, before any update. A continued one copies before its
    checkpoint is loaded (`copy_now`) and forgets again after a step in which nobody asked.
    """

    def __init__(self, model: Callable[[], Any]) -> None:
        self.model = model
        self.values: Mapping[str, torch.Tensor] | None = None
        self.asked, self.moved = False, False

    def copy_now(self) -> None:
        """Copy every trainable parameter."""
        named = self.model().named_parameters()
        self.values = {name: value.detach().clone() for name, value in named if value.requires_grad}

    def get(self) -> Mapping[str, torch.Tensor]:
        """Name -> tensor; UsageError when first asked for after parameters have moved."""
        self.asked = True
        if self.values is None:
            if self.moved:
                raise UsageError("start()", "was first asked for after the first step", "ask at every step")
            self.copy_now()
        assert self.values is not None
        return self.values

    def step_done(self) -> None:
        """To be called after each optimiser step."""
        self.moved = True
        if not self.asked:
            self.values = None
