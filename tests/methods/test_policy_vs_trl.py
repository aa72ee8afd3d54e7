"""Losses and advantages against those of TRL's trainers, term by term, on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mnemos.core.rollouts import RolloutBatch, RolloutView
from mnemos.methods.draw.credit import GroupNormalised, LeaveOneOut
from mnemos.methods.draw.on_policy import jensen_shannon
from mnemos.methods.draw.policy import ClippedPolicy, SampledKL
from tests.methods.test_objective import view
from tests.tiny import save_tiny

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

GROUP, PROMPTS, TOKENS = 4, 3, 5


def letters(completions: list[str], **_: Any) -> list[float]:
    """A reward that hangs on every letter."""
    return [sum(ord(letter) % 7 for letter in text) / (6 * max(1, len(text))) for text in completions]


def trl(kind: str, out: Path, beta: float, **more: Any) -> Any:
    """A TRL trainer on a tiny model whose reference differs from it."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    config, trainer = {"grpo": (GRPOConfig, GRPOTrainer), "rloo": (RLOOConfig, RLOOTrainer)}[kind]
    folder = save_tiny(out / "model")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompts = Dataset.from_list([{"prompt": f"What is {i}?"} for i in range(PROMPTS)])
    args = config(
        output_dir=str(out),
        per_device_train_batch_size=GROUP * PROMPTS,
        num_generations=GROUP,
        max_completion_length=TOKENS,
        beta=beta,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        use_cpu=True,
        **more,
    )
    made = trainer(model=model, reward_funcs=letters, args=args, train_dataset=prompts, processing_class=tokenizer)
    made.current_gradient_accumulation_steps = 1
    torch.manual_seed(1)
    with torch.no_grad():
        for value in made.model.parameters():
            value.add_(0.2 * torch.randn_like(value))
    made.model.train()
    return made


def scored(trainer: Any) -> dict[str, Any]:
    """One generation of TRL's, with what it made of it."""
    batch = [{"prompt": f"What is {i}?"} for i in range(PROMPTS) for _ in range(GROUP)]
    inputs = trainer._generate_and_score_completions(batch)
    texts = trainer.processing_class.batch_decode(inputs["completion_ids"], skip_special_tokens=True)
    return {**inputs, "rewards": letters(texts)}


def shortened(inputs: dict[str, Any]) -> dict[str, Any]:
    """Answers of 1 to 5 tokens instead of 5 each."""
    lengths = torch.tensor([1 + i % TOKENS for i in range(len(inputs["completion_mask"]))])
    mask = (torch.arange(TOKENS)[None] < lengths[:, None]).to(inputs["completion_mask"].dtype)
    return {**inputs, "completion_mask": mask, "num_items_in_batch": mask.sum()}


def logs(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, list[np.ndarray[Any, Any]]]:
    """float[A, T, V] of the completions, and ln p of each answer's tokens."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    size = inputs["completion_ids"].shape[1]
    out = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, -size - 1 : -1]
    each = out.log_softmax(-1).gather(-1, inputs["completion_ids"][..., None])[..., 0].detach().double().numpy()
    lengths = inputs["completion_mask"].sum(1).tolist()
    return out, [row[:length] for row, length in zip(each, lengths, strict=True)]


def rollouts(inputs: dict[str, Any], **given: Any) -> RolloutBatch:
    return RolloutBatch(
        np.array(inputs["rewards"]),
        np.repeat(np.arange(PROMPTS), GROUP),
        inputs["completion_mask"].sum(1).numpy(),
        **given,
    )


def seen(inputs: dict[str, Any], logits: torch.Tensor, weight: torch.Tensor, old: Any, before: Any) -> Any:
    """The view that our terms get of TRL's batch."""
    mask = inputs["completion_mask"].bool()
    answer = torch.arange(len(mask))[:, None].expand_as(mask)[mask]
    flat = weight[mask].numpy()
    columns = [None if one is None else torch.tensor(np.concatenate(one), dtype=torch.float32) for one in (old, before)]
    own = RolloutView(
        temperature=1.0,
        drawn=torch.ones(len(flat), dtype=torch.bool),
        answer=answer,
        answers=len(mask),
        advantage=inputs["advantages"][answer],
        old=columns[0],
        before=columns[1],
        returns=None,
        values=None,
        value=lambda: pytest.fail("asked for values"),
    )
    return view(logits[mask], None, flat, targets=inputs["completion_ids"][mask], rollouts=own)


def shifted(logs_of: list[Any]) -> list[Any]:
    """Log-probabilities of a model that has moved since, so that clipping does something."""
    made = np.random.default_rng(2)
    return [one + made.normal(scale=0.3, size=one.shape) for one in logs_of]


def padded(rows: list[Any], inputs: dict[str, Any]) -> torch.Tensor:
    out = torch.zeros(inputs["completion_ids"].shape)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.float32)
    return out


@pytest.mark.parametrize("loss", ["dapo", "grpo"])
def test_grpo_is_trls(tmp_path: Path, loss: str) -> None:
    trainer = trl("grpo", tmp_path, 0.1, loss_type=loss)
    inputs = scored(trainer)
    ours = GroupNormalised("group")(rollouts(inputs)).advantages
    assert np.allclose([one[0] for one in ours], inputs["advantages"], atol=1e-5)
    assert np.std(inputs["advantages"].numpy()) > 0.1
    inputs = shortened(inputs)
    logits, now = logs(trainer.model, inputs)
    before = [row[: len(one)] for row, one in zip(inputs["ref_per_token_logps"].double().numpy(), now, strict=True)]
    assert max(np.abs(a - b).max() for a, b in zip(now, before, strict=True)) > 1e-2
    old = shifted(now)
    theirs = trainer._compute_loss(trainer.model, {**inputs, "old_per_token_logps": padded(old, inputs)})
    lengths = inputs["completion_mask"].sum(1, keepdim=True).float()
    each = lengths.mean() / lengths if loss == "grpo" else torch.ones_like(lengths)
    given = seen(inputs, logits, inputs["completion_mask"] * each, old, before)
    own = ClippedPolicy((0.2, 0.2), "token").loss(given) + SampledKL(0.1).loss(given)
    assert float(own.detach()) == pytest.approx(float(theirs.detach()), abs=1e-5)


def test_rloo_is_trls(tmp_path: Path) -> None:
    trainer = trl("rloo", tmp_path, 0.3)
    inputs = scored(trainer)
    logits, now = logs(trainer.model, inputs)
    _, before = logs(trainer.ref_model, inputs)
    ours = LeaveOneOut(0.3)(rollouts(inputs, now=now, before=before)).advantages
    free = LeaveOneOut(0.0)(rollouts(inputs)).advantages
    assert np.allclose([one[0] for one in ours], inputs["advantages"], atol=1e-5)
    assert not np.allclose([one[0] for one in free], inputs["advantages"], atol=1e-2)
    inputs = shortened(inputs)
    logits, now = logs(trainer.model, inputs)
    old = shifted(now)
    theirs = trainer._compute_loss(trainer.model, {**inputs, "old_logps": padded(old, inputs).sum(1)})
    lengths = inputs["completion_mask"].sum(1, keepdim=True).float()
    given = seen(inputs, logits, inputs["completion_mask"] * lengths.mean() / lengths, old, None)
    own = ClippedPolicy((0.2, 0.2), "answer").loss(given)
    assert float(own.detach()) == pytest.approx(float(theirs.detach()), abs=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_distillation_is_trls(beta: float) -> None:
    gkd = pytest.importorskip("trl.experimental.gkd")
    student, teacher = torch.randn(2, 1, 6, 17, generator=torch.Generator().manual_seed(0)) * 3
    theirs = gkd.GKDTrainer.generalized_jsd_loss(student, teacher, beta=beta, reduction="sum")
    ours = jensen_shannon(teacher.log_softmax(-1), student.log_softmax(-1), beta).sum()
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)
