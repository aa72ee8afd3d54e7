"""How recognisers adapt: to one utterance and back, on and on, fast and slow, among three models, or in output alone.

An adapter hears one utterance after the other and gives each one's transcript. What it carries from one to the next is
`state` (a JSON value) and `tensors`; with both put back it goes on with the same bits. None of them sees a reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mnemos.stream.adaptation import objectives
from mnemos.stream.adaptation.ears import CTC, Ears, Heard, Sound, dropout
from mnemos.stream.adaptation.moving import Snapshot
from mnemos.stream.adaptation.resets import Dynamic, Fixed, crossed
from mnemos.stream.adaptation.settings import (
    AwmcSettings,
    CeaSettings,
    ChoiceSettings,
    FastSlowSettings,
    LameSettings,
    NoSettings,
    StepSettings,
)

if TYPE_CHECKING:
    from torch import Tensor

Objective = Callable[["Tensor", int, StepSettings], "Tensor"]


def _own_transcript(z: Tensor, blank: int, how: StepSettings) -> Tensor:
    labels = objectives.labels_of(z, blank)
    return objectives.transcript_loss(z, labels, blank, as_published=how.as_published)


OBJECTIVES: Mapping[str, Objective] = {
    "entropy": lambda z, blank, how: objectives.entropy_minimisation(z, blank, how.temperature),
    "suta": lambda z, blank, how: objectives.suta(z, blank, how.em_share, how.temperature),
    "own transcript": _own_transcript,
    "sgem": lambda z, blank, how: objectives.sgem(z, blank, temperature=how.temperature),
}


class Adapter(Protocol):
    """One method on one recogniser. carries: whether anything is left of an utterance when the next one comes."""

    ears: Ears
    carries: bool

    def hear(self, sound: Sound) -> Heard:
        """Adapt to the utterance and write it down."""
        ...

    def come_to_rest(self) -> None:
        """Put the model in place that the next utterance would begin with: to ask it, and learn nothing."""
        ...

    def state(self) -> dict[str, Any]:
        """What it knows beside its tensors."""
        ...

    def tensors(self) -> list[Tensor]:
        """What it carries; never written into afterwards."""
        ...

    def load(self, state: Mapping[str, Any], tensors: Sequence[Tensor], sound_of: Callable[[str], Sound]) -> None:
        """Put back what `state` and `tensors` gave. sound_of: an utterance by its name, heard earlier."""
        ...


class Source:
    """The model as it is."""

    carries = False

    def __init__(self, recogniser: CTC, settings: NoSettings, **_: Any) -> None:
        self.ears = Ears(recogniser, None)

    def hear(self, sound: Sound) -> Heard:
        """One pass."""
        return self.ears.heard(self.ears.asked(sound))

    def come_to_rest(self) -> None:
        """It is in place."""
        if self.ears.moving is not None:
            self.ears.moving.restore(self.ears.moving.source)

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def tensors(self) -> list[Tensor]:
        """None."""
        return []

    def load(self, state: Mapping[str, Any], tensors: Sequence[Tensor], sound_of: Callable[[str], Sound]) -> None:
        """Nothing to put back."""


class Lame(Source):
    """Output corrected, nothing adapted."""

    def __init__(self, recogniser: CTC, settings: LameSettings, **_: Any) -> None:
        self.how = settings
        self.ears = Ears(recogniser, None)

    def hear(self, sound: Sound) -> Heard:
        """One pass, and the fixed point of its frames."""
        import torch

        with torch.no_grad():
            logits, states = self.ears.with_states(sound)
        how = self.how
        return self.ears.heard(objectives.lame(logits, states, self.ears.blank, how.neighbours, how.strength))


class Stepwise:
    """A few steps down an objective, then the transcript; restored before each utterance, or not (TENT, SUTA, CSUTA,
    SDPL, SGEM)."""

    def __init__(self, recogniser: CTC, settings: StepSettings, *, objective: str, **_: Any) -> None:
        self.how = settings
        self.ears = Ears(recogniser, settings.moves, as_published=settings.duplicates)
        self.objective = OBJECTIVES[objective]
        self.carries = not settings.episodic

    def hear(self, sound: Sound) -> Heard:
        """Steps, and one more pass."""
        moving, how = self.ears.moves, self.how
        if how.episodic:
            moving.restore(moving.source)
        refused, losses = 0, list[float]()
        for step in range(how.steps):
            loss = self.objective(self.ears.logits(sound), self.ears.blank, how)
            losses.append(float(loss.detach()))
            # A loss that hardly falls any more has little left to teach.
            if how.least_fall and step and losses[-2] - losses[-1] < how.least_fall * abs(losses[-2]):
                break
            slopes_of(loss)
            refused += not moving.step(self.rate(step))
        z = self.ears.asked(sound)
        last = float(self.objective(z, self.ears.blank, how))
        return self.ears.heard(z, steps=len(losses), loss=(losses[0], last), refused=refused)

    def rate(self, step: int) -> float:
        """The learning rate of a step: constant, or a cosine from the first to the last."""
        how = self.how
        if how.final_learning_rate is None:
            return how.learning_rate
        fall = (1 + math.cos(math.pi * step / how.steps)) / 2
        return how.final_learning_rate + (how.learning_rate - how.final_learning_rate) * fall

    def come_to_rest(self) -> None:
        """The source where it is restored before each utterance, else the model as it is."""
        if self.how.episodic:
            self.ears.moves.restore(self.ears.moves.source)

    def state(self) -> dict[str, Any]:
        """The optimiser's counts."""
        return {"counts": list(self.ears.moves.snapshot().counts)} if self.carries else {}

    def tensors(self) -> list[Tensor]:
        """What moved, and its moments."""
        return self.ears.moves.snapshot().tensors() if self.carries else []

    def load(self, state: Mapping[str, Any], tensors: Sequence[Tensor], sound_of: Callable[[str], Sound]) -> None:
        """Put them back."""
        if self.carries:
            self.ears.moves.restore(Snapshot.of(tensors, state["counts"]))


class Chosen(Stepwise):
    """SUTA whose transcript is that of the step which reads best (SUTA-LM, arXiv:2506.11121), not of the last one."""

    def __init__(
        self, recogniser: CTC, settings: ChoiceSettings, *, language: Callable[[str], float] | None = None, **_: Any
    ) -> None:
        super().__init__(recogniser, settings, objective="suta")
        self.choice, self.language = settings, language

    def hear(self, sound: Sound) -> Heard:
        """Steps, each scored, the best one kept; stops after `patience` of them without a better one."""
        moving, how = self.ears.moves, self.choice
        moving.restore(moving.source)
        refused, losses = 0, list[float]()
        best, chosen, waited = -math.inf, 0, 0
        kept: Tensor | None = None
        for step in range(how.steps + 1):
            z = self.ears.logits(sound)
            loss = self.objective(z, self.ears.blank, how)
            losses.append(float(loss.detach()))
            score = self.score(z.detach(), losses[-1])
            if score > best:
                best, kept, chosen, waited = score, z.detach(), step, 0
            elif math.isfinite(best):
                waited += 1
            else:
                kept, chosen = z.detach(), step  # nothing was sure enough yet: the latest stands
            if step == how.steps or waited >= how.patience:
                break
            slopes_of(loss)
            refused += not moving.step(self.rate(step))
        assert kept is not None
        text, span = self.written(kept), (losses[0], losses[-1])
        return self.ears.heard(kept, text, steps=step, loss=span, chosen=chosen, refused=refused)

    def score(self, z: Tensor, loss: float) -> float:
        """How well a step reads: the language model's nats a character, once frames are sure enough; without a language
        model, how low the loss is."""
        if self.language is None:
            return -loss if math.isfinite(loss) else -math.inf
        text = self.ears.text(z)
        if objectives.certainty(z) < self.choice.certain or not text:
            return -math.inf
        return self.language(text) / len(text)

    def written(self, z: Tensor) -> str:
        """The transcript: greedy, or of a beam with the language model."""
        if self.language is None or self.choice.beam == 1:
            return self.ears.text(z)
        how = self.choice
        found = self.ears.recogniser.decode(
            z[None], beam=how.beam, language_model=self.language, weight=how.language_weight
        )
        return found[0]


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


class Cea(Source):
    """CEA in two phases: confidence-enhanced entropy by norms and front, then coherence in time by the norms alone."""

    def __init__(self, recogniser: CTC, settings: CeaSettings, **_: Any) -> None:
        self.how = settings
        self.ears = Ears(recogniser, "norms+front", as_published=settings.duplicates)

    def hear(self, sound: Sound) -> Heard:
        """Both phases from the source, then the transcript."""
        moving, how, blank = self.ears.moves, self.how, self.ears.blank
        moving.restore(moving.source)
        first, refused = None, 0
        for _ in range(how.steps):
            loss = objectives.confidence_enhanced(self.ears.logits(sound), blank, how.em_share, how.temperature)
            before = slopes_of(loss)
            refused += not moving.step(how.learning_rate)
            first = before if first is None else first
        moving.forget()
        # The convolutions stand still from here on, unless norms stand among them.
        sound = self.ears.with_front(sound) if moving.spares_front_with_norms else sound
        for _ in range(how.coherent_steps):
            z, states = self.ears.with_states(sound)
            loss = objectives.smoothed(z, blank, how.em_share, how.temperature)
            loss = loss + how.coherence * objectives.temporal_coherence(states, objectives.heard(z, blank))
            slopes_of(loss)
            refused += not moving.step(how.coherent_learning_rate, norms_alone=True)
        z = self.ears.asked(sound)
        last = float(objectives.confidence_enhanced(z, blank, how.em_share, how.temperature))
        steps = how.steps + how.coherent_steps
        return self.ears.heard(z, steps=steps, loss=(first or 0.0, last), refused=refused)


def slopes_of(loss: Tensor) -> float:
    """Add the gradients of a loss to what moves; the loss."""
    import torch

    torch.autograd.backward(loss)
    return float(loss.detach())


def hash_of(*numbers: int) -> int:
    """A seed of torch from several numbers."""
    import numpy as np

    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
