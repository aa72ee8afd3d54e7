"""What a learner sees of a stream, what it may ask for, and what it is told.

A learner answers a question, hears what the answer was worth, and may learn from that. It does no input or output: it
is a generator that yields requests and receives what they give, so that tests drive it without a model and many
streams can be driven together (`stream.loop`). The gold answer is in none of these records; it lies in another process
(`stream.examiner`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mnemos.core.nouns import Prompt, Turn
from mnemos.stream.prompts import filled


@dataclass(frozen=True, slots=True)
class Question:
    """One item as a learner sees it. id: of the item. text: the question as it stands in a prompt, up to where the
    answer begins. instruction: what is asked of every item of its kind. key: what memories are looked up by."""

    id: str
    text: str
    instruction: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """A learner's answer. text: what the model wrote. parsed: what the task read in it (None before it did, and where
    there is no answer in it). shown: steps at which the memories that stood in the prompt were made. notes: what the
    learner wants to find again when it learns (JSON)."""

    text: str
    parsed: str | None = None
    shown: tuple[int, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Feedback:
    """All that a learner hears of its answer. value: in [0, 1], None where the verifier could not say. reason: why not,
    in words without names of rows."""

    value: float | None
    reason: str | None = None

    @property
    def correct(self) -> bool | None:
        """Whether the answer was right; None where nobody can say."""
        return None if self.value is None else self.value >= 1.0


@dataclass(frozen=True, slots=True)
class Shot:
    """A memory. id: the step of its stream at which it was made. text: the question as it stood in the prompt; answer:
    the learner's own; correct: what the feedback was; score: similarity to what was looked for."""

    id: int
    text: str
    answer: str
    correct: bool | None = None
    score: float = 0.0

    def plain(self) -> str:
        """Question and answer."""
        return f"{self.text} {self.answer}"

    def judged(self) -> str:
        """With what was said of the answer, in words."""
        words = {True: "correct", False: "not correct", None: "not judged"}[self.correct]
        return f"{self.text} {self.answer}\nThis answer was {words}."


@dataclass(frozen=True, slots=True)
class Ask:
    """Write an answer to a prompt. template: with places {name} (`stream.prompts`). shots: texts for the place {shots},
    the most similar last; where all do not fit, those in front are left out. bare: the template without any shot.
    model: which, where there are several. before: turns in front, of a conversation. Gives `Generated`."""

    template: str
    fields: Mapping[str, str]
    shots: tuple[str, ...] = ()
    bare: str = ""
    model: int = 0
    max_new_tokens: int | None = None
    before: tuple[Turn, ...] = ()

    def prompt(self, dropped: int = 0) -> Prompt:
        """The chat without the first `dropped` shots; without any, `bare` is the template where there is one."""
        kept = self.shots[dropped:]
        template = self.bare if self.bare and not kept else self.template
        text = filled(template, {**self.fields, "shots": "\n\n\n".join(kept)})
        return Prompt((*self.before, Turn("user", text)))


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model wrote. dropped: how many shots did not fit into its window."""

    text: str
    finished: bool
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Recall:
    """Look into the memory. key: what for. k: how many at most. which: whose feedback was what. how: the most similar,
    the latest, or any. Gives a tuple of `Shot`, the best one (the latest) last."""

    key: str
    k: int
    which: Literal["correct", "incorrect", "all"] = "correct"
    how: Literal["similar", "latest", "random"] = "similar"


@dataclass(frozen=True, slots=True)
class Remember:
    """Put an answer into the memory, when the step is committed. Gives None."""

    key: str
    text: str
    answer: str
    correct: bool | None


@dataclass(frozen=True, slots=True)
class Reveal:
    """The gold answer of the present item: for controls that say that they see it, and refused to all others. Gives a
    text."""


@dataclass(frozen=True, slots=True)
class GoldShots:
    """Gold examples of the task, none of which is in the stream. Gives a tuple of `Shot`."""

    k: int


Request = Ask | Recall | Remember | Reveal | GoldShots
Answering = Generator[Request, Any, Reply]
Learning = Generator[Request, Any, None]


class Learner(Protocol):
    """An agent. state: a JSON value, all that it knows beside the memory; it is kept with every step, and a killed
    stream continues from it. `answer` changes nothing of it, so that a panel may be asked at any time."""

    state: dict[str, Any]

    def answer(self, question: Question) -> Answering:
        """Requests, and in the end the reply."""
        ...

    def learn(self, question: Question, reply: Reply, feedback: Feedback) -> Learning:
        """Requests, after which state and memory hold what was learned."""
        ...


def drive(life: Generator[Request, Any, Any], give: Mapping[type, Any]) -> Any:
    """Run one generator of a learner with functions in place of a model and a memory: type of request -> function of
    the request. Returns what the generator returns."""
    sent: Any = None
    try:
        while True:
            request = life.send(sent)
            sent = give[type(request)](request)
    except StopIteration as done:
        return done.value
