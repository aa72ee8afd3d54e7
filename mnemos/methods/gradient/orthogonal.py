"""Low-rank adapters of a new task at right angles to those of earlier tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.method import method
from mnemos.core.plan import ModelHandle, Plan, Stage, StepView
from mnemos.methods.trainable.parts import Count, Rate, Share, Targets, low_rank

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class RightAngles:
    """penalty * sum over layers of sum_jk |(A_past A_new^T)_jk|, past: by name of the new A,
    float[rows of all earlier A's, width]."""

    penalty: float
    past: Mapping[str, torch.Tensor]

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar, times the micro-batch's share of the step."""
        import torch

        # Each product is float[rows of earlier A's, rank]: inner products of every earlier row with every new one. The
        # term knows nothing of the data, so a micro-batch adds its share and the step adds the whole.
        named = dict(view.model.named_parameters())
        parts = [(past.to(named[name].device) @ named[name].float().T).abs().sum() for name, past in self.past.items()]
        return self.penalty * view.share * torch.stack(parts).sum()


@dataclass(frozen=True)
class OrthogonalToPast:
    """What becomes `RightAngles` when the stage begins. checkpoints: the models after earlier tasks."""

    penalty: float
    checkpoints: tuple[ModelHandle, ...]
    old: None = dataclasses.field(default=None, init=False, compare=False)

    def begin(self, stage: Stage) -> RightAngles:
        """Reads the earlier adapters; ModelError where one is missing or adapts other layers."""
        import torch

        named = {name: value for name, value in stage.model.named_parameters() if value.requires_grad}
        # peft calls the adapter in training `default` and leaves that name out of the files that it writes.
        new = {name.replace(".lora_A.default.", ".lora_A."): name for name in named if ".lora_A." in name}
        if not new:
            raise ModelError("orthogonal", "no adapter is trained", "keep orthogonal the only method that adapts")
        found: dict[str, list[torch.Tensor]] = {name: [] for name in new.values()}
        for handle in self.checkpoints:
            folder = adapter_folder(handle)
            tensors = _tensors(folder)
            shared = [key for key in new if key in tensors]
            if not shared:
                raise ModelError(
                    f"{folder}",
                    f"adapts other layers than this stage (first: {min(tensors, default='none')})",
                    "give orthogonal the same targets in every task",
                )
            for key in shared:
                found[new[key]].append(tensors[key].float())
        device = next(iter(named.values())).device
        # float[sum of the earlier ranks, width] a layer: all earlier tasks count alike.
        return RightAngles(self.penalty, {name: torch.cat(parts).to(device) for name, parts in found.items() if parts})

    def loss(self, view: StepView) -> torch.Tensor:
        """Refused: `begin` comes first."""
        raise AssertionError("OrthogonalToPast has not begun")


def adapter_folder(handle: ModelHandle) -> Path:
    """Where the adapter of a trained stage lies: the checkpoint itself, or `adapter` beside it."""
    path = Path(handle.path)
    for folder in (path, path.parent / "adapter"):
        if (folder / "adapter_config.json").is_file():
            return folder
    raise ModelError(
        f"{path.parent / 'adapter'}",
        "the earlier task left no adapter",
        "orthogonal must be the method of every task, without arithmetic on the weights behind it",
    )


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    from mnemos.weights.files import check_safetensors

    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        raise ModelError(f"{folder}", "holds no adapter_model.safetensors", "save the adapter again as safetensors")
    check_safetensors(file)
    return {name: value for name, value in load_file(file).items() if ".lora_A." in name}


@method(paper="arXiv:2310.14152", changes={"trainable", "objective"}, off={"rank": 0})
def orthogonal(
    plan: Plan,
    *,
    rank: Count = 8,
    penalty: Annotated[float, Field(ge=0)] = 0.5,
    alpha: Annotated[float, Field(gt=0)] | None = None,
    dropout: Share = 0.0,
    targets: Targets = "all-linear",
    learning_rate: Rate = None,
) -> Plan:
    """Train LoRA for each task of a sequence, at right angles to the LoRA of every earlier one (O-LoRA).

    rank: inner dimension of each task's product B A; 0 turns the method off.
    penalty: loss per unit of sum |A_past A_new^T|, summed over entries, layers and earlier tasks; 0
    leaves plain LoRA.
    alpha: the product is scaled by alpha / rank; 2 * rank unless given.
    dropout: share of the adapter's inputs dropped in training, in [0, 1).
    targets: all-linear (every linear layer except the output layer), or module names as peft
    takes them, for example [q_proj, v_proj].
    learning_rate: peak learning rate of this arm; the study's unless given.

    The rows of A span the directions of its inputs that an adapter reads; where those of two tasks
    are at right angles, what one has learned is not read by the other. Earlier products are added
    into the weights and stay as they are. In the first task it is `lora`.

    Raises UsageError when a later task's training begins under FSDP.

    Trap: the earlier adapters are read from beside the earlier checkpoints, so the arm must train
    every task with this method, and may do no arithmetic on the weights.

    Trap: the sum grows with rank, layers and the number of earlier tasks, so a penalty does not
    carry over between sequences of different length.

    Deviations from the paper: 1. absolute values are summed, as in the authors' code; the paper's
    formula sums squares. 2. the second coefficient of the code, on the norm of the new adapter, is
    left out (weight_decay does nearly that). 3. all linear layers are adapted by default, not only
    queries and values.

    Raises ModelError when training begins and an earlier task left no adapter of the same layers.
    """
    if rank == 0:
        return plan
    plan = low_rank(plan, "orthogonal", rank, alpha, dropout, targets, learning_rate)
    if penalty == 0 or not plan.past:
        return plan
    checkpoints = tuple(task.checkpoint for task in plan.past if task.checkpoint is not None)
    if len(checkpoints) < len(plan.past):
        raise UsageError("orthogonal", "an earlier task has no checkpoint", "run the tasks as one sequence")
    return dataclasses.replace(plan, objective=(*plan.objective, OrthogonalToPast(penalty, checkpoints)))
