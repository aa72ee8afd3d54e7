"""The study file of a stream: model, what is streamed, which agents, in how many orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import find, validated
from mnemos.core.names import Name, check_name, refuse_clash
from mnemos.core.places import author_location, located, resolve_path
from mnemos.core.settings import AskedModelRef, FileRef, Seed, Settings
from mnemos.stream.agents import AGENTS, CONTROLS, make, row
from mnemos.stream.prompts import load
from mnemos.stream.task import TaskSettings
from mnemos.stream.tasks import check_name as check_task
from mnemos.stream.weights import WeightSettings
from mnemos.study.config import suite_specs

REFERENCE = "zero-shot"
"""The arm that every study has: the bare question."""
Way = Literal["direct", "written", "executed", "verbalised", "random"]
CONTROL_ARMS = ("random-correct", "oracle-memory", "frozen-at-half", "coin-feedback", "duplicate-free")
MOST_ORDERS = 100


class MemorySettings(Settings):
    """How memories are found."""

    encoder: str = "none"
    """What makes vectors of questions: none, model (the model's own hidden states), or a sentence-transformers
    directory."""
    search: Literal["similar", "lexical", "hybrid"] | None = None
    """By vectors, by words (SQLite FTS5), or both; lexical without an encoder, similar with one, unless given."""

    @property
    def how(self) -> Literal["similar", "lexical", "hybrid"]:
        """The search in force."""
        return self.search or ("lexical" if self.encoder == "none" else "similar")


class PanelSettings(Settings):
    """The first items, asked again along the way with learning switched off: what is forgotten."""

    items: int = Field(default=30, ge=1, le=1000)
    """How many."""
    every: int = Field(default=0, ge=0, le=1_000_000)
    """Steps between two askings; 0 asks never."""


class DecodingSettings(Settings):
    """How answers are written."""

    temperature: float = Field(default=0.0, ge=0, le=10)
    """0 is greedy; above it both sides of the gain are drawn once in every order."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of sampling."""
    max_prompt_tokens: int | None = Field(default=None, ge=64, le=10_000_000)
    """Budget of a prompt, shots included; the model's window unless given. Shots that do not fit are left out from the
    least similar one on, and counted."""


class HelpSettings(Settings):
    """Asking a person for a hint: which questions are worth it."""

    ways: list[Way] = Field(default=["direct", "written", "executed", "random"], min_length=1)
    """How the model is asked whether it needs the hint: before it answers, with its answer, with what that gave when it
    was run; by a probability that it writes; or a coin."""
    budget: float = Field(default=0.3, gt=0, lt=1)
    """Share of questions for which a person may be asked, for the online threshold."""


class StreamStudy(Settings):
    """A study of agents on a stream."""

    model: AskedModelRef
    """The model that answers: a directory, hub id, GGUF file, or http://host:port/v1#name."""
    models: list[AskedModelRef] = Field(default_factory=list, max_length=16)
    """Further models, for agents whose models take turns."""
    stream: TaskSettings
    """What is streamed: a task's name, or its settings."""
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Agents by name of the arm: an agent's name, or a mapping with agent, its settings, and feedback (real or coin),
    learn_until (share of the stream) and duplicates (keep or drop). zero-shot is always added."""
    weights: dict[str, WeightSettings] = Field(default_factory=dict)
    """Arms whose weights change, by name: zero-shot that is trained on its own right answers along the way."""
    suites: list[Any] = Field(default_factory=list)
    """What arms under weights must not lose: names of suites, YAML files or inline suites."""
    controls: bool = False
    """Add the five controls, random-correct, oracle-memory, frozen-at-half, coin-feedback and duplicate-free."""
    orders: list[Seed] = Field(default_factory=lambda: [0, 1, 2], min_length=1, max_length=MOST_ORDERS)
    """Seeds of the orders in which every arm sees the items."""
    memory: MemorySettings = MemorySettings()
    """How memories are found."""
    panel: PanelSettings = PanelSettings()
    """What is asked again along the way."""
    decoding: DecodingSettings = DecodingSettings()
    """How answers are written."""
    help: HelpSettings | None = None
    """Also ask when a person's hint is worth its price, where the task has hints."""
    prompts: FileRef | None = None
    """A folder of prompts in place of the shipped ones, by the same file names."""
    prices: dict[str, float] = Field(default_factory=dict)
    """Dollars for a million tokens, for the cost in money."""
    tolerance: float = Field(default=2.0, ge=0, le=100)
    """Points within which an agent counts as no different from zero-shot."""
    lockstep: bool = True
    """Advance all streams together, so that their requests share batches; the steps are the same without."""
    name: Name | None = None
    """The study's name; the file's stem unless given."""

    def arm(self, name: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """(agent, its settings, what the loop does to it) of an arm. One whose weights change is zero-shot."""
        if name in self.weights:
            return REFERENCE, {}, dict(CONTROLS)
        given = dict(self.arms[name])
        agent = given.pop("agent")
        control = {**CONTROLS, **row(agent).control}
        control |= {key: given.pop(key) for key in CONTROLS if key in given}
        return agent, given, control


def is_stream(raw: Mapping[str, Any]) -> bool:
    """Whether the keys of a study file are those of a stream."""
    return "stream" in raw


def resolved_stream(raw: Mapping[str, Any], folder: Path) -> StreamStudy:
    """Check the keys and make places absolute. UsageError with key, value and the nearest known name."""
    values = dict(raw)
    if "teach" in values:
        raise UsageError("teach and stream", "are both set", "keep one: a study trains, or streams")
    task = values.get("stream")
    values["stream"] = _task({"name": task} if isinstance(task, str) else task, folder)
    if isinstance(values.get("orders"), int) and not isinstance(values["orders"], bool):
        values["orders"] = list(range(min(int(values["orders"]), MOST_ORDERS + 1)))
    for key, model in (("memory", MemorySettings), ("panel", PanelSettings), ("decoding", DecodingSettings)):
        if key in values:
            values[key] = validated(model, values[key] or {}, where=key)
    if values.get("help") is not None:
        values["help"] = validated(
            HelpSettings, values["help"] if isinstance(values["help"], Mapping) else {}, where="help"
        )
    arms = values.get("arms") or {}
    if not isinstance(arms, Mapping):
        raise UsageError(
            f"arms = {arms!r}", "must be a mapping of names and agents", "write arms: {icl: self-stream-icl}"
        )
    if values.get("weights"):
        values["weights"] = _weights(values["weights"], folder)
    values["suites"] = suite_specs(values.get("suites") or [], folder)
    values["arms"] = _arms(arms, bool(values.get("controls")))
    study: StreamStudy = validated(StreamStudy, values, where="study")
    refuse_clash([*study.arms, *study.weights], "arms")
    if any(one.guard for one in study.weights.values()) and not study.suites:
        raise UsageError(
            "weights", "are guarded by old suites, and suites names none", "name some, or set guard: false"
        )
    if study.weights and study.model.startswith(("http://", "https://", "vllm:")):
        raise UsageError(f"model = {study.model}", "has no weights to train here", "name a directory, or no weights")
    if len(set(study.orders)) != len(study.orders):
        raise UsageError(f"orders = {study.orders}", "must differ from each other", "leave each seed once")
    prompts = load(None if study.prompts is None else resolve_path(study.prompts, folder))
    for name in study.prices:
        if name not in ("prompt", "completion"):
            raise UsageError(f"prices.{name}", "is not a price", "prompt and completion, in dollars a million tokens")
    for name in study.arms:
        agent, settings, control = study.arm(name)
        make(agent, prompts, settings, models=1 + len(study.models))
        _check_control(name, control)
    places = located(StreamStudy, {"model": study.model, "models": study.models, "prompts": study.prompts}, folder)
    encoder = study.memory.encoder
    if encoder not in ("none", "model"):
        encoder = author_location(encoder, folder, "memory.encoder")
    if study.memory.search in ("similar", "hybrid") and encoder == "none":
        raise UsageError(f"memory.search = {study.memory.search}", "needs vectors", "name an encoder, or leave it out")
    return study.model_copy(update={**places, "memory": study.memory.model_copy(update={"encoder": encoder})})


def _task(values: Any, folder: Path) -> TaskSettings:
    task: TaskSettings = validated(TaskSettings, values, where="stream")
    update = {
        key: str(resolve_path(text, folder)) for key in ("data", "database") if (text := getattr(task, key)) is not None
    }
    if task.name.endswith(".py"):
        update["name"] = str(resolve_path(task.name, folder))
    task = task.model_copy(update=update)
    check_task(task.name)
    return task


def _weights(arms: Any, folder: Path) -> dict[str, WeightSettings]:
    if not isinstance(arms, Mapping):
        raise UsageError(f"weights = {arms!r}", "must be a mapping of arms", "write weights: {sft: {every: 20}}")
    for name in arms:
        check_name(str(name), "weights: name")
    checked = {str(name): validated(WeightSettings, one or {}, where=f"weights.{name}") for name, one in arms.items()}
    return {name: one.model_copy(update={"methods": _placed(one.methods, folder)}) for name, one in checked.items()}


def _placed(methods: Sequence[Mapping[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Methods with the places in them relative to the study's folder, as those of an arm of a training. All else stays
    as it was given: with defaults filled in, an arm that names no place would be another."""
    import mnemos.methods  # noqa: F401  fills the registry

    def placed(name: str, given: Mapping[str, Any] | None) -> Any:
        return given and located(find(name).settings, given, folder)

    return [{name: placed(name, given) for name, given in step.items()} for step in methods]


def _arms(arms: Mapping[str, Any], controls: bool) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {REFERENCE: {"agent": REFERENCE}}
    for name, value in arms.items():
        check_name(str(name), "arms: name")
        entry = {"agent": value} if isinstance(value, str) else {"agent": name} if value is None else value
        if not isinstance(entry, Mapping):
            raise UsageError(f"arms.{name} = {value!r}", "must be an agent or a mapping", f"known: {', '.join(AGENTS)}")
        out[str(name)] = {"agent": str(name) if str(name) in AGENTS else None, **entry}
        if out[str(name)]["agent"] is None:
            raise UsageError(f"arms.{name}", "names no agent", "write agent: NAME; mnemos stream agents lists them")
    for name in CONTROL_ARMS if controls else ():
        out.setdefault(name, {"agent": name})
    if out[REFERENCE] != {"agent": REFERENCE}:
        raise UsageError(f"arms.{REFERENCE}", "is the arm that all are compared with", "give yours another name")
    refuse_clash(out, "arms")
    return out


def _check_control(arm: str, control: Mapping[str, Any]) -> None:
    share = control["learn_until"]
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise UsageError(f"arms.{arm}.learn_until = {share!r}", "must be a share from 0 to 1", "0.5 freezes it at half")
    for key, allowed in (("feedback", ("real", "coin")), ("duplicates", ("keep", "drop"))):
        if control[key] not in allowed:
            raise UsageError(f"arms.{arm}.{key} = {control[key]!r}", f"must be {' or '.join(allowed)}", "")
