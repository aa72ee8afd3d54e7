"""What a task is: rows with their gold answers, what is read in an answer, and what it is worth.

A task is one file with a function `task(settings) -> Task`: a module of `stream.tasks`, or a user's own. It is opened
in a process of its own (`stream.grader`); nothing else ever holds a gold answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from mnemos.core.reward import Rewarded
from mnemos.core.settings import Seed, Settings

SHOTS = 16
"""Rows that are held back as gold examples, unless a task says otherwise."""


@dataclass(frozen=True, slots=True)
class Row:
    """One item. id: unique. text: the question as it stands in a prompt, up to where the answer begins. key: what
    memories are looked up by. gold: the right answer as a text, as an example shows it. check: what the verifier
    needs, if that is something else. hint: what a person could add (`stream.asking`), empty where nothing."""

    id: str
    text: str
    key: str
    gold: str
    instruction: str = ""
    check: Any = None
    hint: str = ""


@dataclass(frozen=True)
class Task:
    """rows: in the stream. shots: gold examples, none of which is in the stream. parse: the answer in what a model
    wrote, None where there is none. verify: one reward for each pair of a row and a parsed answer. show: what a parsed
    answer does when it is run, for `stream.asking`; None for tasks whose answers are not run. max_new_tokens: of an
    answer."""

    name: str
    rows: tuple[Row, ...]
    parse: Callable[[str], str | None]
    verify: Callable[[Sequence[Row], Sequence[str]], list[Rewarded]]
    shots: tuple[Row, ...] = ()
    max_new_tokens: int = 128
    show: Callable[[Sequence[Row], Sequence[str]], list[str]] | None = None


class TaskSettings(Settings):
    """Which items are streamed. A shipped task knows where its rows are; your own are named by data."""

    name: str = "jsonl"
    """A shipped task (sql, python, calls, intents, paragraphs, jsonl) or a Python file with a function task."""
    data: str | None = None
    """The file of the rows. Left out, a shipped task looks below $MNEMOS_DATA."""
    items: int | None = Field(default=None, ge=2, le=1_000_000)
    """Items of the stream at most, drawn by seed."""
    seed: Seed = 0
    """Seed of which items are drawn, and of what a task generates."""
    verifier: str = "normalised"
    """With jsonl: how an answer is compared with the gold one, a name of rewards.verifiers, or code or sql."""
    database: str | None = None
    """With verifier sql: the SQLite file."""
    instruction: str = ""
    """With jsonl: what is asked of every item."""
    question: str = "question"
    """With jsonl: the column of the question."""
    answer: str = "answer"
    """With jsonl: the column of the gold answer, a text or a list of texts of which one is enough."""
    hint: str = "hint"
    """With jsonl: the column of what a person could add."""
    max_new_tokens: int | None = Field(default=None, ge=1, le=100_000)
    """Tokens of an answer; each task has its own unless given."""
    options: dict[str, Any] = Field(default_factory=dict)
    """For your own task file: whatever it reads."""
