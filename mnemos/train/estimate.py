"""What one training takes of memory and disk, from configurations, headers and settings, before anything is loaded.

The step itself is simulated (`train.simulate`); weights, optimiser and what terms keep beside the model are counted.
How far estimates lie from what was measured stands in docs/running.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnemos.core.machine import resident_memory
from mnemos.core.plan import Likelihood, Plan, Term
from mnemos.core.settings import TrainSettings
from mnemos.models.precision import HALF
from mnemos.train import draws
from mnemos.train.arguments import computes_in
from mnemos.train.optimisers import taken
from mnemos.train.preflight import in_4bit
from mnemos.train.save import consent, folder_of, saved_precision
from mnemos.weights.precision import SINGLE, stored_precision

if TYPE_CHECKING:
    from mnemos.train.simulate import Shape

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}

PACKED = 0.55
"""Bytes a weight in 4 bits, its quantised constants included (arXiv:2305.14314)."""

ALLOCATED = {"cpu": 1.05, "cuda": 1.1}
"""What the allocator holds beside what tensors take: as measured (benchmarks/room.py)."""

LIBRARIES = 120 * 2**20
"""What a process takes on for training beyond the imports of planning: kernels, thread pools, the trainer."""


@dataclass(frozen=True)
class Needs:
    """Bytes of memory at a training's peak, part by part, on the device that it runs on.

    weights: of the model in training. gradients, optimiser: of what moves. activations: of one micro-batch, with
    logits and what passes by. beside: copies that terms and draws keep. program: the interpreter and its libraries, 0
    on a GPU. loading: while the model is read, all in all.
    """

    weights: int
    gradients: int
    optimiser: int
    activations: int
    beside: int
    program: int
    loading: int

    @property
    def peak(self) -> int:
        """The highest of all phases."""
        step = self.weights + self.gradients + self.optimiser + self.activations + self.beside
        return max(step + self.program, self.loading)

    def parts(self) -> dict[str, int]:
        """Name -> bytes, those of a step that are not 0."""
        names = ("weights", "gradients", "optimiser", "activations", "beside", "program")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


def training_needs(plan: Plan, shape: Shape) -> Needs:
    """Memory of the stage `plan` at its peak. shape: of its largest micro-batch. Raises as loading the model does, and
    as the arm's choice of what may move does on names and shapes."""
    from mnemos.train.likelihood import held_in

    computes = computes_in(plan)
    held = held_in(plan, computes)
    prepared = plan.trainable.prepare(_loaded(plan, held))
    asks = 0
    if not draws.known(plan.draw).in_data:
        from mnemos.models.needs import asking_bytes

        asks = asking_bytes(_loaded(plan, SINGLE), rows=512, tokens=plan.train.max_length)
    return needs_of(
        prepared,
        plan.train,
        shape,
        terms=plan.objective,
        half=computes == HALF,
        packed=in_4bit(plan),
        beside=lambda weights, moving: sum(_beside(plan, moving, weights, adapters=hasattr(prepared, "peft_config"))),
        read=_read(plan, held),
        asks=asks,
    )


def needs_of(
    prepared: Any,
    train: TrainSettings,
    shape: Shape,
    *,
    terms: Sequence[Term] = (Likelihood(),),
    half: bool = False,
    packed: bool = False,
    beside: Callable[[int, int], int] = lambda weights, moving: 0,
    read: int = 0,
    asks: int = 0,
) -> Needs:
    """Memory of a training at its peak. prepared: the model without numbers, what may move chosen, in the dtype that it
    is held in; it cannot be used afterwards. half: computes in bfloat16. packed: what stands still is in 4 bits.
    beside: (weights, moving parameters) -> bytes of copies. read: bytes of a file while it is read. asks: bytes while
    answers are written between two steps."""
    import torch

    from mnemos.train.likelihood import masters
    from mnemos.train.simulate import step_bytes

    prepared = masters(prepared)
    prepared.train()
    if train.gradient_checkpointing:
        prepared.activation_checkpointing_enable()
    on_gpu = torch.cuda.is_available()
    weights = _weights(prepared, packed=packed)
    moving = [value for value in prepared.parameters() if value.requires_grad]
    count = sum(value.numel() for value in moving)
    states = taken(train.optim, [tuple(value.shape) for value in moving], on_gpu=on_gpu)
    gradients, first = 4 * count, 4 * _ends(prepared)
    step = step_bytes(prepared, shape, half=half, terms=terms)
    # Activations are given back layer by layer as gradients come: a line between both ends, whose higher one counts.
    # Where micro-batches add up, gradients of the earlier ones are there all the while.
    highest = max(step.activations + first, step.layer + gradients)
    if train.gradient_accumulation_steps > 1:
        highest = step.activations + gradients
    # The step of the optimiser comes when activations are gone and gradients are whole.
    highest = max(highest, gradients + states.beside, asks)
    activations = int(ALLOCATED["cuda" if on_gpu else "cpu"] * max(0, highest - gradients))
    program = program_bytes()
    loading = 0 if on_gpu else weights + read + program
    return Needs(weights, gradients, states.states, activations, beside(weights, count), program, loading)


def program_bytes() -> int:
    """Memory of the interpreter and its libraries in training; 0 where the GPU's is looked at."""
    import torch

    from mnemos.train.memory import trim

    if torch.cuda.is_available():
        return 0
    # What earlier work has left lying around is given back before a training, too.
    trim()
    return resident_memory() + LIBRARIES


def _ends(model: Any) -> int:
    """Numbers in the gradients of embedding and output layer, which a backward pass makes first or whole."""
    from mnemos.models.head import bare

    layers = (bare(model).get_input_embeddings(), bare(model).get_output_embeddings())
    ends = {id(one): one for layer in layers if layer is not None for one in layer.parameters() if one.requires_grad}
    return sum(one.numel() for one in ends.values())


def _loaded(plan: Plan, dtype: str) -> Any:
    from mnemos.models.load import load_model

    return load_model(plan.before.path, dtype=dtype, headers_only=True, merge=True, **consent(plan.before))


def _weights(model: Any, *, packed: bool) -> int:
    """Bytes of a model's parameters and buffers, tied ones once. packed: linear layers that stand still in 4 bits."""
    from torch import nn

    linear = set()
    if packed:
        head = model.get_output_embeddings()
        linear = {
            id(layer.weight)
            for layer in model.modules()
            if isinstance(layer, nn.Linear) and layer is not head and not layer.weight.requires_grad
        }
    held = {id(one): one for one in (*model.parameters(), *model.buffers())}.values()
    return int(sum(one.numel() * (PACKED if id(one) in linear else one.element_size()) for one in held))


def _read(plan: Plan, held: str) -> int:
    """Bytes that a file takes beside the model while it is read in another dtype than its own."""
    own = stored_precision(folder_of(plan.before)).own
    return 0 if own == held else _largest_file(plan)


def _largest_file(plan: Plan) -> int:
    from mnemos.weights.files import chosen_files

    return max((file.stat().st_size for file in chosen_files(folder_of(plan.before))), default=0)


def _beside(plan: Plan, moving: int, weights: int, *, adapters: bool) -> Iterator[int]:
    """Bytes of each copy that terms, rules and draw keep beside the model in training; see `core.plan.Term`."""
    from mnemos.sources.generated import inside

    held = {name for one in (*plan.objective, *plan.gradient) for name in getattr(one, "holds", ())}
    held.update(draws.known(plan.draw).holds)
    named = _handles(inside(plan.draw))
    # Where the draw names no reference model it is the model before.
    if "reference" in held and not named:
        held.add("before")
    # With adapters the model before is the one in training with its adapters turned off.
    yield from (weights for _ in range("before" in held and not adapters))
    yield from (4 * moving for name in ("start", "fisher", "teacher") if name in held)
    # The old rows' gradient, the sum that it is added to, and the same in float32 to be projected.
    yield from (12 * moving for _ in range("gradient" in held))
    own = plan.before.fingerprint
    for handle in (_handles(inside(plan.objective)) | named).values():
        if Path(handle.path).is_dir() and handle.fingerprint != own:
            yield 4 * parameters(handle)


def _handles(values: Iterable[Any]) -> dict[str, Any]:
    """Path -> checkpoint, of those among the values."""
    return {one.path: one for one in values if hasattr(one, "path") and hasattr(one, "load")}


def parameters(handle: Any) -> int:
    """How many parameters a checkpoint has, from its headers."""
    from mnemos.models.load import parameters_of

    return parameters_of(handle)


def saved_width(handle: Any) -> int:
    """Bytes that a parameter of a model trained from this one takes on disk: it is saved in the dtype it came in."""
    return BYTES.get(saved_precision(handle).own, 4) if hasattr(handle, "torch_dtype") else 4


@dataclass(frozen=True)
class Disk:
    """Bytes that a training leaves, and those that it takes beside them until it has ended."""

    kept: int
    passing: int


def training_disk(plan: Plan, moments: int = 0) -> Disk:
    """Disk of the stage `plan`: its model or adapter, at each moment too, and the checkpoints that it may continue
    from."""
    bare = _loaded(plan, SINGLE)
    whole = sum(value.numel() for value in bare.parameters())
    prepared = plan.trainable.prepare(bare)
    moving = [value for value in prepared.parameters() if value.requires_grad]
    count = sum(value.numel() for value in moving)
    # A model in parts, such as one that listens, writes what moved and refers to the rest.
    own = getattr(bare, "own_state", None)
    written = whole if own is None else sum(value.numel() for value in own().values())
    each = saved_width(plan.before)
    adapter = hasattr(prepared, "peft_config")
    model = 4 * count if adapter else each * written
    if adapter and (plan.train.keep_merged or plan.after):
        model += each * whole
    # Two are kept, and a third is there while it is written. By the clock none is written where the disk is short.
    states = taken(plan.train.optim, (tuple(value.shape) for value in moving), on_gpu=False).states
    checkpoint = (4 * count if adapter else 4 * whole) + states
    return Disk(max(1, moments) * model, 3 * checkpoint if plan.train.save_steps else 0)
