"""`train` against a loop written by hand, and against itself cut up differently."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from mnemos.core.nouns import Tokens
from mnemos.core.plan import Likelihood, Plan
from mnemos.sources.render import Renderer
from mnemos.train.likelihood import train
from mnemos.train.rows import prepare
from mnemos.train.schedule import Schedule
from tests.tiny import save_tiny
from tests.train.making import Few, Soft, pairs, plan, texts, weights


def _rows(given: Plan) -> list[Tokens]:
    prepared = prepare(given, Renderer(AutoTokenizer.from_pretrained(given.before.path)))
    return [one for row in prepared.rows for one in row]


def _by_hand(given: Plan, batch: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    """AdamW on padded rows, full logits and shifted labels: the losses and the weights."""
    rows, settings = _rows(given), given.train
    model = AutoModelForCausalLM.from_pretrained(given.before.path).train()
    optimizer = torch.optim.AdamW(model.parameters(), eps=settings.adam_epsilon, weight_decay=0.0)
    schedule = Schedule([len(row) for row in rows], batch, given.seed)
    steps = len(schedule) * int(settings.num_train_epochs)
    losses: list[float] = []
    for epoch in range(int(settings.num_train_epochs)):
        for chunk in schedule.chunks(epoch):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * (1 - len(losses) / steps)
            loss = _loss(model, [rows[i] for i in chunk])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
            optimizer.step()
            losses.append(loss.item())
    return losses, model.state_dict()


def _loss(model: Any, rows: list[Tokens]) -> torch.Tensor:
    width = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.int64), torch.zeros(len(rows), width, dtype=torch.int64)
    weight = torch.zeros(len(rows), width)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row.ids.astype(np.int64))
        weight[number, : len(row)] = torch.tensor(row.weight)
        mask[number, : len(row)] = 1
    logits = model(input_ids=ids, attention_mask=mask).logits
    nll = F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    return (nll * weight[:, 1:]).sum() / weight[:, 1:].sum()


def _losses(result: Any) -> list[float]:
    return [loss for _, loss in result.losses]


def _close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], atol: float = 2e-5) -> bool:
    return all(torch.allclose(value, other[name], atol=atol) for name, value in one.items())


@pytest.mark.parametrize("weigh", [(), (Soft(),)], ids=["all", "fractions"])
def test_equals_a_loop_written_by_hand(llama: Path, tmp_path: Path, weigh: tuple[Any, ...]) -> None:
    given = plan(llama, weigh=weigh)
    result = train(given, tmp_path, quiet=True)
    losses, state = _by_hand(given, batch=4)
    assert result.steps == len(losses) == 8
    assert np.allclose(_losses(result), losses, rtol=1e-5)
    assert _close(weights(result.model), state)


def test_the_first_loss_is_that_of_transformers(llama: Path, tmp_path: Path) -> None:
    """All labels of one batch: transformers computes the mean from full logits itself."""
    given = plan(llama, weigh=(), per_device_train_batch_size=13, max_steps=1)
    result = train(given, tmp_path, quiet=True)
    rows, model = _rows(given), AutoModelForCausalLM.from_pretrained(llama)
    losses, counts = [], []
    for row in rows:
        ids = torch.tensor(row.ids.astype(np.int64))[None]
        losses.append(model(input_ids=ids, labels=ids).loss.item())
        counts.append(len(row) - 1)
    assert math.isclose(_losses(result)[0], float(np.average(losses, weights=counts)), rel_tol=1e-5)


def test_accumulation_and_packing_do_not_change_the_losses(llama: Path, tmp_path: Path) -> None:
    whole = train(plan(llama, weigh=(Soft(),), per_device_train_batch_size=8), tmp_path / "a", quiet=True)
    cut = plan(llama, weigh=(Soft(),), per_device_train_batch_size=2, gradient_accumulation_steps=4)
    parts = train(cut, tmp_path / "b", quiet=True)
    assert parts.steps == whole.steps == 4
    assert np.allclose(_losses(parts), _losses(whole), rtol=1e-5)
    assert _close(weights(parts.model), weights(whole.model))
    assert parts.tokens == whole.tokens
    assert parts.supervised_tokens == whole.supervised_tokens


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_packed_rows_learn_what_separate_rows_learn(tmp_path: Path, family: str) -> None:
    """Every row in one step, so that packing cannot change which rows share a step."""
    model = save_tiny(tmp_path / family, family)
    if family == "gpt2":
        _without_dropout(model)
    same = {"per_device_train_batch_size": 64, "num_train_epochs": 3, "examples": pairs(9)}
    apart = train(plan(model, **same), tmp_path / "apart", quiet=True)
    packed = train(plan(model, **same, packing=True), tmp_path / "packed", quiet=True)
    assert packed.counts["rows"] < apart.counts["rows"] == 9
    assert np.allclose(_losses(packed), _losses(apart), rtol=1e-5)
    assert _close(weights(packed.model), weights(apart.model))


def _without_dropout(model: Path) -> None:
    import json

    config = json.loads((model / "config.json").read_text())
    config.update(attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)
    (model / "config.json").write_text(json.dumps(config))


def test_the_same_plan_gives_the_same_bits(llama: Path, tmp_path: Path) -> None:
    first = train(plan(llama), tmp_path / "a", quiet=True)
    second = train(plan(llama), tmp_path / "b", quiet=True)
    assert first.losses == second.losses
    one, other = weights(first.model), weights(second.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    third = train(dataclasses.replace(plan(llama), seed=1), tmp_path / "c", quiet=True)
    assert third.losses != first.losses


def test_recomputing_and_bfloat16_stay_close(llama: Path, tmp_path: Path) -> None:
    plain = train(plan(llama), tmp_path / "a", quiet=True)
    again = train(plan(llama, gradient_checkpointing=True), tmp_path / "b", quiet=True)
    assert np.allclose(_losses(again), _losses(plain), rtol=1e-5)
    half = train(plan(llama, bf16=True), tmp_path / "c", quiet=True)
    assert np.allclose(_losses(half), _losses(plain), rtol=2e-2)
    assert next(iter(weights(half.model).values())).dtype == torch.float32


def test_text_is_learned_from_its_second_token_on(llama: Path, tmp_path: Path) -> None:
    given = plan(llama, examples=texts(), weigh=(), learning_rate=3e-2, num_train_epochs=12)
    result = train(given, tmp_path, quiet=True)
    assert result.supervised_tokens == result.tokens - 12 * 8
    assert result.losses[-1][1] < 0.5 * result.losses[0][1]


def test_the_result_counts_what_was_read(llama: Path, tmp_path: Path) -> None:
    given = plan(llama, max_length=20, logging_steps=3)
    result = train(given, tmp_path, quiet=True)
    rows = _rows(given)
    assert result.tokens == 2 * sum(map(len, rows))
    assert result.supervised_tokens == 2 * sum(int((row.weight[1:] != 0).sum()) for row in rows)
    left_out = sum(count for name, count in result.counts.items() if "long" in name)
    assert result.counts["examples"] == 13 == result.counts["rows"] + left_out
    assert left_out > 0
    assert [step for step, _ in result.losses][:2] == [3, 6]
    assert result.losses[-1][0] == result.steps
    assert result.first_tokens == [int(token) for token in rows[0].ids][:50]
    assert result.trainable_parameters == result.total_parameters == sum(v.numel() for v in weights(llama).values())
    assert result.peak_memory_bytes > 10**7
    assert Path(result.model) == tmp_path / "model"
    assert not (tmp_path / "checkpoints").exists()


def test_log_interval_means_cover_every_step(llama: Path, tmp_path: Path) -> None:
    each = train(plan(llama), tmp_path / "a", quiet=True)
    thirds = train(plan(llama, logging_steps=3), tmp_path / "b", quiet=True)
    losses = _losses(each)
    assert np.allclose(_losses(thirds), [np.mean(losses[:3]), np.mean(losses[3:6]), np.mean(losses[6:])])


@dataclass(frozen=True)
class Seen:
    """An objective term worth nothing that keeps what it was shown."""

    views: list[Any] = dataclasses.field(default_factory=list, compare=False)

    def loss(self, view: Any) -> torch.Tensor:
        self.views.append(
            (
                view.share,
                float(view.weight.sum() / view.normaliser),
                view.references.before_logits(),
                view.references.start(),
            )
        )
        return 0 * view.logits.sum()


def test_terms_see_shares_and_the_model_before(llama: Path, tmp_path: Path) -> None:
    seen = Seen()
    objective = (Likelihood(), seen)
    cut = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "num_train_epochs": 1}
    given = plan(llama, objective=objective, examples=pairs(8), **cut)
    train(given, tmp_path, quiet=True)
    shares = [view[0] for view in seen.views]
    # 4 micro-batches: a step of 3 and a step of 1.
    assert np.allclose(shares, [1 / 3, 1 / 3, 1 / 3, 1])
    assert np.isclose(sum(view[1] for view in seen.views), 2)
    rows, model = _rows(given), AutoModelForCausalLM.from_pretrained(llama)
    last = list(Schedule([len(row) for row in rows], 2, 0).chunks(0))[-1]
    wanted = []
    for index in last:
        ids, weight = torch.tensor(rows[index].ids.astype(np.int64)), torch.tensor(rows[index].weight)
        with torch.no_grad():
            wanted.append(model(input_ids=ids[None]).logits[0, :-1][weight[1:] != 0])
    assert torch.allclose(seen.views[-1][2], torch.cat(wanted), atol=1e-5)
    start = seen.views[-1][3]
    assert all(torch.equal(value, start[name]) for name, value in model.named_parameters())


@dataclass(frozen=True)
class Halve:
    """A gradient rule that zeroes one tensor and keeps count."""

    calls: list[Any] = dataclasses.field(default_factory=list, compare=False)

    def apply(self, model: Any, step: int) -> None:
        norm = model.get_input_embeddings().weight.grad
        self.calls.append((step, float(norm.abs().sum())))
        model.lm_head.weight.grad.zero_()


@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_gradient_rules_act_once_a_step_before_clipping(llama: Path, tmp_path: Path, clip: float) -> None:
    rule = Halve()
    given = plan(llama, gradient=(rule,), gradient_accumulation_steps=2, num_train_epochs=1, max_grad_norm=clip)
    result = train(given, tmp_path, quiet=True)
    assert [step for step, _ in rule.calls] == [0, 1] == list(range(result.steps))
    assert all(size > 0 for _, size in rule.calls)
    after, before = weights(result.model), weights(llama)
    assert torch.equal(after["lm_head.weight"], before["lm_head.weight"])
    assert not torch.equal(after["model.embed_tokens.weight"], before["model.embed_tokens.weight"])


def test_data_seed_changes_the_order_only(llama: Path, tmp_path: Path) -> None:
    one = train(plan(llama, max_steps=2), tmp_path / "a", quiet=True)
    other = train(plan(llama, max_steps=2, data_seed=5), tmp_path / "b", quiet=True)
    same = train(plan(llama, max_steps=2, data_seed=0), tmp_path / "c", quiet=True)
    assert one.losses == same.losses != other.losses


def test_quiet_says_nothing(llama: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(plan(llama, num_train_epochs=1), tmp_path, quiet=True)
    text = capfd.readouterr()
    assert (text.out, text.err) == ("", "")


def test_trackers_see_the_losses(llama: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(plan(llama, report_to=("tensorboard",)), tmp_path, quiet=True)
    files = list(tmp_path.rglob("events.out.tfevents*"))
    assert files
    logged = EventAccumulator(str(files[0].parent))
    logged.Reload()
    assert np.allclose([one.value for one in logged.Scalars("train/loss")], _losses(result), rtol=1e-6)


def test_one_row_is_enough(llama: Path, tmp_path: Path) -> None:
    result = train(plan(llama, examples=Few(pairs().examples[:1], "one")), tmp_path, quiet=True)
    assert result.steps == 2
