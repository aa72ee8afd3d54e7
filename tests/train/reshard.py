"""Trainings that stop on one number of processes and go on on another: launched from the test.

python -m tests.train.reshard MODEL OUT begin     (or torchrun --nproc-per-node 2 -m …)
python -m tests.train.reshard MODEL OUT end

`begin` stops every kind behind its checkpoint, then stalls in a last one, says so, and waits to be killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from mnemos.core.errors import UsageError
from mnemos.core.plan import Likelihood, Plan
from mnemos.methods.objective.ewc import EWCPenalty
from mnemos.train.likelihood import train
from tests.train.making import Lora, texts
from tests.train.together import KINDS as TOGETHER
from tests.train.together import together

SHARDED = {"fsdp": True, "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}}

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lora": {"trainable": Lora()},
    # What a term looks at when a stage begins is the model before, also where a checkpoint lies there.
    "ewc": {"objective": (Likelihood(), EWCPenalty(10.0, texts(5), 4, "model", 1))},
    "gathered": {"fsdp": True},
    "gathered_lora": {"fsdp": True, "trainable": Lora()},
    "pieces": SHARDED,
    "pieces_lora": {**SHARDED, "trainable": Lora()},
    "recomputed": {"fsdp": True, "gradient_checkpointing": True},
    "killed": {"fsdp": True},
}
"""Settings that differ from `together`'s."""

REFUSED = "rloo"
"""A kind of `together` each process of which keeps answers of its own."""


class Stop(TrainerCallback):  # type: ignore[misc]
    """Stops in the step behind the checkpoint, by an error or by standing still."""

    def __init__(self, stall: bool) -> None:
        self.stall = stall

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step < 5:
            return
        if self.stall:
            print(f"stalled {os.getpid()}", flush=True)
            time.sleep(600)
        raise KeyboardInterrupt


def planned(model: Path, kind: str) -> Plan:
    """One of KINDS, or REFUSED."""
    return together(model, KINDS[kind] if kind in KINDS else TOGETHER[kind])


def begin(model: Path, out: Path) -> None:
    for kind in (REFUSED, *KINDS):
        with contextlib.suppress(KeyboardInterrupt):
            train(planned(model, kind), out / kind, quiet=True, callbacks=[Stop(kind == "killed")])


def end(model: Path, out: Path) -> None:
    found = {kind: dataclasses.asdict(train(planned(model, kind), out / kind, quiet=True)) for kind in KINDS}
    try:
        train(planned(model, REFUSED), out / REFUSED, quiet=True)
    except UsageError as error:
        found[REFUSED] = str(error)
    if int(os.environ.get("RANK", "0")) == 0:
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    {"begin": begin, "end": end}[sys.argv[3]](Path(sys.argv[1]), Path(sys.argv[2]))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
