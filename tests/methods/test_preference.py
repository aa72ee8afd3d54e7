"""dpo, kto, simpo and orpo: what they change, and what they may not be combined with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mnemos.core.errors import UsageError
from mnemos.core.plan import BinaryFeedback, PreferencePairs
from mnemos.methods.draw.on_policy import self_distillation
from mnemos.methods.draw.preference import dpo, kto, orpo, simpo
from mnemos.methods.objective.answers import (
    LOSSES,
    BinaryFeedbackLoss,
    OddsLoss,
    PairLoss,
    Pairs,
    PartLikelihood,
    SimpleLoss,
)
from mnemos.methods.objective.divergence import KLToBefore, kl_to_before, rho1
from tests.laws import base_plan

ORDINARY = PartLikelihood("", 1.0)


def test_they_take_the_likelihoods_place() -> None:
    plan = dpo(kl_to_before(base_plan()), beta=0.2, loss="robust", label_smoothing=0.1, sft_weight=0.5)
    assert plan.draw == PreferencePairs()
    assert plan.objective == (
        PairLoss("robust", 0.2, 0.1),
        PartLikelihood("chosen", 0.5),
        ORDINARY,
        KLToBefore(0.1, "forward"),
    )
    assert kto(base_plan(), desirable_weight=2).objective == (BinaryFeedbackLoss("kto", 0.1, 2, 1), ORDINARY)
    assert kto(base_plan()).draw == BinaryFeedback(mismatched=True)
    assert kto(base_plan(), loss="apo_zero_unpaired").draw == BinaryFeedback(mismatched=False)
    assert simpo(base_plan()).objective == (SimpleLoss(2.0, 1.0), ORDINARY)
    assert orpo(base_plan(), ordinary=0.5).objective == (
        PartLikelihood("chosen", 1.0),
        OddsLoss(0.1),
        PartLikelihood("", 0.5),
    )


@pytest.mark.parametrize("method", [dpo, kto, simpo, orpo])
def test_one_method_says_how_answers_are_learned(method: Any) -> None:
    earlier = (dpo(base_plan()), self_distillation(base_plan()), rho1(base_plan(), reference_model="."))
    for plan in earlier:
        with pytest.raises(UsageError, match="another method of this arm says how answers are learned"):
            method(plan)
    for later in (self_distillation, lambda plan: rho1(plan, reference_model=".")):
        with pytest.raises(UsageError):
            later(method(base_plan()))


@pytest.mark.parametrize(
    "settings",
    [{"beta": -1}, {"label_smoothing": 0.5}, {"loss": "sigmod"}, {"loss": "hinge", "label_smoothing": 0.1}],
)
def test_bounds(settings: Any) -> None:
    with pytest.raises(UsageError, match=r"dpo\."):
        dpo(base_plan(), **settings)
    with pytest.raises(UsageError, match="a server tells no losses"):
        dpo(base_plan(), reference_model="http://localhost:1/v1#m")


def test_smoothing_is_a_mean_over_both_ways_round() -> None:
    made = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32) * 3)
    pairs = Pairs(made[0], made[1], made[2], made[3], made[4].abs() + 1, made[5].abs() + 1)
    turned = Pairs(made[1], made[0], made[3], made[2], made[5].abs() + 1, made[4].abs() + 1)
    plain = LOSSES["sigmoid"]
    got = plain(pairs, 0.4, 0.3)
    expected = 0.7 * plain(pairs, 0.4, 0.0) + 0.3 * plain(turned, 0.4, 0.0)
    torch.testing.assert_close(got, expected)
    robust = LOSSES["robust"](pairs, 0.4, 0.3)
    torch.testing.assert_close(robust, (0.7 * plain(pairs, 0.4, 0) - 0.3 * plain(turned, 0.4, 0)) / 0.4)
