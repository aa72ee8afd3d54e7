"""How several states of one model adapt together: a slow one and its fast copies; an anchor, a leader and a chaser."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnemos.stream.adaptation import objectives
from mnemos.stream.adaptation.adapters import slopes_of
from mnemos.stream.adaptation.ears import CTC, Ears, Heard, Sound, dropout
from mnemos.stream.adaptation.moving import Snapshot
from mnemos.stream.adaptation.resets import Dynamic, Fixed, crossed
from mnemos.stream.adaptation.settings import AwmcSettings, FastSlowSettings

if TYPE_CHECKING:
    from torch import Tensor


class FastSlow:
    """DSUTA (2406.11064): a slow model that takes a step for each full buffer, and for every utterance a fast copy of
    it, with its moments, that takes a few more and is thrown away. borders: utterances heard when a domain ends, for
    the oracle's reset."""

    carries = True

    def __init__(self, recogniser: CTC, settings: FastSlowSettings, *, borders: Collection[int] = (), **_: Any) -> None:
        self.how, self.borders = settings, borders
        self.ears = Ears(recogniser, settings.moves, as_published=settings.duplicates)
        self.slow = self.ears.moves.source
        self.buffer: list[Sound] = []
        self.t = 0
        self.dynamic = Dynamic(settings.window, settings.patience, settings.z)
        self.fixed = Fixed(settings.every)
        self.domain: tuple[Tensor, ...] | None = None
        """What the slow model was when the dynamic reset's statistics began."""

    def hear(self, sound: Sound) -> Heard:
        """The fast copy's steps and transcript; then the slow model's turn."""
        moving, how = self.ears.moves, self.how
        moving.restore(self.slow)
        first, refused = None, 0
        for _ in range(how.steps):
            before = slopes_of(self.loss(sound))
            refused += not moving.step(how.learning_rate)
            first = before if first is None else first
        z = self.ears.asked(sound)
        last = float(objectives.suta(z, self.ears.blank, how.em_share, how.temperature))
        reset, score = self._slowly(sound)
        loss = None if first is None else (first, last)
        return self.ears.heard(z, steps=how.steps, loss=loss, refused=refused, reset=reset, z=score)

    def loss(self, sound: Sound) -> Tensor:
        """Of the model as it is now."""
        how = self.how
        return objectives.suta(self.ears.logits(sound), self.ears.blank, how.em_share, how.temperature)

    def _slowly(self, sound: Sound) -> tuple[bool, float | None]:
        """The slow model's part of an utterance: whether it was reset, and z where it was tested."""
        self.t += 1
        self.buffer.append(sound)
        reset, z = False, None
        if len(self.buffer) >= self.how.buffer:
            reset, z = self._resets()
            if reset:
                self.slow, self.domain = self.ears.moves.source, None
                self.dynamic.restart(self.t)
            else:
                self._update()
            self.buffer = []
        if self.how.reset == "dynamic":
            self._collect(sound)
        return reset, z

    def _update(self) -> None:
        """One step by the mean loss of the buffer, one utterance at a time."""
        moving = self.ears.moves
        moving.restore(self.slow)
        for sound in self.buffer:
            slopes_of(self.loss(sound) / len(self.buffer))
        moving.step(self.how.learning_rate)
        self.slow = moving.snapshot()

    def _resets(self) -> tuple[bool, float | None]:
        how, t = self.how, self.t
        if how.reset == "fixed":
            return self.fixed.resets(t), None
        if how.reset == "oracle":
            return crossed(self.borders, t - len(self.buffer), t), None
        if how.reset == "dynamic" and self.dynamic.ready:
            gains = [self.gain(sound) for sound in self.buffer]
            z = self.dynamic.z(gains)
            return self.dynamic.resets(gains), z
        return False, None

    def _collect(self, sound: Sound) -> None:
        """What the dynamic reset keeps of an utterance."""
        if self.dynamic.copies(self.t):
            self.domain = self.slow.values
        elif self.dynamic.collects(self.t):
            self.dynamic.collect(self.gain(sound))
        self.dynamic.fits(self.t)

    def gain(self, sound: Sound) -> float:
        """LII: the loss of the domain's copy less that of the source model; negative where adapting helped."""
        import torch

        assert self.domain is not None
        found = []
        for values in (self.domain, self.ears.moves.source.values):
            self.ears.moves.put(values)
            with torch.no_grad():
                found.append(float(self.loss(sound)))
        return found[0] - found[1]

    def come_to_rest(self) -> None:
        """The slow model, without a fast copy's steps."""
        self.ears.moves.restore(self.slow)

    def state(self) -> dict[str, Any]:
        """Counts, the buffer's names, and what the resets know."""
        return {
            "t": self.t,
            "counts": list(self.slow.counts),
            "buffer": [one.name for one in self.buffer],
            "dynamic": self.dynamic.state(),
            "due": self.fixed.due,
            "domain": self.domain is not None,
        }

    def tensors(self) -> list[Tensor]:
        """The slow model with its moments, and the domain's copy."""
        return [*self.slow.tensors(), *(self.domain or ())]

    def load(self, state: Mapping[str, Any], tensors: Sequence[Tensor], sound_of: Callable[[str], Sound]) -> None:
        """Put them back."""
        flats = len(self.ears.moves.flats)
        self.slow = Snapshot.of(tensors[: 3 * flats], state["counts"])
        self.domain = tuple(tensors[3 * flats :]) if state["domain"] else None
        self.t, self.fixed.due = state["t"], state["due"]
        self.buffer = [sound_of(name) for name in state["buffer"]]
        self.dynamic.load(dict(state["dynamic"]))


class Awmc:
    """Anchor, leader and chaser (AWMC, as re-run in 2406.11064): the chaser learns the transcripts of the frozen source
    and of a leader, the source plus a moving mean of the chaser's way from it, and writes."""

    carries = True

    def __init__(self, recogniser: CTC, settings: AwmcSettings, *, seed: int = 0, **_: Any) -> None:
        self.how, self.seed, self.t = settings, seed, 0
        self.ears = Ears(recogniser, settings.moves)
        source = self.ears.moves.source.values
        self.way = tuple(one.new_zeros(one.shape) for one in source)
        """The moving mean; 0 at first, and not corrected for that, so that a young leader is nearly the anchor."""

    def hear(self, sound: Sound) -> Heard:
        """Steps of the chaser, then its transcript in eval mode."""
        moving, how = self.ears.moves, self.how
        source, first, refused = moving.source.values, None, 0
        chaser = moving.values()
        anchor = self._labels(sound, source)
        for step in range(how.steps):
            leader = self._labels(sound, tuple(a + b for a, b in zip(source, self.way, strict=True)))
            moving.put(chaser)
            with dropout(self.ears.recogniser.network, hash_of(self.seed, self.t, step)):
                found = [self._towards(sound, labels) for labels in (anchor, leader)]
            first = math.fsum(found) if first is None else first
            refused += not moving.step(how.learning_rate)
            chaser = moving.values()
            self.way = tuple(
                how.mean * old + (1 - how.mean) * (new - zero)
                for old, new, zero in zip(self.way, chaser, source, strict=True)
            )
        self.t += 1
        z = self.ears.asked(sound)
        last = float(objectives.transcript_loss(z, anchor, self.ears.blank))
        return self.ears.heard(z, steps=how.steps, loss=(first or 0.0, last), refused=refused)

    def _labels(self, sound: Sound, values: Sequence[Tensor]) -> Tensor:
        self.ears.moves.put(values)
        return objectives.labels_of(self.ears.asked(sound), self.ears.blank)

    def _towards(self, sound: Sound, labels: Tensor) -> float:
        """Half of a transcript's loss, its gradient added to what moves: each pass has dropout of its own."""
        loss = objectives.transcript_loss(self.ears.logits(sound), labels, self.ears.blank) / 2
        return slopes_of(loss)

    def come_to_rest(self) -> None:
        """The chaser, which is in place."""

    def state(self) -> dict[str, Any]:
        """Utterances heard, and the optimiser's counts."""
        return {"t": self.t, "counts": list(self.ears.moves.snapshot().counts)}

    def tensors(self) -> list[Tensor]:
        """The chaser with its moments, and the moving mean."""
        return [*self.ears.moves.snapshot().tensors(), *self.way]

    def load(self, state: Mapping[str, Any], tensors: Sequence[Tensor], sound_of: Callable[[str], Sound]) -> None:
        """Put them back."""
        flats = len(self.ears.moves.flats)
        self.ears.moves.restore(Snapshot.of(tensors[: 3 * flats], state["counts"]))
        self.way, self.t = tuple(tensors[3 * flats :]), state["t"]


def hash_of(*numbers: int) -> int:
    """A seed of torch from several numbers."""
    import numpy as np

    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
