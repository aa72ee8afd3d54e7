"""The operators of an expression on one tensor, a block of rows at a time.

`resolve` turns an expression into numbers for one tensor: schedules take their value at the
tensor's depth, `where` its branch, and what needs the whole tensor (angles, thresholds) is read
off in one or two passes over it. What is left works on any block of elements alone, so memory
does not grow with the tensor. With delta_k = a_k - base:

slerp(a, b, t)        sin((1-t)O)/sin O * a + sin(t O)/sin O * b, O the angle between the whole
                      tensors; linear where they are nearly parallel
ties(base, a, …)      arXiv:2306.01708: keep the `density` largest |delta_k| of each tensor, elect the
                      sign of their sum, take the mean of those that agree; base + scale * that
dare(base, a, …)      arXiv:2311.03099: drop each delta with chance `drop`, divide the rest by
                      1 - drop; base + scale * their sum
dare_ties(base, a, …) the same deltas, then the sign election and mean of TIES
della(base, a, …)     arXiv:2406.11617: within each row, rank r (0 the largest of n) is dropped with
                      chance drop - spread/2 + spread * r/n and divided by what is left; then as TIES
breadcrumbs(base, a, …) arXiv:2312.06795: drop the `smallest` and `largest` shares of |delta_k|; base
                      + scale * their sum
model_stock(base, a, b, …) arXiv:2403.19522: t * mean + (1-t) * base, t = N cos/(1 + (N-1) cos), cos the
                      mean cosine between deltas

Deviations from the papers: 1. ties, breadcrumbs: the shares are of each tensor, not of the whole
model. 2. ties, breadcrumbs: equal magnitudes at a threshold are all kept, which in 16 bits may be many more
than the share (`exact=1` takes exactly the share, of equal ones those that stand first); ties: a sum of
exactly 0 elects no sign. 3. model_stock: for more than two models the one angle of the paper is the mean over pairs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from mnemos.core.errors import UsageError
from mnemos.core.patterns import Overtime, search
from mnemos.weights.combination import Call, Combination, value_at
from mnemos.weights.masks import Drop, DropByRank, Mask, Trim
from mnemos.weights.selection import Sizes, blocks, largest
from mnemos.weights.selection import places as places_of
from mnemos.weights.tensors import View, row_width

BLOCK = 1 << 17
"""Elements worked on at a time: a few float32 buffers of this size fit the processor's cache."""
PARALLEL = 0.9995
"""|cosine| from which slerp is a straight line."""


class Leaf(Protocol):
    """Something with a value at each element."""

    def block(self, start: int, stop: int, wide: torch.dtype) -> torch.Tensor:
        """Elements [start, stop) as a new flat tensor, which the caller may write into."""
        ...


@dataclass(frozen=True)
class Sum:
    """sum_i coefficient_i * leaf_i."""

    terms: tuple[tuple[float, Leaf], ...]

    def block(self, start: int, stop: int, wide: torch.dtype) -> torch.Tensor:
        """Elements [start, stop); zeros for the empty sum."""
        total: torch.Tensor | None = None
        for coefficient, leaf in self.terms:
            part = leaf.block(start, stop, wide)
            if total is None:
                # A leaf's block is a new tensor, so the first one serves as the buffer of the sum.
                total = part if coefficient == 1 else part.mul_(coefficient)
            else:
                total.add_(part, alpha=coefficient)
        return torch.zeros(stop - start, dtype=wide) if total is None else total

    @property
    def alone(self) -> Leaf | None:
        """The leaf, where the sum is one leaf as it is."""
        return self.terms[0][1] if len(self.terms) == 1 and self.terms[0][0] == 1 else None


@dataclass(frozen=True)
class Kept:
    """What an operator kept of one tensor. asked: the share that it was told to keep. Of each of `models`:
    stayed, deltas that are not 0 behind its mask; seen, all."""

    asked: float
    models: tuple[str, ...]
    stayed: list[int]
    seen: list[int]


@dataclass(frozen=True)
class Deltas:
    """base + scale * (masked deltas, summed or elected). kept: counted as
    blocks are made; None where nobody asks."""

    base: Sum
    models: tuple[Sum, ...]
    masks: tuple[Mask | None, ...]
    scale: float
    elect: bool
    kept: Kept | None = None

    def block(self, start: int, stop: int, wide: torch.dtype) -> torch.Tensor:
        """Elements [start, stop)."""
        # base and each delta: flat, wide[stop - start].
        base = self.base.block(start, stop, wide)
        deltas, spoilt = [], []
        for number, (model, mask) in enumerate(zip(self.models, self.masks, strict=True)):
            delta = model.block(start, stop, wide).sub_(base)
            if not math.isfinite(float(delta.sum())):
                spoilt.append(delta * 0)  # NaN where it is not finite: masks must not hide it
            if mask is not None:
                mask(delta, start)
            if self.kept is not None:
                self.kept.seen[number] += delta.numel()
                self.kept.stayed[number] += int(delta.count_nonzero())
            deltas.append(delta)
        out = base.add_(_elected(deltas) if self.elect else _total(deltas), alpha=self.scale)
        return out.add_(_total(spoilt)) if spoilt else out


def _total(deltas: Sequence[torch.Tensor]) -> torch.Tensor:
    # A copy, because `_elected` reads every delta again after it has summed them for their sign.
    total = deltas[0].clone() if len(deltas) > 1 else deltas[0]
    for delta in deltas[1:]:
        total.add_(delta)
    return total


def _elected(deltas: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean, element by element, of the deltas that have the sign of the sum."""
    if len(deltas) == 1:
        return deltas[0]
    # gamma = sgn(sum_k delta_k), then the mean over those with sgn(delta_k) = gamma (arXiv:2306.01708, elect and
    # merge). What was trimmed to 0 agrees with nobody, so it does not count in the mean.
    sign = _total(deltas).sign_()
    # |delta_k| where it has the elected sign, else 0; in place, since nobody needs the deltas behind this.
    first, *rest = (delta.mul_(sign).relu_() for delta in deltas)
    total, count = first, first.sign()
    for along in rest:
        total.add_(along)
        count.add_(along.sign_())
    # Where nobody agrees (a sum of exactly 0), 0 / 1 leaves the base's value.
    return total.mul_(sign).div_(count.clamp_(min=1))


@dataclass(frozen=True)
class Tensor:
    """What is known of the tensor in hand. views: checkpoint -> its tensor. place: depth in [0, 1].
    live: elements that take part in shares (rows that are kept whole do not). kept: what each
    operator, as written, keeps of the largest deltas."""

    key: str
    shape: tuple[int, ...]
    place: float
    wide: torch.dtype
    views: Mapping[str, View]
    live: int
    kept: dict[str, Kept] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """Elements of a row."""
        return row_width(self.shape)

    def each(self, *leaves: Leaf) -> Iterator[list[torch.Tensor]]:
        """The leaves' values, block by block."""
        for start, stop in blocks(self.count, self.width, BLOCK):
            yield [leaf.block(start, stop, self.wide) for leaf in leaves]


def chosen(expression: Combination, key: str) -> Combination:
    """The expression for one tensor: each `where` replaced by its branch."""
    terms: list[tuple[str | Call, float]] = []
    for atom, coefficient in expression.terms:
        if isinstance(atom, Call) and atom.operator == "where":
            branch = chosen(atom.models[0 if _found(atom.pattern, key) else 1], key)
            if len(branch.terms) == 1 and branch.terms[0][1] == 1:
                terms.append((branch.terms[0][0], coefficient))  # type: ignore[arg-type]
            # Stays one atom: a schedule outside times one inside would be no schedule, while at one depth both are
            # plain numbers. `resolve` reads the first branch of any `where` that is left.
            elif branch.terms:
                terms.append((Call("where", (branch, Combination(())), (), ""), coefficient))  # type: ignore[arg-type]
        elif isinstance(atom, Call):
            inner = tuple(chosen(model, key) for model in atom.models)
            terms.append((Call(atom.operator, inner, atom.options, atom.pattern), coefficient))  # type: ignore[arg-type]
        else:
            terms.append((atom, coefficient))  # type: ignore[arg-type]
    return Combination(tuple(terms))


def _found(pattern: str, key: str) -> bool:
    try:
        return search(pattern, key)
    except (Overtime, ValueError):
        raise UsageError(
            f"where({pattern!r}, …)", f"finds no end in the name {key}", "write a pattern with fewer * and +"
        ) from None


def resolve(expression: Combination, tensor: Tensor) -> Sum:
    """The expression in numbers, for one tensor. expression: as `chosen` gives it."""
    terms: list[tuple[float, Leaf]] = []
    for atom, coefficient in expression.terms:
        factor = value_at(coefficient, tensor.place)
        if isinstance(atom, str):
            terms.append((factor, tensor.views[atom]))
        else:
            # Every operator comes back as a sum, so nesting costs no tensor in between.
            inner = OPERATORS[atom.operator](atom, [resolve(model, tensor) for model in atom.models], tensor)
            terms += [(factor * c, leaf) for c, leaf in inner.terms]
    # What counts 0 times is not read at all; 0 * infinity would be NaN besides.
    return Sum(tuple((c, leaf) for c, leaf in terms if c != 0))


def _slerp(call: Call, models: Sequence[Sum], tensor: Tensor) -> Sum:
    t = value_at(call.option("t"), tensor.place)
    a, b = models
    # The ends are the models themselves, to the bit; sin(O) / sin(O) need not be.
    if t in (0, 1):
        return (a, b)[int(t)]
    # Squared lengths and inner product of the whole tensors: `wide` within a block, Python's float64 between blocks.
    aa = bb = ab = 0.0
    for x, y in tensor.each(a, b):
        aa, bb, ab = aa + float(x.dot(x)), bb + float(y.dot(y)), ab + float(x.dot(y))
    cosine = ab / math.sqrt(aa * bb) if aa * bb > 0 else 1.0
    # sin O goes to 0 where they are opposite, too; `not <` takes NaN this way as well.
    if not abs(cosine) < PARALLEL:
        return _weighted((1 - t, t), models)
    angle = math.acos(cosine)
    return _weighted((math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)), models)


def _weighted(weights: Sequence[float], models: Sequence[Sum]) -> Sum:
    return Sum(tuple((w * c, leaf) for w, model in zip(weights, models, strict=True) for c, leaf in model.terms if w))


def _model_stock(call: Call, models: Sequence[Sum], tensor: Tensor) -> Sum:
    n = len(models) - 1
    # float64[n, n]: inner products of the deltas; one pass over all models whatever their number.
    gram = np.zeros((n, n))
    for base, *rest in tensor.each(*models):
        deltas = [model.sub_(base) for model in rest]
        gram += [[float(x.dot(y)) for y in deltas] for x in deltas]
    # float64[n]: ||delta_i||.
    size = np.sqrt(np.diag(gram))
    # A model equal to the base has no angle to the others; it is taken as parallel.
    pairs = [gram[i, j] / (size[i] * size[j]) if size[i] * size[j] > 0 else 1.0 for i in range(n) for j in range(i)]
    # Rounding may put a cosine a little beyond 1.
    cosine = float(np.clip(np.mean(pairs), -1, 1))
    bottom = 1 + (n - 1) * cosine
    # t has its pole at cos = -1/(N-1), where deltas of one length add up to nothing.
    if bottom <= 1e-6:
        raise UsageError(
            f"model_stock, tensor {tensor.key}: mean cosine {cosine:.3g} between the deltas",
            "must be above -1/(N-1): the models pull in opposite directions",
            "use mean, or leave one of them out",
        )
    t = n * cosine / bottom
    # t * mean + (1 - t) * base, each of the n models with t / n.
    return _weighted([1 - t, *([t / n] * n)], models)


def _largest(models: Sequence[Sum], tensor: Tensor, ranks: Sequence[int]) -> list[list[float]]:
    """For each rank k, each model's k-th largest |delta| as float32 (k = 0: infinity)."""
    return largest(_sizes(models, tensor), len(models) - 1, ranks, tensor.count, tensor.width, BLOCK)


def _last(models: Sequence[Sum], tensor: Tensor, rank: int, values: Sequence[float]) -> list[int]:
    """The index of each model's `rank`-th largest |delta|, which is `values`."""
    return places_of(_sizes(models, tensor), values, rank, tensor.count, tensor.width, BLOCK)


def _sizes(models: Sequence[Sum], tensor: Tensor) -> Sizes:
    def sizes(start: int, stop: int) -> list[np.ndarray]:
        base, *rest = (model.block(start, stop, tensor.wide) for model in models)
        # float32 also where the arithmetic is float64: `selection` ranks numbers by the 32 bits of a float, and
        # the masks compare in the same width.
        return [model.sub_(base).float().abs_().numpy() for model in rest]

    return sizes


def _ties(call: Call, models: Sequence[Sum], tensor: Tensor) -> Sum:
    density = float(call.option("density"))  # type: ignore[arg-type]
    # Of `live`, not of all: rows that are kept whole are 0 in every delta and would use up the share.
    keep = max(round(density * tensor.live), 1) if density > 0 else 0
    lows = _largest(models, tensor, [keep])[0]
    masks: list[Trim | None]
    if call.option("exact"):
        cut = zip(lows, _last(models, tensor, keep, lows), strict=True)
        masks = [Trim(low, last=last) for low, last in cut]
    else:
        # A bound of 0 keeps all; a share of 0 has an infinite bound and keeps nothing.
        masks = [Trim(low) if low > 0 else None for low in lows]
    return _deltas(call, models, masks, tensor, elect=True)


def _breadcrumbs(call: Call, models: Sequence[Sum], tensor: Tensor) -> Sum:
    smallest, largest = float(call.option("smallest")), float(call.option("largest"))  # type: ignore[arg-type]
    top = math.floor(largest * tensor.live)
    keep = tensor.live - math.floor(smallest * tensor.live)
    # The largest value that stays is the (top + 1)-th; where nothing stays, both bounds are infinite.
    keep, beyond = (keep, top + 1) if keep > top else (0, 0)
    lows, highs = _largest(models, tensor, [keep, beyond])
    masks = [Trim(low, high) for low, high in zip(lows, highs, strict=True)]
    if call.option("exact") and keep:
        # The first that stays is one of exactly `high`: those of it that stand before go.
        last, first = _last(models, tensor, keep, lows), _last(models, tensor, beyond, highs)
        masks = [Trim(*four) for four in zip(lows, highs, last, (place - 1 for place in first), strict=True)]
    return _deltas(call, models, masks, tensor, elect=False)


def _dare(call: Call, models: Sequence[Sum], tensor: Tensor) -> Sum:
    chance = float(call.option("drop"))  # type: ignore[arg-type]
    masks = [Drop(chance, seed) for seed in _seeds(call, tensor)]
    return _deltas(call, models, masks, tensor, elect=call.operator == "dare_ties")


def _della(call: Call, models: Sequence[Sum], tensor: Tensor) -> Sum:
    chance, spread = float(call.option("drop")), float(call.option("spread"))  # type: ignore[arg-type]
    masks = [DropByRank(chance, spread, seed, tensor.width) for seed in _seeds(call, tensor)]
    return _deltas(call, models, masks, tensor, elect=True)


def _where(call: Call, models: Sequence[Sum], tensor: Tensor) -> Sum:
    # `chosen` has put the branch of this tensor first.
    return models[0]


def _deltas(call: Call, models: Sequence[Sum], masks: Sequence[Mask | None], tensor: Tensor, *, elect: bool) -> Sum:
    scale = value_at(call.option("scale"), tensor.place)
    asked, kept = _asked_share(call), None
    if asked is not None:
        names = tuple(map(str, call.models[1:]))
        empty = Kept(asked, names, [0] * len(names), [0] * len(names))
        # An operator that stands in several places of an expression counts into one record.
        kept = tensor.kept.setdefault(str(call), empty)
    return Sum(((1.0, Deltas(models[0], tuple(models[1:]), tuple(masks), scale, elect, kept)),))


def _asked_share(call: Call) -> float | None:
    """The share of each delta that an operator is told to keep by size; None for all others."""
    options = {name: float(value) for name, value in call.options if isinstance(value, int | float)}
    if call.operator == "ties":
        return options["density"]
    return 1 - options["smallest"] - options["largest"] if call.operator == "breadcrumbs" else None


def _seeds(call: Call, tensor: Tensor) -> list[tuple[int, ...]]:
    """One seed a model: of the setting, the tensor and the model as it is written."""
    own = int(call.option("seed"))  # type: ignore[arg-type]
    # Neither the order of the models nor that of the threads is part of it, and two models never drop alike.
    texts = [f"{tensor.key}\0{model}" for model in call.models[1:]]
    return [(own, int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])) for text in texts]


OPERATORS: dict[str, Callable[[Call, Sequence[Sum], Tensor], Sum]] = {
    "slerp": _slerp,
    "ties": _ties,
    "dare": _dare,
    "dare_ties": _dare,
    "della": _della,
    "breadcrumbs": _breadcrumbs,
    "model_stock": _model_stock,
    "where": _where,
}
"""How each operator of `weights.combination.OPERATORS` becomes a sum; soup is resolved by measuring."""
