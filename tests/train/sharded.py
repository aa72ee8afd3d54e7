"""Trainings whose parameters torch's FSDP2 cuts up over two processes: launched by torchrun from the test.

torchrun --nproc-per-node 2 -m tests.train.sharded MODEL OUT

Everything is what runs on GPUs, with gloo between processes in the place of NCCL.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.distributed.fsdp import FSDPModule
from transformers import TrainerCallback

from mnemos.core.errors import UsageError
from mnemos.core.plan import Likelihood, Plan, SelfTaught
from mnemos.core.rollouts import Rollouts
from mnemos.methods.draw.credit import GroupNormalised
from mnemos.methods.draw.on_policy import JensenShannon, TeacherDivergence
from mnemos.methods.draw.policy import ClippedPolicy, SampledKL, TaughtLikelihood
from mnemos.methods.objective.divergence import KLToBefore, L2ToBefore
from mnemos.models.load import Checkpoint
from mnemos.train.gathered import _frees, gathered
from mnemos.train.likelihood import train
from tests.train.making import PPO, Lora, Spelled
from tests.train.together import KINDS, together

GRPO: dict[str, Any] = {
    "draw": Rollouts(5, 1.0, 2, 2, Spelled(), GroupNormalised("group"), "answer", keeps_before=True),
    "objective": (ClippedPolicy((0.2, 0.2), "token"), SampledKL(0.1), TaughtLikelihood()),
    "weigh": (),
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-3,
}
TO_BEFORE = (Likelihood(), KLToBefore(1.0, "forward"))

CUT: dict[str, dict[str, Any]] = {
    **{kind: KINDS[kind] for kind in ("plain", "cut", "lora", "dpo", "kto", "rloo")},
    "to_before": {"objective": TO_BEFORE, "trainable": Lora()},
    "recomputed": {"gradient_checkpointing": True, "max_grad_norm": 0.05},
    "stopped": {},
    "uneven": {},
    "launched": {"objective": TO_BEFORE},
    "tied": {},
    "grpo": GRPO,
    "grpo_lora": {**GRPO, "trainable": Lora()},
    "distilled": {**GRPO, "draw": Rollouts(5, 1.0)},
}
"""What is trained in pieces, by one process the same."""

REFUSED: dict[str, dict[str, Any]] = {
    # Without `sync_module_states` accelerate looks for a GPU at once.
    "version": {**GRPO, "fsdp_config": {"version": 1, "sync_module_states": False}},
    "value_head": PPO,
    "teacher": {
        "draw": SelfTaught(5, 1.0, 0.25, "{question} {answer}"),
        "objective": (TeacherDivergence("forward"),),
        "weigh": (),
    },
    "engine": {**GRPO, "generation_backend": "vllm"},
    "start": {"objective": (Likelihood(), L2ToBefore(1.0))},
}
"""What cannot be trained in pieces."""

TEACHER, TIED = "teacher", "tied"
"""Models that lie beside the one in training; TIED is trained in its place, its embeddings tied."""

LAUNCHED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}
"""What `accelerate launch --use_fsdp --fsdp_version 2` says."""


class Look(TrainerCallback):
    """Counts the elements that this process holds after a step, and those of the whole model. uneven: the first
    process makes no forward pass before a step, the second one more each time."""

    def __init__(self, uneven: bool) -> None:
        self.uneven, self.held, self.whole = uneven, 0, 0

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
        if self.uneven:
            before = _settings(model)
            with gathered(model), torch.no_grad():
                assert sum(value.numel() for value in model.parameters()) == sum(map(_here, model.parameters()))
                for _ in range(args.process_index * (1 + state.global_step)):
                    model(input_ids=torch.ones(1, 3, dtype=torch.long))
            assert any(before)
            assert before == _settings(model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
        self.whole = sum(value.numel() for value in model.parameters())
        self.held = sum(map(_here, model.parameters()))


class Stop(TrainerCallback):
    """Stops after the step behind the checkpoint."""

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == 5:
            raise KeyboardInterrupt


def planned(model: Path, kind: str) -> Plan:
    """One of CUT, whole."""
    given = together(model.with_name(TIED) if kind == "tied" else model, CUT[kind])
    if kind != "distilled":
        return given
    teacher = Checkpoint(str(model.with_name(TEACHER)))
    return dataclasses.replace(given, objective=(JensenShannon(teacher, 0.5, 1.0), TaughtLikelihood()))


def _here(value: torch.Tensor) -> int:
    from torch.distributed.tensor import DTensor

    return value.to_local().numel() if isinstance(value, DTensor) else value.numel()


def _settings(model: torch.nn.Module) -> list[bool]:
    """Of each part but the root, which torch settles when it first runs: does it free its parameters?"""
    return [_frees(part) for part in model.modules() if isinstance(part, FSDPModule) and part is not model]


def _trained(model: Path, kind: str, out: Path) -> dict[str, Any]:
    given = planned(model, kind)
    given = dataclasses.replace(given, train=given.train.model_copy(update={"fsdp": kind != "launched"}))
    if kind == "stopped":
        try:
            train(given, out, quiet=True, callbacks=[Stop()])
        except KeyboardInterrupt:
            assert (out / "checkpoints" / "checkpoint-4").is_dir()
    look = Look(kind == "uneven")
    with patch.dict(os.environ, LAUNCHED if kind == "launched" else {}):
        result = train(given, out, quiet=True, callbacks=[look])
    return {**dataclasses.asdict(result), "held": look.held, "whole": look.whole}


def _refused(model: Path, changes: dict[str, Any], out: Path) -> str:
    try:
        train(together(model, {**changes, "fsdp": True}), out, quiet=True)
    except UsageError as error:
        return str(error)
    return ""


def _main(model: Path, out: Path) -> None:
    torch.set_num_threads(1)
    found = {kind: _trained(model, kind, out / kind) for kind in CUT}
    text = {kind: _refused(model, changes, out / kind) for kind, changes in REFUSED.items()}
    look = Look(False)
    train(planned(model, "plain"), out / "after", quiet=True, callbacks=[look])
    if torch.distributed.get_rank() == 0:
        (out / "found.json").write_text(
            json.dumps({"trained": found, "refused": text, "after": [look.held, look.whole]})
        )
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
