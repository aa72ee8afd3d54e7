"""What terms and trainers note of each step beside the loss: rewards, margins, divergences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


class Notes:
    """Means over the steps since the last logged one, by name, the same after a continued run.

    logged: name -> [step, mean]. A name without anything to count in a window has no entry there. moments:
    [step, name -> mean since the moment before], where a training is kept at moments (`train.moments`).
    """

    def __init__(self) -> None:
        self.logged: dict[str, list[list[float]]] = {}
        self.window: dict[str, list[float]] = {}
        self.moments: list[list[Any]] = []
        self.stretch: dict[str, list[float]] = {}
        self._step: dict[str, list[torch.Tensor]] = {}

    def add(self, name: str, total: torch.Tensor | float, count: float) -> None:
        """Add to the running step; see `core.plan.StepView.note`."""
        value = total.detach().float() if isinstance(total, torch.Tensor) else torch.tensor(float(total))
        kept = self._step.setdefault(name, [])
        kept.append(torch.stack([value, torch.as_tensor(float(count), device=value.device)]))

    def end_step(self, device: torch.device, reduce: Callable[[torch.Tensor], torch.Tensor] | None) -> None:
        """Close the running step. reduce: sums a tensor over processes, which have noted the same names."""
        if not self._step:
            return
        # In one order everywhere: processes add their tensors up by place.
        names = sorted(self._step)
        # float32[names, 2]: sums and counts, brought off the device once a step.
        sums = torch.stack([torch.stack([part.to(device) for part in self._step[name]]).sum(0) for name in names])
        self._step = {}
        for name, (total, count) in zip(names, (reduce(sums) if reduce else sums).tolist(), strict=True):
            # Two windows of the same sums, because logs and moments do not end at the same steps.
            for kept in (self.window, self.stretch):
                before = kept.get(name, [0.0, 0.0])
                kept[name] = [before[0] + total, before[1] + count]

    def close(self, step: int) -> dict[str, float]:
        """Log the window: name -> mean."""
        means = _means(self.window)
        self.window = {}
        for name, mean in means.items():
            # JSON has no NaN.
            if math.isfinite(mean):
                self.logged.setdefault(name, []).append([step, mean])
        return means

    def end_moment(self, step: int) -> None:
        """Close the stretch that ends at this step."""
        means = _means(self.stretch)
        self.stretch = {}
        self.moments.append([step, {name: mean for name, mean in means.items() if math.isfinite(mean)}])

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"logged": self.logged, "window": self.window, "moments": self.moments, "stretch": self.stretch}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what a checkpoint kept."""
        self.logged = {name: list(points) for name, points in state.get("logged", {}).items()}
        self.window = {name: list(sums) for name, sums in state.get("window", {}).items()}
        self.moments = [list(moment) for moment in state.get("moments", ())]
        self.stretch = {name: list(sums) for name, sums in state.get("stretch", {}).items()}


def _means(sums: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: total / count for name, (total, count) in sums.items() if count}
