"""Every objective against a reference in numpy, by hand-made cases and by properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.stream.adaptation import objectives as of

BLANK = 0


def logits(seed: int, frames: int = 7, labels: int = 5, scale: float = 3.0) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    return torch.tensor(scale * draw.standard_normal((frames, labels)), dtype=torch.float64, requires_grad=True)


def value(found: torch.Tensor) -> float:
    return float(found.detach())


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def shannon(p: np.ndarray) -> np.ndarray:
    return np.array([-sum(x * math.log(x) for x in row if x > 0) for row in p])


def numpy_em(z: np.ndarray, t: float) -> float:
    kept = z.argmax(-1) != BLANK
    return float(shannon(softmax(z / t))[kept].mean()) if kept.any() else 0.0


def numpy_mcc(z: np.ndarray, t: float) -> float:
    p = softmax(z / t)
    h = shannon(p)
    w = len(p) * (1 + np.exp(-h)) / (1 + np.exp(-h)).sum()
    a = sum(w[i] * np.outer(p[i], p[i]) for i in range(len(p)))
    a = a / a.sum(1, keepdims=True)
    return float((a.sum() - np.trace(a)) / p.shape[1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_entropy_and_confusion_are_those_of_numpy(seed: int, temperature: float) -> None:
    z = logits(seed)
    raw = z.detach().numpy()
    em, mcc = numpy_em(raw, temperature), numpy_mcc(raw, temperature)
    assert value(of.entropy_minimisation(z, BLANK, temperature)) == pytest.approx(em, abs=1e-12)
    assert value(of.minimum_class_confusion(z, temperature)) == pytest.approx(mcc, abs=1e-12)
    assert value(of.suta(z, BLANK, 0.3, temperature)) == pytest.approx(0.3 * em + 0.7 * mcc, abs=1e-12)


def test_confusion_by_hand() -> None:
    # Two frames that are sure, each of another label: nothing is confused. Twice the same doubt between two labels:
    # A = w/4 [[1, 1], [1, 1]] over its rows has a trace of 1, and 1 - 1/2 is left.
    sure = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    assert value(of.minimum_class_confusion(sure, 1.0)) == pytest.approx(0.0, abs=1e-9)
    assert value(of.minimum_class_confusion(torch.zeros(2, 2), 1.0)) == pytest.approx(0.5)
    # Unsure frames weigh less: with the weights the sure pair counts (1 + 1) / (1 + 1/V) as much as the others.
    z = torch.tensor([[50.0, 0.0], [0.0, 50.0], [0.0, 0.0]])
    p = np.array([[1, 0], [0, 1], [0.5, 0.5]])
    w = np.array([2.0, 2.0, 1.5])
    a = (p * w[:, None]).T @ p
    a /= a.sum(1, keepdims=True)
    assert value(of.minimum_class_confusion(z, 1.0)) == pytest.approx(1 - np.trace(a) / 2, abs=1e-6)
    assert value(of.minimum_class_confusion(z, 1.0)) < value(of.minimum_class_confusion(z, 1.0, reweight=False))


def test_nothing_is_learned_through_the_weights() -> None:
    z = logits(3)
    of.minimum_class_confusion(z, 1.0).backward()
    fixed = logits(3)
    p = fixed.softmax(-1)
    w = 1 + (-of.entropy(fixed)).exp().detach()
    a = (p * (len(w) * w / w.sum())[:, None]).T @ p
    a = a / a.sum(1, keepdim=True)
    ((a.sum() - a.trace()) / a.shape[0]).backward()
    assert torch.allclose(z.grad, fixed.grad, atol=1e-12)


def test_all_blank_has_no_entropy_and_no_gradient() -> None:
    z = torch.zeros(6, 4, requires_grad=True)
    with torch.no_grad():
        z[:, BLANK] = 5
    for loss in (of.entropy_minimisation(z, BLANK), of.renyi(z, BLANK)):
        assert value(loss) == 0
        (found,) = torch.autograd.grad(loss, z)
        assert bool((found == 0).all())
    assert math.isfinite(value(of.suta(z, BLANK)))
    assert math.isfinite(value(of.confidence_enhanced(z, BLANK)))
    assert len(of.labels_of(z, BLANK)) == 0


def paths_of(labels: list[int], frames: int, classes: int) -> list[tuple[int, ...]]:
    def collapsed(path: tuple[int, ...]) -> list[int]:
        return [key for key, _ in itertools.groupby(path) if key != BLANK]

    return [path for path in itertools.product(range(classes), repeat=frames) if collapsed(path) == labels]


@pytest.mark.parametrize("labels", [[], [1], [1, 1], [2, 1, 2]])
def test_the_loss_of_a_transcript_sums_all_its_paths(labels: list[int]) -> None:
    z = logits(5, frames=5, labels=3)
    p = softmax(z.detach().numpy())
    total = sum(math.prod(p[t, k] for t, k in enumerate(path)) for path in paths_of(labels, 5, 3))
    found = of.transcript_loss(z, torch.tensor(labels, dtype=torch.long), BLANK)
    assert value(found) == pytest.approx(-math.log(total) / max(1, len(labels)), rel=1e-9)
    (slope,) = torch.autograd.grad(found, z)
    assert bool(slope.isfinite().all())


def test_as_published_normalises_over_time() -> None:
    z = logits(6, frames=4, labels=3)
    labels = of.labels_of(z, BLANK)
    q = softmax(z.detach().numpy().T).T  # over time: columns add up to 1
    total = sum(math.prod(q[t, k] for t, k in enumerate(path)) for path in paths_of(labels.tolist(), 4, 3))
    found = value(of.transcript_loss(z, labels, BLANK, as_published=True))
    assert found == pytest.approx(-math.log(total) / max(1, len(labels)), rel=1e-9)
    assert found != pytest.approx(value(of.transcript_loss(z, labels, BLANK)), rel=1e-3)


def test_its_own_transcript_joins_repeats_and_leaves_blanks_out() -> None:
    best = [1, 1, 0, 1, 2, 2, 0, 0]
    z = torch.nn.functional.one_hot(torch.tensor(best), 3).double()
    assert of.labels_of(z, BLANK).tolist() == [1, 1, 2]


@pytest.mark.parametrize("order", [0.5, 1.0, 1.5, 2.0])
def test_renyi(order: float) -> None:
    z = logits(8)
    p = softmax(z.detach().numpy() / 2.5)
    kept = z.detach().numpy().argmax(-1) != BLANK
    values = shannon(p) if order == 1 else np.log((p**order).sum(-1)) / (1 - order)
    assert value(of.renyi(z, BLANK, order)) == pytest.approx(float(values[kept].mean()), abs=1e-12)


def test_renyi_by_hand() -> None:
    # Over V labels as likely each: ln V, whatever the order. Order 2 of (1/2, 1/4, 1/4): -ln(3/8).
    flat = torch.zeros(3, 4)
    flat[:, 1] = 1e-6
    assert value(of.renyi(flat, BLANK, 1.5, 1.0)) == pytest.approx(math.log(4), abs=1e-5)
    z = torch.tensor([[0.25, 0.5, 0.25]]).log()
    assert value(of.renyi(z, BLANK, 2.0, 1.0)) == pytest.approx(-math.log(3 / 8), abs=1e-6)


def test_negative_sampling() -> None:
    z = logits(9, scale=4)
    raw = z.detach().numpy()
    improbable = softmax(raw) < 0.04 * 10 / raw.shape[1]
    assert improbable.any()
    expected = np.mean(-np.log(1 - (improbable * softmax(raw / 2.5)).sum(-1)))
    assert value(of.negative_sampling(z)) == pytest.approx(float(expected), rel=1e-9)
    assert value(of.negative_sampling(torch.zeros(3, 4))) == pytest.approx(0.0, abs=1e-6)  # nothing is improbable
    total = value(of.renyi(z, BLANK)) + value(of.negative_sampling(z))
    assert value(of.sgem(z, BLANK)) == pytest.approx(total)


def test_confidence_enhanced() -> None:
    z = logits(10)
    raw = z.detach().numpy()
    h = shannon(softmax(raw / 2.5))[raw.argmax(-1) != BLANK]
    expected = 0.3 * float((h / (1 + np.exp(-h))).mean()) + 0.7 * numpy_mcc(raw, 2.5)
    assert value(of.confidence_enhanced(z, BLANK)) == pytest.approx(expected, abs=1e-12)
    assert value(of.smoothed(z, BLANK)) == pytest.approx(
        0.3 * float(shannon(softmax(raw / 2.5)).mean()) + 0.7 * numpy_mcc(raw, 2.5), abs=1e-12
    )


def test_coherence() -> None:
    draw = np.random.default_rng(0)
    states = draw.standard_normal((5, 3))
    kept = np.array([True, False, True, True, False])
    mixed = softmax(states @ states.T) @ states + states
    apart = np.linalg.norm(mixed[1:] - mixed[:-1], axis=1)
    found = of.temporal_coherence(torch.tensor(states), torch.tensor(kept))
    assert value(found) == pytest.approx(float(apart[kept[1:]].mean()), abs=1e-12)
    still = torch.ones(4, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(of.temporal_coherence(still, torch.ones(4, dtype=torch.bool)), still)
    assert bool(slope.isfinite().all())


def test_certainty() -> None:
    z = logits(11)
    expected = np.log(softmax(z.detach().numpy()).max(-1)).mean()
    assert of.certainty(z) == pytest.approx(float(expected))


def test_lame_is_a_fixed_point_that_draws_neighbours_together() -> None:
    draw = np.random.default_rng(3)
    # Six frames in two groups; the last of each is unsure, and takes its group's label.
    states = np.repeat(np.eye(3)[:2], 4, axis=0) + draw.normal(0, 0.01, (8, 3))
    z = np.zeros((8, 3))
    z[:3, 1], z[4:7, 2], z[3, 2], z[7, 1] = 3, 3, 0.4, 0.4
    found = of.lame(torch.tensor(z), torch.tensor(states), BLANK, neighbours=3)
    assert found.argmax(-1).tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    y = found.exp().numpy()
    near = np.zeros((8, 8))
    unit = states / np.linalg.norm(states, axis=1, keepdims=True)
    for i in range(8):
        apart = np.linalg.norm(unit - unit[i], axis=1)
        apart[i] = np.inf
        near[i, np.argsort(apart)[:3]] = 1
    w = (near + near.T) / 2
    again = softmax(np.log(softmax(z)) + w @ y)
    assert np.allclose(again, y, atol=1e-5)


def test_lame_leaves_blanks_and_short_clips_alone() -> None:
    z = logits(12, frames=9)
    blanks = z.detach().clone()
    blanks[:7, BLANK] = 9
    states = torch.tensor(np.random.default_rng(0).standard_normal((9, 4)))
    assert torch.equal(of.lame(blanks, states, BLANK), blanks.log_softmax(-1))  # two frames are left, fewer than 5
    blanks = z.detach().clone()
    blanks[0, BLANK] = 20
    assert torch.equal(of.lame(blanks, states, BLANK)[0], blanks.log_softmax(-1)[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(2, 8), st.floats(0.1, 60))
def test_bounds(seed: int, frames: int, labels: int, scale: float) -> None:
    z = logits(seed, frames, labels, scale)
    log_v = math.log(labels)
    assert -1e-9 <= value(of.entropy_minimisation(z, BLANK)) <= log_v + 1e-9
    assert -1e-9 <= value(of.minimum_class_confusion(z)) <= 1 - 1 / labels + 1e-9
    assert -1e-9 <= value(of.renyi(z, BLANK)) <= log_v + 1e-9
    assert -1e-9 <= value(of.negative_sampling(z)) <= log_v + 1e-9
    assert of.certainty(z) <= 0
    # Order 1 is the largest of these entropies above order 1, and a shift of logits changes nothing.
    assert value(of.renyi(z, BLANK, 1.5)) <= value(of.renyi(z, BLANK, 1.0)) + 1e-9
    assert value(of.suta(z + 7, BLANK)) == pytest.approx(value(of.suta(z, BLANK)), abs=1e-7)
    (slope,) = torch.autograd.grad(of.suta(z, BLANK) + of.sgem(z, BLANK) + of.confidence_enhanced(z, BLANK), z)
    assert bool(slope.isfinite().all())
