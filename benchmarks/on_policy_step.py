"""A step of learning from reward: ours beside TRL's trainer of the same algorithm, and our PPO beside our GRPO.

The chat patient, the same prompts, 64 answers of at most 24 tokens a step in groups of 8, the same reward, a
learning rate that moves nothing, so that both sides draw from one distribution; float32 on both. From the end
of the first step to the end of the last; without a GPU it is processor time of one thread
(`method_step_cost.clock`).
"""

from __future__ import annotations

import gc
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mnemos.methods  # noqa: F401  fills the registry
from benchmarks.common import Result, alternate, compared
from benchmarks.method_step_cost import MODEL, NEW, clock
from mnemos.core.method import apply
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings

STEPS, REPETITIONS, ANSWERS, GROUP, TOKENS = 6, 3, 64, 8, 24
REWARD = {"verifier": "chrf"}
SAME: dict[str, Any] = {"reward": REWARD, "max_new_tokens": TOKENS}
OURS: dict[str, dict[str, Any]] = {
    "grpo": {**SAME, "num_generations": GROUP},
    "rloo": {**SAME, "num_generations": GROUP, "beta": 0.05},
    "ppo": {**SAME, "beta": 0.0, "num_iterations": 1},
}
BOUND, BOUND_PPO = 1.2, 1.5


@dataclass(frozen=True)
class World:
    """What is trained on what. model, rows: paths. answers: of a step, in groups of `group`, of at most `tokens` each.
    bf16: computed in bfloat16, with float32 master weights."""

    model: str = MODEL
    rows: str = NEW
    answers: int = ANSWERS
    group: int = GROUP
    tokens: int = TOKENS
    steps: int = STEPS
    bf16: bool = False

    def settings(self, kind: str) -> dict[str, Any]:
        """Those of the method."""
        shape = {"max_new_tokens": self.tokens, **({"num_generations": self.group} if kind != "ppo" else {})}
        return {**OURS[kind], **shape}


def run() -> Iterator[Result]:
    """grpo and rloo beside TRL, ppo beside grpo."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        details = {"answers": ANSWERS, "group": GROUP, "tokens": TOKENS, "steps": STEPS}
        for kind in ("grpo", "rloo"):
            sides = alternate(partial(ours, folder, kind), partial(trl, folder, kind), REPETITIONS)
            title = f"on-policy-{kind}-vs-trl"
            yield compared(title, sides, unit="s", direction="lower is better", bound=BOUND, details=details)
        sides = alternate(lambda: ours(folder, "ppo"), lambda: ours(folder, "grpo"), REPETITIONS)
        yield compared(
            "on-policy-ppo-vs-grpo", sides, unit="s", direction="lower is better", bound=BOUND_PPO, details=details
        )


def _marks() -> tuple[Any, list[float]]:
    from transformers import TrainerCallback

    now, marks = clock(), []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(now())

    return Clock(), marks


def ours(folder: Path, kind: str, world: World = World()) -> float:
    """Mean seconds of a step after the first."""
    from mnemos.models.load import Checkpoint
    from mnemos.sources.read import read
    from mnemos.train.likelihood import train

    gc.collect()
    settings = TrainSettings(
        per_device_train_batch_size=world.answers,
        max_steps=world.steps,
        learning_rate=1e-9,
        max_length=256,
        bf16=world.bf16,
        logging_steps=world.steps,
        optim="adamw_torch_fused",
    )
    plan = Plan(read(world.rows, name="new"), Checkpoint(world.model, torch_dtype="float32"), "new", 0, settings)
    callback, marks = _marks()
    train(apply(plan, [{kind: world.settings(kind)}]), folder / "out", quiet=True, callbacks=[callback])
    return (marks[-1] - marks[0]) / (len(marks) - 1)


def trl(folder: Path, kind: str, world: World = World()) -> float:
    """The same by TRL's own trainer with its defaults otherwise."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    from mnemos.rewards.verifiers import verifier
    from mnemos.sources.read import read

    gc.collect()
    examples = list(read(world.rows, name="new"))[: world.answers * world.steps]
    rows = [
        {"prompt": [{"role": "user", "content": one.turns[-2].text}], "gold": one.turns[-1].text} for one in examples
    ]
    check = verifier(REWARD["verifier"]).compare

    def reward(completions: list[Any], gold: list[str], **_: Any) -> list[float]:
        return [check(answer[0]["content"], right) for answer, right in zip(completions, gold, strict=True)]

    config, trainer = {"grpo": (GRPOConfig, GRPOTrainer), "rloo": (RLOOConfig, RLOOTrainer)}[kind]
    args = config(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=world.answers,
        num_generations=world.group,
        max_completion_length=world.tokens,
        beta=OURS[kind].get("beta", 0.0),
        max_steps=world.steps,
        learning_rate=1e-9,
        logging_steps=world.steps,
        save_strategy="no",
        report_to="none",
        bf16=world.bf16,
        use_cpu=not torch.accelerator.is_available(),
        gradient_checkpointing=False,
        disable_tqdm=True,
        log_level="error",
        optim="adamw_torch_fused",
    )
    callback, marks = _marks()
    made = trainer(
        model=AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32),
        reward_funcs=reward,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(world.model),
        callbacks=[callback],
    )
    made.train()
    return (marks[-1] - marks[0]) / (len(marks) - 1)
