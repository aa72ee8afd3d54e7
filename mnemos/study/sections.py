"""Sections of the study file: what is taught, what is measured, and when."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mnemos.core.names import Name
from mnemos.core.settings import DataRef, Settings


class Task(Settings):
    """One thing to teach."""

    data: DataRef
    """File, Hugging Face dataset directory or hub id of the rows to learn."""
    name: Name | None = None
    """The task's name; the data's stem unless given."""
    format: str | None = None
    """A format of docs/data.md (messages, prompt_completion, question_answer, text …); detected unless given."""
    columns: dict[str, str] | None = None
    """Expected column -> column of the file, where the names differ."""
    limit: int | None = Field(None, ge=1, le=1_000_000_000)
    """Read only the first rows."""
    on_bad: Annotated[str, Field(pattern="^(stop|skip)$")] = "stop"
    """stop at the first bad row, or skip and count bad rows by reason."""
    keep: bool = True
    """In a sequence: keep the rows, so that later tasks may rehearse them."""
    suites: list[Any] = Field(default_factory=list)
    """In a sequence: the suites that measure this task."""


class SuiteRoles(Settings):
    """What is measured before and after, by role."""

    new: list[Any] = Field(default_factory=list)
    """Suites of what is taught: names, YAML files or inline suites."""
    old: list[Any] = Field(default_factory=list)
    """Suites of what must not be lost."""


class Trajectory(Settings):
    """What is measured while the arms train."""

    suites: list[str] = Field(min_length=1)
    """Names of suites of this study; their role there is their role here."""
    moments: int = Field(4, ge=2, le=1000)
    """Equal stretches of each training, at whose ends its model is kept and measured: 4 adds three models."""


class Vocabulary(Settings):
    """New pieces of a language that a model is given before it is taught: `mnemos tokenizer extend` as a step."""

    data: DataRef
    """Text of the language that pieces are learned from: a file, folder or hub id."""
    scripts: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(min_length=1, max_length=32)
    """Unicode scripts that a new piece is written in, such as [Devanagari]."""
    pieces: int = Field(500, ge=1, le=200_000)
    """New pieces at most."""
    init: Literal["random", "mean", "sub-pieces", "focus"] = "sub-pieces"
    """What new rows of the input and the output matrix begin as; what is drawn is drawn by the run's seed."""
    old: DataRef | None = None
    """Text of the old language, whose ids must stay: refused where one changes."""
    every_task: bool = False
    """In a sequence: so many new pieces before every task (progressive expansion), instead of before the first alone;
    later ones are learned from the same text behind what the earlier ones left."""


class EngineSettings(Settings):
    """Who executes the steps, and what each of them is given. No part of a result: what one engine finished, another
    one reuses."""

    name: str | None = None
    """local, pool or ray; local for one job and pool for several unless given."""
    jobs: int | None = Field(default=None, ge=1, le=10_000)
    """Steps at a time: 1 unless given, on a cluster as many as it has room for."""
    address: str | None = Field(default=None, min_length=1, max_length=255)
    """Of a Ray cluster: HOST:PORT of its head; auto, as when it is not given, is the one that this machine is of."""
    num_cpus: float = Field(default=1, gt=0, le=100_000)
    """Cores of a step, which are its threads too unless OMP_NUM_THREADS says otherwise; below 1, steps share one."""
    num_gpus: float = Field(default=0, ge=0, le=100_000)
    """GPUs of a step; below 1, steps share one."""
    processes: int = Field(default=1, ge=1, le=100_000)
    """Processes that train together, each with num_cpus and num_gpus of its own, on one node or on several."""
    max_retries: int = Field(default=3, ge=0, le=1_000)
    """How often a step that was lost with its node is begun again."""
    keep_going: bool = False
    """Behind a step that fails, do all that does not need it. The run still ends as failed; its report has the arms
    that are whole and names the others."""

    @model_validator(mode="after")
    def _whole(self) -> EngineSettings:
        for key in ("num_cpus", "num_gpus"):
            value = getattr(self, key)
            if value > 1 and value != int(value):
                raise ValueError(f"{key} = {value:g} must be whole above 1")
        return self
