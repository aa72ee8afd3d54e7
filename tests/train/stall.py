"""A training that stops on the way: run by the kill test in a process of its own.

    python -m tests.train.stall MODEL OUT CALLS [lora | ppo]

prints "stalled" when its loss has been computed CALLS times, and waits to be killed.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnemos.core.plan import Likelihood, Plan
from tests.train.making import PPO, Lora, plan


@dataclass(frozen=True)
class Stall:
    """A term worth nothing that does something at one call; its fingerprint does not show it."""

    call: int = field(default=0, compare=False)
    action: Any = field(default=None, compare=False)
    calls: list[int] = field(default_factory=list, compare=False)

    def loss(self, view: Any) -> Any:
        self.calls.append(1)
        if len(self.calls) == self.call:
            self.action()
        return 0 * view.logits.sum()


def stalling(model: Path, lora: bool, stall: Stall) -> Plan:
    """13 rows in micro-batches of 2, two to a step, 4 steps a pass, 12 in all; saved every 3."""
    cut = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "num_train_epochs": 3}
    rest = {"trainable": Lora()} if lora else {}
    return plan(model, objective=(Likelihood(), stall), save_steps=3, logging_steps=4, **cut, **rest)


def rewarded(model: Path, stall: Stall) -> Plan:
    """13 prompts, 4 to a batch of two steps in two micro-batches each: 8 steps a pass; saved at every."""
    cut = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "num_train_epochs": 1}
    changes = {**PPO, "objective": (*PPO["objective"], stall)}
    return plan(model, save_steps=1, logging_steps=3, **cut, **changes)


def _wait() -> None:
    print("stalled", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    import torch

    from mnemos.models import chunked
    from mnemos.train.likelihood import train

    chunked.CHUNK_BYTES = int(os.environ.get("MNEMOS_TEST_CHUNK_BYTES", chunked.CHUNK_BYTES))
    torch.set_num_threads(1)
    model, out, calls = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    own = Stall(calls, _wait)
    given = rewarded(model, own) if sys.argv[4:] == ["ppo"] else stalling(model, sys.argv[4:] == ["lora"], own)
    train(given, out, quiet=True)
