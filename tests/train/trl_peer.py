"""TRL's DPO and KTO trainers on rows that were tokenized here: the peer of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mnemos.core.nouns import Tokens
from mnemos.core.plan import Plan
from mnemos.sources.render import Renderer
from tests.train.making import prepare_answers


def _halves(tokens: Tokens) -> tuple[list[int], list[int]]:
    """Prompt and answer; what the template writes behind the end of the turn is read by neither."""
    return tokens.ids[: int(tokens.output.argmax())].tolist(), tokens.ids[tokens.output].tolist()


def rows_for_trl(plan: Plan) -> list[dict[str, Any]]:
    """The plan's rows with TRL's columns after its own tokenization."""
    renderer = Renderer(AutoTokenizer.from_pretrained(plan.before.path))
    out: list[dict[str, Any]] = []
    for row in prepare_answers(plan, renderer).rows:
        prompt, first = _halves(row[0])
        second = _halves(row[1])[1]
        if row[0].part == "chosen":
            out.append({"prompt_ids": prompt, "chosen_ids": first, "rejected_ids": second})
        else:
            label = row[0].part == "desirable"
            out.append({"prompt_ids": prompt, "completion_ids": first, "KL_completion_ids": second, "label": label})
    return out


def trained_by_trl(plan: Plan, out: Path, **settings: Any) -> tuple[list[float], dict[str, torch.Tensor], Any]:
    """Losses of each step, final weights and the trainer's log. Every step takes all rows, or the order
    would differ."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    rows = rows_for_trl(plan)
    kto = "label" in rows[0]
    base: Any = KTOTrainer if kto else DPOTrainer

    class Peer(base):  # type: ignore[misc]
        def _prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
            return Dataset.from_list(rows)

    train = plan.train
    config = (KTOConfig if kto else DPOConfig)(
        output_dir=str(out),
        per_device_train_batch_size=len(rows),
        num_train_epochs=train.num_train_epochs,
        learning_rate=train.learning_rate,
        adam_epsilon=train.adam_epsilon,
        lr_scheduler_type=train.lr_scheduler_type,
        max_grad_norm=train.max_grad_norm,
        warmup_steps=0,
        weight_decay=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        bf16=False,
        activation_checkpointing=False,
        max_length=train.max_length,
        use_cpu=True,
        disable_tqdm=True,
        **settings,
    )
    model, frozen = (AutoModelForCausalLM.from_pretrained(plan.before.path) for _ in range(2))
    tokenizer = AutoTokenizer.from_pretrained(plan.before.path)
    trainer = Peer(
        model=model, ref_model=frozen, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    trainer.train()
    history = [line for line in trainer.state.log_history if "loss" in line]
    return [line["loss"] for line in history], trainer.model.state_dict(), history
