"""a_gem: the projection against numpy, its property, and the gradient on old rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from transformers import AutoModelForCausalLM, AutoTokenizer

from mnemos.core.errors import UsageError
from mnemos.core.nouns import Tokens
from mnemos.core.plan import GradientRule
from mnemos.methods.gradient.projection import AveragedMemory, Projection, a_gem
from mnemos.sources.render import Renderer
from mnemos.train.likelihood import train
from tests.laws import base_plan
from tests.tiny import save_tiny
from tests.train.making import Lora, Output, Unlearn, plan, texts, weights

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def rows(count: int) -> list[Tokens]:
    one = np.ones(3)
    return [Tokens(one.astype(np.int32), one.astype(np.float32), one > 0, f"r{i}") for i in range(count)]


@dataclass
class Given:
    """A stage whose gradient on old rows is given."""

    gradient: dict[str, torch.Tensor]
    asked: list[list[str]] = field(default_factory=list)

    def gradient_on(self, rows: Any) -> dict[str, torch.Tensor]:
        self.asked.append([row.example for row in rows])
        return self.gradient


def projected(g: npt.NDArray[np.float32], r: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Through a model of two parameters, so that the products run over both."""
    model = torch.nn.Module()
    model.a, model.b = (torch.nn.Parameter(torch.zeros(n)) for n in (3, 4))
    model.a.grad, model.b.grad = torch.from_numpy(g[:3].copy()), torch.from_numpy(g[3:].copy())
    stage = Given({"a": torch.from_numpy(r[:3]), "b": torch.from_numpy(r[3:])})
    rule = Projection(stage, rows(9), 4, 0)  # type: ignore[arg-type]
    assert isinstance(rule, GradientRule)
    rule.apply(model, 0)
    return np.concatenate([model.a.grad.numpy(), model.b.grad.numpy()])


vectors = arrays(np.float32, 7, elements=st.floats(-4, 4, width=32))


@settings(deadline=None)
@given(vectors, vectors)
@example(np.ones(7, np.float32), np.full(7, -1e-38, np.float32))  # r . r is too small for single precision
@example(np.ones(7, np.float32), np.full(7, -6e-42, np.float32))  # ... and 1 / r too large
@example(np.ones(7, np.float32), np.full(7, -1e30, np.float32))
def test_no_step_against_the_old_rows(g: npt.NDArray[np.float32], r: npt.NDArray[np.float32]) -> None:
    out = projected(g, r)
    one, other = g.astype(float), r.astype(float)
    length = np.linalg.norm(other)
    product = one @ other / length if length else 0.0  # g's part along r
    expected = one - product * other / length if product < 0 else one
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
    assert out @ other >= -1e-4 * length
    if product > 1e-5:  # between them rounding decides, and decides about nothing
        assert (out == g).all()


def test_old_rows_depend_on_the_step_only() -> None:
    def asked(steps: list[int], seed: int = 0) -> list[list[str]]:
        stage = Given({})
        rule = Projection(stage, rows(9), 4, seed)  # type: ignore[arg-type]
        for step in steps:
            rule.apply(torch.nn.Linear(1, 1), step)
        return stage.asked

    every = asked([0, 1, 2, 3])
    assert asked([2, 3]) == every[2:]
    assert all(len(set(one)) == 4 for one in every)
    assert len({tuple(one) for one in every}) > 1
    assert asked([0, 1, 2, 3], seed=1) != every


def test_where_old_rows_come_from() -> None:
    (rule,) = a_gem(base_plan()).gradient
    assert isinstance(rule, AveragedMemory)
    assert len(list(rule.old)) == 16
    assert a_gem(base_plan(past=())).gradient == ()
    with pytest.raises(UsageError, match=r"a_gem\.data = null: there are no old rows"):
        a_gem(base_plan(past=(), sequence=False))


@dataclass(frozen=True)
class Watch:
    """A rule that keeps the old rows' gradient, and `.grad` around it."""

    old: Any
    kept: list[Any] = field(default_factory=list, compare=False)

    def begin(self, stage: Any) -> Watched:
        return Watched(stage, stage.rows(self.old), self.kept)


@dataclass(frozen=True)
class Watched:
    stage: Any
    rows: Any
    kept: list[Any]

    def apply(self, model: Any, step: int) -> None:
        before = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
        found = self.stage.gradient_on(self.rows)
        assert model.training
        assert all(torch.equal(value.grad, before[name]) for name, value in model.named_parameters() if name in before)
        self.kept.append((step, before, found))


def by_hand(model: Any, folder: Path, source: Any) -> dict[str, torch.Tensor]:
    renderer = Renderer(AutoTokenizer.from_pretrained(folder))
    total, weight = torch.zeros(()), 0.0
    for row in Output()([renderer.render(one) for one in source], None):  # type: ignore[arg-type]
        ids, counts = torch.tensor(row.ids.astype(np.int64)), torch.tensor(row.weight[1:])
        logits = model(input_ids=ids[None]).logits[0, :-1]
        total = total + (torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none") * counts).sum()
        weight += float(counts.sum())
    moving = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    gradients = torch.autograd.grad(total / weight, [value for _, value in moving])
    return {name: gradient for (name, _), gradient in zip(moving, gradients, strict=True)}


@pytest.mark.parametrize("adapters", [False, True])
def test_the_gradient_on_old_rows_is_that_of_their_mean_loss(tmp_path: Path, adapters: bool) -> None:
    """At the weights of the step, whatever the micro-batches; the first step's are the start's."""
    folder = save_tiny(tmp_path / "model")
    watch = Watch(texts(5))
    more: dict[str, Any] = {"trainable": Lora()} if adapters else {}
    train(
        plan(folder, gradient=(watch,), max_steps=1, per_device_train_batch_size=2, **more),
        tmp_path / "out",
        quiet=True,
    )
    model = AutoModelForCausalLM.from_pretrained(folder)
    if adapters:
        from transformers import set_seed

        set_seed(0)
        model = Lora().prepare(model)
    wanted = by_hand(model, folder, texts(5))
    ((step, _, found),) = watch.kept
    assert step == 0
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-6)


def test_accumulated_micro_batches_are_projected_together(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    same: dict[str, Any] = {"num_train_epochs": 1, "weigh": (Unlearn(),)}
    rule = {"gradient": (AveragedMemory(texts(5), 3, 1),)}
    whole = train(plan(folder, **same, **rule, per_device_train_batch_size=8), tmp_path / "a", quiet=True)
    cut = plan(folder, **same, **rule, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    parts = train(cut, tmp_path / "b", quiet=True)
    plain = train(plan(folder, **same, per_device_train_batch_size=8), tmp_path / "c", quiet=True)
    one, other, without = (weights(result.model) for result in (whole, parts, plain))
    assert all(torch.allclose(one[name], other[name], atol=2e-5) for name in one)
    assert not all(torch.allclose(one[name], without[name], atol=1e-4) for name in one)


def test_every_step_of_a_training_keeps_the_promise(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    first, last = Watch(texts(4)), Watch(texts(4))
    rules = (first, AveragedMemory(texts(4), 4, 1), last)
    train(plan(folder, gradient=rules, weigh=(Unlearn(),), num_train_epochs=1), tmp_path / "out", quiet=True)

    def products(watch: Watch) -> list[float]:
        kept = watch.kept
        return [sum(float((g[name].double() * r[name].double()).sum()) for name in r) for _, g, r in kept]

    assert len(products(last)) == 4
    assert min(products(first)) < -1e-3
    assert min(products(last)) >= -1e-6
