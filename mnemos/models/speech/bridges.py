"""Bridges: from an encoder's states of a sound to vectors that stand among a language model's embeddings.

A bridge is a frozen record of its settings, one row of BRIDGES each. ``vectors(frames)`` says how many vectors it makes
of so many frames, from the settings alone, so that a row of tokens can be laid out before a weight is loaded.
``module(width, layers, out)`` makes the network, which is called with

    states  float[B, L, T, D]   L tapped layers (one, unless the bridge taps several), zero behind each sound's end
    frames  int64[B]            how many of the T frames belong to each sound

and gives float[B, K, H], of which the first ``vectors(frames[b])`` of row b are the sound's. What stands behind a
sound's end never changes its vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import ceil
from typing import Any, ClassVar, Protocol

import torch
from torch import nn
from torch.nn import functional as F

from mnemos.core.errors import ModelError, UsageError, nearest

MOST_VECTORS = 1 << 14
"""Vectors of one window of sound at most."""


class Bridge(Protocol):
    """What BRIDGES holds, one class a row; its fields are the settings of config.json."""

    kind: ClassVar[str]

    def vectors(self, frames: int) -> int:
        """How many vectors stand for so many frames; at least one."""
        ...

    def taps(self, layers: int) -> tuple[int, ...]:
        """Which of the encoder's layers it reads, counted from 0; the last one's states are behind its final norm."""
        ...

    def module(self, width: int, layers: int, out: int) -> Network:
        """The network with fresh weights (seed torch first). width: of the encoder's states. layers: tapped ones.
        out: width of the language model's embeddings."""
        ...


def _real(states: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """bool[B, T]: frames that belong to a sound."""
    return torch.arange(states.shape[-2], device=states.device)[None] < frames.to(states.device)[:, None]


STANDARD = frozenset({"centre", "scale"})
"""Names of what a bridge's file holds that is not trained."""


class Network(nn.Module):
    """What all bridges share: states can be standardised, each number of them by the same centre and scale."""

    centre: torch.Tensor | None
    scale: torch.Tensor | None

    def __init__(self) -> None:
        super().__init__()
        # Without numbers they are in no file, as it is in directories that were made before.
        self.register_buffer("centre", None)
        self.register_buffer("scale", None)

    def standardise(self, centre: torch.Tensor, scale: torch.Tensor) -> None:
        """From now on (state - centre) / scale is what the bridge reads. float[L, 1, D] each; they are saved with its
        weights and never trained."""
        self.centre, self.scale = centre, scale

    def standard(self, states: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """float[B, L, T, D] as the bridge reads it, zero behind each sound's end as before."""
        if self.centre is None or self.scale is None:
            return states
        inside = _real(states[:, 0], frames)[:, None, :, None]
        return ((states - self.centre) / self.scale).masked_fill(~inside, 0)


@dataclass(frozen=True)
class Stacked:
    """``mlp``: `stack` neighbouring frames side by side, then W2 gelu(W1 x), the least there is (SLAM-ASR,
    arXiv:2402.08846, has ReLU in its place). hidden: width between the two layers; 0 takes the language model's."""

    kind: ClassVar[str] = "mlp"
    stack: int = 8
    hidden: int = 0

    def vectors(self, frames: int) -> int:
        """One for each `stack` frames begun."""
        return max(1, ceil(frames / self.stack))

    def taps(self, layers: int) -> tuple[int, ...]:
        """The last layer."""
        return (layers - 1,)

    def module(self, width: int, layers: int, out: int) -> Network:
        """See `Bridge.module`."""
        return _Stacked(self.stack, width, self.hidden or out, out)


class _Stacked(Network):
    def __init__(self, stack: int, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.stack = stack
        self.fc1, self.fc2 = nn.Linear(stack * width, hidden), nn.Linear(hidden, out)

    def forward(self, states: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        one = self.standard(states, frames)[:, -1]  # [B, T, D]
        # A last stack that is not full is filled with zeros, as it is where the sound stands alone.
        one = F.pad(one, (0, 0, 0, -one.shape[1] % self.stack))
        out: torch.Tensor = self.fc2(F.gelu(self.fc1(one.reshape(one.shape[0], -1, self.stack * one.shape[-1]))))
        return out


@dataclass(frozen=True)
class Convolved:
    """``conv``: BLSP's three convolutions of kernel 5 and stride 2 with gated linear units, layer norm, and a
    bottleneck beside it (arXiv:2309.00916): 6.25 vectors a second of 50 frames. inner: width of the bottleneck."""

    kind: ClassVar[str] = "conv"
    kernel: int = 5
    convolutions: int = 3
    inner: int = 512

    def vectors(self, frames: int) -> int:
        """Halved and rounded up by each convolution."""
        for _ in range(self.convolutions):
            frames = _halved(frames, self.kernel)
        return max(1, frames)

    def taps(self, layers: int) -> tuple[int, ...]:
        """The last layer."""
        return (layers - 1,)

    def module(self, width: int, layers: int, out: int) -> Network:
        """See `Bridge.module`."""
        return _Convolved(self, width, out)


def _halved(frames: Any, kernel: int) -> Any:
    # A convolution of stride 2, padded by half its kernel on both sides.
    return (frames + 2 * (kernel // 2) - kernel) // 2 + 1


class _Convolved(Network):
    def __init__(self, how: Convolved, width: int, out: int) -> None:
        super().__init__()
        self.how = how
        last = how.convolutions - 1
        # Twice what is wanted: a gated linear unit multiplies one half by the sigmoid of the other.
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, 2 * (out if i == last else width), how.kernel, stride=2, padding=how.kernel // 2)
            for i in range(how.convolutions)
        )
        self.norm = nn.LayerNorm(out)
        self.down, self.up = nn.Linear(out, how.inner), nn.Linear(how.inner, out)

    def forward(self, states: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        one = self.standard(states, frames)[:, -1].transpose(1, 2)  # [B, D, T]
        left = frames
        for convolution in self.convolutions:
            one = F.glu(convolution(one), dim=1)
            left = _halved(left, self.how.kernel)
            # The next convolution must read zeros behind the end, as it does where the sound stands alone.
            one = one * _real(one.transpose(1, 2), left)[:, None].to(one.dtype)
        found = self.norm(one.transpose(1, 2))
        out: torch.Tensor = found + self.up(F.gelu(self.down(found)))
        return out


def _qformer(depth: int, hidden: int, width: int, dropout: float) -> Any:
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    # BLIP-2's, not a BertModel with is_decoder: under SDPA that one's queries would see only those before them.
    return Blip2QFormerModel(
        Blip2QFormerConfig(
            hidden_size=hidden,
            num_hidden_layers=depth,
            num_attention_heads=_heads(hidden),
            intermediate_size=4 * hidden,
            encoder_hidden_size=width,
            cross_attention_frequency=1,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def _heads(hidden: int) -> int:
    return next(count for count in (hidden // 64 or 1, 8, 4, 2, 1) if count and hidden % count == 0)


@dataclass(frozen=True)
class QFormer:
    """``qformer``: DeSTA2's bridge (arXiv:2409.20007). Each tapped layer l has `queries` vectors P_l of its own, which
    look at that layer's states through one Q-Former shared by all; their results are mixed query by query,
    sum_l softmax_l(W)[q, l] QFormer(P_l, H_l)_q, with W zero at first; layer norm and a linear layer follow. However
    long a window is, it becomes `queries` vectors.

    tapped: which layers, counted from 0; empty takes `every`-th ones up to the last. depth: layers of the Q-Former.
    hidden: its width; 0 takes the encoder's.

    Deviations from the published code: 1. the last layer's states are read behind the encoder's final norm. 2. no
    dropout unless it is asked for.
    """

    kind: ClassVar[str] = "qformer"
    queries: int = 64
    depth: int = 2
    tapped: tuple[int, ...] = ()
    every: int = 3
    hidden: int = 0
    dropout: float = 0.0

    def vectors(self, frames: int) -> int:
        """As many as there are queries."""
        return self.queries

    def taps(self, layers: int) -> tuple[int, ...]:
        """The named layers, or every `every`-th that ends with the last."""
        found = self.tapped or tuple(range((layers - 1) % self.every, layers, self.every))
        outside = [one for one in found if not 0 <= one < layers]
        if outside:
            raise UsageError(
                f"qformer.tapped: {outside[0]}", f"the encoder has layers 0 to {layers - 1}", "name some of these"
            )
        return found

    def module(self, width: int, layers: int, out: int) -> Network:
        """See `Bridge.module`."""
        return _QFormer(self, width, layers, out)


class _QFormer(Network):
    def __init__(self, how: QFormer, width: int, layers: int, out: int) -> None:
        super().__init__()
        hidden = how.hidden or width
        self.queries = nn.Parameter(torch.randn(layers, how.queries, hidden) * 0.02)
        self.layer_weights = nn.Parameter(torch.zeros(how.queries, layers))
        self.qformer = _qformer(how.depth, hidden, width, how.dropout)
        self.norm, self.out = nn.LayerNorm(hidden), nn.Linear(hidden, out)

    def forward(self, states: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        states = self.standard(states, frames)
        real = _real(states[:, 0], frames).long()
        weights = self.layer_weights.softmax(-1)  # [Q, L]
        mixed: Any = 0
        for layer, queries in enumerate(self.queries):
            asked = queries[None].expand(states.shape[0], -1, -1)
            seen = self.qformer(
                query_embeds=asked, encoder_hidden_states=states[:, layer], encoder_attention_mask=real
            ).last_hidden_state
            mixed = mixed + weights[:, layer][None, :, None] * seen
        out: torch.Tensor = self.out(self.norm(mixed))
        return out


@dataclass(frozen=True)
class WindowQFormer:
    """``window_qformer``: SALMONN's bridge (arXiv:2310.13289). A Q-Former looks at `window` frames at a time (17 of
    20 ms: a third of a second) with `queries` vectors, and a linear layer follows, so that time is kept.

    Deviation from the published code: 1. a last window that is not full is kept, and its padding masked; there it is
    dropped.
    """

    kind: ClassVar[str] = "window_qformer"
    window: int = 17
    queries: int = 1
    depth: int = 2
    hidden: int = 0
    dropout: float = 0.0

    def vectors(self, frames: int) -> int:
        """`queries` for each window begun."""
        return max(1, ceil(frames / self.window)) * self.queries

    def taps(self, layers: int) -> tuple[int, ...]:
        """The last layer."""
        return (layers - 1,)

    def module(self, width: int, layers: int, out: int) -> Network:
        """See `Bridge.module`."""
        return _WindowQFormer(self, width, out)


class _WindowQFormer(Network):
    def __init__(self, how: WindowQFormer, width: int, out: int) -> None:
        super().__init__()
        self.how = how
        hidden = how.hidden or width
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(how.queries, hidden) * 0.02)
        self.qformer, self.out = _qformer(how.depth, hidden, width, how.dropout), nn.Linear(hidden, out)

    def forward(self, states: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        window = self.how.window
        one = self.norm(self.standard(states, frames)[:, -1])
        missing = -one.shape[1] % window
        real = F.pad(_real(one, frames), (0, missing)).reshape(-1, window)
        one = F.pad(one, (0, 0, 0, missing)).reshape(-1, window, one.shape[-1])  # [B * W, window, D]
        # A window of padding alone sees its first frame: a softmax over nothing is not a number, and nobody reads it.
        real = real.long().index_fill(1, torch.zeros(1, dtype=torch.long, device=real.device), 1)
        asked = self.queries[None].expand(one.shape[0], -1, -1)
        seen = self.qformer(query_embeds=asked, encoder_hidden_states=one, encoder_attention_mask=real)
        out: torch.Tensor = self.out(seen.last_hidden_state)
        return out.reshape(states.shape[0], -1, out.shape[-1])


@dataclass(frozen=True)
class Fired:
    """``cif``: continuous integrate-and-fire (arXiv:1905.11235), the bridge of BLSP-KD (arXiv:2405.19041). A weight in
    (0, 1) is read off every frame; frames are summed by their weights, and whenever the weights reach 1 a vector is
    complete, the frame that crosses the border being divided. frames_per_vector: how many on average (12 of 20 ms:
    about four vectors a second, the pace of English text tokens).

    Deviations from the papers: 1. how many vectors there are follows from the duration, and weights are scaled to sum
    to it, in use as in training: a row of tokens is laid out before the network has heard it, and no loss on the
    quantity is needed. 2. the weights are read by a convolution of kernel 3 and a linear layer.
    """

    kind: ClassVar[str] = "cif"
    frames_per_vector: int = 12

    def vectors(self, frames: int) -> int:
        """One for each `frames_per_vector` begun."""
        return max(1, ceil(frames / self.frames_per_vector))

    def taps(self, layers: int) -> tuple[int, ...]:
        """The last layer."""
        return (layers - 1,)

    def module(self, width: int, layers: int, out: int) -> Network:
        """See `Bridge.module`."""
        return _Fired(self, width, out)


class _Fired(Network):
    def __init__(self, how: Fired, width: int, out: int) -> None:
        super().__init__()
        self.how = how
        self.convolution = nn.Conv1d(width, width, 3, padding=1)
        self.weight, self.out = nn.Linear(width, 1), nn.Linear(width, out)

    def forward(self, states: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        one = self.standard(states, frames)[:, -1]  # [B, T, D]
        read = F.relu(self.convolution(one.transpose(1, 2)).transpose(1, 2))
        alpha = self.weight(read)[..., 0].sigmoid() * _real(one, frames).to(one.dtype)  # [B, T]
        counts = torch.tensor([self.how.vectors(int(n)) for n in frames], device=one.device, dtype=one.dtype)
        alpha = alpha * (counts / alpha.sum(-1))[:, None]
        out: torch.Tensor = self.out(fired(one, alpha, int(counts.max())))
        return out


def fired(states: torch.Tensor, alpha: torch.Tensor, count: int) -> torch.Tensor:
    """float[B, count, D]: vector k is the sum of states float[B, T, D] over what of their weights float[B, T] lies
    between k and k + 1 when they are laid end to end. Weights of 0 give and take nothing."""
    ends = alpha.cumsum(-1)[:, None]  # [B, 1, T]
    starts = ends - alpha[:, None]
    place = torch.arange(count, device=alpha.device, dtype=alpha.dtype)[None, :, None]
    share = (torch.minimum(ends, place + 1) - torch.maximum(starts, place)).clamp_min(0)  # [B, count, T]
    return share @ states


BRIDGES: dict[str, type[Any]] = {one.kind: one for one in (Stacked, Convolved, QFormer, WindowQFormer, Fired)}
"""Every kind of bridge by the name that config.json and --bridge give it."""


def bridge_of(settings: Mapping[str, Any], where: str = "bridge") -> Any:
    """The bridge that a mapping {kind, settings…} names. UsageError for an unknown kind, setting or value."""
    kind = settings.get("kind")
    if kind not in BRIDGES:
        raise UsageError(f"{where}: kind = {kind!r}", "is no bridge", nearest(str(kind), BRIDGES))
    known = {one.name: one for one in fields(BRIDGES[kind])}
    values = {}
    for name, value in settings.items():
        if name == "kind":
            continue
        if name not in known:
            raise UsageError(f"{where}: {name}", f"is no setting of {kind}", nearest(name, known))
        values[name] = _checked(where, name, value, known[name].default)
    return BRIDGES[kind](**values)


def _checked(where: str, name: str, value: Any, usual: Any) -> Any:
    if isinstance(usual, tuple):
        if isinstance(value, list | tuple) and all(type(one) is int for one in value) and len(value) < 256:
            return tuple(value)
        raise UsageError(f"{where}: {name} = {value!r}"[:200], "must be a list of layers", "mend it")
    if isinstance(usual, float):
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1:
            return float(value)
        raise UsageError(f"{where}: {name} = {value!r}"[:200], "must lie in [0, 1)", "mend it")
    least = 0 if usual == 0 else 1
    if type(value) is not int or not least <= value <= MOST_VECTORS:
        bound = f"must be a whole number from {least} to {MOST_VECTORS:,}"
        raise UsageError(f"{where}: {name} = {value!r}"[:200], bound, f"{usual} is usual")
    return value


def settings_of(bridge: Any) -> dict[str, Any]:
    """The mapping that `bridge_of` reads."""
    return {"kind": bridge.kind, **asdict(bridge)}


def refuse_width(module: nn.Module, stored: Mapping[str, torch.Tensor], where: str) -> None:
    """ModelError where stored weights are those of a bridge of other widths, or of another kind."""
    wanted = module.state_dict()
    for name in sorted(set(wanted) | set(stored)):
        if name not in stored or name not in wanted:
            bound = (
                f"lacks {name}, which this bridge has" if name in wanted else f"holds {name}, which it has no place for"
            )
            raise ModelError(where, bound, "take the bridge's weights and config.json from one model")
        if wanted[name].shape != stored[name].shape:
            raise ModelError(
                f"{where}: {name} {tuple(stored[name].shape)}",
                f"the encoder's and the language model's widths ask for {tuple(wanted[name].shape)}",
                "name the encoder and the language model that the bridge was trained between",
            )
