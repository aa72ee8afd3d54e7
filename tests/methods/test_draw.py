"""self_distillation: its loss against scipy, and what it may be combined with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mnemos.core.errors import UsageError
from mnemos.core.plan import SelfTaught, Term
from mnemos.methods.draw.on_policy import SHOWN, TeacherDivergence, self_distillation
from mnemos.methods.objective.divergence import KLToBefore, kl_to_before, rho1
from tests.laws import base_plan
from tests.methods.test_objective import divergence, view


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_loss_is_the_mean_divergence_from_the_teacher(direction: Any) -> None:
    made = np.random.default_rng(1)
    student, teacher = made.normal(scale=3, size=(2, 6, 17)).astype(np.float32)
    weight = np.array([1, 0.25, 2, 1, 0.5, 1], np.float32)
    given = torch.from_numpy(student).requires_grad_()
    logits = torch.from_numpy(teacher).requires_grad_()
    term = TeacherDivergence(direction)
    assert isinstance(term, Term)
    loss = term.loss(view(given, None, weight, teacher_logits=lambda: logits))
    pair = (teacher, student) if direction == "forward" else (student, teacher)
    assert float(loss.detach()) == pytest.approx((divergence(*pair) * weight).sum() / weight.sum(), rel=1e-5)
    loss.backward()
    assert logits.grad is None
    assert given.grad is not None


def test_it_takes_the_likelihoods_place_and_no_other() -> None:
    plan = self_distillation(kl_to_before(base_plan()), max_new_tokens=9, teacher_rate=0.5, direction="reverse")
    assert plan.draw == SelfTaught(9, 1.0, 0.5, SHOWN)
    assert [type(term) for term in plan.objective] == [TeacherDivergence, KLToBefore]
    for earlier in (plan, rho1(base_plan(), reference_model=".")):
        with pytest.raises(UsageError, match="another method of this arm says how answers are learned"):
            self_distillation(earlier)


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"teacher_rate": 1.1}, {"max_new_tokens": -1}])
def test_bounds(settings: Any) -> None:
    with pytest.raises(UsageError, match=r"self_distillation\."):
        self_distillation(base_plan(), **settings)
