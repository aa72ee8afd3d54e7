"""What may move: parts of the model, or small adapters beside it."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.method import method
from mnemos.core.patterns import Overtime, compiled, search
from mnemos.core.plan import AllParameters, Plan, Trainable, by_default
from mnemos.core.settings import LearningRate
from mnemos.methods.trainable.adapters import AtSounds, LowRank, Rescaled, RescaledPart
from mnemos.methods.trainable.blocks import Expanded
from mnemos.methods.trainable.layers import Part, known_names, layers_of, parts_of, tied_weight

log = logging.getLogger(__name__)

Rate = LearningRate | None
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0, le=65_536)]
Targets = Literal["all-linear"] | tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """A union of parameters: whole layers, parts, and names that a pattern finds."""

    layers_first: int
    layers_last: int
    parts: tuple[Part, ...]
    pattern: str | None

    def names(self, model: Any, method: str) -> set[str]:
        """The selected parameters of `model`; ModelError, naming the setting of `method`, when a
        setting selects nothing."""
        layers, depth = layers_of(model)
        for setting, count in (("layers_first", self.layers_first), ("layers_last", self.layers_last)):
            if count > depth:
                raise ModelError(f"{method}.{setting} = {count}", f"the model has {depth} layers", "name fewer")
        picked = {name for name, i in layers.items() if i < self.layers_first or i >= depth - self.layers_last}
        known = parts_of(model)
        for part in self.parts:
            picked |= _some({name for name, parts in known.items() if part in parts}, model, f"{method}.parts = {part}")
        if self.pattern is not None:
            found = {name for name in known if _found(self.pattern, name, method)}
            picked |= _some(found, model, f"{method}.pattern = {self.pattern!r}")
        if tied_weight(model) is not None and len({"embeddings", "head"} & set(self.parts)) == 1:
            log.warning("%s: this model's embeddings and head are one tied weight; both are meant", method)
        return picked


def _found(pattern: str, name: str, method: str) -> bool:
    try:
        return search(pattern, name)
    except (Overtime, ValueError):
        cure = "write a pattern with fewer * and +"
        raise UsageError(f"{method}.pattern = {pattern!r}", f"finds no end in the name {name}", cure) from None


def _some(names: set[str], model: Any, setting: str) -> set[str]:
    if not names:
        raise ModelError(setting, f"matches no parameter of {type(model).__name__}", f"known: {known_names(model)}")
    return names


@dataclass(frozen=True)
class Freeze:
    """Everything may move except the selection."""

    selection: Selection
    learning_rate: float | None = None

    def prepare(self, model: Any) -> Any:
        """Set requires_grad; ModelError when nothing is left to train."""
        frozen = self.selection.names(model, "freeze")
        rest = {name for name, _ in model.named_parameters() if by_default(model, name)} - frozen
        return _train(model, rest, f"freeze {self.selection}")


@dataclass(frozen=True)
class Only:
    """Nothing may move except the selection."""

    selection: Selection
    learning_rate: float | None = None

    def prepare(self, model: Any) -> Any:
        """Set requires_grad; ModelError when nothing is left to train."""
        return _train(model, self.selection.names(model, "only"), f"only {self.selection}")


def _train(model: Any, names: set[str], selection: str) -> Any:
    moving = 0
    for name, parameter in model.named_parameters():
        # Integer parameters, such as quantised weights, cannot have a gradient.
        parameter.requires_grad_(name in names and parameter.is_floating_point())
        moving += parameter.requires_grad
    if not moving:
        raise ModelError(selection, "leaves no parameter to train", f"leave some of: {known_names(model)}")
    return model


def _alone(plan: Plan, trainable: Trainable, name: str) -> Plan:
    """The plan with `trainable`, refused when an earlier method has already said what may move."""
    if not isinstance(plan.trainable, AllParameters):
        raise UsageError(
            f"{name} after {type(plan.trainable).__name__}",
            "two methods of one arm say what may move",
            "keep one of them (freeze and only each take several settings at once), or make two arms",
        )
    return dataclasses.replace(plan, trainable=trainable)


def _checked(pattern: str | None, name: str) -> str | None:
    try:
        compiled(pattern or "")
    except ValueError as error:
        raise UsageError(
            f"{name}.pattern = {pattern!r}", f"is not a regular expression: {error}", "escape . as \\."
        ) from None
    return pattern


NOTHING = {"layers_first": 0, "layers_last": 0, "parts": (), "pattern": None}


@method(paper="arXiv:2401.03129", changes={"trainable"}, off=NOTHING, example={"parts": ("embeddings",)})
def freeze(
    plan: Plan,
    *,
    layers_first: Count = 0,
    layers_last: Count = 0,
    parts: tuple[Part, ...] = (),
    pattern: str | None = None,
) -> Plan:
    """Keep some parameters as they were before the stage and train the rest.

    layers_first: how many transformer layers are frozen, counted from the input.
    layers_last: how many transformer layers are frozen, counted from the output.
    parts: kinds of parameters frozen in every layer: attention, mlp, norms; and embeddings
    (tokens and positions), head (the output layer).
    pattern: a regular expression; parameters whose full name it finds are frozen.

    What the settings name is joined: layers_first: 1 with parts: [mlp] freezes the first layer
    and every MLP. For an intersection write a pattern, for example ``layers\\.[0-3]\\..*mlp``.

    Traps: layers do not include the embeddings before them or the last norm and head behind
    them. A norm counts as a norm wherever it stands, also inside attention. Where embeddings and
    head are one tied weight, naming either freezes both, which is said aloud.

    Deviation from the paper: 1. it freezes the first or last ten layers of 32; the number is free.
    """
    selection = Selection(layers_first, layers_last, _sorted(parts), _checked(pattern, "freeze"))
    if selection == Selection(0, 0, (), None):
        return plan
    return _alone(plan, Freeze(selection), "freeze")


@method(paper="arXiv:2401.03129", changes={"trainable"}, off={"parts": ("all",)}, example={"parts": ("attention",)})
def only(
    plan: Plan,
    *,
    layers_first: Count = 0,
    layers_last: Count = 0,
    parts: tuple[Literal[Part, "all"], ...] = (),
    pattern: str | None = None,
    tasks: tuple[str, ...] = (),
) -> Plan:
    """Train some parameters and keep all others as they were before the stage.

    layers_first: how many transformer layers are trained, counted from the input.
    layers_last: how many transformer layers are trained, counted from the output.
    parts: kinds of parameters trained in every layer: attention, mlp, norms; and embeddings
    (tokens and positions), head (the output layer); or all, which changes nothing.
    pattern: a regular expression; parameters whose full name it finds are trained.
    tasks: of a sequence, the names of tasks in which only these are trained, and everything in the others; all tasks
    unless given. Embeddings alone in the first task are a warm-up for a new vocabulary (arXiv:2402.14714).

    The complement of `freeze`, with the same settings, the same union and the same traps: only
    attention is ``parts: [attention]``. At least one setting must name something.

    Trap: fewer trained parameters often want a higher learning rate than full fine-tuning.
    """
    if "all" in parts or (tasks and plan.task not in tasks):
        return plan
    chosen = tuple(part for part in parts if part != "all")
    selection = Selection(layers_first, layers_last, _sorted(chosen), _checked(pattern, "only"))
    if selection == Selection(0, 0, (), None):
        raise UsageError("only", "names nothing to train", "set parts, layers_first, layers_last or pattern")
    return _alone(plan, Only(selection), "only")


def _sorted(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    # Order and repeats mean nothing, so they must not change the fingerprint.
    return tuple(sorted(set(parts)))


@method(paper="arXiv:2106.09685", changes={"trainable"}, off={"rank": 0})
def lora(
    plan: Plan,
    *,
    rank: Count = 16,
    alpha: Annotated[float, Field(gt=0)] | None = None,
    dropout: Share = 0.0,
    targets: Targets = "all-linear",
    learning_rate: Rate = None,
    load_in_4bit: bool = False,
    positions: Literal["all", "sounds"] = "all",
) -> Plan:
    """Train a low-rank product B A beside each weight matrix, which itself stays as it was.

    rank: inner dimension of the product; 0 turns the method off.
    alpha: the product is scaled by alpha / rank; 2 * rank unless given.
    dropout: share of the adapter's inputs dropped in training, in [0, 1).
    targets: all-linear (every linear layer except the output layer), or module names as peft
    takes them, for example [q_proj, v_proj].
    learning_rate: peak learning rate of this arm; the study's unless given.
    load_in_4bit: hold the matrices that stay as they are in 4 bits while training (QLoRA, arXiv:2305.14314: NF4 with
    quantised constants, by bitsandbytes): an eighth of float32's memory.
    positions: all; or sounds, of a model that listens: the product is added at places of sounds alone (the partial LoRA
    of BLSP-Emo, arXiv:2406.03872), so that text alone is answered as before. Such an adapter cannot be merged.

    The trained adapter alone is kept, and read together with its base: see train.keep_merged.

    Trap: with load_in_4bit the adapter learns beside a rounded base; asked later, it stands on the base as it came,
    whose answers differ a little from those that it was trained on.

    Trap: at the learning rate of full fine-tuning LoRA learns little: about ten times more is
    usual (arXiv:2405.09673), so an arm that "forgets less" may merely have learned less.

    Trap: experts kept in one three-dimensional weight are not linear layers; all-linear leaves
    them out.

    Deviation from the paper: 1. all linear layers are adapted by default, not only the
    projections of queries and values.
    """
    plan = low_rank(plan, "lora", rank, alpha, dropout, targets, learning_rate, load_in_4bit)
    if positions == "all" or not isinstance(plan.trainable, LowRank):
        return plan
    if plan.train.keep_merged:
        raise UsageError("lora.positions = sounds", "cannot be merged, as train.keep_merged asks", "leave it out")
    return dataclasses.replace(plan, trainable=AtSounds(plan.trainable))


@method(paper="arXiv:2402.09353", changes={"trainable"}, off={"rank": 0})
def dora(
    plan: Plan,
    *,
    rank: Count = 16,
    alpha: Annotated[float, Field(gt=0)] | None = None,
    dropout: Share = 0.0,
    targets: Targets = "all-linear",
    learning_rate: Rate = None,
    load_in_4bit: bool = False,
) -> Plan:
    """Train magnitude and direction of each weight matrix apart, the direction by LoRA.

    rank: inner dimension of the direction's low-rank product; 0 turns the method off.
    alpha: the product is scaled by alpha / rank; 2 * rank unless given.
    dropout: share of the adapter's inputs dropped in training, in [0, 1).
    targets: all-linear (every linear layer except the output layer), or module names as peft
    takes them, for example [q_proj, v_proj].
    learning_rate: peak learning rate of this arm; the study's unless given.
    load_in_4bit: as for `lora`.

    Trap: as for `lora`; and each step costs noticeably more time than LoRA's, since column norms
    of the adapted weights are computed anew.

    Deviation from the paper: 1. all linear layers are adapted by default.
    """
    return low_rank(plan, "dora", rank, alpha, dropout, targets, learning_rate, load_in_4bit)


def low_rank(
    plan: Plan,
    name: Literal["lora", "dora", "orthogonal"],
    rank: int,
    alpha: float | None,
    dropout: float,
    targets: Targets,
    learning_rate: float | None,
    load_in_4bit: bool = False,
) -> Plan:
    """The plan with low-rank adapters as its trainable, as the method `name` asks for them."""
    if rank == 0:
        return plan
    if not targets:
        raise UsageError(f"{name}.targets = []", "names no module", "write all-linear, or module names")
    chosen = targets if isinstance(targets, str) else tuple(sorted(set(targets)))
    scale = 2.0 * rank if alpha is None else alpha
    kind: Literal["lora", "dora"] = "dora" if name == "dora" else "lora"
    return _alone(plan, LowRank(kind, rank, scale, dropout, chosen, learning_rate, load_in_4bit), name)


@method(paper="arXiv:2205.05638", changes={"trainable"}, off={"parts": ()})
def ia3(
    plan: Plan,
    *,
    parts: tuple[RescaledPart, ...] = ("keys", "values", "feedforward"),
    learning_rate: Rate = None,
) -> Plan:
    """Train one factor per channel of keys, values and the MLP's inner activations ((IA)³).

    parts: what is rescaled: keys, values, feedforward (the input of the MLP's last linear
    layer); none turns the method off.
    learning_rate: peak learning rate of this arm; the study's unless given.

    Trap: a few thousand factors move little at full fine-tuning's learning rate; the paper uses
    3e-3.

    Trap: where keys are normalised after their projection (Qwen3, Gemma 3) a common factor of a
    head's keys cancels, and only their relative sizes can be learned.

    Deviations from the paper: 1. keys are rescaled before rotary positions are applied, which is
    the same only where both channels of a pair share a factor. 2. where one projection makes
    queries, keys and values (GPT-2, GPT-NeoX, Phi-3) it is rescaled whole, queries included, so
    keys and values cannot be named apart.
    """
    if not parts:
        return plan
    return _alone(plan, Rescaled(tuple(sorted(set(parts))), learning_rate), "ia3")


@method(paper="arXiv:2401.02415", changes={"trainable"}, off={"every": 0})
def block_expansion(plan: Plan, *, every: Count = 4, learning_rate: Rate = None) -> Plan:
    """Put new blocks between the old ones and train only those (LLaMA Pro).

    every: how many old blocks stand before each new one, counted from the input; a last group of
    fewer gets one too. 4 adds 8 blocks to 32, as in the paper. 0 turns the method off.
    learning_rate: peak learning rate of this arm; the study's unless given.

    A new block is a copy of the one before it whose two output projections (attention's and the
    MLP's) are zero, so that it adds nothing: the grown model computes what the model before does,
    which is checked on a dozen tokens, until it is trained. It is saved as a complete model with
    the larger num_hidden_layers.

    Trap: the model is larger and slower for good, and has other tensors than the model before:
    arithmetic on the weights between both is refused.

    Trap: where both output projections are zero, a new block's other weights have no gradient in
    the first step; they move from the second on.

    Deviation from the paper: 1. the paper continues pre-training on many billions of tokens; the
    expansion is the same for any data.

    Raises ModelError when training begins with an architecture whose blocks cannot be copied so.
    """
    if every == 0:
        return plan
    return _alone(plan, Expanded(every, learning_rate), "block_expansion")
