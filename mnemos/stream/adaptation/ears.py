"""A recogniser as those who adapt it see it: one utterance at a time, its features computed once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from mnemos.core.errors import ModelError
from mnemos.stream.adaptation import objectives
from mnemos.stream.adaptation.moving import Moving, What, modules_named

if TYPE_CHECKING:
    from torch import Tensor

    from mnemos.sources.audio import Clip

HEADS = ("lm_head", "ctc_head", "head")
"""Names of the module that turns last hidden states into logits."""


class CTC(Protocol):
    """What is needed of a recogniser (`models.recognisers.ctc`); its logits are float[B, T, V]."""

    network: Any
    blank: int
    rate: int
    name: str
    fingerprint: str

    def features(self, clips: Any) -> Any:
        """Clips as input of the network."""
        ...

    def logits(self, features: Any) -> Tensor:
        """With gradients."""
        ...

    def front(self, features: Any) -> Tensor | None:
        """What the convolutions make of sound, without gradient; None where they cannot be told apart."""
        ...

    def logits_behind(self, front: Tensor, features: Any) -> Tensor:
        """The logits from there on."""
        ...

    def decode(self, logits: Tensor, *, beam: int = ..., language_model: Any = ..., weight: float = ...) -> list[str]:
        """What distributions say."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Sound:
    """One utterance, ready to be heard again and again. name: of it in its stream. front: where it never changes."""

    name: str
    seconds: float
    features: Any
    front: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one utterance. blank: no frame had another best label. entropy: nats, the mean over frames that are
    not blank, at the temperature of the objectives. steps: of the optimiser that it took. loss: before the first and
    after the last of them, None where nothing was minimised. chosen: the step whose transcript this is, where one was
    chosen. refused: steps left out because a gradient was not finite. reset: the method began again behind it. z: of
    the dynamic reset's test, where it was made."""

    text: str
    blank: bool
    entropy: float
    steps: int = 0
    loss: tuple[float, float] | None = None
    chosen: int | None = None
    refused: int = 0
    reset: bool = False
    z: float | None = None


class Ears:
    """A recogniser of which some tensors move. what: which; None for none. as_published: as of `Moving`."""

    def __init__(self, recogniser: CTC, what: What | None, *, as_published: bool = False) -> None:
        from mnemos.models.batch_norm import hold_statistics

        if getattr(recogniser, "kind", "ctc") != "ctc":
            raise ModelError(
                f"{recogniser.name}", "writes token by token; adapting needs a distribution at every frame",
                "name a CTC model, or give an encoder a CTC head",
            )  # fmt: skip
        self.recogniser, self.blank = recogniser, recogniser.blank
        # Dropout would make a loss of noise; the authors adapt in eval mode as well.
        recogniser.network.eval()
        # Nor may statistics follow what is heard within `dropout`: `close` puts back tensors that move, not these.
        hold_statistics(recogniser.network)
        self.moving = None if what is None else Moving(recogniser.network, what, as_published=as_published)

    @property
    def moves(self) -> Moving:
        """What moves; only of ears of which something does."""
        assert self.moving is not None
        return self.moving

    def sound(self, name: str, clip: Clip) -> Sound:
        """The clip's features, and what the convolutions make of them where none of these moves."""
        features = self.recogniser.features([clip])
        still = self.moving is None or self.moving.spares_front
        return Sound(name, clip.seconds, features, self.recogniser.front(features) if still else None)

    def with_front(self, sound: Sound) -> Sound:
        """The same with the convolutions of this moment, for passes during which they stay."""
        return replace(sound, front=self.recogniser.front(sound.features))

    def logits(self, sound: Sound) -> Tensor:
        """float[T, V] of the model as it is now, with gradients."""
        if sound.front is not None:
            return self.recogniser.logits_behind(sound.front, sound.features)[0]
        return self.recogniser.logits(sound.features)[0]

    def asked(self, sound: Sound) -> Tensor:
        """The same without gradients."""
        import torch

        with torch.no_grad():
            return self.logits(sound)

    def with_states(self, sound: Sound) -> tuple[Tensor, Tensor]:
        """The logits float[T, V], and the last hidden states float[T, D] that they are made of."""
        import torch

        heads = modules_named(self.recogniser.network, HEADS)
        if not heads:
            raise ModelError(f"{self.recogniser.name}", "has no head of a known name", f"known: {', '.join(HEADS)}")
        kept: list[Tensor] = []
        handle = heads[-1].register_forward_pre_hook(lambda _, given: kept.append(given[0]))
        try:
            logits = self.logits(sound)
        finally:
            handle.remove()
        states = kept[-1][0]
        return logits, states.T if isinstance(heads[-1], torch.nn.Conv1d) else states

    def text(self, logits: Tensor) -> str:
        """The greedy transcript."""
        return self.recogniser.decode(logits[None])[0]

    def heard(self, logits: Tensor, text: str | None = None, **more: Any) -> Heard:
        """What came of the logits. text: the transcript; the greedy one unless given."""
        blank = not bool(objectives.heard(logits, self.blank).any())
        entropy = float(objectives.entropy_minimisation(logits, self.blank))
        return Heard(self.text(logits) if text is None else text, blank, entropy, **more)

    def close(self) -> None:
        """The recogniser as it came."""
        if self.moving is not None:
            self.moving.close()


@contextmanager
def dropout(network: Any, seed: int) -> Iterator[None]:
    """Within it the network trains, with chance drawn by the seed alone; behind it it is asked again."""
    import numpy as np
    import torch

    # transformers masks spectra while training with numpy's global state.
    state = np.random.get_state()
    devices = sorted({one.device.index or 0 for one in network.parameters() if one.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        network.train()
        try:
            yield
        finally:
            network.eval()
            np.random.set_state(state)
