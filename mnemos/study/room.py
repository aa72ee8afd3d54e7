"""Memory and disk of a study before its first step: what each step takes, and settings that would fit where it cannot.

Estimates come from `train.estimate` and `models.needs`; no weights are loaded. A plan that takes surely more than this
machine has is refused; what is free at the moment is only spoken of, because others may give it back.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnemos.core.errors import MnemosError, UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.machine import free_memory, total_memory
from mnemos.core.nouns import Source, Tokens
from mnemos.core.plan import ModelHandle, Plan
from mnemos.core.settings import TrainSettings
from mnemos.models.recognisers.classes import hears
from mnemos.report.words import size
from mnemos.sources.generated import generated_in, inside
from mnemos.sources.looks import few
from mnemos.sources.mix import Rows
from mnemos.sources.read import FileSource
from mnemos.study.experiment import Experiment
from mnemos.study.steps import OF_BOTH, MeasureStep, Step, TrainStep, WeightsStep, WriteStep, is_done
from mnemos.study.vocabulary import ExtendStep

if TYPE_CHECKING:
    from mnemos.train.estimate import Needs
    from mnemos.train.simulate import Shape

ROWS = 256
"""Rows of a stage whose lengths are looked at."""

BATCHES = 512
"""Micro-batches drawn of them to find a large one."""

SURE = 1.3
"""Times the machine's memory from which on a plan is refused: estimates lie so far from what is measured."""

SMALL = 0.1
"""Share of the free memory below which a generous guess needs no closer look before a run."""

PROMPT = 512
"""Tokens of a prompt that are counted where suites ask for answers."""


@dataclass(frozen=True)
class Line:
    """What one kind of step of one arm takes. needs: parts of a training's memory."""

    title: str
    memory: int
    disk: int = 0
    passing: int = 0
    needs: Needs | None = None

    def __str__(self) -> str:
        if not self.memory:
            return f"room    {self.title}: cut up over processes, so its memory is not estimated"
        parts = self.needs.parts() if self.needs is not None else {}
        beside = f" ({', '.join(f'{name} {size(value)}' for name, value in parts.items())})" if parts else ""
        disk = f"; {size(self.disk)} of disk" if self.disk else ""
        return f"room    {self.title}: about {size(self.memory)} of memory{beside}{disk}"


def room(experiment: Experiment, renderer: Any, *, dry: bool) -> list[str]:
    """Lines about memory and disk of what is not done yet; dry: all of them, otherwise only what should be known.
    Raises UsageError where a step cannot fit this machine's memory, or the disk."""
    if not Path(experiment.before.path).exists() or hears(experiment.before.path):
        return []  # a hub id whose headers may not be here; a recogniser, whose memory hangs on sounds
    if not dry and _plainly_small(experiment):
        return []
    lengths: dict[str, list[tuple[int, int]]] = {}
    lines = list(_lines(experiment, renderer, lengths))
    bound = machine_memory()
    for line in lines:
        if line.memory > SURE * bound:
            raise _too_large(experiment, line, bound, lengths)
    words = [str(line) for line in lines] if dry else []
    most = max((line.memory for line in lines), default=0)
    free = free_here()
    if most > free:
        words.append(f"room    about {size(most)} of memory will be needed, and {size(free)} are free now")
    return [*words, *_disk(experiment, lines, dry)]


def machine_memory() -> int:
    """Bytes where training will run: of the first GPU, else of this machine or the control group that it runs in."""
    import torch

    return int(torch.cuda.mem_get_info()[1]) if torch.cuda.is_available() else total_memory()


def free_here() -> int:
    """Bytes that are free there now."""
    import torch

    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else free_memory()


def _plainly_small(experiment: Experiment) -> bool:
    """Whether everything fits many times over, by the number of parameters and the longest rows alone."""
    from mnemos.models.load import parameters_of

    parameters = parameters_of(experiment.before)
    tokens = max(
        run.stages[0].plan.train.max_length * run.stages[0].plan.train.per_device_train_batch_size
        for run in experiment.runs
    )
    # Weights, gradients and AdamW of two models, and as many numbers a token as two parameters in a hundred.
    return 32 * parameters + 4 * tokens * max(20_000, parameters // 50) < SMALL * free_here()


def _lines(experiment: Experiment, renderer: Any, lengths: dict[str, list[tuple[int, int]]]) -> Iterator[Line]:
    seen: dict[str, Line] = {}
    steps = {step.key: step for step in experiment.steps if not is_done(step.key, experiment.root)}
    arms, names = _arms(experiment), dict[Any, str]()
    for step in steps.values():
        # Seeds of an arm are one kind. Named one by one, each would be one of its own, with rows to be looked at: a
        # mixture's name holds the seed, by which nothing differs but the order and which old rows are drawn.
        arm = arms.get(step.key, step.key)
        name = names[arm] if arm in names else names.setdefault(arm, _kind(step))
        if name not in seen:
            seen[name] = _line(experiment, step, renderer, lengths)
        yield dataclasses.replace(seen[name], title=step.title)


def _arms(experiment: Experiment) -> dict[str, tuple[str, int, int]]:
    """Key of a training -> its arm, order of tasks and stage."""
    return {
        stage.steps[0].key: (run.arm, run.order, number)
        for run in experiment.runs
        for number, stage in enumerate(run.stages)
    }


def _kind(step: Step) -> str:
    """Steps of one kind take the same, such as trainings of arms that differ in rates alone."""
    if isinstance(step, TrainStep):
        plan = step.plan
        settings = plan.train.model_copy(update={"learning_rate": 1.0, "lr_scheduler_type": "", "data_seed": None})
        parts = [settings, plan.trainable, plan.objective, plan.gradient, plan.draw, plan.examples, step.moments]
        return "train" + fingerprint(parts)
    if isinstance(step, MeasureStep):
        return "measure" + fingerprint([[suite.name for suite in step.suites], step.before is not None])
    return type(step).__name__


def _line(experiment: Experiment, step: Step, renderer: Any, lengths: dict[str, list[tuple[int, int]]]) -> Line:
    from mnemos.train.estimate import parameters, program_bytes, training_disk, training_needs

    before = experiment.before
    if isinstance(step, TrainStep):
        plan = _on(step.plan, before)
        if plan.train.fsdp or plan.train.deepspeed:
            return Line(step.title, 0, training_disk(plan, step.moments).kept)
        needs = training_needs(plan, shape_of(plan, renderer, lengths))
        disk = training_disk(plan, step.moments)
        return Line(step.title, needs.peak, disk.kept, disk.passing, needs)
    if isinstance(step, WeightsStep):
        # Tensor by tensor, a few copies of the largest one (`weights.write`).
        return Line(step.title, program_bytes() + (1 << 30), 4 * parameters(before))
    if isinstance(step, MeasureStep):
        both = step.before is not None and any(suite.ask in OF_BOTH for suite in step.suites)
        return Line(step.title, _asking(before, step.suites, models=2 if both else 1))
    if isinstance(step, ExtendStep):
        # The model as it is stored, and a matrix or two of its embedding in float64; written in the dtype it came in.
        stored = sum(file.stat().st_size for file in Path(before.path).glob("*.safetensors"))
        return Line(step.title, 2 * _asking(before, (), models=1), stored or 4 * parameters(before))
    assert isinstance(step, WriteStep)
    return Line(step.title, _asking(before, (), models=1))


def _on(plan: Plan, before: ModelHandle) -> Plan:
    """A later stage begins with a model that is not there yet; it is as large as the first one's."""
    return plan if Path(plan.before.path).exists() else dataclasses.replace(plan, before=before)


def _asking(before: ModelHandle, suites: Sequence[Any], *, models: int) -> int:
    from mnemos.models.load import load_model
    from mnemos.models.needs import asking_bytes
    from mnemos.models.precision import compute_dtype
    from mnemos.train.estimate import program_bytes

    code, pickle = (bool(getattr(before, name, False)) for name in ("trust_remote_code", "allow_pickle"))
    made = load_model(
        before.path, dtype=compute_dtype(before), headers_only=True, trust_remote_code=code, allow_pickle=pickle
    )
    weights = sum(value.numel() * value.element_size() for value in made.parameters())
    rows = max((len(suite.items) for suite in suites), default=ROWS)
    new = max((int(getattr(suite.settings, "max_new_tokens", 0) or 0) for suite in suites), default=256)
    return int(program_bytes() + models * weights + asking_bytes(made, rows=rows, tokens=PROMPT + new))


def shape_of(plan: Plan, renderer: Any, kept: dict[str, list[tuple[int, int]]] | None = None) -> Shape:
    """A large micro-batch of a stage: by the lengths of its first rows, or by max_length where nothing is rendered yet.
    kept: lengths by source, filled here."""
    kept = {} if kept is None else kept
    name = fingerprint([plan.examples, plan.train.max_length, plan.train.truncate])
    if name not in kept:
        kept[name] = _lengths(plan, renderer)
    return largest(kept[name], plan.train)


def largest(lengths: Sequence[tuple[int, int]], train: TrainSettings) -> Shape:
    """The largest of BATCHES micro-batches drawn from (tokens, supervised tokens) of rows."""
    from mnemos.train.simulate import Shape

    batch, most = train.per_device_train_batch_size, train.max_length
    if train.packing or not lengths:
        return Shape((most,) * batch, most * batch)
    sizes = np.array(lengths)
    # Whole batches of a shuffled pass; a file of fewer rows than a batch gives one that holds all of them.
    drawn = np.random.default_rng(0).integers(0, len(sizes), (BATCHES, min(batch, len(sizes))))
    chosen = drawn[sizes[drawn, 0].sum(1).argmax()]
    return Shape(tuple(int(n) for n in sizes[chosen, 0]), max(1, int(sizes[chosen, 1].sum())))


def _lengths(plan: Plan, renderer: Any) -> list[tuple[int, int]]:
    """(tokens, supervised tokens) of the first rows; pairs count as both their answers."""
    if renderer is None:
        return []
    sources: list[Source] = [plan.examples]
    if generated_in(plan.examples):
        # Not written yet: what the model writes is taken to be as long as what it is written from.
        sources = [one for one in inside(plan.examples) if isinstance(one, FileSource)]
    found = []
    for source in sources:
        for example in few(source, ROWS):
            rows = _rendered(example, plan, renderer)
            times = 2 if example.kind == "preference" else 1
            found += [(times * len(row), times * int(np.count_nonzero(row.weight[1:]))) for row in rows]
    most = plan.train.max_length
    return [(min(n, most), min(taught, most)) for n, taught in found if n <= most or plan.train.truncate]


def _rendered(example: Any, plan: Plan, renderer: Any) -> Sequence[Tokens]:
    from mnemos.train.rows import as_tokens, weigh

    by_role = tuple(one for one in plan.weigh if getattr(one, "by_role", False))
    settings = plan.train.model_copy(update={"rewritten_turns": "keep"})
    try:
        rows = as_tokens(Rows((dataclasses.replace(example, label=None),)), settings, renderer, Counter())
        return weigh(rows, by_role, plan.before)
    except MnemosError:
        return []  # the run says what is wrong with it


def needs_for(before: ModelHandle, **settings: Any) -> Callable[[int, int, bool], int]:
    """(rows of a micro-batch, their tokens, whether activations are recomputed) -> peak bytes of full training with
    AdamW on one micro-batch a step, for proposals."""
    from mnemos.train.estimate import training_needs
    from mnemos.train.simulate import Shape

    def needed(rows: int, length: int, recompute: bool) -> int:
        train = TrainSettings(max_length=length, gradient_checkpointing=recompute, **settings)
        plan = Plan(Rows(()), before, "proposal", 0, train)
        return training_needs(plan, Shape((length,) * rows, rows * length)).peak

    return needed


def fitting(
    wanted: int, length: int, bound: float, needed: Callable[[int, int, bool], int]
) -> tuple[int, bool, int | None]:
    """(rows of a micro-batch, whether activations are recomputed, what one row needs where nothing fits `bound`)."""
    for recompute in (False, True):
        rows = 2 ** int(np.log2(min(wanted, 8)))
        while rows:
            if needed(rows, length, recompute) <= bound:
                return rows, recompute, None
            rows //= 2
    return 1, True, needed(1, length, True)


def _too_large(
    experiment: Experiment, line: Line, bound: int, lengths: Mapping[str, list[tuple[int, int]]]
) -> UsageError:
    step = next(step for step in experiment.steps if step.title == line.title)
    what = f"{line.title} takes about {size(line.memory)} of memory"
    parts = ", ".join(f"{name} {size(value)}" for name, value in line.needs.parts().items()) if line.needs else ""
    here = f"this machine gives it {size(bound)}" + (f" ({parts})" if parts else "")
    if not isinstance(step, TrainStep):
        return UsageError(what, here, "take a smaller model, a machine with more memory, or fewer items at a time")
    plan = _on(step.plan, experiment.before)
    name = fingerprint([plan.examples, plan.train.max_length, plan.train.truncate])
    return UsageError(what, here, cure(plan, lengths.get(name, []), bound))


def cure(plan: Plan, lengths: Sequence[tuple[int, int]], bound: int) -> str:
    """Settings with which a stage would fit, each alone where that is enough, else together."""
    found: list[str] = []
    names: list[str] = []
    together = plan
    for name, change in _changes(plan):
        alone = _changed(plan, change)
        if alone is not None and (needs := _peak(alone, lengths)) <= bound:
            found.append(f"{name} ({size(needs)})")
        both = _changed(together, change)
        if both is not None:
            together, names = both, [*names, name]
        if not found and both is not None and (needs := _peak(together, lengths)) <= bound:
            return f"would fit: {' and '.join(names)} ({size(needs)})"
    if found:
        return f"would fit: {'; or '.join(found[:3])}"
    least = (
        f"{' and '.join(names)} still take {size(_peak(together, lengths))}" if names else "nothing makes it smaller"
    )
    return f"take a smaller model or a machine with more memory: {least}"


Change = Callable[[Plan], Plan]


def _changes(plan: Plan) -> Iterator[tuple[str, Change]]:
    """What makes a training smaller, what changes results least first."""
    train = plan.train
    batch, steps = train.per_device_train_batch_size, train.gradient_accumulation_steps

    def settings(**changes: Any) -> Change:
        return lambda one: dataclasses.replace(one, train=one.train.model_copy(update=changes))

    if batch > 1:
        smaller = settings(per_device_train_batch_size=1, gradient_accumulation_steps=batch * steps)
        yield f"per_device_train_batch_size: 1 with gradient_accumulation_steps: {batch * steps}", smaller
    if not train.gradient_checkpointing:
        yield "gradient_checkpointing: true", settings(gradient_checkpointing=True)
    if train.optim != "adafactor":
        yield "optim: adafactor", settings(optim="adafactor")
    yield "the method lora", _with_lora
    if train.max_length > 256:
        yield f"max_length: {train.max_length // 2}", settings(max_length=train.max_length // 2)


def _with_lora(plan: Plan) -> Plan:
    from mnemos.core.method import apply

    return apply(plan, [{"lora": {}}])


def _changed(plan: Plan, change: Change) -> Plan | None:
    """None where the arm does not take the change, as an arm that adapts already takes no lora."""
    try:
        return change(plan)
    except MnemosError:
        return None


def _peak(plan: Plan, lengths: Sequence[tuple[int, int]]) -> int:
    from mnemos.train.estimate import training_needs

    most = plan.train.max_length
    return training_needs(plan, largest([(min(n, most), min(taught, most)) for n, taught in lengths], plan.train)).peak


def _disk(experiment: Experiment, lines: Sequence[Line], dry: bool) -> list[str]:
    """Disk that the steps take, against what is free. Raises UsageError where it is not enough."""
    root = experiment.root
    place = next((one for one in (root, *root.parents) if one.is_dir()), Path())
    kept, passing = sum(line.disk for line in lines), max((line.passing for line in lines), default=0)
    free = shutil.disk_usage(place).free
    if kept + passing > free:
        raise UsageError(
            f"{root}: about {size(kept + passing)} of disk are needed",
            f"{size(free)} are free there",
            f"mnemos runs clean {root} removes steps that nothing needs any more; adapters (lora) are kept alone and"
            " take little; --out names another disk",
        )
    more = f", and {size(passing)} for checkpoints while it trains" if passing else ""
    return [f"room    about {size(kept)} of disk for models{more}; {size(free)} are free"] if dry else []
