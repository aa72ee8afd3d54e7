"""ewc: the term against numpy, its rows, and a training that is held back by it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Generation, Tokens
from mnemos.core.plan import Likelihood, Term
from mnemos.methods.memory import SelfText
from mnemos.methods.objective.ewc import Anchored, EWCPenalty, ewc
from mnemos.sources.generated import generated_in, is_generated
from mnemos.sources.mix import Joined
from mnemos.train.likelihood import train
from tests.laws import Handle, base_plan
from tests.methods.test_objective import view
from tests.tiny import save_tiny
from tests.train.making import Few, pairs, plan, texts, weights


def test_the_term_is_half_the_fisher_weighted_squared_distance() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    model[0].bias.requires_grad_(False)
    made = np.random.default_rng(0)
    moving = {name: value for name, value in model.named_parameters() if value.requires_grad}
    start = {name: value.detach().clone() for name, value in moving.items()}
    fisher = {name: torch.from_numpy(made.random(tuple(v.shape)).astype(np.float32)) for name, v in moving.items()}
    with torch.no_grad():
        for value in model.parameters():
            value += torch.from_numpy(made.normal(size=tuple(value.shape)).astype(np.float32))
    term = Anchored(3.0, fisher)
    assert isinstance(term, Term)
    loss = term.loss(view(None, None, np.ones(1, np.float32), model=model, share=0.25, start=lambda: start))
    expected = sum(
        (fisher[name].double().numpy() * (moving[name].detach().double() - start[name].double()).numpy() ** 2).sum()
        for name in moving
    )
    assert float(loss.detach()) == pytest.approx(3.0 / 2 * 0.25 * expected, rel=1e-6)
    loss.backward()
    for name, value in moving.items():
        torch.testing.assert_close(value.grad, 3.0 * 0.25 * fisher[name] * (value.detach() - start[name]))


@dataclass
class Started:
    """A stage that writes down which rows it was asked about."""

    count: int = 10
    asked: dict[str, Any] = field(default_factory=dict)

    def rows(self, source: Any) -> list[Tokens]:
        return [
            Tokens(np.arange(3, dtype=np.int32), np.ones(3, np.float32), np.ones(3, bool), f"r{i}")
            for i in range(self.count)
        ]

    def squared_gradients(self, rows: Any, *, sampled: bool, seed: int) -> Any:
        self.asked.update(rows=[row.example for row in rows], sampled=sampled, seed=seed)
        return {}


def test_rows_are_drawn_once_by_the_seed() -> None:
    def drawn(samples: int, seed: int = 0, fisher: Any = "empirical") -> Any:
        stage = Started()
        EWCPenalty(1.0, texts(), samples, fisher, seed).begin(stage)  # type: ignore[arg-type]
        return stage.asked

    four = drawn(4)
    assert len(set(four["rows"])) == 4
    assert drawn(4) == four
    assert any(drawn(4, seed)["rows"] != four["rows"] for seed in range(1, 4))
    assert drawn(10)["rows"] == drawn(99)["rows"] == [f"r{i}" for i in range(10)]
    assert [drawn(4, fisher=kind)["sampled"] for kind in ("empirical", "model")] == [False, True]


def test_where_old_rows_come_from(tmp_path: Path) -> None:
    file = tmp_path / "old.jsonl"
    file.write_text('{"text": "old"}\n')

    def old(plan: Any, **settings: Any) -> Any:
        return ewc(plan, **settings).objective[-1].old

    assert isinstance(old(base_plan()), Joined)
    assert len(list(old(base_plan()))) == 16
    assert [example.turns[0].text for example in old(base_plan(), data=str(file))] == ["old"]
    alone = base_plan(past=(), sequence=False)
    with pytest.raises(UsageError, match=r"ewc\.data = null: there are no old rows: this is not a sequence"):
        ewc(alone)
    first = base_plan(past=())
    assert ewc(first).fingerprint == first.fingerprint
    with pytest.raises(UsageError, match=r"ewc\.source = past: and a file is named"):
        ewc(base_plan(), source="past", data=str(file))
    with pytest.raises(UsageError, match="source: data needs a file"):
        ewc(base_plan(), source="data")


def test_the_model_before_can_write_them_itself() -> None:
    made = ewc(base_plan(past=(), sequence=False), source="self", samples=5)
    (written,) = generated_in(made.objective)
    assert is_generated(written)
    assert written == SelfText(made.before, 5, 128, made.seed)


@dataclass
class Pad:
    """A context whose model gives these texts."""

    answers: list[str]
    counts: dict[str, int] = field(default_factory=dict)

    def model(self, handle: Any) -> Any:
        return self

    def generate(self, prompts: Any, decoding: Any) -> list[Generation]:
        assert [turn.text for prompt in prompts for turn in prompt.turns] == [""] * len(self.answers)
        assert (decoding.temperature, decoding.max_new_tokens) == (1.0, 9)
        return [Generation(text, (), True) for text in self.answers]

    def count(self, reason: str, number: int = 1) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + number


def test_texts_of_its_own_are_kept_unless_empty() -> None:
    context = Pad(["a b", " ", "c", ""])
    rows = SelfText(Handle("m"), 4, 9, 0).write(context)  # type: ignore[arg-type]
    assert [(row.id, row.kind, row.turns[0].text, row.origin) for row in rows] == [
        ("self/0", "text", "a b", "self"),
        ("self/1", "text", "c", "self"),
    ]
    assert context.counts == {"kept": 2, "left out: empty": 2}
    with pytest.raises(DataError, match="this model writes nothing without a prompt"):
        SelfText(Handle("m"), 1, 9, 0).write(Pad([""]))  # type: ignore[arg-type]


@pytest.mark.parametrize("fisher", ["empirical", "model"])
def test_training_is_held_where_old_rows_need_it(tmp_path: Path, fisher: Any) -> None:
    """The weighted distance shrinks as the coefficient grows."""
    model = save_tiny(tmp_path / "model")
    found: dict[str, torch.Tensor] = {}

    @dataclass(frozen=True)
    class Spy(EWCPenalty):
        def begin(self, stage: Any) -> Anchored:
            made = super().begin(stage)
            found.update(made.fisher)
            return made

    def moved(coefficient: float) -> float:
        term = Spy(coefficient, texts(6), 6, fisher, 0)
        given = plan(model, objective=(Likelihood(), term), max_grad_norm=0.0, optim="sgd", learning_rate=2e-2)
        after, before = weights(train(given, tmp_path / f"{coefficient}", quiet=True).model), weights(model)
        return sum(float((found[name] * (after[name] - before[name]).square()).sum()) for name in found)

    distances = [moved(coefficient) for coefficient in (0.0, 1.0, 4.0)]
    assert distances[0] > 1.1 * distances[1] > 0
    assert distances[1] > 1.1 * distances[2] > 0


def test_rows_that_cannot_be_used_are_said(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    long = Few(tuple(dataclasses.replace(e, id=f"l{e.id}") for e in pairs(13).examples[-2:]), "long")
    given = plan(model, objective=(Likelihood(), EWCPenalty(1.0, long, 4, "empirical", 0)), max_length=20)
    with pytest.raises(DataError, match="0 of 2 examples can be used"):
        train(given, tmp_path / "out", quiet=True)


def test_sharded_parameters_are_refused(tmp_path: Path) -> None:
    from mnemos.train.stage import TrainedStage

    @dataclass
    class Sharded:
        is_fsdp_enabled: bool = True
        is_deepspeed_enabled: bool = False

    stage = TrainedStage(Sharded(), None, {}, 1)
    with pytest.raises(UsageError, match=r"train\.fsdp: cuts parameters up"):
        stage.squared_gradients([], sampled=False, seed=0)
    with pytest.raises(UsageError, match=r"train\.fsdp"):
        stage.gradient_on([])
