"""Plans over tiny models and rows, for the tests of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.core.nouns import Example, Prompt, Tokens, Turn
from mnemos.core.plan import Likelihood, ModelHandle, Plan
from mnemos.core.reward import Rewarded, missing
from mnemos.core.rollouts import Rollouts
from mnemos.core.settings import TrainSettings
from mnemos.methods.draw.credit import Generalised
from mnemos.methods.draw.policy import ClippedPolicy, TaughtLikelihood, ValueLoss
from mnemos.models.load import Checkpoint
from mnemos.train import draws
from mnemos.train.rows import Prepared
from tests.tiny import TEXT


@dataclass(frozen=True)
class Few:
    """Some rows in memory."""

    examples: tuple[Example, ...]
    fingerprint: str = "few"

    def describe(self) -> str:
        return f"{len(self.examples)} rows"

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)


def prepare_answers(plan: Plan, renderer: Any) -> Prepared:
    """Rows as the module of the plan's draw makes them."""
    prepared: Prepared = draws.find(plan.draw).prepare(plan, renderer)
    return prepared


def pairs(count: int = 13) -> Few:
    """Prompt and completion rows of growing length, 10 to 45 tokens."""
    turns = [(TEXT[i % 6][: 5 + 2 * i], TEXT[(i + 1) % 6][: 7 + 3 * i]) for i in range(count)]
    rows = [
        Example(f"r{i}", "completion", (Turn("prompt", p), Turn("completion", c))) for i, (p, c) in enumerate(turns)
    ]
    return Few(tuple(rows), f"pairs-{count}")


def texts(count: int = 8) -> Few:
    """Plain documents."""
    return Few(tuple(Example(f"t{i}", "text", (Turn("text", TEXT[i % 6] * (1 + i % 3)),)) for i in range(count)))


def preferences(count: int = 5) -> Few:
    """Pairs of answers to different prompts."""
    rows = [
        Example(
            f"p{i}",
            "preference",
            (Turn("user", TEXT[i % 6][: 6 + 3 * i]), Turn("assistant", TEXT[(i + 1) % 6][: 5 + 2 * i])),
            (Turn("assistant", TEXT[(i + 2) % 6][: 4 + 4 * i]),),
        )
        for i in range(count)
    ]
    return Few(tuple(rows), f"preferences-{count}")


def thumbs(count: int = 5) -> Few:
    """Single answers; every third is bad."""
    rows = [
        dataclasses.replace(pair, id=f"t{i}", kind="label", rejected=(), label=i % 3 != 0)
        for i, pair in enumerate(preferences(count).examples)
    ]
    return Few(tuple(rows), f"thumbs-{count}")


@dataclass(frozen=True)
class Output:
    """Weight 1 on what the model writes, 0 elsewhere."""

    def __call__(self, rows: Sequence[Tokens], before: ModelHandle) -> list[Tokens]:
        return [dataclasses.replace(row, weight=row.output.astype(np.float32)) for row in rows]


@dataclass(frozen=True)
class Soft:
    """Reproducible weights in [0, 1], a quarter of them exactly 0."""

    def __call__(self, rows: Sequence[Tokens], before: ModelHandle) -> list[Tokens]:
        made = np.random.default_rng(7)
        out = []
        for row in rows:
            weight = made.random(len(row)).astype(np.float32)
            out.append(dataclasses.replace(row, weight=np.where(weight < 0.25, 0, weight).astype(np.float32)))
        return out


@dataclass(frozen=True)
class Unlearn:
    """Weight -1 on `pairs`, 1 on `texts`: what the two want pulls apart."""

    def __call__(self, rows: Sequence[Tokens], before: ModelHandle) -> list[Tokens]:
        sign = {"r": -1, "t": 1}
        return [
            dataclasses.replace(row, weight=np.float32(sign[row.example[0]]) * row.output.astype(np.float32))
            for row in rows
        ]


@dataclass(frozen=True)
class Lora:
    """Rank-4 adapters on the attention, initialised away from zero so that they matter at once."""

    learning_rate: float | None = None

    def prepare(self, model: Any) -> Any:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        return get_peft_model(model, config)


@dataclass(frozen=True)
class Spelled:
    """A reward in [0, 1] that hangs on every letter; missing for answers with a letter of `hidden`,
    and without a difference where `flat`."""

    flat: bool = False
    hidden: str = ""
    fingerprint: str = "spelled"

    def describe(self) -> str:
        return "spelling"

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[str], examples: Sequence[Example]
    ) -> list[Rewarded]:
        assert [prompt.turns for prompt in prompts] == [example.turns[:-1] for example in examples]
        return [self._one(answer) for answer in answers]

    def _one(self, answer: str) -> Rewarded:
        if set(self.hidden) & set(answer):
            return missing("a hidden letter")
        return Rewarded(0.5 if self.flat else sum(ord(letter) % 7 for letter in answer) / (6 * max(1, len(answer))))


PPO: dict[str, Any] = {
    "draw": Rollouts(5, 1.0, 1, 2, Spelled(), Generalised(0.1, 1.0, 0.95, True)),
    "objective": (ClippedPolicy((0.2, 0.2), "token"), ValueLoss(0.5, 0.2), TaughtLikelihood()),
    "weigh": (),
}
"""Two steps a batch of rollouts, a value head, the model before."""


def plan(model: Path, **changes: Any) -> Plan:
    """A plan over `pairs` with quick settings; keywords change fields of Plan or TrainSettings."""
    settings = {
        "learning_rate": 1e-2,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "max_length": 128,
        # Large enough that Adam does not blow rounding of vanishing gradients up to whole steps.
        "adam_epsilon": 1e-3,
    }
    fields = {field.name for field in dataclasses.fields(Plan)}
    settings.update({name: value for name, value in changes.items() if name not in fields})
    rest = {"weigh": (Output(),), "objective": (Likelihood(),), "examples": pairs()}
    rest.update({name: value for name, value in changes.items() if name in fields})
    return Plan(before=Checkpoint(str(model)), task="t", seed=0, train=TrainSettings(**settings), **rest)


def weights(directory: Path | str) -> dict[str, Any]:
    """Every tensor of a model directory; of an adapter's directory, those of the model that it is with its base."""
    from safetensors.torch import load_file

    from mnemos.models.load import load_model

    folder = Path(directory)
    if (folder / "adapter_config.json").is_file():
        return dict(load_model(str(folder), merge=True).state_dict())
    return load_file(folder / "model.safetensors")
