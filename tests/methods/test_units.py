"""mask_units against scipy: text has its probability among text alone, and sound among everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from mnemos.core.errors import UsageError
from mnemos.core.outputs import Whole
from mnemos.core.plan import Documents, Likelihood, StepView, Term
from mnemos.methods.objective.units import TextLikelihood, mask_units, matching
from tests.laws import base_plan
from tests.tiny import tiny_tokenizer
from tests.views import references

UNITS = (7, 8, 9)
TARGETS = np.array([0, 3, 7, 2, 6, 1])
EXAMPLE = np.array([0, 0, 1, 1, 2, 2])
"""The middle example teaches a unit, so all of its positions are sound."""


def view(logits: Any, weight: Any, places: Any = slice(None), **given: Any) -> StepView:
    fields: dict[str, Any] = {"normaliser": float(np.abs(weight).sum())} | given
    return StepView(
        model=torch.nn.Linear(1, 1),
        outputs=Whole(logits[places]),
        targets=torch.from_numpy(TARGETS[places]),
        weight=torch.from_numpy(weight[places]),
        share=1.0,
        rehearsed=torch.zeros(len(TARGETS[places]), dtype=torch.bool),
        references=references(),
        documents=Documents(torch.from_numpy(EXAMPLE[places]), torch.arange(len(TARGETS[places]))),
        **fields,
    )


@pytest.fixture
def drawn() -> tuple[Any, Any]:
    """logits float32[6, 10] and weight float32[6]."""
    generator = np.random.default_rng(0)
    return generator.normal(scale=3, size=(6, 10)).astype(np.float32), np.array([1, 0.5, 2, 1, -1, 0.3], np.float32)


def test_text_is_likely_among_text_and_sound_among_everything(drawn: tuple[Any, Any]) -> None:
    logits, weight = drawn
    wide = logits.astype(np.float64)
    barred = np.where(np.isin(np.arange(10), UNITS), -np.inf, wide)
    chosen = np.where((EXAMPLE == 1)[:, None], log_softmax(wide, -1), log_softmax(barred, -1))
    expected = -(chosen[np.arange(6), TARGETS] * weight).sum() / np.abs(weight).sum()
    term = TextLikelihood("unit", UNITS)
    assert isinstance(term, Term)
    got = float(term.loss(view(torch.from_numpy(logits), weight)))
    assert got == pytest.approx(expected, rel=1e-6)
    assert got != pytest.approx(float(Likelihood().loss(view(torch.from_numpy(logits), weight))), rel=1e-3)
    # Micro-batches of whole examples add up to the step.
    parts = [slice(0, 2), slice(2, 6)]
    made = [view(torch.from_numpy(logits), weight, part, normaliser=float(np.abs(weight).sum())) for part in parts]
    assert sum(float(term.loss(one)) for one in made) == pytest.approx(expected, rel=1e-6)


def test_units_get_no_gradient_from_text(drawn: tuple[Any, Any]) -> None:
    logits, weight = drawn
    moving = torch.from_numpy(logits).requires_grad_()
    TextLikelihood("unit", UNITS).loss(view(moving, weight)).backward()  # type: ignore[no-untyped-call]
    assert moving.grad is not None
    gradient = moving.grad.numpy()
    assert (gradient[EXAMPLE != 1][:, list(UNITS)] == 0).all()
    assert (gradient[EXAMPLE == 1][:, list(UNITS)] != 0).all()
    assert np.isfinite(gradient).all()


def test_the_tokens_are_found_by_their_pattern() -> None:
    tokenizer = tiny_tokenizer()
    ids = [tokenizer.convert_tokens_to_ids(name) for name in ("<|eos|>", "<|pad|>")]
    assert matching(tokenizer, r"<\|(eos|pad)\|>") == tuple(sorted(ids))
    assert matching(tokenizer, r"<\|unit_\d+\|>") == matching(tokenizer, "eos") == ()
    with pytest.raises(UsageError, match="cannot be used"):
        matching(tokenizer, "(")


def test_without_a_likelihood_it_is_refused() -> None:
    plan = base_plan()
    assert mask_units(plan, where="nowhere").objective == plan.objective
    with pytest.raises(UsageError, match="there is no likelihood to mask units in"):
        mask_units(mask_units(plan))
