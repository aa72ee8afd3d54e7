"""Four algorithms on a bandit whose best arm is known: all end where it is taken nearly always."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnemos.core.nouns import Example, Prompt, Turn
from mnemos.core.plan import Plan
from mnemos.core.reward import Rewarded
from mnemos.core.rollouts import Rollouts
from mnemos.methods.draw.credit import Generalised, GroupNormalised, LeaveOneOut, RunningMean
from mnemos.methods.draw.policy import ClippedPolicy, TaughtLikelihood, ValueLoss
from mnemos.train.likelihood import train
from tests.tiny import save_tiny
from tests.train.making import Few, plan

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

ARMS = "0123456789"
BEST = 1.0
"""The mean reward of always writing 7; the start is near 0, since there are 400 tokens to choose from."""


@dataclass(frozen=True)
class Bandit:
    """1 for the digit 7, from 0.1 to 0.6 for other digits, 0 for anything else."""

    fingerprint: str = "bandit"

    def describe(self) -> str:
        return "a bandit"

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[str], examples: Sequence[Example]
    ) -> list[Rewarded]:
        return [Rewarded(self._one(answer)) for answer in answers]

    def _one(self, answer: str) -> float:
        if answer == "7":
            return BEST
        return 0.1 + 0.05 * int(answer) if answer and answer in ARMS else 0.0


SAMPLES = 32
WAYS: dict[str, dict[str, Any]] = {
    "reinforce": {"credit": RunningMean(0.0, "running"), "per": "answer"},
    "rloo": {"credit": LeaveOneOut(0.0), "per": "answer"},
    "grpo": {"credit": GroupNormalised("group")},
    "ppo": {"credit": Generalised(0.0, 1.0, 0.95, True), "num_iterations": 2},
}


def bandit(model: Path, kind: str, seed: int) -> Plan:
    level = "answer" if kind in ("rloo", "reinforce") else "token"
    terms: tuple[Any, ...] = (ClippedPolicy(None if kind == "reinforce" else (0.2, 0.2), level), TaughtLikelihood())  # type: ignore[arg-type]
    prompt = Example("b", "completion", (Turn("prompt", "Which arm? "), Turn("completion", "7")))
    given = plan(
        model,
        examples=Few((prompt,), "bandit"),
        draw=Rollouts(1, 1.0, SAMPLES, reward=Bandit(), **WAYS[kind]),
        objective=(*terms, ValueLoss(0.1, 0.2)) if kind == "ppo" else terms,
        weigh=(),
        per_device_train_batch_size=SAMPLES,
        max_steps=60 * WAYS[kind].get("num_iterations", 1),
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        adam_epsilon=1e-8,
        logging_steps=2,
    )
    return dataclasses.replace(given, seed=seed)


@pytest.mark.parametrize(
    "kind", ["grpo", *(pytest.param(kind, marks=pytest.mark.slow) for kind in WAYS if kind != "grpo")]
)
def test_all_find_the_best_arm(tmp_path: Path, kind: str) -> None:
    """Over five seeds the mean reward at the end lies within 0.1 of the best that there is."""
    model = save_tiny(tmp_path / "model")
    _prefer_digits(model)
    ends = []
    for seed in range(5):
        result = train(bandit(model, kind, seed), tmp_path / f"{seed}", quiet=True)
        rewards = [mean for _, mean in result.noted["reward"]]
        assert rewards[0] < 0.6
        ends.append(float(np.mean(rewards[-3:])))
    assert np.mean(ends) > BEST - 0.1, ends


def _prefer_digits(folder: Path) -> None:
    """The ten digits share half of the start's mass, so that each arm is tried."""
    rows = [Example(f"d{arm}", "completion", (Turn("prompt", "Which arm? "), Turn("completion", arm))) for arm in ARMS]
    given = plan(folder, examples=Few(tuple(rows), "arms"), max_steps=20, per_device_train_batch_size=10)
    result = train(given, folder.parent / "digits", quiet=True)
    shutil.copy(Path(result.model) / "model.safetensors", folder / "model.safetensors")
