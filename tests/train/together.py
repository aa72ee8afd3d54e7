"""Trainings on several processes: launched by torchrun from the test.

torchrun --nproc-per-node 2 -m tests.train.together MODEL OUT
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemos.core.plan import BinaryFeedback, Likelihood, Plan, PreferencePairs, SelfTaught
from mnemos.core.rollouts import Rollouts
from mnemos.methods.draw.credit import LeaveOneOut
from mnemos.methods.draw.on_policy import TeacherDivergence
from mnemos.methods.draw.policy import ClippedPolicy, TaughtLikelihood
from mnemos.methods.gradient.projection import AveragedMemory
from mnemos.methods.objective.answers import BinaryFeedbackLoss, PairLoss, PartLikelihood
from mnemos.methods.objective.ewc import EWCPenalty
from tests.train.making import (
    PPO,
    Few,
    Lora,
    Soft,
    Spelled,
    Unlearn,
    pairs,
    plan,
    preferences,
    texts,
    thumbs,
)

# Where answers are drawn from a nearly uniform model, rounding that two processes may differ by could swap
# two tokens of nearly equal probability; small steps keep it below the gaps between them.
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cut": {"gradient_accumulation_steps": 4},
    "lora": {"trainable": Lora()},
    "a_gem": {
        "gradient": (AveragedMemory(texts(5), 3, 1),),
        "weigh": (Unlearn(),),
        "gradient_accumulation_steps": 4,
    },
    "own": {
        "draw": SelfTaught(5, 1.0, 0.25, "{question} {answer}"),
        "objective": (TeacherDivergence("forward"),),
        "weigh": (),
    },
    "dpo": {
        "draw": PreferencePairs(),
        "objective": (PairLoss("sigmoid", 0.5, 0.0), PartLikelihood("chosen", 0.5), PartLikelihood("", 1.0)),
        "examples": Few((*preferences(6).examples, *texts(5).examples), "preferences"),
        "weigh": (),
    },
    "kto": {
        "draw": BinaryFeedback(mismatched=True),
        "objective": (BinaryFeedbackLoss("kto", 0.5, 1.0, 1.0), PartLikelihood("", 1.0)),
        "examples": Few((*thumbs(9).examples, *texts(2).examples), "thumbs"),
        "weigh": (),
    },
    "rloo": {
        "draw": Rollouts(5, 1.0, 2, 1, Spelled(), LeaveOneOut(0.1), "answer"),
        "objective": (ClippedPolicy((0.2, 0.2), "answer"), TaughtLikelihood()),
        "weigh": (),
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
    },
    "ppo": {**PPO, "max_steps": 6, "learning_rate": 1e-3},
    "ewc": {"objective": (Likelihood(), EWCPenalty(10.0, texts(5), 4, "model", 1))},
}


def together(model: Path, changes: Mapping[str, Any]) -> Plan:
    """11 rows, 4 to a step: the last step of a pass has 3, which two processes share unevenly. The same plan for any
    number of processes."""
    changes = dict(changes)
    rows = changes.pop("per_device_train_batch_size", 4) // changes.get("gradient_accumulation_steps", 1)
    changes = {"weigh": (Soft(),), "examples": pairs(11), **changes}
    return plan(model, per_device_train_batch_size=rows, save_steps=4, **changes)


if __name__ == "__main__":
    import torch

    from mnemos.train.likelihood import train

    torch.set_num_threads(1)
    model, out = Path(sys.argv[1]), Path(sys.argv[2])
    for kind, changes in KINDS.items():
        result = train(together(model, changes), out / kind, quiet=True)
        if torch.distributed.get_rank() == 0:
            (out / kind / "result.json").write_text(json.dumps(dataclasses.asdict(result)))
    torch.distributed.destroy_process_group()
