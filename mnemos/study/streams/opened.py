"""What a study of streams works with: the task, the models, the file, and the streams of every arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import LanguageModel
from mnemos.core.progress import doing, note
from mnemos.models.load import handle
from mnemos.stream import encoders
from mnemos.stream.agents import CONTROLS, make, row
from mnemos.stream.answered import Table
from mnemos.stream.examiner import Examiner
from mnemos.stream.journal import Journal
from mnemos.stream.learner import Question
from mnemos.stream.loop import Panel, Stream
from mnemos.stream.memory import Memory, claim_encoder
from mnemos.stream.models import Models
from mnemos.stream.orders import permutation, same_words, without_duplicates
from mnemos.stream.prompts import load, prompt_hash
from mnemos.stream.store import Store
from mnemos.stream.weights import Weights
from mnemos.study.streams.settings import StreamStudy

FILE = "stream.db"


@dataclass
class Arms:
    """All streams of a study. stateful: arm -> one for each order. reset: arm -> of the same agent reset before every
    item, one for all orders with greedy decoding, else one for each. weights: of arms whose weights change."""

    stateful: dict[str, list[Stream]] = field(default_factory=dict)
    reset: dict[str, list[Stream]] = field(default_factory=dict)
    weights: dict[str, list[Weights]] = field(default_factory=dict)

    @property
    def every(self) -> list[Stream]:
        """Each once."""
        return list(
            {one.name: one for side in (self.stateful, self.reset) for many in side.values() for one in many}.values()
        )


@dataclass
class Opened:
    """What a study works with."""

    study: StreamStudy
    examiner: Examiner
    gold: Examiner | None
    models: list[LanguageModel]
    answering: Models
    encoder: encoders.Kept | None
    prompts: dict[str, str]
    store: Store
    table: Table

    @property
    def questions(self) -> dict[str, Question]:
        """By id."""
        return self.examiner.questions


def open_study(study: StreamStudy, root: Path, stack: ExitStack) -> Opened:
    """Open the task and the file and load the models. stack: closes processes and file."""
    examiner = stack.enter_context(Examiner(study.stream))
    gold = stack.enter_context(Examiner(study.stream, reveal=True)) if sees_gold(study) else None
    doing("loading the model")
    models: list[LanguageModel] = [handle(place).load() for place in (study.model, *study.models)]
    store = Store(root / FILE)
    stack.callback(store.close)
    table, how = Table(store), study.decoding
    answering = Models(
        models,
        max_new_tokens=examiner.max_new_tokens,
        temperature=how.temperature,
        top_p=how.top_p,
        budget=how.max_prompt_tokens,
        table=table,
    )
    encoder = encoders.make(study.memory.encoder, models[0])
    if encoder is not None:
        claim_encoder(store, encoder.fingerprint, encoder.width)
    return Opened(study, examiner, gold, models, answering, encoder, load(study.prompts), store, table)


def sees_gold(study: StreamStudy) -> bool:
    """Whether an arm is shown gold answers of the stream."""
    return any(_reveals(study, name) for name in study.arms)


def _reveals(study: StreamStudy, name: str) -> bool:
    agent, settings, _ = study.arm(name)
    return row(agent).sees_gold or bool(settings.get("sees_gold"))


def streams_of(opened: Opened) -> Arms:
    """The streams of every arm, each continued where the file has it."""
    study, arms = opened.study, Arms()
    for name in study.arms:
        agent, settings, control = study.arm(name)
        if not opened.examiner.shots and row(agent).settings.get("how") == "gold":
            note(f"arm {name}: the task has too few rows to hold gold examples back, so that it shows none")
        items = _items(opened, control["duplicates"] == "drop")
        arms.stateful[name] = [_stream(opened, name, items, seed, control) for seed in study.orders]
        if row(agent).steady:
            arms.reset[name] = arms.stateful[name]
            continue
        seeds = study.orders if study.decoding.temperature else study.orders[:1]
        base = {"learn_until": 0.0, "feedback": "real"}
        # Named by what it does, so that arms which differ in what they hear share it.
        shared = f"reset {agent} {fingerprint([agent, settings, items])[:6]}"
        arms.reset[name] = [_stream(opened, name, items, seed, base, called=shared) for seed in seeds]
    return arms


def _items(opened: Opened, distinct: bool) -> list[str]:
    """The items of a stream. distinct: without near duplicates, the same in every order."""
    order = permutation(list(opened.questions), 0)
    if not distinct:
        return order
    keys = {name: question.key for name, question in opened.questions.items()}
    if opened.encoder is None:
        return same_words(order, keys)
    vectors = opened.encoder.encode([keys[name] for name in order])
    return without_duplicates(order, dict(zip(order, vectors, strict=True)))


def stream_of(opened: Opened, arm: str, seed: int, more: Any) -> Stream:
    """The stream of an arm whose weights change. more: what decides its steps beside what decides every arm's."""
    return _stream(opened, arm, _items(opened, False), seed, CONTROLS, more=more)


def _stream(
    opened: Opened,
    arm: str,
    items: Sequence[str],
    seed: int,
    control: Mapping[str, Any],
    called: str | None = None,
    more: Any = None,
) -> Stream:
    study = opened.study
    agent, settings, _ = study.arm(arm)
    panel = Panel(study.panel.items, 0 if called else study.panel.every)
    # Everything that decides the steps: other settings make another stream, and finished ones are found again.
    what = fingerprint(
        {
            "agent": [agent, settings, dict(control)],
            "task": opened.examiner.fingerprint,
            "models": [model.fingerprint for model in opened.models],
            "prompts": prompt_hash(opened.prompts),
            "memory": [study.memory.how, opened.encoder.fingerprint if opened.encoder else None],
            "decoding": study.decoding.model_dump(),
            "panel": [panel.items, panel.every],
            "items": list(items),
            "order": seed,
            **({} if more is None else {"more": more}),
        }
    )
    name = f"{called or arm}, order {seed}"
    journal = Journal(opened.store, f"{name} [{what}]", what)
    return Stream(
        name=journal.name,
        make=lambda: make(agent, opened.prompts, settings, models=len(opened.models), seed=seed),
        order=permutation(items, seed),
        journal=journal,
        memory=Memory(opened.store, journal.number, study.memory.how),
        learn_until=float(control["learn_until"]),
        feedback=control["feedback"],
        seed=seed,
        panel=panel,
        gold=opened.gold if _reveals(study, arm) else None,
        steady=row(agent).steady,
    )
