"""What a sound is to be to a language model: what its transcript is. Losses against the text run of the same row.

The text run of a row is the row with words in the place of its sound (`sources.in_words`), read by the model before.
Rows without a sound, such as replayed text, keep their ordinary likelihood.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from mnemos.core.errors import DataError, UsageError
from mnemos.core.method import method
from mnemos.core.nouns import Tokens
from mnemos.core.outputs import log_prob
from mnemos.core.plan import Likelihood, Plan, Stage, StepView, Term
from mnemos.methods.objective.divergence import divergence
from mnemos.sources.in_words import TEXT, TextRuns, has_sound, words_of

if TYPE_CHECKING:
    import torch

Name = tuple[str, str]
"""(origin, id) of an example."""
Column = Annotated[str, Field(min_length=1, max_length=200)]
Coefficient = Annotated[float, Field(ge=0)]


def text_runs(stage: Stage, column: str, what: str) -> dict[Name, Tokens]:
    """The text run of each of the stage's rows that has a sound, with weight on nothing but what the model itself
    writes. what: the method, for messages.

    Raises DataError for a row without words and for text runs that are too long, UsageError where nothing is heard.
    """
    heard = {(row.origin, row.id) for row in stage.plan.examples if has_sound(row)}
    if not heard:
        raise UsageError(
            f"{what}: {stage.plan.examples.describe()}", "holds no sound", "leave the method out of the arm"
        )
    found: dict[Name, Tokens] = {}
    for run in stage.rows(TextRuns(stage.plan.examples, column)):
        name = run.origin, run.example
        if name in found:
            raise DataError(f"{run.example}", "is rendered as several rows", f"{what} needs one row of each example")
        weight = run.weight * run.output
        if not weight[1:].any():
            raise DataError(
                f"{run.example}", "teaches nothing of an answer", f"{what} needs rows whose answer is learned"
            )
        found[name] = dataclasses.replace(run, weight=weight)
    missing = sorted(heard - found.keys())
    if missing:
        bound = f"of {len(missing):,} such rows the text run is longer than max_length = {stage.plan.train.max_length}"
        raise DataError(f"{missing[0][1]}", bound, "raise train.max_length, or take them out")
    return found


@dataclass(frozen=True, eq=False)
class Heard:
    """Positions of a micro-batch that stand in rows with sounds, and the text runs of these.

    runs: in the micro-batch's order. numbers: which of its examples they are. places: int64[M], the positions in such
    rows that the model itself writes, in the order of the runs' own targets. text: int64[K], all positions in other
    rows.
    """

    runs: tuple[Tokens, ...]
    numbers: tuple[int, ...]
    places: torch.Tensor
    text: torch.Tensor


def heard_in(view: StepView, known: Mapping[Name, Tokens], *, first: bool = False) -> Heard:
    """See `Heard`. first: of each answer the first position alone. DataError where a row teaches other targets than its
    text run, which cannot be compared position by position."""
    import torch

    documents = view.documents
    assert documents is not None, "which example a position is of must be known"
    assert documents.output is not None, "what the model writes itself must be known"
    numbers = [number for number, name in enumerate(documents.names) if name in known]
    runs = tuple(known[documents.names[number]] for number in numbers)
    inside = torch.tensor(numbers, device=documents.of.device, dtype=documents.of.dtype)
    sounding = torch.isin(documents.of, inside)
    places = (sounding & documents.output).nonzero()[:, 0]
    # By place: that is the order of the text runs' targets, however the micro-batch was cut into passes.
    places = places[documents.place[places].argsort()]
    if first:
        of = documents.of[places]
        places = places[torch.cat([of.new_ones(1), of.diff()])[: len(of)] != 0]
    counts = torch.bincount(documents.of[places], minlength=len(documents.names)).tolist()
    targets = view.targets[places].tolist()
    for number, run in zip(numbers, runs, strict=True):
        wanted = run.ids[run.weight != 0].tolist()
        found, targets = targets[: counts[number]], targets[counts[number] :]
        if found != wanted:
            raise DataError(
                f"{run.example}: {len(found)} tokens of the answer are learned",
                f"its text run has {'others' if len(found) == len(wanted) else len(wanted)}",
                "leave out the arm's methods that weigh answers token by token",
            )
    return Heard(runs, tuple(numbers), places, (~sounding).nonzero()[:, 0])


def _likelihood(view: StepView, places: torch.Tensor) -> torch.Tensor:
    """The ordinary likelihood at some positions, as a summand of the step's mean."""
    each = view.outputs.at(places).each(log_prob, view.targets[places])
    return -(each * view.weight[places]).sum() / view.normaliser


@dataclass(frozen=True)
class TextRunKL:
    """Over what the model writes in rows with sounds, coefficient * T^2 * sum_n |weight_n| KL(text run^(1/T) ||
    sound^(1/T)) + likelihood * the ordinary one; over rows without sounds the ordinary likelihood; / normaliser."""

    holds: ClassVar[tuple[str, ...]] = ("before",)

    coefficient: float
    temperature: float
    likelihood: float
    column: str
    runs: Mapping[Name, Tokens] = field(default_factory=dict, compare=False, repr=False)
    old: None = field(default=None, init=False, compare=False)

    def begin(self, stage: Stage) -> TextRunKL:
        """With the text runs of the stage's rows. Raises as `text_runs`."""
        return dataclasses.replace(self, runs=text_runs(stage, self.column, "text_run_kl"))

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar; nats times T^2 where sounds are, this micro-batch's summand of the step's mean."""
        heard = heard_in(view, self.runs)
        total = _likelihood(view, heard.text)
        if not heard.runs:
            return total
        assert view.references.beside is not None
        theirs, weight = view.references.beside(heard.runs).outputs, view.weight[heard.places].abs()

        def each(after: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
            # The text run is a constant. float32[n, V] of log-probabilities, both softened.
            p, q = ((one.float() / self.temperature).log_softmax(-1) for one in (before.detach(), after))
            return divergence(p, q)

        apart = (view.outputs.at(heard.places).each(each, theirs) * weight).sum()
        view.metric("KL(text || sound)", apart.detach(), float(weight.sum()))
        # As in `distill`: the gradient falls with 1 / T^2, and the factor makes up for it.
        total = total + self.coefficient * self.temperature**2 * apart / view.normaliser
        return total + self.likelihood * _likelihood(view, heard.places) if self.likelihood else total


@dataclass(frozen=True)
class DiVALoss:
    """Over rows with sounds, the mean of distillation * |h_sound - h_text|_2 at the first position of the answer +
    alignment * mean_i |a_i - t_i|_2 over the last vectors of the sound and the last token embeddings of its words; over
    rows without sounds the ordinary likelihood."""

    holds: ClassVar[tuple[str, ...]] = ("before",)
    reads_states: ClassVar[bool] = True

    distillation: float
    alignment: float
    column: str
    runs: Mapping[Name, Tokens] = field(default_factory=dict, compare=False, repr=False)
    words: Mapping[Name, tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)
    old: None = field(default=None, init=False, compare=False)

    def begin(self, stage: Stage) -> DiVALoss:
        """With text runs whose first answer token alone has weight, and the tokens of each row's words. Raises as
        `text_runs`, and UsageError for a model that reads sounds in no vectors."""
        from mnemos.models.head import bare
        from mnemos.weights.checkpoint import load_tokenizer

        if getattr(bare(stage.model), "bridge", None) is None:
            raise UsageError(
                "diva", f"{stage.plan.before.path} has no bridge whose vectors could be aligned", "use one"
            )
        tokenizer = load_tokenizer(stage.plan.before.path)
        runs = {name: _first(run) for name, run in text_runs(stage, self.column, "diva").items()}
        words = {
            (row.origin, row.id): tuple(tokenizer(words_of(row, self.column), add_special_tokens=False)["input_ids"])
            for row in stage.plan.examples
            if has_sound(row)
        }
        return dataclasses.replace(self, runs=runs, words=words)

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar; distances where sounds are, with a gradient to what makes the sound's vectors."""
        import torch

        documents = view.documents
        assert documents is not None
        heard = heard_in(view, self.runs, first=True)
        total = _likelihood(view, heard.text)
        if not heard.runs:
            return total
        assert view.references.beside is not None
        assert view.states is not None
        theirs = view.references.beside(heard.runs).states.detach().float()
        apart = (view.states[heard.places].float() - theirs).norm(dim=-1)  # float[R], a row with a sound each
        aligned = torch.stack([self._aligned(view, number, documents.names[number]) for number in heard.numbers])
        view.metric("distance of states", apart.detach().sum(), float(len(apart)))
        view.metric("distance of embeddings", aligned.detach().sum(), float(len(aligned)))
        summand: torch.Tensor = (self.distillation * apart + self.alignment * aligned).mean()
        return total + view.share * summand

    def _aligned(self, view: StepView, number: int, name: Name) -> torch.Tensor:
        """mean_i |a_i - t_i|_2 over as many last vectors and last tokens as both have."""
        import torch

        from mnemos.models.head import bare
        from mnemos.sources.sound_marks import FIRST_SOUND

        assert view.documents is not None
        model, ids = bare(view.model), view.documents.tokens(number)
        vectors = model.vectors(ids[ids >= FIRST_SOUND]).float()
        words = torch.tensor(self.words[name], device=vectors.device)
        embedded = model.get_input_embeddings()(words).detach().float()
        count = min(len(vectors), len(embedded))
        apart: torch.Tensor = vectors[len(vectors) - count :] - embedded[len(embedded) - count :]
        mean: torch.Tensor = apart.norm(dim=-1).mean()
        return mean


def _first(run: Tokens) -> Tokens:
    import numpy as np

    weight = np.zeros_like(run.weight)
    weight[np.flatnonzero(run.weight)[:1]] = 1
    return dataclasses.replace(run, weight=weight)


def _in_its_place(plan: Plan, name: str, term: Term) -> Plan:
    if Likelihood() not in plan.objective:
        raise UsageError(
            f"{name} with objective {', '.join(type(one).__name__ for one in plan.objective)}",
            "there is no likelihood whose place it could take",
            f"use {name} once, and without a method that puts another objective in the likelihood's place",
        )
    return dataclasses.replace(plan, objective=tuple(term if one == Likelihood() else one for one in plan.objective))


@method(paper="arXiv:2405.19041", changes={"objective"}, off={"coefficient": 0.0})
def text_run_kl(
    plan: Plan,
    *,
    coefficient: Coefficient = 1.0,
    temperature: Annotated[float, Field(gt=0, le=1000)] = 2.0,
    likelihood: Coefficient = 0.0,
    column: Column = TEXT,
) -> Plan:
    """BLSP-KD: behind a sound, write with the probabilities that the same answer has behind the transcript.

    coefficient: nats of loss per nat of KL(text run || sound), per token of the answer, times the square of the
    temperature; 0 turns the method off.
    temperature: both runs' logits are divided by it; BLSP-Emo's first stage has 2.
    likelihood: how much the tokens of the data count beside it in rows with a sound; in other rows they count as ever.
    column: of the rows' words: a transcript, or a line that describes the sound.

    The text run is the same row with the words where the sound stands, read by the model before, over the whole
    vocabulary at every token of the answer. With `continuation` or `modal_invariance` in the same arm the answer is
    the model's own, as in BLSP-Emo's first stage (arXiv:2406.03872); with the data's answer it is `kl_to_before` with
    another prompt on its other side.

    A model that listens, whose language model stands still, is itself the model before for text: one pass over words
    more, and no second copy in memory.

    Trap: prompts of rows with a sound teach nothing, but weigh in the step's mean all the same; use `output_only`.

    Trap: what words do not tell, no text run knows. Behind a transcript "who speaks?" is answered by a guess, and the
    guess is what is learned: give `column` the line that describes the sound.

    Deviations from the papers: 1. the loss is multiplied by the square of the temperature. 2. BLSP-KD compares each
    position also within the sound, which its bridge cuts into one vector a text token; here the answer alone is
    compared, for every bridge.

    Raises UsageError where the likelihood is not part of the objective, DataError when training begins and a row with
    a sound has no words, by name, or its answer is rendered into other tokens behind them.
    """
    if coefficient == 0:
        return plan
    return _in_its_place(plan, "text_run_kl", TextRunKL(coefficient, temperature, likelihood, column))


@method(paper="arXiv:2410.02678", changes={"objective"}, off={"distillation": 0.0, "alignment": 0.0})
def diva(plan: Plan, *, distillation: Coefficient = 1.0, alignment: Coefficient = 1.0, column: Column = TEXT) -> Plan:
    """DiVA: bring what the output layer reads behind a sound to where the transcript brings it, and vectors to words.

    distillation: of the distance |h_sound - h_text| at the first position of the answer. The output layer is frozen and
    shared, so equal states are equal distributions.
    alignment: of the mean distance between the last vectors of the sound and the embeddings of as many last tokens of
    its words. Both 0 turn the method off.
    column: of the rows' words.

    No answer is learned: the one in the data only says where an answer begins. In rows without a sound the ordinary
    likelihood counts.

    Trap: with distillation alone DiVA kept to the language that was asked for in 1.4 % of answers, with both in 74 %.

    Trap: distances are as large as the model's states are, so no coefficient carries over between models.

    Deviations from the paper: 1. a sound with fewer vectors than its words have tokens is compared with the last of
    these. 2. distances are means over rows and positions, each micro-batch counting by its share of the step. 3. any
    bridge, where the paper has Whisper's decoder with 448 queries.

    Raises as `text_run_kl`, and UsageError for a model without a bridge.
    """
    if distillation == 0 and alignment == 0:
        return plan
    return _in_its_place(plan, "diva", DiVALoss(distillation, alignment, column))
