"""kl_to_before, distill, l2_to_before and rho1 against scipy and against autograd written out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from mnemos.core.errors import UsageError
from mnemos.core.outputs import Whole
from mnemos.core.plan import Likelihood, StepView, Term
from mnemos.methods.objective.divergence import (
    Distilled,
    KLToBefore,
    L2ToBefore,
    SelectiveLikelihood,
    distill,
    kl_to_before,
    l2_to_before,
    rho1,
)
from tests.laws import Handle, base_plan
from tests.views import references

Array = npt.NDArray[np.float32]
DIRECTIONS = ("forward", "reverse")


def view(after: Any, before: Any, weight: Array, **given: Any) -> StepView:
    fields: dict[str, Any] = {
        "model": torch.nn.Linear(1, 1),
        "outputs": Whole(after),
        "targets": torch.zeros(len(weight), dtype=torch.int64),
        "weight": torch.from_numpy(weight),
        "normaliser": float(np.abs(weight).sum()),
        "share": 1.0,
        "rehearsed": torch.zeros(len(weight), dtype=torch.bool),
    }
    asked = {name: given.pop(name) for name in ("logits_of", "teacher_logits", "start") if name in given}
    shown = references(before_logits=given.pop("before_logits", lambda: before), **asked)
    return StepView(**{**fields, "references": shown, **given})


@pytest.fixture
def logits() -> tuple[Array, Array, Array]:
    """after and before float[N, V], weight float[N]."""
    generator = np.random.default_rng(1)
    draw = generator.normal(scale=3, size=(2, 6, 17)).astype(np.float32)
    return draw[0], draw[1], np.array([1, 0.25, 2, 1, 0.5, 1], np.float32)


def divergence(p: Array, q: Array) -> npt.NDArray[np.float64]:
    """KL(p || q) per position from logits, in float64 by scipy."""
    return rel_entr(softmax(p.astype(np.float64), -1), softmax(q.astype(np.float64), -1)).sum(-1)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_it_is_the_weighted_mean_divergence(direction: Any, logits: tuple[Array, Array, Array]) -> None:
    after, before, weight = logits
    term = KLToBefore(0.3, direction)
    assert isinstance(term, Term)
    got = term.loss(view(torch.from_numpy(after), torch.from_numpy(before), weight))
    pair = (before, after) if direction == "forward" else (after, before)
    expected = 0.3 * (divergence(*pair) * weight).sum() / weight.sum()
    assert float(got) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_it_equals_torchs_own(direction: Any, logits: tuple[Array, Array, Array]) -> None:
    after, before = (torch.from_numpy(one).log_softmax(-1) for one in logits[:2])
    target, given = (before, after) if direction == "forward" else (after, before)
    expected = torch.nn.functional.kl_div(given, target, log_target=True, reduction="batchmean")
    got = KLToBefore(1.0, direction).loss(view(after, before, np.ones(6, np.float32)))
    torch.testing.assert_close(got, expected)


def test_the_directions_differ(logits: tuple[Array, Array, Array]) -> None:
    after, before, weight = logits
    one, other = (
        float(KLToBefore(1.0, d).loss(view(torch.from_numpy(after), torch.from_numpy(before), weight)))
        for d in ("forward", "reverse")
    )
    assert abs(one - other) > 0.1


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_gradient_reaches_the_model_in_training_only(direction: Any, logits: tuple[Array, Array, Array]) -> None:
    """d KL / d logits: q - p forward; q * (ln q/p - KL) reverse, with q the model in training."""
    after = torch.from_numpy(logits[0]).requires_grad_()
    before = torch.from_numpy(logits[1]).requires_grad_()
    weight = logits[2]
    KLToBefore(0.7, direction).loss(view(after, before, weight)).backward()
    assert before.grad is None
    q, p = (softmax(one.astype(np.float64), -1) for one in logits[:2])
    if direction == "forward":
        per_position = q - p
    else:
        ratio = log_softmax(logits[0].astype(np.float64), -1) - log_softmax(logits[1].astype(np.float64), -1)
        per_position = q * (ratio - (q * ratio).sum(-1, keepdims=True))
    assert after.grad is not None
    expected = 0.7 * per_position * weight[:, None] / weight.sum()
    np.testing.assert_allclose(after.grad.numpy(), expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_unchanged_model_pays_nothing(direction: Any, logits: tuple[Array, Array, Array]) -> None:
    after = torch.from_numpy(logits[0]).requires_grad_()
    loss = KLToBefore(1.0, direction).loss(view(after, after.detach() + 5.0, logits[2]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert after.grad is not None
    assert float(after.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_micro_batches_add_up(direction: Any, logits: tuple[Array, Array, Array]) -> None:
    after, before, weight = torch.from_numpy(logits[0]), torch.from_numpy(logits[1]), logits[2]
    term, total = KLToBefore(0.3, direction), float(weight.sum())
    whole = term.loss(view(after, before, weight))
    parts = [
        term.loss(view(after[cut], before[cut], weight[cut], normaliser=total)) for cut in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_tokens_that_both_models_rule_out_add_nothing(logits: tuple[Array, Array, Array]) -> None:
    """A vocabulary padded with -inf gives numbers, in the loss and in the gradient."""
    after, before = (torch.from_numpy(one) for one in logits[:2])
    padding = torch.full((6, 3), -math.inf)
    for direction in DIRECTIONS:
        plain = KLToBefore(1.0, direction).loss(view(after, before, logits[2]))
        padded = torch.cat([after, padding], -1).requires_grad_()
        loss = KLToBefore(1.0, direction).loss(view(padded, torch.cat([before, padding], -1), logits[2]))
        torch.testing.assert_close(loss.detach(), plain)
        loss.backward()
        assert padded.grad is not None
        assert padded.grad.isfinite().all()


def test_a_negative_advantage_does_not_reward_divergence(logits: tuple[Array, Array, Array]) -> None:
    after, before, weight = torch.from_numpy(logits[0]), torch.from_numpy(logits[1]), logits[2]
    signed = weight * np.array([1, -1, 1, -1, 1, -1], np.float32)
    term = KLToBefore(1.0, "forward")
    torch.testing.assert_close(term.loss(view(after, before, signed)), term.loss(view(after, before, weight)))


def test_half_precision_is_computed_in_full(logits: tuple[Array, Array, Array]) -> None:
    after, before = (torch.from_numpy(one).bfloat16() for one in logits[:2])
    got = KLToBefore(1.0, "forward").loss(view(after, before, logits[2]))
    assert got.dtype == torch.float32
    expected = (divergence(before.float().numpy(), after.float().numpy()) * logits[2]).sum() / logits[2].sum()
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_l2_is_half_the_squared_distance_of_what_may_move() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    model[0].bias.requires_grad_(False)
    start = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    generator = np.random.default_rng(0)
    with torch.no_grad():
        for value in model.parameters():
            value += torch.from_numpy(generator.normal(size=tuple(value.shape)).astype(np.float32))
    step = view(None, None, np.ones(1, np.float32), model=model, share=0.25, start=lambda: start)
    term = L2ToBefore(0.02)
    assert isinstance(term, Term)
    loss = term.loss(step)
    now = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    squares = sum(((now[name] - before.double().numpy()) ** 2).sum() for name, before in start.items())
    assert float(loss.detach()) == pytest.approx(0.02 / 2 * 0.25 * squares, rel=1e-6)
    loss.backward()
    for name, value in model.named_parameters():
        if name in start:
            assert value.grad is not None
            torch.testing.assert_close(value.grad, 0.02 * 0.25 * (value.detach() - start[name]))
        else:
            assert value.grad is None


def test_l2_at_the_start_is_zero() -> None:
    model = torch.nn.Linear(3, 4)
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    loss = L2ToBefore(1.0).loss(view(None, None, np.ones(1, np.float32), model=model, start=lambda: start))
    assert float(loss.detach()) == 0


def test_the_terms_are_added_behind_the_likelihood() -> None:
    plan = l2_to_before(kl_to_before(base_plan(), coefficient=0.2, direction="reverse"), coefficient=0.5)
    assert plan.objective == (*base_plan().objective, KLToBefore(0.2, "reverse"), L2ToBefore(0.5))


@pytest.mark.parametrize("settings", [{"coefficient": -1}, {"direction": "sideways"}, {"coefficient": math.inf}])
def test_bounds(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"kl_to_before\."):
        kl_to_before(base_plan(), **settings)


REHEARSED = np.array([0, 1, 1, 0, 1, 0], bool)


@pytest.mark.parametrize("on", ["all", "new", "rehearsed"])
@pytest.mark.parametrize("make", [lambda on: KLToBefore(0.3, "forward", on), lambda on: Distilled(0.3, 1.0, on)])
def test_it_can_look_at_some_rows_only(make: Any, on: Any, logits: tuple[Array, Array, Array]) -> None:
    """Divided by the weight of all rows: the parts add up to the whole."""
    after, before, weight = logits
    share = {"all": np.ones(6), "new": ~REHEARSED, "rehearsed": REHEARSED}[on]
    step = view(torch.from_numpy(after), torch.from_numpy(before), weight, rehearsed=torch.from_numpy(REHEARSED))
    expected = 0.3 * (divergence(before, after) * weight * share).sum() / weight.sum()
    assert float(make(on).loss(step)) == pytest.approx(expected, rel=1e-5)


@dataclass(frozen=True)
class Started:
    """As much of a stage as terms look at when they begin."""

    plan: Any
    counts: dict[str, int]


@pytest.mark.parametrize("method", [kl_to_before, distill])
def test_rehearsed_rows_that_are_not_there_are_refused(method: Any) -> None:
    def begun(counts: dict[str, int], on: str = "rehearsed", **changed: Any) -> Any:
        plan = method(base_plan(**changed), on=on)
        return plan.objective[-1].begin(Started(plan, counts))

    with pytest.raises(UsageError, match=r"on = rehearsed: no row of this stage is rehearsed"):
        begun({"origin new": 5, "rows": 5})
    assert begun({"origin new": 5, "origin replay": 1}).on == "rehearsed"
    assert begun({"origin new": 5}, on="new").on == "new"
    assert begun({"origin new": 5}, past=()).on == "rehearsed", "the first task has nothing to rehearse"


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_distillation_raises_probabilities_to_one_over_the_temperature(
    temperature: float, logits: tuple[Array, Array, Array]
) -> None:
    after, before, weight = logits

    def softened(given: Array) -> npt.NDArray[np.float64]:
        power = softmax(given.astype(np.float64), -1) ** (1 / temperature)
        return power / power.sum(-1, keepdims=True)

    expected = 0.7 * temperature**2 * (rel_entr(softened(before), softened(after)).sum(-1) * weight).sum()
    got = Distilled(0.7, temperature, "all").loss(view(torch.from_numpy(after), torch.from_numpy(before), weight))
    assert float(got) == pytest.approx(expected / weight.sum(), rel=1e-5)


def test_distillation_at_temperature_1_is_forward_kl(logits: tuple[Array, Array, Array]) -> None:
    step = view(torch.from_numpy(logits[0]), torch.from_numpy(logits[1]), logits[2])
    torch.testing.assert_close(Distilled(0.3, 1.0, "all").loss(step), KLToBefore(0.3, "forward").loss(step))


# --- rho1 ---------------------------------------------------------------------------------------


def losses(logits: Array, targets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return -log_softmax(logits.astype(np.float64), -1)[np.arange(len(targets)), targets]


@pytest.mark.parametrize("share", [0.01, 0.34, 0.5, 0.9])
def test_rho1_learns_the_largest_excess_only(share: float, logits: tuple[Array, Array, Array]) -> None:
    ours, theirs, weight = logits
    targets = np.array([3, 0, 16, 5, 5, 1])
    excess = losses(ours, targets) - losses(theirs, targets)
    kept = np.argsort(-excess)[: max(1, round(share * 6))]
    given = torch.from_numpy(ours).requires_grad_()
    step = view(given, None, weight, targets=torch.from_numpy(targets), logits_of=lambda h: torch.from_numpy(theirs))
    loss = SelectiveLikelihood(Handle("reference"), share).loss(step)
    expected = (losses(ours, targets) * weight)[kept].sum() / weight[kept].sum()
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert given.grad is not None
    assert set(given.grad.abs().sum(-1).nonzero()[:, 0].tolist()) == set(kept.tolist())


def test_rho1_of_all_tokens_is_the_likelihood(logits: tuple[Array, Array, Array]) -> None:
    ours, theirs, weight = logits
    step = view(torch.from_numpy(ours), None, weight, logits_of=lambda handle: torch.from_numpy(theirs))
    torch.testing.assert_close(SelectiveLikelihood(Handle("r"), 1.0).loss(step), Likelihood().loss(step))


def test_rho1_without_a_token_is_zero() -> None:
    empty = torch.zeros(0, 5, requires_grad=True)
    assert float(SelectiveLikelihood(Handle("r"), 0.5).loss(view(empty, None, np.zeros(0, np.float32))).detach()) == 0


def test_rho1_takes_the_place_of_the_likelihood() -> None:
    plan = rho1(kl_to_before(base_plan()), reference_model=".", kept_share=0.7)
    assert [type(term) for term in plan.objective] == [SelectiveLikelihood, KLToBefore]
    with pytest.raises(UsageError, match="there is no likelihood whose tokens could be chosen"):
        rho1(plan, reference_model=".")
    with pytest.raises(UsageError, match="a server tells no losses"):
        rho1(base_plan(), reference_model="http://localhost:8000/v1#m")
    with pytest.raises(UsageError, match=r"rho1\.reference_model = missing"):
        rho1(base_plan())
