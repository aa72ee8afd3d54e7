"""A stream that needs no weights: a task of made-up rows, and a model that answers by a rule."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.nouns import Decoding, Generation, Prompt
from mnemos.stream import prompts
from mnemos.stream.agents import AGENTS, make, row
from mnemos.stream.examiner import Examiner
from mnemos.stream.journal import Journal
from mnemos.stream.loop import Panel, Stream, run
from mnemos.stream.memory import Memory
from mnemos.stream.models import Models
from mnemos.stream.orders import permutation
from mnemos.stream.store import Store
from mnemos.stream.task import TaskSettings

PROMPTS = prompts.load()
COLOURS = ("red", "green", "blue")


def rows(number: int = 24) -> list[dict[str, str]]:
    """Towns and their colours: those of one country have one colour, so that an example of the country helps."""
    return [
        {"id": f"q{i}", "question": f"colour of town {i} in country c{i % 4}?", "answer": COLOURS[i % 4 % 3]}
        for i in range(number)
    ]


def write_rows(path: Path, number: int = 24, **more: str) -> Path:
    path.write_text("".join(json.dumps({**one, **more}) + "\n" for one in rows(number)), encoding="utf-8")
    return path


class RuleModel:
    """Copies the answer of a shot of the same country, else says `guess`. asked: every prompt, in order."""

    def __init__(self, guess: Callable[[str], str] = lambda text: "red", name: str = "rule") -> None:
        self.guess, self.name, self.fingerprint = guess, name, f"rule-{name}"
        self.asked: list[str] = []
        self.batches: list[int] = []

    def generate(self, asked: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        self.batches.append(len(asked))
        return [Generation(self._answer(one.turns[-1].text), (), True) for one in asked]

    def _answer(self, text: str) -> str:
        self.asked.append(text)
        *shots, question = re.findall(r"Question: (.*)\nAnswer:(.*)", text)
        country = question[0].split("country ")[1]
        for town, answer in reversed(shots):
            if town.endswith(country):
                return str(answer.strip())
        return self.guess(text)

    def choose(self, contexts: Any, options: Any) -> Any:
        raise NotImplementedError

    def nats(self, texts: Any) -> Any:
        raise NotImplementedError


def streams(
    store: Store,
    examiner: Examiner,
    agents: Sequence[str],
    orders: Sequence[int] = (0,),
    *,
    reset: bool = False,
    panel: Panel | None = None,
    gold: Examiner | None = None,
    models: int = 1,
    **given: Any,
) -> list[Stream]:
    out = []
    for agent in agents:
        control = {k: v for k, v in row(agent).control.items() if k != "duplicates"}
        for seed in orders:
            name = f"{agent}/{seed}{'/reset' if reset else ''}"
            journal = Journal(store, name, "same")
            own = {key: value for key, value in given.items() if key != "k" or AGENTS[agent].make.__name__ == "Shots"}
            settings = {"learn_until": 0.0} if reset else control
            out.append(
                Stream(
                    name,
                    lambda agent=agent, own=own, seed=seed: make(agent, PROMPTS, own, models=models, seed=seed),
                    permutation(list(examiner.questions), seed),
                    journal,
                    Memory(store, journal.number),
                    seed=seed,
                    panel=panel or Panel(),
                    gold=gold if AGENTS[agent].sees_gold else None,
                    steady=AGENTS[agent].steady,
                    **settings,
                )
            )
    return out


def numbers(made: Stream) -> list[tuple[Any, ...]]:
    """Everything of a stream's steps but the clock."""
    return [
        (s.step, s.item, s.answer, s.parsed, s.value, s.reason, s.calls, s.prompt_tokens, s.tokens, s.memories, s.shown)
        for s in made.journal.steps()
    ]


def streamed(folder: Path, agents: Sequence[str], model: Any = None, number: int = 24, **more: Any) -> list[Stream]:
    """The finished streams of a world of `number` rows."""
    together = more.pop("together", True)
    settings = TaskSettings(data=str(write_rows(folder / "rows.jsonl", number)), instruction="Name the colour.")
    sees = any(AGENTS[agent].sees_gold for agent in agents)
    several = model if isinstance(model, list) else [model or RuleModel()]
    with Examiner(settings) as examiner:
        gold = Examiner(settings, reveal=True) if sees else None
        store = Store(folder / "stream.db")
        made = streams(store, examiner, agents, gold=gold, models=len(several), **more)
        run(made, examiner.questions, examiner, Models(several, max_new_tokens=16), together=together)
        if gold is not None:
            gold.close()
    return made
