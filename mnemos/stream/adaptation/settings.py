"""Settings of methods that adapt a recogniser; the values of each method stand in its row of `methods`."""

from __future__ import annotations

from pydantic import Field

from mnemos.core.settings import LearningRate, Settings
from mnemos.stream.adaptation.moving import What
from mnemos.stream.adaptation.resets import How

MOST_STEPS = 1000


class NoSettings(Settings):
    """Of a method that has none."""


class ObjectiveSettings(Settings):
    """What SUTA's objective and its kin have in common."""

    temperature: float = Field(default=2.5, gt=0, le=100)
    """Logits are divided by it before the softmax of an objective."""
    em_share: float = Field(default=0.3, ge=0, le=1)
    """Weight of the entropy; the rest is minimum class confusion's."""
    duplicates: bool = False
    """Update each tensor as often as the published collection names it (4 times convolutions, 3 and 2 times the
    projection), which the published numbers include."""


class StepSettings(ObjectiveSettings):
    """A few steps, then the transcript."""

    steps: int = Field(default=10, ge=1, le=MOST_STEPS)
    """Optimiser steps an utterance."""
    learning_rate: LearningRate = 2e-5
    """Adam's."""
    final_learning_rate: LearningRate | None = None
    """With it, a cosine from learning_rate down to this one over the steps of an utterance."""
    moves: What = "norms+front"
    """What moves: norms, front (convolutions and projection), biases of the encoder."""
    episodic: bool = True
    """Restore the model before every utterance; false goes on from where it is."""
    as_published: bool = False
    """Of SDPL: normalise over time instead of labels, as the published baseline does."""
    least_fall: float = Field(default=0.0, ge=0, lt=1)
    """Stop where a step lowers the loss by less than this share of it; 0 takes every step."""


class ChoiceSettings(StepSettings):
    """Which step's transcript is taken."""

    patience: int = Field(default=3, ge=1, le=MOST_STEPS)
    """Stop after so many steps without a better score."""
    certain: float = Field(default=-0.05, le=0)
    """With a language model, no step counts whose frames' best labels have a mean log-probability below this."""
    beam: int = Field(default=5, ge=1, le=100)
    """With a language model, hypotheses of the last decoding; 1 is greedy."""
    language_weight: float = Field(default=0.5, ge=0, le=10)
    """Weight of the language model in that decoding."""


class FastSlowSettings(ObjectiveSettings):
    """A slow model and its fast copies."""

    steps: int = Field(default=5, ge=0, le=MOST_STEPS)
    """Steps of the fast copy an utterance."""
    learning_rate: LearningRate = 2e-5
    """Adam's, of both."""
    moves: What = "norms+front"
    """What moves."""
    buffer: int = Field(default=5, ge=1, le=1000)
    """Utterances for one step of the slow model."""
    reset: How = "none"
    """When the slow model begins again: none, fixed, dynamic (its gain has gone) or oracle (domains' borders)."""
    every: int = Field(default=50, ge=1, le=1_000_000)
    """With reset: fixed, utterances between two resets."""
    window: int = Field(default=100, ge=6, le=1_000_000)
    """With reset: dynamic, utterances of a domain until its statistics stand; half of them before any is kept."""
    patience: int = Field(default=2, ge=1, le=1000)
    """With reset: dynamic, full buffers in a row that must speak for it."""
    z: float = Field(default=2.0, gt=0, le=100)
    """With reset: dynamic, standard errors above which a buffer does."""


class AwmcSettings(Settings):
    """Anchor, leader, chaser."""

    steps: int = Field(default=1, ge=1, le=MOST_STEPS)
    """Steps of the chaser an utterance."""
    learning_rate: LearningRate = 2e-4
    """Adam's; 8e-5 for HuBERT."""
    moves: What = "norms+biases"
    """What moves."""
    mean: float = Field(default=0.999, ge=0, lt=1)
    """Of the leader's moving mean, the share that stays."""


class CeaSettings(ObjectiveSettings):
    """Two phases."""

    steps: int = Field(default=10, ge=0, le=MOST_STEPS)
    """Of the first phase."""
    learning_rate: LearningRate = 2e-5
    """Of the first phase."""
    coherent_steps: int = Field(default=10, ge=0, le=MOST_STEPS)
    """Of the second phase."""
    coherent_learning_rate: LearningRate = 2e-4
    """Of the second phase."""
    coherence: float = Field(default=0.3, ge=0, le=100)
    """Weight of coherence in time."""


class LameSettings(Settings):
    """Output alone."""

    neighbours: int = Field(default=5, ge=1, le=1000)
    """Frames that a frame is drawn towards."""
    strength: float = Field(default=1.0, ge=0, le=100)
    """How much."""
