"""Plan: everything about one training stage, as one frozen value.

A remedy for forgetting is a pure function Plan -> Plan (see `core.method`). A field's value is
a frozen dataclass that says what it does (its fields are its settings, so it has a fingerprint)
and carries the code that does it; the trainer calls that code through the protocols below and
knows no method by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import LanguageModel, Source, Tokens
from mnemos.core.outputs import Outputs, log_prob
from mnemos.core.rollouts import RolloutView
from mnemos.core.settings import TrainSettings

if TYPE_CHECKING:
    import torch


class ModelHandle(Protocol):
    """A checkpoint that is not loaded yet. path: a Hugging Face directory or hub id."""

    @property
    def path(self) -> str:
        """Hugging Face directory or hub id."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the files' content; taking it loads no model."""
        ...

    def load(self) -> LanguageModel:
        """The model in memory. Raises ModelError when it cannot be loaded or trusted."""
        ...


@dataclass(frozen=True)
class PastTask:
    """An earlier task of a sequence: its name, its rows if they were kept, the model right after
    it, and the model right before it."""

    name: str
    examples: Source | None
    checkpoint: ModelHandle | None
    before: ModelHandle | None = None


CHOSEN, REJECTED, DESIRABLE, UNDESIRABLE, ORDINARY = "chosen", "rejected", "desirable", "undesirable", ""
"""What an answer is among those of a micro-batch (`Answers.parts`, `Tokens.part`): the better and the worse of
a pair, one with good and one with bad feedback, or a row that is learned as it stands."""


@dataclass(frozen=True)
class Answers:
    """Whole answers within a micro-batch, for losses that look at more than single tokens.

    of: int64[N], which answer each position belongs to. parts: what each answer is: CHOSEN, its
    REJECTED right behind it; DESIRABLE or UNDESIRABLE; ORDINARY. count, weight:
    per part, answers and summed |weight| of the whole optimiser step, divided by the number of
    processes as `StepView.normaliser` is. reference(): the logits of the model that answers are
    compared with, without gradient. drift: mean over the step's mismatched pairs of prompt and
    answer of ln p(model) - ln p(reference), at least 0; None where it is not asked for. soft_labels:
    float[A], `Tokens.soft_label` of each answer; None where all pairs are sure.
    """

    of: torch.Tensor
    parts: tuple[str, ...]
    count: Mapping[str, float]
    weight: Mapping[str, float]
    reference: Callable[[], Outputs]
    drift: torch.Tensor | None = None
    soft_labels: torch.Tensor | None = None


@dataclass(frozen=True)
class References:
    """What an objective term may ask of other models and of the past, each computed when first asked.

    before(): the frozen model before the stage at the micro-batch's positions, run at most once. other(handle): the
    same of any other frozen checkpoint. teacher(): the same of a teacher that moves with the training; a defect of
    the method where its draw has none. start(): name -> value at the start of the stage, for each trainable
    parameter. beside(rows): what the model before says of other rows than the micro-batch's.
    """

    before: Callable[[], Outputs]
    other: Callable[[ModelHandle], Outputs]
    teacher: Callable[[], Outputs]
    start: Callable[[], Mapping[str, torch.Tensor]]
    beside: Callable[[Sequence[Tokens]], Read] | None = None

    def before_logits(self) -> torch.Tensor:
        """float[N, V] of the model before."""
        return self.before().whole()

    def logits_of(self, handle: ModelHandle) -> torch.Tensor:
        """float[N, V] of another checkpoint."""
        return self.other(handle).whole()

    def teacher_logits(self) -> torch.Tensor:
        """float[N, V] of the teacher."""
        return self.teacher().whole()

    def at(self, rows: Any) -> References:
        """The same at some positions only."""
        # Cached, so that logits are made once where several terms ask for the model before.
        return References(
            cache(lambda: self.before().at(rows)),
            lambda handle: self.other(handle).at(rows),
            cache(lambda: self.teacher().at(rows)),
            self.start,
            self.beside,
        )


@dataclass(frozen=True)
class Documents:
    """The examples of a micro-batch. of: int64[N], which of them each position is of. place: int64[N], where the
    position's target stands among all tokens, the examples behind one another. names: (origin, id) of each example.
    output: bool[N], whether the model itself writes the target in use. ids: int64[T], all tokens. lengths: of the
    examples, which add up to T. Rows that were made without have no names and no output."""

    of: torch.Tensor
    place: torch.Tensor
    names: tuple[tuple[str, str], ...] = ()
    output: torch.Tensor | None = None
    ids: torch.Tensor | None = None
    lengths: tuple[int, ...] = ()

    def at(self, rows: Any) -> Documents:
        """The same at some positions."""
        output = None if self.output is None else self.output[rows]
        return dataclasses.replace(self, of=self.of[rows], place=self.place[rows], output=output)

    def tokens(self, number: int) -> torch.Tensor:
        """int64[L]: all tokens of one example."""
        assert self.ids is not None
        start = sum(self.lengths[:number])
        return self.ids[start : start + self.lengths[number]]


@dataclass(frozen=True)
class Read:
    """What a model says of rows. outputs: its logits at their targets, each row's from the first to the last, the rows
    in the order given. states: float[N, H], what its output layer reads there; no gradient."""

    outputs: Outputs
    states: torch.Tensor


def no_metric(name: str, total: torch.Tensor | float, count: float) -> None:
    """What `StepView.metric` does where nobody looks on."""


@dataclass(frozen=True)
class StepView:
    """What an objective term sees of one micro-batch. N counts the positions of non-zero weight;
    position n predicts `targets[n]` from the tokens before it.

    The micro-batch: model, the module in training; outputs, its logits; targets, int64[N]; weight, float[N];
    rehearsed, bool[N], True in examples that are not of the new task; documents, which examples these are, None where
    a view was made without; states, float[N, H], what the output layer reads, for terms whose class says
    `reads_states`.
    The step that it is a part of: normaliser, the sum of weights over the whole optimiser step (all
    micro-batches, all processes averaged as the trainer's gradients are), so that per-token sums divided by
    it add up to the step's mean; share, this micro-batch's share of the step, for terms that do not depend
    on tokens: shares of a step add up to 1.
    Beside it: references, other models and the past. answers: where the plan's `draw` gives whole answers
    to compare. rollouts: what is known of answers that the model has drawn itself, None where all rows are
    taught. metric(name, total, count): keep the mean total / count over all micro-batches and processes
    beside the logged losses; a term that gives a name does so for every micro-batch, with a count of 0 where
    it has nothing to say.
    """

    model: torch.nn.Module
    outputs: Outputs
    targets: torch.Tensor
    weight: torch.Tensor
    rehearsed: torch.Tensor
    normaliser: torch.Tensor | float
    share: float
    references: References
    answers: Answers | None = None
    rollouts: RolloutView | None = None
    metric: Callable[[str, torch.Tensor | float, float], None] = no_metric
    documents: Documents | None = None
    states: torch.Tensor | None = None

    @property
    def logits(self) -> torch.Tensor:
        """float[N, V], with a gradient. A term that is not `by_token` and asks for it takes the memory of all N."""
        return self.outputs.whole()

    def log_probs(self) -> torch.Tensor:
        """float32[N]: ln p(target) in nats, with a gradient; the logits need not be whole for it."""
        return self.outputs.each(log_prob, self.targets)

    def at(self, rows: Any, outputs: Outputs) -> StepView:
        """What a term `by_token` sees of some positions (a slice or int64[n]). outputs: their logits."""
        count = len(self.targets[rows])
        return dataclasses.replace(
            self,
            outputs=outputs,
            targets=self.targets[rows],
            weight=self.weight[rows],
            rehearsed=self.rehearsed[rows],
            share=self.share * count / max(1, len(self.targets)),
            references=self.references.at(rows),
            # Answers are whole or not at all.
            answers=None,
            rollouts=self.rollouts.at(rows) if self.rollouts is not None else None,
            documents=self.documents.at(rows) if self.documents is not None else None,
            states=self.states[rows] if self.states is not None else None,
        )


class Stage(Protocol):
    """A stage that is about to begin, for values that must look at rows or weights before the
    first step (see `Begins`), and later for rules that need gradients on other rows.

    plan: the stage's. model: the module in training; during `begin` it holds the start weights,
    also when a stopped stage is continued. counts: as training reports them, see
    `train.rows.Prepared`; among them "origin new", "origin replay".
    """

    @property
    def plan(self) -> Plan:
        """The plan of the stage."""
        ...

    @property
    def model(self) -> torch.nn.Module:
        """The module in training, adapters included."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Examples by origin, and those left out by reason."""
        ...

    def rows(self, source: Source) -> Sequence[Tokens]:
        """The source's examples rendered, fitted and weighed as the stage's own, without those
        that teach nothing. Raises DataError when none is left."""
        ...

    def gradient_on(self, rows: Sequence[Tokens]) -> Mapping[str, torch.Tensor]:
        """name -> gradient of sum(weight * nll) / sum(|weight|) over `rows` for each trainable
        parameter at its present value. All processes give the same rows, share the work and get
        the same sums. `.grad` stays as it is; dropout is off."""
        ...

    def summed(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes, which come here together."""
        ...

    def squared_gradients(self, rows: Sequence[Tokens], *, sampled: bool, seed: int) -> Mapping[str, torch.Tensor]:
        """name -> mean over `rows` of the squared gradient of a row's sum(weight * nll), float32,
        for each trainable parameter. sampled: predict tokens drawn from the model by `seed` at
        the same positions instead of those of the rows. Shared among processes; dropout is off."""
        ...


@runtime_checkable
class Begins(Protocol):
    """An objective term or a gradient rule that needs the stage before its first step.

    old: the rows of another source that it will ask the stage for, or None.
    """

    @property
    def old(self) -> Source | None:
        """Where other rows come from, if it reads any."""
        ...

    def begin(self, stage: Stage) -> Any:
        """What takes its place during the stage, made from the start weights: a Term for a term, a
        GradientRule for a rule. Called once in a run, again when a stopped stage continues, and
        must then return the same. Refuses (UsageError, ModelError) what cannot be meant here."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """A running term that changes from step to step: checkpoints keep its state, so that a continued training gives
    what an unbroken one gives."""

    def state(self) -> Any:
        """Plain JSON."""
        ...

    def restore(self, state: Any) -> None:
        """Take over what `state` gave, behind `Begins.begin`."""
        ...


@runtime_checkable
class Weigh(Protocol):
    """Says how much each token counts. Pure in the rows; may load `before` to look at them.

    A class whose attribute `by_role` is true tells tokens apart by nothing but who writes them. It may stand
    beside losses on whole answers, where weights of single tokens mean nothing.
    """

    def __call__(self, rows: Sequence[Tokens], before: ModelHandle) -> Sequence[Tokens]:
        """The same rows in the same order with new `weight` arrays; the given ones stay as they are."""
        ...


@runtime_checkable
class Term(Protocol):
    """One summand of the loss.

    A class whose attribute `by_token` is true adds up numbers of single positions, each from that position's logits
    (its own and the references'), target, weight and columns of drawn tokens alone. Where logits would be large it
    is asked for a few positions at a time, and its gradient is taken at once.

    A class whose attribute `holds` is a tuple of names keeps copies in memory beside the model in training, which an
    estimate counts: "before" (the frozen model before the stage), "reference" (that of the draw, else the one before),
    "start" and "fisher" (a float32 number for each parameter that moves). A checkpoint in a field is counted anyway.
    """

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar with a gradient; over the micro-batches of a step, the summands add up to the term."""
        ...


@runtime_checkable
class GradientRule(Protocol):
    """Changes gradients in place after the backward pass of a whole step, before clipping. `holds` is as in `Term`, and
    may name "gradient": that of other rows."""

    def apply(self, model: torch.nn.Module, step: int) -> None:
        """Change `.grad` of the trainable parameters. step counts optimiser steps from 0."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """Says which parameters may move. prepare(model): sets requires_grad or wraps the model in
    adapters, and returns it. learning_rate: overrides the study's, None keeps it."""

    @property
    def learning_rate(self) -> float | None:
        """Peak learning rate instead of the study's, or None."""
        ...

    def prepare(self, model: Any) -> Any:
        """The model to train. Raises ModelError when nothing would be left to train."""
        ...


@dataclass(frozen=True)
class AllParameters:
    """Every parameter may move (full fine-tuning)."""

    learning_rate: float | None = None

    def prepare(self, model: Any) -> Any:
        """Return `model` with requires_grad on every floating-point parameter; of a model that says itself what
        moves where no arm does (`moves_by_default`), on those."""
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.is_floating_point() and by_default(model, name))
        return model


def by_default(model: Any, name: str) -> bool:
    """Whether a parameter moves where no arm says what may: all do, but those that the model itself keeps still."""
    own: Callable[[str], bool] | None = getattr(model, "moves_by_default", None)
    return own is None or own(name)


@dataclass(frozen=True)
class Likelihood:
    """Weighted negative log-likelihood: sum_n weight_n * -ln p(target_n) / normaliser."""

    by_token: ClassVar[bool] = True

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar; nats per unit of weight, this micro-batch's summand of the step's mean."""
        return (-view.log_probs() * view.weight).sum() / view.normaliser


@dataclass(frozen=True)
class TeacherForcing:
    """The answer is the one in the data."""


@dataclass(frozen=True)
class Transcripts:
    """The answer is the one in the data, and what is asked is a sound: a recogniser learns its transcript."""


@dataclass(frozen=True)
class SelfTaught:
    """The answer is the model's own, drawn anew at each step; a teacher reads it who has been shown
    the one in the data.

    max_new_tokens, temperature: of drawing. teacher_rate: how far the teacher's weights follow the
    model's at each step, in [0, 1]. template: what the teacher is told, with places for {question}
    and {answer}.
    """

    max_new_tokens: int
    temperature: float
    teacher_rate: float
    template: str


@dataclass(frozen=True)
class PreferencePairs:
    """Two answers to each prompt are in the data, and which of them is better. reference: the frozen
    model that answers are compared with; None is the model before the stage. soft_label: the column that
    says how likely the chosen answer is the better one; None where all pairs are sure."""

    reference: ModelHandle | None = None
    soft_label: str | None = None


@dataclass(frozen=True)
class BinaryFeedback:
    """Single answers are in the data, each with a thumb up or down. mismatched: answers are also read
    behind other prompts, to measure how far the model has moved (`Answers.drift`). reference: as in
    `PreferencePairs`."""

    mismatched: bool
    reference: ModelHandle | None = None


@dataclass(frozen=True)
class Applied:
    """One line of a plan's history. off: the plan came out unchanged."""

    method: str
    paper: str
    settings: Mapping[str, Any]
    off: bool


CHANGEABLE = ("examples", "draw", "weigh", "objective", "gradient", "trainable", "after")
"""The fields that methods may change; each method declares which."""


@dataclass(frozen=True)
class Plan:
    """One training stage.

    Changed by methods: examples (what is read), draw (who writes the answer), weigh (how much
    each token counts, applied left to right), objective (summands of the loss), gradient (rules
    on directions), trainable (what may move), after (expressions on the weights, in order; the
    names `after` and `before` are in scope).
    Given: before (the model at the start of the stage), past, task, seed, train, and sequence
    (True for a task of a sequence, its first one included, where `past` is still empty).
    """

    examples: Source
    before: ModelHandle
    task: str
    seed: int
    train: TrainSettings
    past: tuple[PastTask, ...] = ()
    draw: Any = TeacherForcing()
    weigh: tuple[Weigh, ...] = ()
    objective: tuple[Term, ...] = (Likelihood(),)
    gradient: tuple[GradientRule, ...] = ()
    trainable: Trainable = AllParameters()
    after: tuple[Any, ...] = ()
    history: tuple[Applied, ...] = ()
    sequence: bool = False

    @property
    def fingerprint(self) -> str:
        """Changes exactly when the trained model could; `history` and `sequence` do not count."""
        silent = {"history", "sequence"}
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in silent}
        return fingerprint(values)
