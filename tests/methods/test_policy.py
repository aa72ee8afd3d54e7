"""The terms of policy gradients against numpy, and what the methods make of a plan."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from mnemos.core.errors import UsageError
from mnemos.core.plan import Term
from mnemos.core.rollouts import Rollouts, RolloutView
from mnemos.methods.draw.credit import Generalised, GroupNormalised, LeaveOneOut, RunningMean
from mnemos.methods.draw.on_policy import JensenShannon, distillation, self_distillation
from mnemos.methods.draw.policy import (
    ClippedPolicy,
    SampledKL,
    TaughtLikelihood,
    ValueLoss,
    grpo,
    ppo,
    reinforce,
    rloo,
)
from mnemos.methods.objective.divergence import KLToBefore, kl_to_before, rho1
from tests.laws import Handle, base_plan
from tests.methods.test_objective import divergence, view
from tests.views import references

N, V = 7, 11
DRAWN = np.array([True, True, True, False, True, True, False])
ANSWER = np.array([0, 0, 0, 1, 2, 2, 3])
EXACT = {"verifier": "exact"}


def given(temperature: float = 1.0, **changes: Any) -> tuple[Any, dict[str, Any]]:
    """A view of two answers and two taught rows, and the numbers in it."""
    made = np.random.default_rng(5)
    logits = made.normal(scale=2, size=(N, V)).astype(np.float32)
    targets = made.integers(0, V, N)
    logs = log_softmax(logits.astype(np.float64) / temperature, -1)[np.arange(N), targets]
    numbers = {
        "logits": logits,
        "targets": targets,
        "logs": logs,
        "weight": np.array([1, 1, 1, 0.5, 2, 2, 1], np.float32),
        "advantage": np.where(DRAWN, made.normal(size=N), 0),
        "old": np.where(DRAWN, logs + made.normal(scale=0.3, size=N), 0),
        "before": np.where(DRAWN, logs + made.normal(scale=0.5, size=N), 0),
        "returns": np.where(DRAWN, made.normal(size=N), 0),
        "values": np.where(DRAWN, made.normal(size=N), 0),
        "value": made.normal(size=N),
        **changes,
    }
    tensors = {name: None if one is None else torch.tensor(one, dtype=torch.float32) for name, one in numbers.items()}
    value = tensors.pop("value")
    columns = {name: tensors[name] for name in ("advantage", "old", "before", "returns", "values")}
    drawn = RolloutView(
        temperature=temperature,
        drawn=torch.tensor(DRAWN),
        answer=torch.tensor(ANSWER),
        answers=4,
        value=lambda: value,
        **columns,  # type: ignore[arg-type, return-value]
    )
    return view(
        torch.from_numpy(logits).requires_grad_(),
        None,
        numbers["weight"],
        targets=torch.tensor(targets),
        rollouts=drawn,
    ), numbers


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("level", ["token", "answer"])
@pytest.mark.parametrize("clip", [None, (0.2, 0.3)])
def test_clipped_policy(temperature: float, level: Any, clip: Any) -> None:
    seen, n = given(temperature)
    change = n["logs"] - n["old"]
    if level == "answer":
        change = np.array([change[DRAWN & (answer == ANSWER)].sum() for answer in ANSWER])
    q = np.exp(change)
    each = q * n["advantage"]
    if clip is not None:
        each = np.minimum(each, np.clip(q, 1 - clip[0], 1 + clip[1]) * n["advantage"])
    term = ClippedPolicy(clip, level)
    assert isinstance(term, Term)
    loss = term.loss(seen)
    assert loss.item() == pytest.approx(-(each * n["weight"])[DRAWN].sum() / n["weight"].sum(), rel=1e-5)
    loss.backward()
    assert torch.all(seen.logits.grad[~torch.tensor(DRAWN)] == 0)


def test_fresh_answers_have_the_policy_gradient() -> None:
    """Without old probabilities the gradient is that of -A ln p."""
    seen, n = given(old=None)
    ClippedPolicy((0.2, 0.2), "token").loss(seen).backward()
    mass = np.exp(log_softmax(n["logits"].astype(np.float64), -1))
    mass[np.arange(N), n["targets"]] -= 1
    expected = mass * (n["advantage"] * n["weight"] * DRAWN / n["weight"].sum())[:, None]
    assert np.allclose(seen.logits.grad, expected, atol=1e-6)


def test_sampled_kl_value_loss_and_taught_rows() -> None:
    seen, n = given()
    d, q = (n["before"] - n["logs"])[DRAWN], np.exp(n["logs"] - n["old"])[DRAWN]
    total, weight = n["weight"].sum(), n["weight"][DRAWN]
    assert SampledKL(0.4).loss(seen).item() == pytest.approx(
        0.4 * (q * (np.exp(d) - d - 1) * weight).sum() / total, rel=1e-5
    )
    kept = n["values"] + np.clip(n["value"] - n["values"], -0.2, 0.2)
    error = np.maximum((n["value"] - n["returns"]) ** 2, (kept - n["returns"]) ** 2)[DRAWN] / 2
    assert ValueLoss(0.1, 0.2).loss(seen).item() == pytest.approx(0.1 * (error * weight).sum() / total, rel=1e-5)
    nll = -(n["logs"] * n["weight"])[~DRAWN].sum() / total
    assert TaughtLikelihood().loss(seen).item() == pytest.approx(nll, rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
def test_distillation_is_the_generalised_divergence(beta: float) -> None:
    seen, n = given(0.5)
    logits = np.random.default_rng(8).normal(scale=2, size=(N, V)).astype(np.float32)
    seen = dataclasses.replace(seen, references=references(logits_of=lambda handle: torch.from_numpy(logits)))
    student, teacher = (log_softmax(one.astype(np.float64) / 0.5, -1) for one in (n["logits"], logits))
    mixed = np.log(beta * np.exp(teacher) + (1 - beta) * np.exp(student))
    each = beta * divergence(teacher, mixed) + (1 - beta) * divergence(student, mixed)
    if beta in (0, 1):
        each = divergence(teacher, student) if beta == 0 else divergence(student, teacher)
    expected = (each * n["weight"])[DRAWN].sum() / n["weight"].sum()
    assert JensenShannon(Handle("t"), beta, 0.5).loss(seen).item() == pytest.approx(expected, rel=1e-4)
    # A teacher whose vocabulary is padded to more rows teaches the same.
    padded = np.concatenate([logits, np.full((N, 3), 9, np.float32)], axis=1)
    seen = dataclasses.replace(seen, references=references(logits_of=lambda handle: torch.from_numpy(padded)))
    assert JensenShannon(Handle("t"), beta, 0.5).loss(seen).item() == pytest.approx(expected, rel=1e-4)


def test_what_the_methods_make_of_a_plan() -> None:
    start = kl_to_before(base_plan())
    made = grpo(start, reward=EXACT, num_generations=4, beta=0.04, epsilon_high=0.28, loss="grpo")
    assert [type(term) for term in made.objective] == [ClippedPolicy, SampledKL, TaughtLikelihood, KLToBefore]
    assert made.objective[0] == ClippedPolicy((0.2, 0.28), "token")
    assert isinstance(made.draw, Rollouts)
    assert (made.draw.credit, made.draw.per, made.draw.asks) == (GroupNormalised("group"), "answer", {"before"})
    assert grpo(start, reward=EXACT).draw.asks == frozenset()
    made = rloo(start, reward=EXACT)
    assert (made.draw.credit, made.draw.per) == (LeaveOneOut(0.05), "answer")
    assert made.objective[0] == ClippedPolicy((0.2, 0.2), "answer")
    made = reinforce(start, reward=EXACT, beta=0)
    assert (made.draw.credit, made.draw.num_generations) == (RunningMean(0, "running"), 1)
    made = ppo(start, reward=EXACT)
    assert (made.draw.credit, made.draw.num_iterations) == (Generalised(0.02, 1.0, 0.95, True), 4)
    assert made.draw.asks == {"before", "values"}
    made = distillation(start, teacher=".")
    assert [type(term) for term in made.objective] == [JensenShannon, TaughtLikelihood, KLToBefore]


def test_one_method_says_how_answers_are_learned() -> None:
    taken = (grpo(base_plan(), reward=EXACT), rho1(base_plan(), reference_model="."), self_distillation(base_plan()))
    for earlier in taken:
        with pytest.raises(UsageError, match=r"rloo after .*: another method of this arm says how answers are learned"):
            rloo(earlier, reward=EXACT)
    with pytest.raises(UsageError, match="self_distillation after Rollouts"):
        self_distillation(taken[0])
    with pytest.raises(UsageError, match="a server tells no full distributions"):
        distillation(base_plan(), teacher="http://localhost/v1#x")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reward": {}}, "exactly one"),
        ({"reward": {"verifier": "exakt"}}, "reward.verifier = 'exakt': Input should be 'exact'"),
        ({"reward": EXACT, "num_generations": 1}, "num_generations"),
        ({"reward": EXACT, "epsilon": 1.0}, "epsilon"),
    ],
)
def test_bounds(settings: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        grpo(base_plan(), **settings)
