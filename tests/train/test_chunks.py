"""Trainings whose logits are made in chunks end where those with whole logits end, and continue bit for bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemos.core.plan import Likelihood, Plan, SelfTaught
from mnemos.methods.draw.on_policy import TeacherDivergence
from mnemos.methods.draw.preference import dpo, kto, orpo
from mnemos.methods.gradient.projection import AveragedMemory
from mnemos.methods.objective.divergence import Distilled, KLToBefore, SelectiveLikelihood
from mnemos.methods.objective.units import TextLikelihood
from mnemos.models import chunked
from mnemos.models.load import Checkpoint
from mnemos.train.likelihood import train
from tests.tiny import save_tiny
from tests.train.making import PPO, Lora, plan, preferences, texts, thumbs, weights
from tests.train.stall import Stall, stalling
from tests.train.test_resume import _killed

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CHUNK = 4 * 400 * 7
"""Seven positions of the tiny vocabulary."""


def _plan(model: Path, **changes: Any) -> Plan:
    return plan(model, max_steps=3, **changes)


ARMS: dict[str, Callable[[Path, Path], Plan]] = {
    "likelihood": lambda model, _: _plan(model),
    "lora, kl to before": lambda model, _: _plan(
        model, objective=(Likelihood(), KLToBefore(0.5, "reverse")), trainable=Lora()
    ),
    "kl to before and distilled": lambda model, _: _plan(
        model, objective=(Likelihood(), KLToBefore(0.5, "forward"), Distilled(0.5, 2.0, "all"))
    ),
    "rho1": lambda model, other: _plan(model, objective=(SelectiveLikelihood(Checkpoint(str(other)), 0.6),)),
    "units masked": lambda model, _: _plan(model, objective=(TextLikelihood(r"<\|(eos|pad)\|>"),)),
    "a-gem": lambda model, _: _plan(model, gradient=(AveragedMemory(texts(), 4, 0),)),
    "dpo": lambda model, _: dpo(_plan(model, examples=preferences(), weigh=()), beta=0.3, sft_weight=0.5),
    "dpo, named reference, lora": lambda model, other: dpo(
        _plan(model, examples=preferences(), weigh=(), trainable=Lora()), reference_model=str(other)
    ),
    "orpo": lambda model, _: orpo(_plan(model, examples=preferences(), weigh=())),
    "kto": lambda model, _: kto(_plan(model, examples=thumbs(), weigh=())),
    "ppo": lambda model, _: _plan(model, **PPO),
    "self-distillation": lambda model, _: _plan(
        model,
        examples=preferences_as_chats(),
        weigh=(),
        draw=SelfTaught(5, 1.0, 0.25, "{question} (such as: {answer})"),
        objective=(TeacherDivergence("forward"),),
    ),
}


def preferences_as_chats() -> Any:
    """Chats of `preferences` without their rejected answers."""
    rows = [dataclasses.replace(one, kind="messages", rejected=()) for one in preferences().examples]
    return dataclasses.replace(preferences(), examples=tuple(rows), fingerprint="chats")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("chunks") / "gpt2", "gpt2", seed=3)


@pytest.mark.parametrize("arm", ARMS)
def test_the_same_training(llama: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arm: str) -> None:
    wanted = train(ARMS[arm](llama, other), tmp_path / "whole", quiet=True)
    largest = _largest(monkeypatch)
    monkeypatch.setattr(chunked, "CHUNK_BYTES", CHUNK)
    got = train(ARMS[arm](llama, other), tmp_path / "chunks", quiet=True)
    assert 0 < max(largest) <= 7
    for (step, loss), (number, expected) in zip(got.losses, wanted.losses, strict=True):
        assert (step, loss) == (number, pytest.approx(expected, rel=1e-5, abs=1e-6))
    for name, values in got.noted.items():
        for (step, value), (number, expected) in zip(values, wanted.noted[name], strict=True):
            assert (step, value) == (number, pytest.approx(expected, rel=1e-4, abs=1e-5)), name
    one, two = weights(got.model), weights(wanted.model)
    for name, tensor in two.items():
        torch.testing.assert_close(one[name], tensor, rtol=1e-4, atol=2e-6, msg=name)


def _largest(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Positions of every chunk that is made."""
    sizes: list[int] = []
    original = chunked.chunks

    def counted(count: int, vocabulary: int) -> Any:
        for rows in original(count, vocabulary):
            sizes.append(rows.stop - rows.start)
            yield rows

    monkeypatch.setattr(chunked, "chunks", counted)
    return sizes


@dataclass(frozen=True)
class Spread:
    """A term that is not `by_token`: it is shown the whole micro-batch."""

    def loss(self, view: Any) -> Any:
        assert len(view.logits) == len(view.targets)
        return view.logits.float().var(0).mean() / view.normaliser


def test_a_term_of_another_author_may_ask_for_whole_logits(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = train(_plan(llama, objective=(Likelihood(), Spread())), tmp_path / "whole", quiet=True)
    monkeypatch.setattr(chunked, "CHUNK_BYTES", CHUNK)
    got = train(_plan(llama, objective=(Likelihood(), Spread())), tmp_path / "chunks", quiet=True)
    assert [loss for _, loss in got.losses] == pytest.approx([loss for _, loss in wanted.losses], rel=1e-5)
    one, two = weights(got.model), weights(wanted.model)
    assert all(torch.allclose(one[name], two[name], rtol=1e-4, atol=2e-6) for name in two)


@pytest.mark.parametrize("lora", [False, True])
def test_killed_and_continued_in_chunks(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: bool
) -> None:
    monkeypatch.setenv("MNEMOS_TEST_CHUNK_BYTES", str(CHUNK))
    monkeypatch.setattr(chunked, "CHUNK_BYTES", CHUNK)
    unbroken = train(stalling(llama, lora, Stall()), tmp_path / "unbroken", quiet=True)
    _killed(llama, tmp_path / "broken", 19, *(["lora"] if lora else []))
    continued = train(stalling(llama, lora, Stall()), tmp_path / "broken", quiet=True)
    assert continued.losses == unbroken.losses
    one, two = weights(continued.model), weights(unbroken.model)
    assert all(torch.equal(one[name], two[name]) for name in two)


def test_gradient_checkpointing_gives_the_same_losses(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers are computed again in the backward pass: counted, and the same in whole and in chunked trainings."""
    import transformers.models.llama.modeling_llama as llama_code

    calls: list[bool] = []
    original = llama_code.LlamaMLP.forward

    def counted(self: Any, x: Any) -> Any:
        calls.append(self.training)
        return original(self, x)

    monkeypatch.setattr(llama_code.LlamaMLP, "forward", counted)
    plain = train(_plan(llama), tmp_path / "plain", quiet=True)
    once = sum(calls)
    calls.clear()
    results = [train(_plan(llama, gradient_checkpointing=True), tmp_path / "again", quiet=True)]
    assert sum(calls) == 2 * once
    monkeypatch.setattr(chunked, "CHUNK_BYTES", CHUNK)
    results.append(train(_plan(llama, gradient_checkpointing=True), tmp_path / "chunks", quiet=True))
    for result in results:
        assert [loss for _, loss in result.losses] == pytest.approx([loss for _, loss in plain.losses], rel=1e-6)
        one, two = weights(result.model), weights(plain.model)
        assert all(torch.allclose(one[name], two[name], rtol=1e-4, atol=2e-6) for name in two)
