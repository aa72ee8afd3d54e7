"""Sections of the study file: what is taught, what is measured, and when."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from mnemos.core.names import Name
from mnemos.core.settings import DataRef, Settings


class Task(Settings):
    """One thing to teach."""

    data: DataRef
    """File, Hugging Face dataset directory or hub id of the rows to learn."""
    name: Name | None = None
    """The task's name; the data's stem unless given."""
    format: str | None = None
    """messages, prompt_completion, text, alpaca, sharegpt, preference or label; detected unless given."""
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
