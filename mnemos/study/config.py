"""The study file: one YAML that says model, what to teach, suites, arms, training, seeds."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mnemos.core.errors import UsageError, nearest
from mnemos.core.method import find, validated
from mnemos.core.names import EXTENDED, Name, check_name, data_name, named_after, refuse_clash
from mnemos.core.places import resolved
from mnemos.core.settings import FileRef, ModelRef, Seed, Settings, TrainSettings
from mnemos.core.yaml_text import dump_yaml, read_utf8, read_yaml
from mnemos.sources.chat_settings import ChatSettings
from mnemos.study.overrides import parse_override as parse_override
from mnemos.study.overrides import set_key
from mnemos.study.paths import data_location, located, model_location, resolve_path
from mnemos.study.sections import EngineSettings, SuiteRoles, Task, Trajectory, Vocabulary

MOST_TRAININGS = 20_000
"""Stages of a whole study, each measured moment counted: more than a year's work, and minutes to plan."""

MOST_ORDERS = 120
"""Sequences that `orders: all` may mean: those of five tasks."""

ArmSteps = list[dict[str, dict[str, Any] | None]]


class Study(Settings):
    """A whole study."""

    model: ModelRef
    """The model before: a Hugging Face directory or hub id, or mnemos:patients/chat."""
    chat_template: FileRef | None = None
    """A file with another chat template (Jinja), in place of the model's own; it is saved with trained models."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Variables of the chat template, such as {enable_thinking: false}, for rows and items that give none of their
    own."""
    system: str | None = None
    """System prompt of every chat that has none of its own, in training and in measurement."""
    teach: Task | list[Task]
    """What to teach: one task, or a list taught one after the other."""
    suites: SuiteRoles = SuiteRoles()
    """What is measured."""
    arms: dict[str, ArmSteps | None] = Field(default_factory=dict)
    """Ways to teach: each a list of methods, applied left to right. `plain` is always added."""
    train: TrainSettings = TrainSettings()
    """Training settings shared by all arms."""
    seeds: list[Seed] = Field(default_factory=lambda: [0], min_length=1, max_length=1_000)
    """Each arm is trained once per seed."""
    name: Name | None = None
    """The study's name; the file's stem unless given."""
    output_only: bool = True
    """Learn only what the model would write itself; false also learns prompts."""
    order: list[str] | None = None
    """For a sequence: the tasks' names in the order in which they are taught; as listed unless given."""
    orders: Literal["all"] | list[list[str]] | None = None
    """For a sequence: several orders, each run as a sequence of its own, and averaged; `all` runs every one."""
    arm_train: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Training settings of single arms, by arm: they replace those under `train`."""
    arm_data: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Other rows of single arms, by arm and task name: a file or hub id in place of the task's data."""
    arm_vocabulary: dict[str, Vocabulary] = Field(default_factory=dict)
    """New pieces of a language that the models of single arms are given before they are taught, by arm. Such a model is
    also measured as it is before any training, as NAME-extended beside the arms."""
    beside: dict[str, ModelRef] = Field(default_factory=dict, max_length=100)
    """Other models, by name, that are asked the same suites once and taught nothing: a reference in the report, such as
    a recogniser and a language model in a row beside one that listens."""
    since: Name | None = None
    """One of `beside`: what `model` was before an earlier study taught it what the arms go on from. Arms are compared
    with it, too, and what an arm learned is told from there."""
    trajectory: Trajectory | None = None
    """Also measure these suites on the way: before, at the end of each stretch of the training, and after it."""
    joint: bool = True
    """For a sequence, also train on all tasks at once, as the upper reference."""
    health: bool = True
    """Also measure stop rate, repetition and KL(before || after) on the new suites' prompts."""
    trust_remote_code: bool = False
    """Run code that comes with the model."""
    allow_pickle: bool = False
    """Read weights in pickle files, which can run code when loaded."""
    torch_dtype: Literal["float32", "bfloat16"] | None = None
    """What the model computes in and is saved in. Left out, it computes in whichever of the two is faster on this
    machine, and is saved in the dtype that it came in."""
    engine: EngineSettings | str | None = None
    """Who executes the steps, and what each of them is given: local, pool or ray, or settings with that name."""

    @property
    def chat(self) -> ChatSettings | None:
        """What the study gives to the chat template; reads the template's file. UsageError where that is none."""
        return chat_settings(self.chat_template, self.chat_template_kwargs, self.system)

    @property
    def listed(self) -> tuple[Task, ...]:
        """The tasks as `teach` lists them."""
        return tuple(self.teach) if isinstance(self.teach, list) else (self.teach,)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks in the order in which they are taught (of several orders, the first)."""
        return self.task_orders[0]

    @property
    def task_orders(self) -> tuple[tuple[Task, ...], ...]:
        """Every order in which the tasks are taught, each a sequence of its own."""
        by_name = {str(task.name): task for task in self.listed}
        if self.orders == "all":
            # `_check_orders` and `_refuse_size` have bounded their number before anybody asks.
            return tuple(itertools.permutations(self.listed))
        named = self.orders or ([self.order] if self.order else [])
        return tuple(tuple(by_name[name] for name in order) for order in named) or (self.listed,)

    @property
    def every_order(self) -> bool:
        """Whether no order is left to chance: all of them are run."""
        return len(self.task_orders) == math.factorial(len(self.listed))

    def train_of(self, arm: str) -> TrainSettings:
        """The training settings of one arm."""
        own = self.arm_train.get(arm)
        if not own:
            return self.train
        settings: TrainSettings = validated(TrainSettings, {**self.train.model_dump(), **own}, where=f"arm_train.{arm}")
        return settings

    def task_of(self, arm: str, task: Task) -> Task:
        """The task as one arm is taught it."""
        own = self.arm_data.get(arm, {}).get(str(task.name))
        return task if own is None else task.model_copy(update={"data": own})

    @property
    def beside_names(self) -> list[str]:
        """What stands beside the arms: other models, and extended ones before they are taught."""
        return [*self.beside, *(f"{arm}{EXTENDED}" for arm in self.arm_vocabulary)]

    @property
    def is_sequence(self) -> bool:
        """Whether tasks are taught one after the other and a score matrix is due."""
        return isinstance(self.teach, list) and len(self.teach) > 1


def load_study(
    location: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> tuple[Study, Path]:
    """Read, override, check and resolve a study; returns it with the folder of its file.

    location: a YAML path (``mnemos:demo.yaml`` for a shipped recipe) or a mapping.
    overrides: dotted key -> value, e.g. ``{"train.learning_rate": 1e-4}``; list indices are
    numbers. Paths become absolute; names of built-in suites stay names. Raises UsageError with
    the key, the value and the nearest known name.
    """
    raw, folder = raw_study(location, overrides)
    return resolved_study(raw, folder), folder


def raw_study(
    location: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], Path]:
    """The study's keys as they were written, overridden and named, and the folder of its file."""
    if isinstance(location, Mapping):
        raw, folder, name = copy.deepcopy(dict(location)), Path.cwd(), "study"
    else:
        path = resolve_path(str(location), Path.cwd())
        raw, folder, name = _read_yaml(path), resolved(path.parent), path.stem
    for key, value in (overrides or {}).items():
        set_key(raw, key, value)
    if raw.get("name") is None:
        raw["name"] = named_after(name, "study")
    return raw, folder


def resolved_study(raw: Mapping[str, Any], folder: Path) -> Study:
    """Check what `raw_study` read, and make its paths absolute. Raises UsageError as `load_study`."""
    return _resolved(_checked(raw), folder)


def chat_settings(template: str | None, variables: Mapping[str, Any] | None, system: str | None) -> ChatSettings | None:
    """What a study gives to its model's chat template; None where it is nothing. template: a file, which is read here.
    Raises UsageError for a file that is none or holds nothing, and as `ChatSettings.of`."""
    text = None if template is None else read_utf8(template)
    if text is not None and not text.strip():
        raise UsageError(f"chat_template = {template}", "is empty", "give a Jinja template, or leave it out")
    return ChatSettings.of(text, variables, system)


def _read_yaml(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise _no_study(path)
    raw = read_yaml(path, cure="give a study file, or write one with: mnemos init DATA --model MODEL")
    if not isinstance(raw, dict):
        raise UsageError(f"{path}", "must be a mapping with model, teach, suites, arms", "see mnemos init")
    return raw


def _no_study(folder: Path) -> UsageError:
    """The error for a directory in the place of a study file; a run's holds the study that it was made of."""
    if (folder / "study.yaml").is_file() and (folder / "steps").is_dir():
        go_on = f"mnemos run {folder / 'study.yaml'} --out {folder}"
        return UsageError(
            f"{folder}", "is a directory", f"to go on with this run: {go_on}; to see it: mnemos report {folder}"
        )
    held = sorted(one.name for one in folder.glob("*.y*ml"))[:5]
    named = f"it holds {', '.join(held)}" if held else "write one with: mnemos init DATA --model MODEL"
    return UsageError(f"{folder}", "is a directory", f"give a study file: {named}")


def _checked(raw: Mapping[str, Any]) -> Study:
    values = dict(raw)
    teach = values.get("teach")
    if isinstance(teach, Mapping):
        values["teach"] = validated(Task, teach, where="teach")
    elif isinstance(teach, list):
        values["teach"] = [validated(Task, task, where=f"teach.{i}") for i, task in enumerate(teach)]
        if not teach:
            raise UsageError("teach = []", "must name at least one task", "write teach: {data: FILE}")
    elif isinstance(teach, str):
        values["teach"] = validated(Task, {"data": teach}, where="teach")
    if isinstance(values.get("engine"), str):
        values["engine"] = {"name": values["engine"]}
    sections: dict[str, type[Settings]] = {
        "suites": SuiteRoles,
        "train": TrainSettings,
        "trajectory": Trajectory,
        "engine": EngineSettings,
    }
    for key, model in sections.items():
        if key in values and not (key in ("trajectory", "engine") and values[key] is None):
            values[key] = validated(model, values[key] or {}, where=key)
    vocabularies = values.get("arm_vocabulary")
    if isinstance(vocabularies, Mapping):
        values["arm_vocabulary"] = {
            arm: validated(Vocabulary, own or {}, where=f"arm_vocabulary.{arm}") for arm, own in vocabularies.items()
        }
    study: Study = validated(Study, values, where="study")
    if len(set(study.seeds)) != len(study.seeds):
        raise UsageError(f"seeds = {study.seeds}", "must differ from each other", "leave each seed once")
    return study


def _resolved(study: Study, folder: Path) -> Study:
    import mnemos.methods  # noqa: F401  fills the registry

    tasks = [_task(task, i, folder, study.is_sequence) for i, task in enumerate(study.listed)]
    names = [str(task.name) for task in tasks]
    refuse_clash(names, "teach: tasks")
    arms = {"plain": [], **{arm: _arm(arm, steps or [], folder) for arm, steps in study.arms.items()}}
    if "joint" in arms and study.is_sequence and study.joint:
        raise UsageError("arms.joint", "is the name of the upper reference", "rename the arm, or set joint: false")
    if study.trajectory and study.is_sequence:
        raise UsageError("trajectory", "is for a single task", "leave it out: a sequence is measured after every task")
    for arm in arms:
        check_name(arm, "arms: name")
    refuse_clash([*arms, *(["joint"] if study.is_sequence and study.joint else [])], "arms")
    for arm in arms if study.trajectory else ():
        if study.train_of(arm).load_best_model_at_end:
            raise UsageError(
                "trajectory and train.load_best_model_at_end",
                "are both set, and the last stretch would not end with the trained model",
                "leave one of them out",
            )
    for name in study.beside:
        check_name(name, "beside: name")
    if study.beside_names:
        refuse_clash(["before", *arms, *study.beside_names], "arms and models beside them")
    if study.since is not None and study.since not in study.beside:
        raise UsageError(f"since = {study.since}", "is no model of beside", "name it there, or leave since out")
    for arm in study.arm_train:
        if arm not in arms:
            raise UsageError(f"arm_train.{arm}", "is not an arm of this study", nearest(arm, arms))
        study.train_of(arm)
    _check_vocabularies(study, list(arms))
    _check_orders(study, names)
    _refuse_size(study, len(arms))
    arm_data = _arm_data(study, list(arms), names, folder)
    roles = SuiteRoles(new=suite_specs(study.suites.new, folder), old=suite_specs(study.suites.old, folder))
    if not any([roles.new, roles.old, *(task.suites for task in tasks)]):
        raise UsageError(
            "suites", "names no suite, so nothing could be measured", "write suites: {new: [...], old: [...]}"
        )
    return study.model_copy(
        update={
            "model": model_location(study.model, folder),
            "beside": {name: model_location(one, folder, f"beside.{name}") for name, one in study.beside.items()},
            "chat_template": None if study.chat_template is None else str(resolve_path(study.chat_template, folder)),
            "teach": tasks if isinstance(study.teach, list) else tasks[0],
            "arms": arms,
            "arm_data": arm_data,
            "arm_vocabulary": {
                arm: own.model_copy(update=located(Vocabulary, own.model_dump(), folder))
                for arm, own in study.arm_vocabulary.items()
            },
            "suites": roles,
        }
    )


def _arm_data(study: Study, arms: Sequence[str], tasks: Sequence[str], folder: Path) -> dict[str, dict[str, str]]:
    for arm, own in study.arm_data.items():
        if arm not in arms:
            raise UsageError(f"arm_data.{arm}", "is not an arm of this study", nearest(arm, arms))
        for task in own:
            if task not in tasks:
                raise UsageError(f"arm_data.{arm}.{task}", "is not a task of this study", nearest(task, tasks))
    return {
        arm: {task: data_location(place, folder) for task, place in own.items()} for arm, own in study.arm_data.items()
    }


def _check_vocabularies(study: Study, arms: Sequence[str]) -> None:
    for arm, own in study.arm_vocabulary.items():
        if arm not in arms:
            raise UsageError(f"arm_vocabulary.{arm}", "is not an arm of this study", nearest(arm, arms))
        if own.every_task and not study.is_sequence:
            raise UsageError(f"arm_vocabulary.{arm}.every_task", "needs a sequence", "list several tasks under teach")
    given = [key for key in ("chat_template", "chat_template_kwargs", "system") if getattr(study, key)]
    if study.arm_vocabulary and given:
        raise UsageError(
            f"arm_vocabulary and {given[0]}",
            "are both set, and an extended model is written with its own template alone",
            f"leave {given[0]} out, or extend first (mnemos tokenizer extend) and name the new model",
        )


def _refuse_size(study: Study, arms: int) -> None:
    """Refuse what could not even be planned."""
    # Counted, not made: the list of orders itself could be too large to build.
    orders = math.factorial(len(study.listed)) if study.orders == "all" else max(1, len(study.orders or ()))
    moments = study.trajectory.moments if study.trajectory else 1
    parts = {"arms": arms, "orders": orders, "seeds": len(study.seeds), "tasks": len(study.listed), "moments": moments}
    size = math.prod(parts.values())
    if size > MOST_TRAININGS:
        text = " x ".join(f"{count:,} {name}" for name, count in parts.items() if count > 1)
        raise UsageError(text, f"are {size:,} models to train and measure, above {MOST_TRAININGS:,}", "name fewer")


def _check_orders(study: Study, names: Sequence[str]) -> None:
    """Every order names each task once, no order comes twice."""
    if study.order is None and study.orders is None:
        return
    key = "order" if study.orders is None else "orders"
    if study.order is not None and study.orders is not None:
        raise UsageError("order and orders", "are both set", "keep one: order is the only sequence, orders are several")
    if not study.is_sequence:
        raise UsageError(key, "needs a sequence: teach is a single task", "list several tasks under teach")
    if study.orders == "all":
        count = math.factorial(len(names))
        if count > MOST_ORDERS:
            raise UsageError(
                "orders = all", f"is {count:,} sequences of {len(names)} tasks", "list some: [[a, b, …], …]"
            )
        return
    given = study.orders or ([study.order] if study.order else [])
    if not given:
        raise UsageError(f"{key} = []", "names no order", "leave it out, or list the tasks' names")
    for order in given:
        strangers = [name for name in order if name not in names]
        if strangers:
            raise UsageError(f"{key}: {strangers[0]}", "is not a task of this study", nearest(strangers[0], names))
        if sorted(order) != sorted(names):
            raise UsageError(
                f"{key}: {order}", f"must name each of {list(names)} once", "a sequence teaches every task"
            )
    if len({tuple(order) for order in given}) < len(given):
        raise UsageError(f"orders = {given}", "holds an order twice", "list each order once")


def _task(task: Task, number: int, folder: Path, sequence: bool) -> Task:
    data = data_location(task.data, folder)
    if sequence and not task.suites:
        raise UsageError(f"teach.{number}.suites = []", "each task of a sequence needs its own suite", "name one")
    name = task.name or data_name(task.data, f"task-{number}")
    return task.model_copy(update={"data": data, "name": name, "suites": suite_specs(task.suites, folder)})


def _arm(arm: str, steps: ArmSteps, folder: Path) -> ArmSteps:
    out: ArmSteps = []
    for number, step in enumerate(steps):
        if not isinstance(step, Mapping) or len(step) != 1:
            raise UsageError(
                f"arms.{arm}.{number} = {step!r}", "must be one {method: settings} pair", "one method a line"
            )
        ((name, settings),) = step.items()
        chosen = find(name)
        out.append({name: located(chosen.settings, chosen.validate(settings or {}), folder)})
    return out


def suite_specs(specs: Sequence[Any], folder: Path) -> list[Any]:
    """Suites as a study names them, with every file in them made absolute."""
    out = []
    for spec in specs:
        if isinstance(spec, str) and spec.endswith((".yaml", ".yml", ".json")):
            spec = str(resolve_path(spec, folder))
        elif isinstance(spec, Mapping):
            from mnemos.measure.kinds import KINDS
            from mnemos.measure.suite_files import expanded

            spec = expanded(spec, folder)
            kind = KINDS.get(str(spec.get("kind")))
            spec = located(kind.settings, spec, folder) if kind is not None else spec
        out.append(spec)
    return out


def dump_study(study: Study) -> str:
    """The resolved study as YAML, every default filled in; running it again is the same study."""
    return dump_yaml(study.model_dump())


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of a study file, for editors; arms come from the method registry, suites from the kinds."""
    from mnemos.measure.suite_schema import DRAFT, SUITE, definitions
    from mnemos.methods import schema as arm_schema

    out = Study.model_json_schema()
    out["$schema"] = DRAFT
    out["title"] = "mnemos study"
    arm = arm_schema()
    out.setdefault("$defs", {}).update({**arm.pop("$defs", {}), **definitions()})
    for holder, keys in (("SuiteRoles", ("new", "old")), ("Task", ("suites",))):
        for key in keys:
            # A name of a shipped suite, a YAML file, or a suite written in place.
            out["$defs"][holder]["properties"][key]["items"] = {"anyOf": [{"type": "string"}, SUITE]}
    nothing: dict[str, Any] = {"type": "null"}
    out["properties"]["arms"] = {"type": "object", "additionalProperties": {"anyOf": [arm, nothing]}}
    return out
