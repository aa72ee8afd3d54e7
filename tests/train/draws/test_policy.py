"""Training on scored answers against a loop written by hand, cut up, with old rows, and refused."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Decoding, Example, Prompt, Turn
from mnemos.core.plan import Plan
from mnemos.core.rollouts import Rollouts
from mnemos.methods.draw.credit import GroupNormalised
from mnemos.methods.draw.on_policy import JensenShannon
from mnemos.methods.draw.policy import ClippedPolicy, SampledKL, TaughtLikelihood
from mnemos.methods.objective.divergence import KLToBefore
from mnemos.models import decode
from mnemos.models.load import Checkpoint
from mnemos.sources.render import Renderer
from mnemos.train.draws import sampling
from mnemos.train.draws.policy import prepare as prepare_questions
from mnemos.train.likelihood import train
from mnemos.train.schedule import Schedule
from tests.tiny import save_tiny
from tests.train.draws.test_self_distillation import chats
from tests.train.making import PPO, Few, Lora, Soft, Spelled, plan, weights

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SAMPLES = 3


def rewarded(model: Path, **changes: Any) -> Plan:
    """GRPO by hand's rules: two prompts of three answers a batch, two steps each, two passes."""
    settings = {"examples": chats(4), "weigh": (), "per_device_train_batch_size": 6, "max_length": 256}
    settings["draw"] = Rollouts(5, 1.0, SAMPLES, 2, Spelled(), GroupNormalised("group"), "answer", keeps_before=True)
    settings["objective"] = (ClippedPolicy((0.2, 0.2), "token"), SampledKL(0.1), TaughtLikelihood())
    return plan(model, **{**settings, **changes})


def old_rows(count: int = 2) -> tuple[Example, ...]:
    turns = (Turn("user", "Old?"), Turn("assistant", "Yes."))
    return tuple(Example(f"old{i}", "messages", turns, origin="replay") for i in range(count))


def by_hand(given: Plan) -> tuple[list[float], dict[str, torch.Tensor]]:
    """AdamW on the mean over answers of their mean clipped loss, with a second model for the one before."""
    path, settings = given.before.path, given.train
    renderer = Renderer(AutoTokenizer.from_pretrained(path))
    model, before = (AutoModelForCausalLM.from_pretrained(path) for _ in range(2))
    optimizer = torch.optim.AdamW(model.parameters(), eps=settings.adam_epsilon, weight_decay=0.0)
    examples = list(given.examples)
    prompts = [renderer.prompt_ids(Prompt(example.turns[:-1])) for example in examples]
    schedule, losses = Schedule([len(prompt) for prompt in prompts], 2, given.seed), []
    for epoch in range(2):
        for chunk in schedule.chunks(epoch):
            seed = int(np.random.SeedSequence([given.seed, len(losses)]).generate_state(1)[0])
            asked = [int(place) for place in chunk for _ in range(SAMPLES)]
            with torch.no_grad():
                written = decode.write(
                    model, [prompts[i] for i in asked], renderer.stop_ids, Decoding(5, 1.0, seed=seed), 4096
                )
            answers = [[*ids, *([] if end is None else [end])] for ids, end in written]
            texts = [renderer.decode(ids) for ids, _ in written]
            rewards = np.array(
                [
                    one.value
                    for one in Spelled()(
                        [Prompt(examples[i].turns[:-1]) for i in asked], texts, [examples[i] for i in asked]
                    )
                ]
            )
            grouped = rewards.reshape(-1, SAMPLES)
            good = ((grouped - grouped.mean(1, keepdims=True)) / (grouped.std(1, ddof=1, keepdims=True) + 1e-4)).ravel()
            with torch.no_grad():
                old = [_logs(model, prompts[i], answer) for i, answer in zip(asked, answers, strict=True)]
                start = [_logs(before, prompts[i], answer) for i, answer in zip(asked, answers, strict=True)]
            for _ in range(2):
                terms = []
                for i, answer, a, was, first in zip(asked, answers, good, old, start, strict=True):
                    logs = _logs(model, prompts[i], answer)
                    q, d = (logs - was).exp(), first - logs
                    clipped = torch.minimum(q * a, q.clamp(0.8, 1.2) * a)
                    terms.append((-clipped + 0.1 * q * (d.exp() - d - 1)).mean())
                loss = torch.stack(terms).mean()
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * (1 - len(losses) / 8)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
                optimizer.step()
                losses.append(loss.item())
    return losses, model.state_dict()


def _logs(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    out = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    return out.log_softmax(-1)[torch.arange(len(answer)), torch.tensor(answer)]


def test_equals_a_loop_written_by_hand(sharp: Path, tmp_path: Path) -> None:
    given = rewarded(sharp)
    result = train(given, tmp_path, quiet=True)
    losses, state = by_hand(given)
    assert len(losses) == result.steps == 8
    assert np.allclose([loss for _, loss in result.losses], losses, rtol=1e-4, atol=1e-6)
    saved = weights(result.model)
    assert all(torch.allclose(saved[name], state[name], atol=5e-5) for name in saved)
    assert result.counts["answers drawn"] == 4 * 2 * SAMPLES
    assert result.counts["groups"] == 8
    assert [step for step, _ in result.noted["reward"]] == [1, 3, 5, 7]
    assert result.noted["kl_to_before"][0][1] == pytest.approx(0, abs=1e-6)
    assert abs(result.noted["kl_to_before"][-1][1]) > 1e-4
    assert 0 < result.noted["reward"][0][1] < 1


@pytest.mark.parametrize("kind", ["grpo", "ppo"])
def test_a_step_may_be_cut(sharp: Path, tmp_path: Path, kind: str) -> None:
    """A group may lie in two micro-batches."""
    more = {} if kind == "grpo" else PPO
    whole = train(rewarded(sharp, **more), tmp_path / "a", quiet=True)
    cut = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}
    parts = train(rewarded(sharp, **more, **cut), tmp_path / "b", quiet=True)
    assert np.allclose([loss for _, loss in parts.losses], [loss for _, loss in whole.losses], rtol=1e-3, atol=1e-6)
    assert (parts.tokens, parts.supervised_tokens) == (whole.tokens, whole.supervised_tokens)
    one, other = weights(whole.model), weights(parts.model)
    assert all(torch.allclose(one[name], other[name], atol=5e-5) for name in one)
    assert not any("value" in name and "v_proj" not in name for name in one), "the value head stays out of the model"


def test_rehearsed_rows_are_learned_as_they_stand(sharp: Path, tmp_path: Path) -> None:
    """With nothing to gain from rewards' differences, only the old rows move the model, as by likelihood."""
    rows = Few((*chats(2).examples, *old_rows(2)), "mixed")
    zero = {"objective": (TaughtLikelihood(),), "examples": rows, "per_device_train_batch_size": 12}
    result = train(rewarded(sharp, num_train_epochs=10, **zero), tmp_path, quiet=True)
    assert result.losses[-1][1] < 0.5 * result.losses[0][1]
    renderer = Renderer(AutoTokenizer.from_pretrained(sharp))
    row = renderer.render(old_rows()[0])
    ids = torch.tensor([row.ids.tolist()])
    with torch.no_grad():
        models = [AutoModelForCausalLM.from_pretrained(path) for path in (sharp, result.model)]
        before, after = (float(model(input_ids=ids, labels=ids).loss) for model in models)
    assert after < before - 0.5


@pytest.mark.parametrize(
    "more",
    [
        {"trainable": Lora()},
        {"objective": (ClippedPolicy(None, "answer"), TaughtLikelihood(), KLToBefore(0.5, "reverse", "new"))},
    ],
    ids=["lora", "kl"],
)
def test_it_composes(sharp: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    """Adapters are what the model before is without; a penalty on leaving it holds the model back."""
    result = train(rewarded(sharp, **more), tmp_path / "a", quiet=True)
    assert len(result.losses) == 8
    if "objective" in more:
        free = train(rewarded(sharp, objective=more["objective"][:2]), tmp_path / "b", quiet=True)
        assert abs(result.noted["kl_to_before"][-1][1]) < abs(free.noted["kl_to_before"][-1][1])
    else:
        assert (tmp_path / "a" / "model" / "adapter_config.json").exists()


def test_distillation_ends_where_the_teacher_is(sharp: Path, tmp_path: Path) -> None:
    """From itself there is nothing to learn; from a stranger the divergence falls."""
    draw = Rollouts(5, 1.0, 1)
    other = save_tiny(tmp_path / "teacher", seed=5)

    def losses(teacher: Path) -> list[float]:
        objective = (JensenShannon(Checkpoint(str(teacher)), 1.0, 1.0), TaughtLikelihood())
        given = rewarded(sharp, draw=draw, objective=objective, num_train_epochs=12)
        return [loss for _, loss in train(given, tmp_path / teacher.name, quiet=True).losses]

    assert losses(sharp)[0] == pytest.approx(0, abs=1e-5)
    learned = losses(other)
    assert learned[-1] < 0.5 * learned[0]


def test_a_batch_must_hold_whole_groups(sharp: Path, tmp_path: Path) -> None:
    for size, nearest in ((7, 6), (8, 9), (1, 3)):
        with pytest.raises(
            UsageError,
            match=f"whole groups of 3 samples: the nearest valid value is {nearest}|nearest valid value is {nearest}",
        ):
            train(rewarded(sharp, per_device_train_batch_size=size), tmp_path, quiet=True)


def drawn(given: Plan, **changes: Any) -> Plan:
    return replace(given, draw=replace(given.draw, **changes))


def test_a_constant_reward_stops_the_training(sharp: Path, tmp_path: Path) -> None:
    flat = drawn(rewarded(sharp), reward=Spelled(flat=True), patience=2)
    with pytest.raises(
        DataError, match=r"reward spelling: mean 0.5, without a difference .* in all of 2 batches of rollouts"
    ):
        train(flat, tmp_path / "early", quiet=True)
    with pytest.raises(DataError, match="all of 4 batches of rollouts"):
        train(drawn(flat, patience=99), tmp_path / "end", quiet=True)
    assert not (tmp_path / "end" / "model").exists()


def test_missing_rewards_are_counted_by_reason(sharp: Path, tmp_path: Path) -> None:
    some = drawn(rewarded(sharp), reward=Spelled(hidden="e"), max_missing=1.0)
    result = train(some, tmp_path / "some", quiet=True)
    assert 0 < result.counts["no reward: a hidden letter"] < result.counts["answers drawn"]
    with pytest.raises(DataError, match=r"answers have none \(a hidden letter: \d+\)"):
        train(drawn(some, max_missing=0.0), tmp_path / "none", quiet=True)


def test_what_is_asked_and_what_is_left_out(sharp: Path) -> None:
    renderer = Renderer(AutoTokenizer.from_pretrained(sharp))
    asked = Example("p", "messages", (Turn("user", "Only a prompt?"),))
    rows = (*chats(2).examples, asked, replace(chats(30).examples[29], id="long"), *old_rows(1))
    prepared = prepare_questions(rewarded(sharp, examples=Few(rows, "some"), max_length=60), renderer)
    left_out = Counter({name: count for name, count in prepared.counts.items() if name.startswith("left out")})
    assert left_out == {"left out: longer than 60 tokens with the answer": 1}
    assert [example.id for example in prepared.examples] == ["c0", "c1", "p", "old0"]
    assert [bool(row.weight.any()) for (row,) in prepared.rows] == [False, False, False, True]
    with pytest.raises(DataError, match="0 of 1 examples can be answered"):
        prepare_questions(rewarded(sharp, examples=Few(old_rows(1), "old")), renderer)
    with pytest.raises(UsageError, match="Soft on answers that the model draws"):
        prepare_questions(rewarded(sharp, weigh=(Soft(),)), renderer)
    with pytest.raises(UsageError, match="cannot be packed"):
        prepare_questions(rewarded(sharp, packing=True), renderer)


def test_answers_end_where_a_suite_ends_them(sharp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chat model's second end token stands in generation_config.json alone."""
    model = tmp_path / "model"
    shutil.copytree(sharp, model)
    settings = json.loads((model / "generation_config.json").read_text(encoding="utf-8"))
    plain = Checkpoint(str(model)).load().stop_ids
    second = AutoTokenizer.from_pretrained(model).convert_tokens_to_ids("<|eos|>")
    assert second not in plain
    settings["eos_token_id"] = [*plain, second]
    (model / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    stops, write = [], decode.write

    def watched(asked: Any, rows: Any, stop: frozenset[int], *rest: Any) -> Any:
        stops.append(stop)
        return write(asked, rows, stop, *rest)

    monkeypatch.setattr(sampling.decode, "write", watched)
    result = train(rewarded(model, max_steps=1), tmp_path / "out", quiet=True)
    assert stops
    assert set(stops) == {plain | {second}} == {Checkpoint(str(result.model)).load().stop_ids}
