"""Who writes the answer that is learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import method
from mnemos.core.plan import ModelHandle, Plan, SelfTaught, StepView
from mnemos.core.rollouts import Rollouts
from mnemos.core.settings import ModelRef
from mnemos.methods.draw.learned import learned_by
from mnemos.methods.draw.policy import on_rollouts, own
from mnemos.methods.objective.divergence import Direction, divergence

if TYPE_CHECKING:
    import torch

SHOWN = (
    "{question}\n\nHere is an example of an answer to this question:\n\n{answer}\n\n"
    "Now give an answer of your own, in your own words, with your reasoning."
)
"""What the teacher reads in the place of the question; the paper's idea in words of our own."""


@dataclass(frozen=True)
class TeacherDivergence:
    """sum_n weight_n * KL_n / normaliser in nats, over the answers that the model has drawn.

    KL_n is KL(teacher || student) at position n for "forward", KL(student || teacher) for "reverse".
    """

    by_token: ClassVar[bool] = True

    direction: Direction

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar with a gradient for the student only."""
        # float32[N, V]: a sum over the vocabulary of differences of logarithms loses its small terms in 16 bits.
        student = view.logits.float().log_softmax(-1)
        teacher = view.references.teacher_logits().detach().float().log_softmax(-1)
        # float[N] in nats. The teacher has read other prompts, but stands in the order of the same drawn tokens.
        each = divergence(teacher, student) if self.direction == "forward" else divergence(student, teacher)
        return (each * view.weight).sum() / view.normaliser


@method(paper="arXiv:2601.19897", changes={"draw", "objective"}, off={"max_new_tokens": 0})
def self_distillation(
    plan: Plan,
    *,
    max_new_tokens: Annotated[int, Field(ge=0, le=1_000_000)] = 256,
    temperature: Annotated[float, Field(gt=0)] = 1.0,
    teacher_rate: Annotated[float, Field(ge=0, le=1)] = 0.01,
    direction: Direction = "forward",
) -> Plan:
    """Learn on the model's own answers from the same model with the gold answer before its eyes (SDFT).

    max_new_tokens: longest drawn answer in tokens; 0 turns the method off.
    temperature: of drawing; 1 draws from the model's own distribution.
    teacher_rate: share of the way that the teacher's weights go towards the model in training after
    each step; 0 keeps the model before as teacher, 1 the model in training.
    direction: forward is KL(teacher || student), reverse KL(student || teacher), per token over the
    full vocabulary.

    At each step the model in training (student) answers the plain prompts. The teacher is a moving
    average of the same model; it is given the prompt with the gold answer as an example, and then
    the student's answer, and the student's next-token distributions are drawn towards the
    teacher's. The gold answer is never learned word by word.

    Trap: another method of this name exists (arXiv:2402.13669), which rewrites the gold answers
    once, before training.

    Trap: drawing takes most of the time of a step, a forward pass for each token of the longest
    answer. The teacher costs one more forward pass and one more copy of the trainable weights.

    Trap: a small model may be unable to make use of an example that it is shown; then there is
    nothing to learn from its teacher.

    Deviations from the paper: 1. the text writes reverse KL; the authors say that all results used
    forward KL, which is the default. 2. one answer a prompt and step. 3. the words around the
    example are our own. 4. an answer's stop token is learned as the one that gold answers have.

    Raises UsageError where another method has said who writes answers or taken the likelihood's
    place, and when training begins with a method that weighs tokens of the data.
    """
    if max_new_tokens == 0:
        return plan
    draw = SelfTaught(max_new_tokens, temperature, teacher_rate, SHOWN)
    return learned_by(plan, "self_distillation", draw, TeacherDivergence(direction))


@dataclass(frozen=True)
class JensenShannon:
    """sum_n weight_n * D_n / normaliser over drawn tokens, in nats, where D_n is the generalised
    Jensen-Shannon divergence beta KL(teacher || M) + (1 - beta) KL(student || M) with
    M = beta teacher + (1 - beta) student; for beta 0 its limit after division by beta,
    KL(teacher || student), and for beta 1 KL(student || teacher)."""

    by_token: ClassVar[bool] = True

    teacher: ModelHandle
    beta: float
    temperature: float

    def loss(self, view: StepView) -> torch.Tensor:
        """Scalar with a gradient for the student only."""
        teacher, student = view.references.logits_of(self.teacher).detach(), view.logits
        # Models of one tokenizer pad their vocabularies to different numbers of rows; no text becomes those.
        rows = min(teacher.shape[-1], student.shape[-1])
        teacher, student = (
            (each[..., :rows].float() / self.temperature).log_softmax(-1) for each in (teacher, student)
        )
        # Rehearsed rows stand in the batch too: they are learned by likelihood, not from the teacher.
        each = jensen_shannon(teacher, student, self.beta)
        return (each * view.weight * own(view).drawn).sum() / view.normaliser


def jensen_shannon(teacher: torch.Tensor, student: torch.Tensor, beta: float) -> torch.Tensor:
    """float[N] in nats from log-probabilities, float[N, V]; see `JensenShannon`."""
    import math

    import torch

    # At both ends M is one of the two distributions and the formula is 0: the limits take its place.
    if beta == 0:
        return divergence(teacher, student)
    if beta == 1:
        return divergence(student, teacher)
    # D = beta KL(teacher || M) + (1 - beta) KL(student || M) (arXiv:2306.13649, eq. 1). ln M is added up in
    # logarithms: a token that both models call impossible would otherwise be ln 0.
    mixed = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * divergence(teacher, mixed) + (1 - beta) * divergence(student, mixed)


@method(
    paper="arXiv:2306.13649",
    changes={"draw", "objective"},
    off={"max_new_tokens": 0},
    example={"teacher": "."},
)
def distillation(
    plan: Plan,
    *,
    teacher: ModelRef,
    max_new_tokens: Annotated[int, Field(ge=0, le=1_000_000)] = 256,
    num_generations: Annotated[int, Field(ge=1, le=1024)] = 1,
    temperature: Annotated[float, Field(gt=0)] = 1.0,
    beta: Annotated[float, Field(ge=0, le=1)] = 1.0,
) -> Plan:
    """Learn on the model's own answers what a teacher would have said at each token of them (GKD).

    teacher: directory or hub id of a model of the same tokenizer.
    max_new_tokens: longest drawn answer in tokens; 0 turns the method off.
    num_generations: answers drawn for each prompt. The batch (per device, times accumulation, times processes)
    counts answers and must be divisible by it.
    temperature: of drawing, and of both distributions that are compared.
    beta: which divergence: 0 is KL(teacher || student), 1 KL(student || teacher), between them the
    generalised Jensen-Shannon divergence. TRL's default, 1, seeks the teacher's likeliest answers.

    The gold answers of the data are not read. Rows that another method rehearses are learned by
    likelihood beside the drawn answers, each in the place of one prompt.

    Trap: where the model before hardly ever gives a good answer, its teacher has little good to say about
    the answers that it gives.

    Trap: the teacher is asked at every step: one more forward pass and its weights in memory.

    Deviations from the paper: 1. all answers are the student's own (its lambda is 1); rows of the data
    come in by replay. 2. no reward is added.

    Raises UsageError as `reinforce` does, ModelError when training begins and the tokenizers differ.
    """
    if max_new_tokens == 0:
        return plan
    if "://" in teacher:
        raise UsageError(
            f"distillation.teacher = {teacher}", "a server tells no full distributions", "name a directory or hub id"
        )
    from mnemos.models.load import handle

    draw = Rollouts(max_new_tokens, temperature, num_generations)
    return on_rollouts(plan, "distillation", draw, JensenShannon(handle(teacher), beta, temperature))
