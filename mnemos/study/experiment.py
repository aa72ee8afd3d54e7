"""From a study to the steps that carry it out: arms x seeds x tasks, before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import UsageError, nearest
from mnemos.core.method import apply
from mnemos.core.names import EXTENDED
from mnemos.core.nouns import Source
from mnemos.core.plan import Applied, ModelHandle, PastTask, Plan, TeacherForcing, Transcripts
from mnemos.models.recognisers.classes import hears
from mnemos.sources.generated import generated_in
from mnemos.sources.held_out import HeldOut
from mnemos.sources.looks import refuse_few_old_rows
from mnemos.sources.mix import Joined
from mnemos.study.config import Study
from mnemos.study.sections import Task
from mnemos.study.steps import OF_BOTH, MeasureStep, Step, StepModel, TrainStep, WeightsStep, WriteStep
from mnemos.study.vocabulary import ExtendStep
from mnemos.synthesis.instructions import guarded
from mnemos.synthesis.selection import refuse_small_pools

if TYPE_CHECKING:
    from mnemos.measure.suite import Suite

JOINT = "joint"


@dataclass(frozen=True)
class Moment:
    """The model at the end of one stretch of a training: how it is made of what was kept, and measured."""

    steps: tuple[Step, ...]
    measure: MeasureStep


@dataclass(frozen=True)
class Stage:
    """One task of one arm and seed: what is written for it, how it is trained and measured, the
    model it leaves, and the moments on the way there. extends: what gives its model new pieces first, if anything."""

    task: str
    plan: Plan
    writes: tuple[WriteStep, ...]
    steps: tuple[Step, ...]
    model: StepModel
    measure: MeasureStep
    moments: tuple[Moment, ...] = ()
    extends: tuple[ExtendStep, ...] = ()


@dataclass(frozen=True)
class ArmRun:
    """One arm with one seed: its stages in order. order: which of the study's orders of tasks."""

    arm: str
    seed: int
    stages: tuple[Stage, ...]
    order: int = 0

    @property
    def last(self) -> Stage:
        """The final stage, which the comparisons are about."""
        return self.stages[-1]

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of its steps, each after those it needs but for the measuring of the model before."""
        out: list[Step] = []
        for stage in self.stages:
            out += [*stage.extends, *stage.writes, *stage.steps, stage.measure]
            out += [step for moment in stage.moments for step in (*moment.steps, moment.measure)]
        return tuple(out)

    @property
    def keys(self) -> tuple[str, ...]:
        """Those of its steps."""
        return tuple(step.key for step in self.steps)


@dataclass(frozen=True)
class Experiment:
    """Everything a study will do, in order."""

    study: Study
    root: Path
    before: ModelHandle
    suites: tuple[Suite, ...]
    roles: Mapping[str, str]
    task_suites: Mapping[str, tuple[str, ...]]
    before_step: MeasureStep
    runs: tuple[ArmRun, ...]
    folder: Path = Path()
    beside: tuple[tuple[str, MeasureStep], ...] = ()

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """All steps, each after those it needs."""
        out: list[Step] = [self.before_step, *(step for _, step in self.beside if not step.needs)]
        for run in self.runs:
            out += run.steps
        # Models that an arm's own step makes stand behind it.
        out += [step for _, step in self.beside if step.needs]
        return tuple(out)


def whole(experiment: Experiment, undone: Set[str]) -> Experiment:
    """What is left of an experiment some of whose steps are not done, by key: the arms all of whose runs are whole."""
    lost = {run.arm for run in experiment.runs if not undone.isdisjoint(run.keys)}
    runs = tuple(run for run in experiment.runs if run.arm not in lost)
    beside = tuple((name, step) for name, step in experiment.beside if step.key not in undone)
    return replace(experiment, runs=runs, beside=beside)


def build(study: Study, folder: Path, root: Path) -> Experiment:
    """Plan the whole study. Reads and hashes files, loads no model. Raises DataError where a mixture of
    any stage has too few old rows."""
    from mnemos.models.load import Checkpoint

    before = Checkpoint(study.model, study.trust_remote_code, study.allow_pickle, study.chat, study.torch_dtype)
    suites, roles, task_suites = suites_of(study, folder)
    before_step = MeasureStep(before, suites, "before: measure")
    builder = _Builder(study, root, before, suites, task_suites, before_step, _trajectory(study, suites))
    orders = range(len(study.task_orders))
    # Seeds innermost: the first runs of an arm are in its first order, and `runs[0]` has the first seed.
    runs = [builder.run(arm, seed, order) for arm in study.arms for order in orders for seed in study.seeds]
    if study.is_sequence and study.joint:
        runs += [builder.joint(seed) for seed in study.seeds]
    refuse_few_old_rows(stage.plan.examples for run in runs for stage in run.stages)
    refuse_small_pools(stage.plan.examples for run in runs for stage in run.stages)
    _refuse_other_tokens(study, suites)
    beside = tuple((name, _beside(study, name, place, suites)) for name, place in study.beside.items())
    beside += tuple(_extended(runs, suites))
    return Experiment(study, root, before, suites, roles, task_suites, before_step, tuple(runs), folder, beside)


OF_ONE = ("generate", "choose", "nats", "transcribe", "harness")
"""How suites ask that need no second model."""


def _beside(study: Study, name: str, place: str, suites: tuple[Suite, ...]) -> MeasureStep:
    """Another model asked what the model before is asked, but for suites that hold a model against that one."""
    from mnemos.models.load import Checkpoint

    model = Checkpoint(place, study.trust_remote_code, study.allow_pickle, study.chat, study.torch_dtype)
    return MeasureStep(model, tuple(suite for suite in suites if suite.ask in OF_ONE), f"{name}: measure")


def _extended(runs: Iterable[ArmRun], suites: tuple[Suite, ...]) -> Iterator[tuple[str, MeasureStep]]:
    """Each model with new pieces as it is before any training, of an arm's first run; equal ones once."""
    known: set[str] = set()
    for run in runs:
        for step in run.stages[0].extends:
            name = f"{run.arm}{EXTENDED}"
            if name not in known and step.key not in known:
                known |= {name, step.key}
                asked = tuple(suite for suite in suites if suite.ask in OF_ONE)
                yield name, MeasureStep(step.model, asked, f"{name}: measure", needs=(step.key,))


def _refuse_other_tokens(study: Study, suites: Iterable[Suite]) -> None:
    """Distributions over two vocabularies are not held against each other."""
    both = next((suite.name for suite in suites if suite.ask in OF_BOTH), None)
    if study.arm_vocabulary and both is not None:
        raise UsageError(
            f"arm_vocabulary.{next(iter(study.arm_vocabulary))} and suite {both}",
            "compare distributions over tokens, and the arm's tokens are others than those of the model before",
            "set health: false, or leave the suite out; bits per byte can be compared",
        )


def plans_of(study: Study, root: Path, arm: str, before: ModelHandle) -> tuple[Plan, ...]:
    """The plans of one arm's stages, in the first order and with the first seed. before: stands for the study's model,
    whose content is not looked at."""
    builder = _Builder(study, root, before, (), {}, MeasureStep(before, (), "before: measure"), ())
    return tuple(stage.plan for stage in builder.run(arm, study.seeds[0]).stages)


@dataclass(frozen=True)
class _Builder:
    study: Study
    root: Path
    before: ModelHandle
    suites: tuple[Suite, ...]
    task_suites: Mapping[str, tuple[str, ...]]
    before_step: MeasureStep
    trajectory: tuple[Suite, ...]

    def run(self, arm: str, seed: int, order: int = 0) -> ArmRun:
        stages: list[Stage] = []
        past: list[PastTask] = []
        tasks = self.study.task_orders[order]
        for task in tasks:
            # Stage k begins with what stage k - 1 left; the handle names a model that is not there yet.
            handle = stages[-1].model if stages else self.before
            extends = self._extends(arm, seed, handle, stages)
            handle = extends[-1].model if extends else handle
            source = source_of(self.study.task_of(arm, task))
            asked = self._asked(last=len(stages) + 1 == len(tasks))
            stage = self._stage(arm, seed, task.name or "", source, handle, tuple(past), tuple(stages), asked, extends)
            stages.append(stage)
            past.append(PastTask(stage.task, source if task.keep else None, stage.model, handle))
        return ArmRun(arm, seed, tuple(stages), order)

    def _extends(self, arm: str, seed: int, handle: ModelHandle, earlier: Sequence[Stage]) -> tuple[ExtendStep, ...]:
        """What gives the arm's model new pieces before a stage."""
        own = self.study.arm_vocabulary.get(arm)
        if own is None or (earlier and not own.every_task):
            return ()
        needs = tuple(step.key for stage in earlier for step in stage.steps)
        number = f" {len(earlier) + 1}" if own.every_task else ""
        # Nothing is drawn for means of sub-pieces, so that seeds share them.
        drawn = 0 if own.init == "sub-pieces" else seed
        return (ExtendStep(handle, own, drawn, self.root, f"{arm}, seed {seed}: new pieces{number}", needs),)

    def joint(self, seed: int) -> ArmRun:
        source = Joined(tuple(source_of(task) for task in self.study.tasks), name=JOINT)
        return ArmRun(JOINT, seed, (self._stage(JOINT, seed, JOINT, source, self.before, (), (), self.suites),))

    @cached_property
    def hears(self) -> bool:
        """Whether what is taught is a recogniser of speech."""
        return hears(self.before.path)

    @cached_property
    def held_out(self) -> HeldOut:
        """The items of every suite, by which the study measures."""
        return HeldOut([(suite.name, suite.fingerprint, suite.texts) for suite in self.suites])

    def _asked(self, *, last: bool) -> tuple[Suite, ...]:
        """What a stage is asked: the score matrix needs every task after every stage, the
        comparisons need everything after the last one."""
        of_tasks = {name for names in self.task_suites.values() for name in names}
        return self.suites if last else tuple(suite for suite in self.suites if suite.name in of_tasks)

    def _stage(
        self,
        arm: str,
        seed: int,
        task: str,
        source: Source,
        handle: ModelHandle,
        past: tuple[PastTask, ...],
        earlier: tuple[Stage, ...],
        asked: tuple[Suite, ...],
        extends: tuple[ExtendStep, ...] = (),
    ) -> Stage:
        plan = Plan(
            draw=Transcripts() if self.hears else TeacherForcing(),
            examples=source,
            before=handle,
            task=task,
            seed=seed,
            train=self.study.train_of(arm),
            past=past,
            sequence=self.study.is_sequence,
        )
        # After the methods, none of which may know a suite: what a model makes up must hold none of their items.
        plan = guarded(apply(plan, self._methods(arm)), self.held_out)
        title = f"{arm}, seed {seed}" + (f", {task}" if self.study.is_sequence else "")
        writes = tuple(WriteStep(one, self.root, f"{title}: write rows") for one in generated_in(plan))
        needs = tuple(step.key for stage in earlier for step in stage.steps)
        needs += tuple(step.key for step in (*extends, *writes))
        count = self.study.trajectory.moments if self.study.trajectory else 0
        # Arithmetic behind the training is no part of its key, so arms that differ in it alone share one training.
        training = TrainStep(replace(plan, after=()), self.root, f"{title}: train", needs, count)
        steps, model, measure = self._left(training, 0, plan, asked, title)
        moments = []
        for number in range(1, count):
            own, _, asking = self._left(training, number, plan, self.trajectory, f"{title}, {number} of {count}")
            # Without the first step, which is the one training of the stage.
            moments.append(Moment(own[1:], asking))
        return Stage(task, plan, writes, steps, model, measure, tuple(moments), extends)

    def _left(
        self, training: TrainStep, moment: int, plan: Plan, asked: tuple[Suite, ...], title: str
    ) -> tuple[tuple[Step, ...], StepModel, MeasureStep]:
        """What a training leaves at a moment (0: its end): the steps that make the model, and its measuring."""
        steps: list[Step] = [training]
        model = self._model(training.key, moment)
        # Each moment gets the arithmetic too: what is measured is what the arm would have been, had it ended here.
        if plan.after:
            arithmetic = WeightsStep(model, plan.before, plan.after, f"{title}: weights")
            steps.append(arithmetic)
            model = self._model(arithmetic.key)
        measure = MeasureStep(
            model,
            asked,
            f"{title}: measure",
            needs=(steps[-1].key, self.before_step.key),
            before=self.before,
            before_measured=StepModel(self.root, self.before_step.key),
            # Of moments the report has the curve; their answers would come three times.
            shown=None if moment else (title, plan.seed),
        )
        return tuple(steps), model, measure

    def _model(self, key: str, moment: int = 0) -> StepModel:
        study = self.study
        return StepModel(self.root, key, moment, study.trust_remote_code, study.allow_pickle, study.torch_dtype)

    def _methods(self, arm: str) -> list[dict[str, dict[str, Any] | None]]:
        steps = [] if arm == JOINT else list(self.study.arms[arm] or [])
        own = any("output_only" in step for step in steps)
        return steps if own or not self.study.output_only else [{"output_only": {}}, *steps]


def source_of(task: Task) -> Source:
    """The task's rows, read lazily."""
    from mnemos.sources.read import read

    return read(
        task.data,
        format=task.format,
        name=task.name,
        limit=task.limit,
        on_bad="skip" if task.on_bad == "skip" else "stop",
        columns=task.columns,
    )


def suites_of(study: Study, folder: Path) -> tuple[tuple[Suite, ...], dict[str, str], dict[str, tuple[str, ...]]]:
    """All suites, name -> role, and task -> names of its suites."""
    from mnemos.measure.suite import load_suites

    found: dict[str, Suite] = {}
    roles: dict[str, str] = {}

    def add(specs: Iterable[Any], role: str, *, again: bool = False) -> tuple[str, ...]:
        loaded = load_suites(list(specs), folder, known=found.values())
        for suite in loaded:
            if suite.name in found and not (again and suite.fingerprint == found[suite.name].fingerprint):
                raise UsageError(f"suites: {suite.name}", "is named twice", "list each suite once, under new or old")
            found[suite.name], roles[suite.name] = suite, role
        return tuple(suite.name for suite in loaded)

    # A task that is taught again, as in rounds of learning from feedback, is measured by the same suites.
    task_suites = {str(task.name): add(task.suites, "new", again=True) for task in study.tasks}
    shared = add(study.suites.new, "new")
    if not study.is_sequence:
        task_suites = {name: (*own, *shared) for name, own in task_suites.items()}
    add(study.suites.old, "old")
    if study.health:
        # Last: each is about the answers to a suite that has to be known already.
        add(health_suites(found[name] for name in roles if roles[name] == "new"), "health")
    return tuple(found.values()), roles, task_suites


def _trajectory(study: Study, suites: tuple[Suite, ...]) -> tuple[Suite, ...]:
    """The suites that are measured while training."""
    if study.trajectory is None:
        return ()
    known = {suite.name: suite for suite in suites}
    stranger = next((name for name in study.trajectory.suites if name not in known), None)
    if stranger is not None:
        raise UsageError(f"trajectory.suites: {stranger}", "is not a suite of this study", nearest(stranger, known))
    return tuple(known[name] for name in dict.fromkeys(study.trajectory.suites))


def health_suites(suites: Iterable[Suite]) -> list[dict[str, Any]]:
    """Loss is not enough: stop rate, repeated 4-grams and KL(before || after) beside every suite
    whose answers are generated."""
    generated = [suite for suite in suites if suite.kind in ("generated", "refusal", "classifier")]
    return [
        {"name": f"{label}:{suite.name}", "kind": kind, "of": suite.name}
        for suite in generated
        for label, kind in (("stop-rate", "stop_rate"), ("repetition", "repetition"), ("kl", "kl"))
    ]


def describe(experiment: Experiment) -> list[str]:
    """The whole experiment in words, for --dry-run."""
    study = experiment.study
    lines = [f"model   {study.model}"]
    lines += [f"teach   {source_of(task).describe()}" for task in study.tasks]
    lines += [
        f"teach   {source_of(study.task_of(arm, task)).describe()} (arm {arm})"
        for arm, own in study.arm_data.items()
        for task in study.tasks
        if task.name in own
    ]
    for suite in experiment.suites:
        lines.append(f"suite   {suite.name} ({experiment.roles[suite.name]}, {suite.kind}, {len(suite.items)} items)")
    lines += [f"beside  {name}: {step.model.path} ({step.key})" for name, step in experiment.beside]
    for run in experiment.runs:
        several = len(study.task_orders) > 1 and run.arm != JOINT
        lines.append(f"arm     {run.arm}, seed {run.seed}" + (f", order {run.order + 1}" if several else ""))
        for stage in run.stages:
            lines.append(f"        {stage.task}: {stage.plan.examples.describe()}")
            lines += [f"          {line}" for line in _history(stage.plan.history)]
            lines += [f"          {step.key}: {step.describe()}" for step in stage.extends]
            lines += [f"          {step.key}: {step.written.describe()}" for step in stage.writes]
            lines += [f"          {step.key}" for step in (*stage.steps, stage.measure)]
            for number, moment in enumerate(stage.moments, 1):
                place = f"{number} of {len(stage.moments) + 1} stretches: "
                lines += [f"          {place}{step.key}" for step in (*moment.steps, moment.measure)]
    return lines


def _history(history: Iterable[Applied]) -> list[str]:
    return [
        f"{line.method}({', '.join(f'{k}={v!r}' for k, v in line.settings.items())})"
        f"{' [off]' if line.off else ''}  {line.paper}"
        for line in history
    ]
