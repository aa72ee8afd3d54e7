"""Agents by name: one row each, made of a class and its settings.

`control` is what the loop does to the arm: `feedback: coin` replaces what it hears, `learn_until: 0.5` freezes it at
half, `duplicates: drop` takes near duplicates out of its stream. A study may set each of these on any agent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mnemos.core.errors import UsageError, nearest
from mnemos.stream.agents.playbook import Playbook
from mnemos.stream.agents.reasoning import ChainOfThought, SelfRefine
from mnemos.stream.agents.several import Shared
from mnemos.stream.agents.shots import Shots
from mnemos.stream.learner import Learner

CONTROLS: Mapping[str, Any] = {"feedback": "real", "learn_until": 1.0, "duplicates": "keep"}
"""What the loop can do to an arm, and what it does unless told."""


@dataclass(frozen=True)
class Row:
    """An agent: how it is made, the settings that make it this one, and where it comes from. sees_gold: it is shown
    gold answers of the stream, so that its gain is an upper bound and no result. steady: it learns nothing."""

    make: Callable[..., Any]
    summary: str
    paper: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    control: Mapping[str, Any] = field(default_factory=dict)
    sees_gold: bool = False
    steady: bool = False


STREAMBENCH = "arXiv:2406.08747"

AGENTS: Mapping[str, Row] = {
    "zero-shot": Row(Shots, "asks the bare question", STREAMBENCH, {"k": 0}, steady=True),
    "few-shot": Row(
        Shots, "shows gold examples of the task, always the same", STREAMBENCH, {"how": "gold"}, steady=True
    ),
    "chain-of-thought": Row(ChainOfThought, "thinks first", "arXiv:2201.11903", steady=True),
    "self-refine": Row(SelfRefine, "criticises and improves its answer", "arXiv:2303.17651", steady=True),
    "grow-prompt": Row(
        Shots, "shows the last k answers and what was said of them", "arXiv:2201.06009",
        {"which": "all", "how": "latest", "judged": True},
    ),
    "mem-prompt": Row(
        Shots, "shows the k most similar answers and what was said of them", "arXiv:2201.06009",
        {"which": "all", "judged": True},
    ),
    "self-stream-icl": Row(Shots, "shows the k most similar of its correct answers", STREAMBENCH),
    "only-incorrect": Row(
        Shots, "ablation: shows its wrong answers alone, called wrong", STREAMBENCH,
        {"which": "incorrect", "judged": True},
    ),
    "all-answers": Row(
        Shots, "ablation: shows right and wrong answers as if all were right", STREAMBENCH, {"which": "all"}
    ),
    "mam-stream-icl": Row(Shared, "several models take turns and share correct answers", STREAMBENCH),
    "mam-thompson": Row(
        Shared, "as mam-stream-icl; Thompson sampling says whose turn", STREAMBENCH, {"turn": "thompson"}
    ),
    "mam-discounted": Row(
        Shared, "as mam-thompson, where old outcomes fade", STREAMBENCH, {"turn": "discounted"}
    ),
    "playbook": Row(Playbook, "keeps notes on what helped and what harmed", "arXiv:2510.04618"),
    "random-correct": Row(
        Shots, "control: k of its correct answers at random, so more shots and not similar ones", "", {"how": "random"}
    ),
    "oracle-memory": Row(
        Shots, "control: remembers the gold answer of every question", "", {"stores_gold": True}, sees_gold=True
    ),
    "frozen-at-half": Row(Shots, "control: self-stream-icl that stops learning at half", "", {}, {"learn_until": 0.5}),
    "coin-feedback": Row(
        Shots, "control: self-stream-icl that hears a coin of the same rate", "", {}, {"feedback": "coin"}
    ),
    "duplicate-free": Row(
        Shots, "control: self-stream-icl on the stream without near duplicates", "", {}, {"duplicates": "drop"}
    ),
}  # fmt: skip
"""Every agent, by the name used in a study."""


def row(name: str) -> Row:
    """The row called `name`; UsageError with the nearest name otherwise."""
    if name not in AGENTS:
        raise UsageError(f"agent {name!r}", "is not known", nearest(name, AGENTS))
    return AGENTS[name]


def settings_of(name: str) -> dict[str, Any]:
    """The settings of an agent that a study may give, with the values that its row has."""
    found = row(name)
    fields = dataclasses.fields(found.make)  # type: ignore[arg-type]
    own = {one.name: one.default for one in fields if one.name not in ("prompts", "state", "models", "seed")}
    return {**own, **found.settings}


def make(name: str, prompts: Mapping[str, str], given: Mapping[str, Any], *, models: int = 1, seed: int = 0) -> Learner:
    """An agent that knows nothing yet. given: settings of the study. Raises UsageError for one that the agent does not
    have, or of another type."""
    found, known = row(name), settings_of(name)
    for key, value in given.items():
        if key not in known:
            raise UsageError(f"agent {name}: {key}", "is not a setting of it", nearest(key, known))
        wrong = type(value) is not type(known[key]) or (isinstance(value, int) and value < 0)
        choices = getattr(found.make, "CHOICES", {}).get(key)
        if wrong or (choices and value not in choices):
            bound = f"must be one of {', '.join(choices)}" if choices else f"must be like {known[key]!r}"
            raise UsageError(f"agent {name}: {key} = {value!r}", bound, "see docs/stream.md")
    if given.get("model", 0) >= models:
        bound = f"must be below {models}, as many models as there are"
        raise UsageError(f"agent {name}: model = {given['model']}", bound, "name more under models")
    several = {"models": models, "seed": seed} if found.make is Shared else {}
    made: Learner = found.make(prompts=prompts, **{**known, **given, **several})
    return made
