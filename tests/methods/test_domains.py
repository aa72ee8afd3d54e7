"""doremi: the update of weights against a loop over domains written by hand, its loss, its traps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.core.nouns import Example, Turn
from mnemos.core.outputs import Whole
from mnemos.core.plan import Documents, Likelihood, StepView
from mnemos.core.settings import TrainSettings
from mnemos.methods.objective.divergence import rho1
from mnemos.methods.objective.domains import DomainRobust, LearnedWeights, doremi, reweighed
from mnemos.sources.domains import learned_weights
from mnemos.sources.mix import Rows
from mnemos.train.likelihood import train
from tests.laws import Handle, base_plan
from tests.tiny import save_tiny
from tests.train.making import plan, weights
from tests.views import references

Array = np.ndarray[Any, np.dtype[np.float64]]


def by_hand(alpha: Iterable[float], excess: Iterable[float], eta: float, c: float) -> Array:
    """Algorithm 1 of arXiv:2305.10429, step by step in Python's floats."""
    risen = [a * math.exp(eta * e) for a, e in zip(alpha, excess, strict=True)]
    return np.array([(1 - c) * one / sum(risen) + c / len(risen) for one in risen])


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 12)), min_size=2, max_size=6),
    eta=st.floats(0.01, 3),
    c=st.floats(1e-5, 0.5),
)
def test_weights_move_as_the_algorithm_says(pairs: list[tuple[float, float]], eta: float, c: float) -> None:
    total = sum(weight for weight, _ in pairs)
    alpha, excess = [weight / total for weight, _ in pairs], [behind for _, behind in pairs]
    got = reweighed(np.array(alpha), np.array(excess), eta, c)
    np.testing.assert_allclose(got, by_hand(alpha, excess, eta, c), rtol=1e-9)
    assert got.sum() == pytest.approx(1)
    assert (got >= c / len(pairs) * (1 - 1e-9)).all()


def test_a_step_that_no_float_holds_is_still_a_weight() -> None:
    got = reweighed(np.array([0.5, 0.5]), np.array([2000.0, 0.0]), 1.0, 0.01)
    np.testing.assert_allclose(got, [0.995, 0.005])


def rows_of(names: Mapping[str, str]) -> Rows:
    return Rows(tuple(Example(i, "text", (Turn("text", f"text {i}"),), meta={"source": s}) for i, s in names.items()))


def begun(names: Mapping[str, str], eta: float = 1.0, c: float = 1e-3, processes: int = 1) -> LearnedWeights:
    stage: Any = SimpleNamespace(
        plan=base_plan(examples=rows_of(names), train=TrainSettings()), summed=lambda value: value * processes
    )
    return DomainRobust(Handle("reference"), "source", eta, c).begin(stage)


def view(logits: torch.Tensor, theirs: torch.Tensor, names: Sequence[str], of: Sequence[int]) -> StepView:
    count = len(of)
    return StepView(
        model=torch.nn.Linear(1, 1),
        outputs=Whole(logits),
        targets=torch.arange(count) % logits.shape[1],
        weight=torch.ones(count),
        rehearsed=torch.zeros(count, dtype=torch.bool),
        normaliser=float(count),
        share=1.0,
        references=references(logits_of=lambda handle: theirs),
        documents=Documents(torch.tensor(of), torch.arange(count), tuple(("new", name) for name in names)),
    )


def nats(logits: torch.Tensor) -> Array:
    """-ln p of target n mod V at each position, in float64."""
    rows = logits.detach().double().numpy()
    targets = np.arange(len(rows)) % rows.shape[1]
    return np.asarray(np.log(np.exp(rows).sum(1)) - rows[np.arange(len(rows)), targets])


OF = [0, 0, 0, 1, 1, 2, 2, 2, 2]
NAMES = {"a": "web", "b": "wiki", "c": "web"}


def test_the_loss_is_that_of_the_moved_weights_and_excess_is_cut_for_each_token() -> None:
    torch.manual_seed(0)
    term = begun(NAMES)
    alpha = np.array([0.5, 0.5])
    for _ in range(3):
        logits, theirs = torch.randn(9, 7, requires_grad=True), torch.randn(9, 7)
        loss = term.loss(view(logits, theirs, list(NAMES), OF))
        ours, its = nats(logits), nats(theirs)
        web = [n for n, row in enumerate(OF) if row != 1]
        wiki = [n for n, row in enumerate(OF) if row == 1]
        excess = [sum(max(ours[n] - its[n], 0.0) for n in some) / len(some) for some in (web, wiki)]
        alpha = by_hand(alpha, excess, 1.0, 1e-3)
        expected = alpha[0] * ours[web].mean() + alpha[1] * ours[wiki].mean()
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(term.weights, alpha, rtol=1e-5)
        torch.autograd.backward(loss)
        # The gradient of nats is softmax less one, and of weights none: they are held fixed in a step.
        share = np.array([alpha[0] / len(web) if row != 1 else alpha[1] / len(wiki) for row in OF])
        soft = torch.softmax(logits.detach(), -1).numpy()
        soft[np.arange(9), np.arange(9) % 7] -= 1
        assert logits.grad is not None
        np.testing.assert_allclose(logits.grad.numpy(), soft * share[:, None], atol=1e-6)


def test_pieces_of_documents_and_rows_read_twice_are_of_their_source() -> None:
    torch.manual_seed(1)
    term = begun({"a": "web", "b": "wiki", "b#2": "web"})
    assert [term._place(name) for name in ("a", "a#3", "b", "b#2", "b#2#2", "")] == [0, 0, 1, 0, 0, 0]
    with pytest.raises(ModelError, match="is none of the rows"):
        term._place("z")


def test_a_source_that_is_not_in_a_batch_keeps_its_excess() -> None:
    torch.manual_seed(2)
    term = begun(NAMES)
    term.loss(view(torch.randn(9, 7), torch.randn(9, 7), list(NAMES), OF))
    before, excess = term.weights.copy(), term.excess.copy()
    logits, theirs = torch.randn(3, 7), torch.randn(3, 7)
    term.loss(view(logits, theirs, ["a"], [0, 0, 0]))
    now = np.maximum(nats(logits) - nats(theirs), 0).mean()
    np.testing.assert_allclose(term.weights, by_hand(before, [now, excess[1]], 1.0, 1e-3), rtol=1e-5)
    assert term.excess[1] == excess[1]


def test_processes_that_average_gradients_make_up_for_it() -> None:
    """Two equal processes: each sees half of the tokens of both, and the mean of their losses is the whole's."""
    torch.manual_seed(3)
    logits, theirs = torch.randn(9, 7), torch.randn(9, 7)
    alone, both = begun(NAMES), begun(NAMES, processes=2)
    torch.testing.assert_close(
        both.loss(view(logits, theirs, list(NAMES), OF)), alone.loss(view(logits, theirs, list(NAMES), OF))
    )


def test_what_cannot_be_meant() -> None:
    stage: Any = SimpleNamespace(
        plan=base_plan(examples=rows_of(NAMES), train=TrainSettings(gradient_accumulation_steps=2)), summed=None
    )
    robust = DomainRobust(Handle("reference"), "source", 1.0, 1e-3)
    with pytest.raises(UsageError, match="gradient_accumulation_steps = 2"):
        robust.begin(stage)
    with pytest.raises(DataError, match="all rows are of web"):
        begun({"a": "web", "b": "web"})
    with pytest.raises(DataError, match="has no column source"):
        begun({"a": "web", "b": ""})
    with pytest.raises(UsageError, match="no likelihood"):
        doremi(rho1(base_plan(), reference_model="."), reference_model=".")
    with pytest.raises(UsageError, match="a server tells no losses"):
        doremi(base_plan(), reference_model="http://localhost:8000/v1#m")
    assert Likelihood() not in doremi(base_plan(), reference_model=".").objective


def results(**noted: list[list[float]]) -> dict[str, Any]:
    runs = [{"seed": 3, "noted": {f"weight of {name}": points for name, points in noted.items()}}]
    return {"arms": [{"arm": "plain", "runs": [{"seed": 3}]}, {"arm": "doremi", "runs": runs}]}


def test_learned_weights_are_means_over_steps_of_the_seeds_own_run() -> None:
    found = results(web=[[10, 0.4], [15, 0.7]], wiki=[[10, 0.6], [15, 0.3]])
    assert learned_weights(found, "here", 3) == pytest.approx({"web": 0.5, "wiki": 0.5})
    found["arms"][1]["runs"].append({"seed": 4, "noted": {"weight of web": [[5, 0.9]], "weight of wiki": [[5, 0.1]]}})
    assert learned_weights(found, "here", 4) == pytest.approx({"web": 0.9, "wiki": 0.1})
    assert learned_weights(found, "here", 9) == pytest.approx({"web": 0.7, "wiki": 0.3})
    with pytest.raises(UsageError, match="has learned no weights"):
        learned_weights(found, "here", 3, "plain")
    with pytest.raises(UsageError, match="several arms"):
        learned_weights({"arms": [*found["arms"], {**found["arms"][1], "arm": "other"}]}, "here", 3)
    for none in ({}, {"arms": [{"arm": "plain", "runs": [{"seed": 0}]}]}):
        with pytest.raises(DataError, match="holds no learned weights"):
            learned_weights(none, "here", 0)
    with pytest.raises(DataError, match="add up to"):
        learned_weights(results(web=[[0, 0.5]]), "here", 3)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A proxy's start and a reference."""
    folder = tmp_path_factory.mktemp("doremi")
    return save_tiny(folder / "start", chat=False), save_tiny(folder / "reference", seed=1, chat=False)


def test_it_trains_and_a_stop_changes_nothing(models: tuple[Path, Path], tmp_path: Path) -> None:
    """Long documents in pieces, packed; the weights that a checkpoint kept go on as they were."""
    texts = {f"{name}{n}": name for name in ("web", "wiki", "drama") for n in range(4)}
    rows = Rows(tuple(
        Example(row, "text", (Turn("text", f"{name} runs past the old mill. " * (3 + n % 3)),), meta={"source": name})
        for n, (row, name) in enumerate(texts.items())
    ))  # fmt: skip
    made = plan(models[0], examples=rows, max_length=24, long_documents="chunk", packing=True, save_steps=2,
                logging_steps=1, per_device_train_batch_size=8, gradient_accumulation_steps=1)  # fmt: skip
    made = doremi(made, reference_model=str(models[1]), step_size=0.7)
    whole = train(made, tmp_path / "whole", quiet=True)
    alphas = np.array([[value for _, value in whole.noted[f"weight of {name}"]] for name in ("drama", "web", "wiki")])
    np.testing.assert_allclose(alphas.sum(0), 1, atol=1e-6)
    assert len(np.unique(alphas)) > alphas.size / 2, "weights did not move"
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path / "broken", quiet=True, callbacks=[stopper(whole.steps - 1)])
    again = train(made, tmp_path / "broken", quiet=True)
    assert (again.losses, again.noted) == (whole.losses, whole.noted)
    left, right = weights(again.model), weights(whole.model)
    assert all(torch.equal(left[name], right[name]) for name in left)
    changed = dataclasses.replace(made, objective=(Likelihood(),))
    assert train(changed, tmp_path / "plain", quiet=True).losses != whole.losses


def stopper(step: int) -> Any:
    from transformers import TrainerCallback

    class Stopper(TrainerCallback):  # type: ignore[misc]
        """Interrupts the training before one of its steps."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if state.global_step == step:
                raise KeyboardInterrupt

    return Stopper()
