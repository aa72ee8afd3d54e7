"""How one model adapts: to an utterance and back, on and on, or in its output alone; `several` has those of more.

An adapter hears one utterance after the other and gives each one's transcript. What it carries from one to the next is
`state` (a JSON value) and `tensors`; with both put back it goes on with the same bits. None of them sees a reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mnemos.stream.adaptation import objectives
from mnemos.stream.adaptation.ears import CTC, Ears, Heard, Sound
from mnemos.stream.adaptation.moving import Snapshot
from mnemos.stream.adaptation.settings import (
    CeaSettings,
    ChoiceSettings,
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
