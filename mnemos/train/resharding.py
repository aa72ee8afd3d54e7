"""A training that is continued on another number of processes, or with its parameters cut up where they were whole.

Which rows a step reads hangs on the plan alone (`arguments.micro_batches`). What is left is how a checkpoint lies on
the disk (`Layout`): transformers reads each layout only into a training that writes the same one; the crossings are
here.

Trap: generators of random numbers are each process's own. With dropout, a training that is continued on another number
of processes leaves out other units than an unbroken one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from mnemos.core.errors import ModelError, UsageError
from mnemos.train.resume import Mark

MODEL, OPTIMISER = "pytorch_model_fsdp", "optimizer"
"""What accelerate calls the two parts of a checkpoint of FSDP."""


class Layout(Enum):
    """WHOLE: as one process or DDP saves it, optimiser state by number of the parameter. FULL: of FSDP, gathered into
    files, by name. SHARDED: of FSDP, each process its pieces (torch.distributed.checkpoint), by name."""

    WHOLE = "whole"
    FULL = "full_state_dict"
    SHARDED = "sharded_state_dict"


def layout_of(checkpoint: Path) -> Layout:
    """The layout that a checkpoint was written in."""
    if (checkpoint / f"{MODEL}_0").is_dir():
        return Layout.SHARDED
    return Layout.FULL if (checkpoint / f"{MODEL}.bin").is_file() else Layout.WHOLE


def crosses(trainer: Any, checkpoint: Path) -> bool:
    """Whether a checkpoint lies in another layout than this training writes."""
    if trainer.is_deepspeed_enabled:
        return False
    now = Layout.WHOLE
    if trainer.is_fsdp_enabled:
        kind = str(trainer.accelerator.state.fsdp_plugin.state_dict_type)
        now = Layout.SHARDED if "SHARDED" in kind else Layout.FULL
    return layout_of(checkpoint) is not now


def refuse_crossing(trainer: Any, checkpoint: Path, mark: Mark) -> None:
    """UsageError where this number of processes, or this way of cutting up, cannot continue from a checkpoint."""
    now, then = trainer.args.world_size, mark.processes
    cure = f"continue on {then}, or delete {checkpoint.parent} to begin again"
    if then != now and trainer.batches.each_process_keeps:
        here = f"{now} processes" if now > 1 else "1 process"
        raise UsageError(here, f"{then} began this training, and each keeps of its own what the model drew", cure)
    if then != now and trainer.is_deepspeed_enabled:
        raise UsageError("train.deepspeed", f"has a checkpoint of {then} processes, and {now} are here", cure)
    if crosses(trainer, checkpoint) and trainer.is_fsdp_enabled and not trainer.accelerator.is_fsdp2:
        raise UsageError("train.fsdp_config.version = 1", "reads no checkpoint of a whole model", f"set 2; or {cure}")


def cut_up_without_gpus(asked: bool) -> None:
    """Where FSDP is asked for, let the next Accelerator cut parameters up between processes on CPUs as well, which it
    offers on accelerators only.

    What it looks at is the kind of the launch; everything behind that is the same, with gloo in the place of NCCL.
    Without this a study tried on CPUs would train whole models, and say nothing.
    """
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    # What all Accelerators of this process share; `training_arguments` begins it anew, and nothing public sets it.
    state = PartialState._shared_state
    launched = os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    if state.get("distributed_type") == DistributedType.MULTI_CPU and (asked or launched):
        state["distributed_type"] = DistributedType.MULTI_GPU


def load_weights(model: Any, checkpoint: Path) -> None:
    """Put the weights of a FULL or SHARDED checkpoint into a model that is not cut up."""
    if layout_of(checkpoint) is Layout.FULL:
        weights = torch.load(checkpoint / f"{MODEL}.bin", map_location="cpu", weights_only=True, mmap=True)
    else:
        weights = _gathered(checkpoint / f"{MODEL}_0")["model"]
        if hasattr(model, "peft_config"):
            from peft import set_peft_model_state_dict

            # Of adapters accelerate keeps the pieces by peft's names, which leave out the adapter's own.
            set_peft_model_state_dict(model, weights)
            return
    # Not strict: of adapters only what moves is kept, and of tied parameters one name.
    found = model.load_state_dict(weights, strict=False)
    if found.unexpected_keys:
        raise ModelError(f"{checkpoint}", f"has weights of another model: {found.unexpected_keys[0]}", "delete it")


def load_optimiser(optimiser: Any, model: Any, checkpoint: Path) -> None:
    """Put a checkpoint's optimiser state into a training of another layout. Every process reads the file itself, and
    of a parameter that is cut up keeps its own piece; nothing is sent."""
    # Recomputed layers are wrapped by torch, which leaves the wrapper's name out of checkpoints.
    name_of = {id(value): name.replace("_checkpoint_wrapped_module.", "") for name, value in model.named_parameters()}
    # The order in which parameters stand in the optimiser is the same whether they are cut up or not.
    groups = [[(name_of[id(one)], one) for one in group["params"]] for group in optimiser.param_groups]
    saved = _named_state(checkpoint, [name for group in groups for name, _ in group])
    of_name = {name: group for group in saved["param_groups"] for name in group["params"]}
    own = optimiser.state_dict()
    own["state"] = {}
    for group, numbered in zip(groups, own["param_groups"], strict=True):
        settings = of_name[group[0][0]] if group else {}
        numbered.update({name: value for name, value in settings.items() if name != "params"})
        for (name, parameter), number in zip(group, numbered["params"], strict=True):
            if name in saved["state"]:
                state = saved["state"][name]
                own["state"][number] = {key: _piece(value, parameter) for key, value in state.items()}
    optimiser.load_state_dict(own)


def _named_state(checkpoint: Path, names: Sequence[str]) -> dict[str, Any]:
    """Optimiser state by name of the parameter, whole. names: of all parameters, in the optimiser's order."""
    layout = layout_of(checkpoint)
    if layout is Layout.SHARDED:
        found: dict[str, Any] = _gathered(checkpoint / f"{OPTIMISER}_0")["optimizer"]
        return found
    file = checkpoint / (f"{OPTIMISER}.bin" if layout is Layout.FULL else f"{OPTIMISER}.pt")
    saved: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    if layout is Layout.FULL:
        return saved
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    named = dict(zip(numbers, names, strict=True))
    return {
        "state": {named[number]: state for number, state in saved["state"].items()},
        "param_groups": [{**group, "params": [named[n] for n in group["params"]]} for group in saved["param_groups"]],
    }


def _piece(value: Any, parameter: torch.Tensor) -> Any:
    """This process's part of a moment that is shaped like its parameter; counters stay as they are."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
        return value
    if not isinstance(parameter, DTensor):
        return value.clone()
    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )


def _gathered(folder: Path) -> dict[str, Any]:
    """The tensors of a sharded folder, whole, without any other process."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".whole-") as scratch:
        file = Path(scratch) / "whole.bin"
        dcp_to_torch_save(folder, file)
        found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return found
