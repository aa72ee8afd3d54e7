"""Every operator against its formula in numpy float64, and the laws of the algebra."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import UsageError
from mnemos.weights import masks as masking
from mnemos.weights import operators
from mnemos.weights.expression import parse
from mnemos.weights.masks import uniform
from mnemos.weights.operators import Tensor, chosen, resolve
from mnemos.weights.write import combine
from tests.weights.checkpoints import some, tensors, write

Array = np.ndarray


class Held:
    """A tensor in memory that is read like one on disk."""

    def __init__(self, values: Array) -> None:
        self.values = torch.tensor(np.asarray(values))
        self.shape, self.dtype = tuple(self.values.shape), self.values.dtype

    def block(self, start: int, stop: int, wide: torch.dtype) -> torch.Tensor:
        return self.values.flatten()[start:stop].to(wide).clone()


def evaluate(
    text: str, key: str = "model.layers.0.w", place: float = 0.0, wide: Any = torch.float64, **arrays: Array
) -> Array:
    """An expression on one tensor, block by block, without any file."""
    shape = np.asarray(next(iter(arrays.values()))).shape
    views: dict[str, Any] = {name: Held(value) for name, value in arrays.items()}
    tensor = Tensor(key, shape, place, wide, views, math.prod(shape))
    made = resolve(chosen(parse(text), key), tensor)
    return torch.cat([block for (block,) in tensor.each(made)]).numpy().reshape(shape)


def arrays(seed: int, count: int, shape: tuple[int, ...] = (40, 25), scale: float = 0.1) -> list[Array]:
    """A base and models near it."""
    draw = np.random.default_rng(seed)
    base = draw.standard_normal(shape)
    return [base, *(base + scale * draw.standard_normal(shape) for _ in range(count - 1))]


def bf16(*arrays: Array) -> list[Array]:
    """Rounded to bfloat16, in which many deltas are of one size."""
    return [torch.from_numpy(value).bfloat16().double().numpy() for value in arrays]


# --- the formulas, written again ---------------------------------------------------------------


def elected(deltas: Sequence[Array]) -> Array:
    out = np.zeros_like(deltas[0])
    for i in np.ndindex(out.shape):
        sign = np.sign(sum(d[i] for d in deltas))
        agree = [d[i] for d in deltas if np.sign(d[i]) == sign and sign != 0]
        out[i] = sum(agree) / len(agree) if agree else 0.0
    return out


def slerp(a: Array, b: Array, t: float) -> Array:
    cosine = float(np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))
    if abs(cosine) >= 0.9995:
        return (1 - t) * a + t * b
    angle = np.arccos(cosine)
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


def ties(base: Array, *models: Array, density: float, scale: float = 1.0) -> Array:
    deltas = []
    for model in models:
        delta = model - base
        keep = max(round(density * delta.size), 1) if density else 0
        least = np.sort(np.abs(delta).ravel())[::-1][keep - 1] if keep else np.inf
        deltas.append(np.where(np.abs(delta) >= least, delta, 0.0))
    return base + scale * elected(deltas)


def breadcrumbs(base: Array, *models: Array, smallest: float, largest: float, scale: float = 1.0) -> Array:
    total = np.zeros_like(base)
    for model in models:
        delta = model - base
        order = np.argsort(np.abs(delta).ravel())
        mask = np.ones(delta.size, bool)
        mask[order[: math.floor(smallest * delta.size)]] = False
        top = math.floor(largest * delta.size)
        if top:
            mask[order[-top:]] = False
        total += delta * mask.reshape(delta.shape)
    return base + scale * total


def model_stock(base: Array, *models: Array) -> Array:
    deltas = [(m - base).ravel() for m in models]
    n = len(deltas)
    cosines = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in itertools.combinations(deltas, 2)]
    cosine = np.mean(cosines)
    t = n * cosine / (1 + (n - 1) * cosine)
    return t * np.mean(models, axis=0) + (1 - t) * base


@pytest.mark.parametrize("shape", [(40, 25), (7,), (2, 3, 5), (1, 1), (600, 500)])
@pytest.mark.parametrize("t", [-0.2, 0.0, 0.35, 1.0, 1.3])
def test_slerp(shape: tuple[int, ...], t: float) -> None:
    draw = np.random.default_rng(3)
    a, b = draw.standard_normal(shape), draw.standard_normal(shape)
    np.testing.assert_allclose(evaluate(f"slerp(a, b, {t})", a=a, b=b), slerp(a, b, t), atol=1e-9)


def test_slerp_of_parallel_opposite_and_zero_vectors_is_a_line() -> None:
    a = np.arange(1.0, 7).reshape(2, 3)
    for b in (2 * a, -a, 0 * a):
        np.testing.assert_allclose(evaluate("slerp(a, b, 0.25)", a=a, b=b), 0.75 * a + 0.25 * b, atol=1e-12)


@pytest.mark.parametrize("density", [0.0, 0.03, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_ties(density: float, count: int) -> None:
    base, *rest = arrays(1, count)
    named = {f"m{i}": value for i, value in enumerate(rest)}
    got = evaluate(f"ties(base, {', '.join(named)}, density={density}, scale=0.7)", base=base, **named)
    np.testing.assert_allclose(got, ties(base, *rest, density=density, scale=0.7), atol=1e-12)


def test_ties_keeps_one_value_of_a_tensor_that_is_too_small_for_its_share() -> None:
    base, a = np.zeros(4), np.array([1.0, -3.0, 2.0, 0.5])
    np.testing.assert_array_equal(evaluate("ties(base, a, density=0.01)", base=base, a=a), [0, -3, 0, 0])


def exactly(delta: Array, first: int, last: int) -> Array:
    """The deltas of ranks [first, last) by size, of equal ones the earlier first; 0 elsewhere."""
    order = np.argsort(-np.abs(delta).ravel().astype(np.float32), kind="stable")[first:last]
    mask = np.zeros(delta.size, bool)
    mask[order] = True
    return delta * mask.reshape(delta.shape)


@pytest.mark.parametrize("shape", [(40, 25), (700, 500)])
@pytest.mark.parametrize("density", [0.0, 0.05, 0.2, 0.5, 1.0])
def test_exact_ties_keeps_as_many_as_it_was_asked_for(density: float, shape: tuple[int, ...]) -> None:
    base, a = bf16(*arrays(1, 2, shape, scale=0.004))
    found = evaluate(f"ties(base, a, density={density}, exact=1)", base=base, a=a)
    keep = round(density * base.size)
    np.testing.assert_array_equal(found - base, exactly(a - base, 0, keep))


def test_equal_sizes_at_the_threshold_are_all_kept_unless_exact() -> None:
    """Weights of one binade move by whole steps of bfloat16: 20 % asked for, more than 30 % of one size or more."""
    draw = np.random.default_rng(0)
    base = draw.uniform(1.1, 1.9, (300, 200))
    base, a = bf16(base, base + 0.008 * draw.standard_normal(base.shape))
    for exact in (0, 1):
        found = evaluate(f"ties(base, a, density=0.2, exact={exact})", base=base, a=a)
        share = np.count_nonzero(found - base) / base.size
        assert share == 0.2 if exact else share > 0.3


@pytest.mark.parametrize(("smallest", "largest"), [(0.5, 0.1), (0.85, 0.01), (0.0, 0.3), (0.3, 0.0), (0.6, 0.4)])
def test_exact_breadcrumbs_drops_as_many_as_it_was_asked_to(smallest: float, largest: float) -> None:
    base, a = bf16(*arrays(1, 2, scale=0.01))
    text = f"breadcrumbs(base, a, smallest={smallest}, largest={largest}, exact=1)"
    top, keep = math.floor(largest * base.size), base.size - math.floor(smallest * base.size)
    np.testing.assert_array_equal(evaluate(text, base=base, a=a) - base, exactly(a - base, top, keep))


@pytest.mark.parametrize("density", [0.1, 0.25, 0.5])
def test_exact_ties_is_pefts(density: float) -> None:
    """On sizes that all differ; of equal ones peft takes whichever, but as many."""
    from peft.utils.merge_utils import magnitude_based_pruning
    from peft.utils.merge_utils import ties as pefts

    base, *models = arrays(2, 4)
    named = {f"m{i}": value for i, value in enumerate(models)}
    deltas = [torch.from_numpy(model - base).float() for model in models]
    found = evaluate(f"ties(base, {', '.join(named)}, density={density}, exact=1)", base=base, **named)
    theirs = pefts(deltas, torch.ones(len(deltas)), density)
    np.testing.assert_allclose(found - base, theirs.numpy(), atol=1e-6)
    base, a = bf16(*arrays(1, 2, scale=0.01))
    found = evaluate(f"ties(base, a, density={density}, exact=1)", base=base, a=a)
    kept = magnitude_based_pruning(torch.from_numpy(a - base), density)
    assert np.count_nonzero(found - base) == kept.count_nonzero()
    assert np.abs(found - base).sum() == pytest.approx(float(kept.abs().sum()), rel=1e-9)


def test_ties_of_exactly_opposite_deltas_elects_no_sign() -> None:
    base = np.zeros(3)
    got = evaluate("ties(base, a, b, density=1)", base=base, a=np.array([1.0, 2, 3]), b=np.array([-1.0, 1, 3]))
    np.testing.assert_array_equal(got, [0, 1.5, 3])


@pytest.mark.parametrize(
    ("smallest", "largest"), [(0.0, 0.0), (0.85, 0.01), (0.5, 0.5), (0.2, 0.1), (1.0, 0.0), (0.0, 1.0)]
)
def test_breadcrumbs(smallest: float, largest: float) -> None:
    base, a, b = arrays(2, 3)
    got = evaluate(f"breadcrumbs(base, a, b, smallest={smallest}, largest={largest})", base=base, a=a, b=b)
    np.testing.assert_allclose(got, breadcrumbs(base, a, b, smallest=smallest, largest=largest), atol=1e-12)


@pytest.mark.parametrize("count", [3, 4])
def test_model_stock(count: int) -> None:
    base, *rest = arrays(4, count)
    shared = np.random.default_rng(9).standard_normal(base.shape) * 0.1  # deltas at an angle below 90°
    rest = [model + shared for model in rest]
    named = {f"m{i}": value for i, value in enumerate(rest)}
    got = evaluate(f"model_stock(base, {', '.join(named)})", base=base, **named)
    np.testing.assert_allclose(got, model_stock(base, *rest), atol=1e-9)


def test_model_stock_refuses_deltas_that_cancel() -> None:
    a = np.ones((2, 2))
    with pytest.raises(UsageError, match="opposite directions"):
        evaluate("model_stock(base, a, b)", base=0 * a, a=a, b=-a)


@pytest.mark.parametrize("name", ["dare", "dare_ties"])
def test_dare_drops_a_share_and_keeps_the_sum_in_the_mean(name: str) -> None:
    base, a = np.zeros((300, 400)), np.ones((300, 400))
    got = evaluate(f"{name}(base, a, drop=0.9, seed=5)", base=base, a=a)
    assert set(np.unique(got)) == {0.0, 1 / (1 - 0.9)} or np.allclose(np.unique(got), [0, 10])
    # 120,000 draws: five standard errors of the share are 0.0043.
    assert abs((got > 0).mean() - 0.1) < 0.0045
    again = evaluate(f"{name}(base, a, drop=0.9, seed=5)", base=base, a=a)
    other = evaluate(f"{name}(base, a, drop=0.9, seed=6)", base=base, a=a)
    np.testing.assert_array_equal(got, again)
    assert (got != other).any()


def test_dare_is_the_formula_on_the_numbers_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    base, a, b = arrays(6, 3)
    drawn: list[Array] = []
    real = uniform

    def remembered(seed: Sequence[int], start: int, stop: int) -> Array:
        drawn.append(real(seed, start, stop))
        return drawn[-1]

    monkeypatch.setattr(masking, "uniform", remembered)
    got = evaluate("dare(base, a, b, drop=0.5, scale=0.8)", base=base, a=a, b=b)
    masks = [(value >= 0.5).reshape(base.shape) / 0.5 for value in drawn]
    assert len(masks) == 2
    assert (masks[0] != masks[1]).any()
    np.testing.assert_allclose(got, base + 0.8 * ((a - base) * masks[0] + (b - base) * masks[1]), atol=1e-12)
    drawn.clear()
    got = evaluate("dare_ties(base, a, b, drop=0.5)", base=base, a=a, b=b)
    masks = [(value >= 0.5).reshape(base.shape) / 0.5 for value in drawn]
    np.testing.assert_allclose(got, base + elected([(a - base) * masks[0], (b - base) * masks[1]]), atol=1e-12)


def test_della_drops_by_rank_within_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    base, a, b = arrays(7, 3, (30, 40))
    drawn: list[Array] = []
    real = uniform
    monkeypatch.setattr(masking, "uniform", lambda *given: drawn.append(real(*given)) or drawn[-1])
    got = evaluate("della(base, a, b, drop=0.6, spread=0.4, scale=1.1)", base=base, a=a, b=b)
    deltas = []
    for model, value in zip((a, b), drawn, strict=True):
        delta, u = model - base, value.reshape(base.shape)
        for row in range(30):
            order = sorted(range(40), key=lambda i, row=row, delta=delta: -abs(delta[row, i]))
            for rank, i in enumerate(order):
                chance = 0.6 - 0.2 + 0.4 * rank / 40
                delta[row, i] = delta[row, i] / (1 - chance) if u[row, i] >= chance else 0.0
        deltas.append(delta)
    np.testing.assert_allclose(got, base + 1.1 * elected(deltas), atol=1e-12)


def test_random_numbers_do_not_depend_on_the_block() -> None:
    whole = uniform((1, 2), 0, 200_000)
    cuts = [0, 1, 7, 65_535, 65_536, 65_537, 131_072, 199_999, 200_000]
    parts = [uniform((1, 2), a, b) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert 0 <= whole.min() <= whole.max() < 1
    assert uniform((1, 2), 5, 5).size == 0


EVERY = ("ties(base, a, b)", "dare(base, a, b)", "breadcrumbs(base, a, b)", "della(base, a, b)", "slerp(a, b, 0.3)",
         "model_stock(base, a, b)", "0.3*a + 0.7*b")  # fmt: skip


@pytest.mark.parametrize("text", EVERY)
def test_blocks_change_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base, a, b = arrays(8, 3, (50, 33))
    whole = evaluate(text, base=base, a=a, b=b)
    monkeypatch.setattr(operators, "BLOCK", 100)
    np.testing.assert_allclose(evaluate(text, base=base, a=a, b=b), whole, atol=1e-12)


# --- laws ---------------------------------------------------------------------------------------

LAWS: list[tuple[str, str]] = [
    ("a + b", "b + a"),
    ("(a + b) - b", "a"),
    ("base + (a - base) + (b - base)", "dare(base, a, b, drop=0)"),
    ("base + 0.5*((a - base) + (b - base))", "dare(base, b, a, drop=0, scale=0.5)"),
    ("base", "ties(base, a, b, density=0)"),
    ("a", "ties(base, a, density=1)"),
    ("ties(base, a, b)", "ties(base, b, a)"),
    ("base + 2*(ties(base, a, b) - base)", "ties(base, a, b, scale=2)"),
    ("ties(base, a, a)", "ties(base, a)"),
    ("dare(base, a, b)", "dare(base, b, a)"),
    ("base + (a - base) + (b - base)", "breadcrumbs(base, a, b, smallest=0, largest=0)"),
    ("base", "breadcrumbs(base, a, b, smallest=1, largest=0)"),
    ("slerp(a, b, 0.3)", "slerp(b, a, 0.7)"),
    ("a", "slerp(a, a, 0.4)"),
    ("mean(a, b)", "0.5*a + 0.5*b"),
    ("a", "model_stock(base, a, a)"),
    ("ties(base, a, b, density=1)", "dare_ties(base, a, b, drop=0)"),
    ("ties(base, a, b, density=1)", "della(base, a, b, drop=0, spread=0)"),
    ("a", "where('layers', a, b)"),
    ("b", "where('embed', a, b)"),
    ("slerp(a, b, depth(0, 1))", "slerp(a, b, 0.25)"),
    ("0.2*a + 0.8*b", "depth(0, 0.8)*a + depth(1, 0.2)*b"),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), LAWS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_laws(left: str, right: str, seed: int) -> None:
    base, a, b = arrays(seed, 3, (9, 7))
    both = [evaluate(text, place=0.25, base=base, a=a, b=b) for text in (left, right)]
    np.testing.assert_allclose(*both, atol=1e-9)


def test_slerp_at_its_ends_is_bit_for_bit(tmp_path: Path) -> None:
    places = {name: write(tmp_path / name, some(i, dtype="bfloat16")) for i, name in enumerate(("a", "b"))}
    for text, same in (("slerp(a, b, 0)", "a"), ("slerp(a, b, 1)", "b")):
        combine(parse(text), places, tmp_path / f"out-{same}", parent="a")
        expected, found = tensors(places[same]), tensors(tmp_path / f"out-{same}")
        assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("base + 0.6*(a - base) + 0.4*(b - base)", lambda base, a, b: base + 0.6 * (a - base) + 0.4 * (b - base)),
        ("slerp(a, b, 0.35)", lambda base, a, b: slerp(a, b, 0.35)),
        ("ties(base, a, b, density=0.3)", lambda base, a, b: ties(base, a, b, density=0.3)),
        ("0.5*ties(base, a, density=0.3) + 0.5*slerp(a, b, 0.2)",
         lambda base, a, b: 0.5 * ties(base, a, density=0.3) + 0.5 * slerp(a, b, 0.2)),
    ],
)  # fmt: skip
def test_files_are_rounded_once(dtype: str, text: str, formula: Callable[..., Array], tmp_path: Path) -> None:
    """What stands in the file is the float64 value to within half a unit in the last place and what
    float32 loses."""
    made = {name: some(i, dtype=dtype) for i, name in enumerate(("base", "a", "b"))}
    places = {name: write(tmp_path / name, value) for name, value in made.items()}
    combine(parse(text), places, tmp_path / "out", parent="a" if text.startswith("slerp") else "base")
    half = {"float32": 2**-24, "bfloat16": 2**-8, "float16": 2**-11}[dtype]
    for key, value in tensors(tmp_path / "out").items():
        exact = formula(*(made[name][key].double().numpy() for name in ("base", "a", "b")))
        size = sum(made[name][key].double().numpy() ** 2 for name in made) ** 0.5
        off = np.abs(value.double().numpy() - exact)
        assert value.dtype == getattr(torch, dtype)
        assert (off <= np.abs(exact) * half + size * 2**-19).all(), key
