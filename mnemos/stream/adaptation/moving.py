"""What moves in a recogniser while it adapts: a few tensors in flat memory, with Adam's moments, saved and restored.

An utterance later the model must be what it was. The authors' scripts copy all of it, and the optimiser, for every
utterance; here the tensors that move are views of one flat vector (one for each multiplier), so that a snapshot is a
copy of that vector and of its two moments, and a restore puts the same bits back. Nothing else is ever copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mnemos.core.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

What = Literal["norms", "norms+front", "front", "norms+biases"]
"""norms: every LayerNorm. front: what turns sound into the encoder's input, convolutions and projection. biases: all of
the encoder (with the norms, what AWMC trains)."""

EXTRACTOR = ("feature_extractor", "conv1", "conv2")
"""Names of modules that stand before all others, whose output `Recogniser.front` gives."""
FRONT = (*EXTRACTOR, "feature_projection", "subsampling")
"""Names of modules before the encoder's layers: wav2vec 2.0 and its kin, Whisper, Parakeet."""
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's, as torch has them."""
BLOCK = 1 << 16
"""Numbers that are updated together: a quarter of a megabyte of each vector."""


@dataclass(frozen=True)
class Snapshot:
    """Values and moments of every flat vector, and the updates that it has had. Never written into."""

    values: tuple[Tensor, ...]
    first: tuple[Tensor, ...]
    second: tuple[Tensor, ...]
    counts: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(one.numel() * one.element_size() for one in (*self.values, *self.first, *self.second))

    def tensors(self) -> list[Tensor]:
        """All of them: values, first and second moments."""
        return [*self.values, *self.first, *self.second]

    @staticmethod
    def of(tensors: Sequence[Tensor], counts: Sequence[int]) -> Snapshot:
        """From what `tensors` gave."""
        third = len(tensors) // 3
        values, first, second = (tuple(tensors[at * third : (at + 1) * third]) for at in range(3))
        return Snapshot(values, first, second, tuple(counts))


class _Flat:
    """Tensors that have the same multiplier, as views of one vector. times: updates in each step. norm: whether they
    are of LayerNorms."""

    def __init__(self, tensors: Sequence[nn.Parameter], times: int, norm: bool) -> None:
        import torch

        self.tensors, self.times, self.norm, self.count = list(tensors), times, norm, 0
        self.values = torch.cat([one.detach().reshape(-1) for one in self.tensors])
        self.slopes, self.first, self.second = (torch.zeros_like(self.values) for _ in range(3))
        start = 0
        for one in self.tensors:
            end = start + one.numel()
            one.data = self.values[start:end].view_as(one)
            # Gradients are added up where they are read: a backward pass writes into the flat vector.
            one.grad = self.slopes[start:end].view_as(one)
            start = end

    def update(self, rate: float) -> None:
        """Adam without decay, `times` in a row by the same gradient: what AdamW does to an entry that stands so often
        in its list."""
        # Block by block, so that the passes of an update over one stretch find it in the processor's cache.
        for start in range(0, len(self.values), BLOCK):
            place = slice(start, start + BLOCK)
            values, slopes, first, second = (one[place] for one in (self.values, self.slopes, self.first, self.second))
            for count in range(self.count + 1, self.count + self.times + 1):
                first.lerp_(slopes, 1 - BETA1)
                second.mul_(BETA2).addcmul_(slopes, slopes, value=1 - BETA2)
                root = second.sqrt().div_(math.sqrt(1 - BETA2**count)).add_(EPSILON)
                values.addcdiv_(first, root, value=-rate / (1 - BETA1**count))
            slopes.zero_()
        self.count += self.times


class Moving:
    """The tensors of a network that adapt; all others are frozen as long as it is open.

    as_published: each tensor is updated as often as the authors' collection names it (4 times convolutions, 3 times the
    norm and 2 times the rest of wav2vec 2.0's projection). One at a time for a network: `close` gives it back.
    """

    def __init__(self, network: nn.Module, what: What, *, as_published: bool = False) -> None:
        self.network = network
        chosen = moved(network, what)
        if not chosen:
            raise ModelError(f"{type(network).__name__}", f"has nothing of {what} that could move", "adapt other parts")
        self._needed = [(one, one.requires_grad) for one in network.parameters()]
        for one, _ in self._needed:
            one.requires_grad_(False)
        groups: dict[tuple[int, bool, Any, Any], list[nn.Parameter]] = {}
        for one, times, norm in chosen:
            one.requires_grad_(True)
            groups.setdefault((times if as_published else 1, norm, one.dtype, one.device), []).append(one)
        self.flats = [_Flat(tensors, key[0], key[1]) for key, tensors in groups.items()]
        roots = modules_named(network, EXTRACTOR)
        self._extractor = {id(one) for root in roots for one in root.parameters()}
        self.source = self.snapshot()

    @property
    def parameters(self) -> int:
        """How many numbers move."""
        return sum(len(one.values) for one in self.flats)

    def step(self, rate: float, *, norms_alone: bool = False) -> bool:
        """One step down the gradients that were added up, which are 0 afterwards. False, and no step, where one of them
        is not finite: the moments would never recover. norms_alone: nothing but LayerNorms moves."""
        # A sum is finite where all of it is, and takes one pass over memory.
        sane = all(bool(one.slopes.sum().isfinite()) for one in self.flats)
        for one in self.flats:
            if sane and (one.norm or not norms_alone):
                one.update(rate)
            else:
                one.slopes.zero_()
        return sane

    def forget(self) -> None:
        """Moments as of a new optimiser; values stay."""
        for one in self.flats:
            one.count = 0
            one.first.zero_()
            one.second.zero_()

    @property
    def spares_front(self) -> bool:
        """Whether nothing moves of what `Recogniser.front` computes, so that once is enough for an utterance."""
        moving = {id(one) for flat in self.flats for one in flat.tensors}
        return not moving & self._extractor

    @property
    def spares_front_with_norms(self) -> bool:
        """The same while norms alone move."""
        moving = {id(one) for flat in self.flats if flat.norm for one in flat.tensors}
        return not moving & self._extractor

    def snapshot(self) -> Snapshot:
        """A copy of what moves and of its moments."""
        flats = self.flats
        return Snapshot(
            tuple(one.values.clone() for one in flats),
            tuple(one.first.clone() for one in flats),
            tuple(one.second.clone() for one in flats),
            tuple(one.count for one in flats),
        )

    def restore(self, to: Snapshot) -> None:
        """The same bits as when the snapshot was taken."""
        for place, one in enumerate(self.flats):
            one.values.copy_(to.values[place])
            one.first.copy_(to.first[place])
            one.second.copy_(to.second[place])
            one.count = to.counts[place]

    def put(self, values: Sequence[Tensor]) -> None:
        """Other values, moments as they are: for a model that is only asked."""
        for one, new in zip(self.flats, values, strict=True):
            one.values.copy_(new)

    def values(self) -> tuple[Tensor, ...]:
        """A copy of what moves."""
        return tuple(one.values.clone() for one in self.flats)

    def close(self) -> None:
        """The network as it came: the values of the beginning, no gradients, and what was trainable is again."""
        self.restore(self.source)
        for flat in self.flats:
            for one in flat.tensors:
                one.grad = None
        for one, needed in self._needed:
            one.requires_grad_(needed)


def moved(network: nn.Module, what: What) -> list[tuple[nn.Parameter, int, bool]]:
    """(tensor, how often the authors' collection names it, whether it is a LayerNorm's), every tensor once."""
    from torch import nn

    parts, front = what.split("+"), modules_named(network, FRONT)
    names = {id(one): name for name, one in network.named_parameters()}
    tensors = {id(one): one for one in network.parameters()}
    norms = {
        id(one)
        for module in network.modules()
        if isinstance(module, nn.LayerNorm)
        for one in module.parameters(recurse=False)
    }
    times = dict.fromkeys(tensors, 0)
    for key in norms if "norms" in parts else ():
        times[key] += 1
    # A nested module's tensors are its parents', too: each is collected once for every module of the front above it.
    for module in (module for root in front if "front" in parts for module in root.modules()):
        for one in module.parameters():
            times[id(one)] += 1
    if "biases" in parts:
        before = {id(one) for root in front for one in root.parameters()}
        for key, name in names.items():
            if name.endswith("bias") and "encoder" in name and key not in before:
                times[key] = max(1, times[key])
    return [(tensors[key], count, key in norms) for key, count in times.items() if count]


def modules_named(network: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """The modules of these names, outermost ones."""
    found: list[tuple[str, nn.Module]] = []
    for name, module in network.named_modules():
        inner = any(name.startswith(f"{outer}.") for outer, _ in found)
        if name.rpartition(".")[2] in names and not inner:
            found.append((name, module))
    return [module for _, module in found]
