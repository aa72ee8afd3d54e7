"""The nouns that cross folders: Example, Tokens, Answer, Score (Plan has its own file).

A noun is frozen and knows nothing of files, models or trainers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Kind = Literal["messages", "completion", "text", "preference", "label"]
"""messages: a chat. completion: raw prompt and completion, no chat template. text: all learned.
preference: a chat whose last turn is the chosen answer, plus `rejected`. label: a chat plus a
thumb (`label`)."""

Frozen = tuple[tuple[str, str], ...]
"""A mapping that can be hashed and never changes: names, and their values as JSON text, in the order given."""


def frozen(values: Mapping[str, Any]) -> Frozen:
    """The mapping, frozen. Raises TypeError and ValueError for what JSON has no word for, NaN included."""
    return tuple((name, json.dumps(value, ensure_ascii=False, allow_nan=False)) for name, value in values.items())


def thawed(values: Frozen) -> dict[str, Any]:
    """What was frozen, as a new mapping."""
    return {name: json.loads(text) for name, text in values}


@dataclass(frozen=True, slots=True)
class TextPart:
    """A stretch of text within a turn."""

    text: str


@dataclass(frozen=True, slots=True)
class AudioPart:
    """A sound within a turn. path: its file. start, end: seconds within it; None: to the ends."""

    path: str
    start: float | None = None
    end: float | None = None


Part = TextPart | AudioPart
"""What a turn may be made of, where it is more than one text."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance. role: system, user, assistant or tool in a chat; prompt and completion in
    a raw pair; text in a document. content: the text, or parts in their order; `text` is what stands in it in
    words. learn: False exempts a turn from the loss (the `weight: 0`, `train: false`
    or `loss: false` of other trainers' files). fields: what else a chat template may read of the message:
    tool_calls, tool_call_id, name, reasoning_content."""

    role: str
    content: str | tuple[Part, ...]
    learn: bool = True
    fields: Frozen = field(default=(), repr=False)

    @property
    def text(self) -> str:
        """The words of the content, without what is no text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def sounds(self) -> tuple[AudioPart, ...]:
        """The sounds of the content, in their order."""
        return () if isinstance(self.content, str) else tuple(p for p in self.content if isinstance(p, AudioPart))

    @property
    def is_plain(self) -> bool:
        """Whether the content is all that is said: no call of a tool, no reasoning in a field of its own."""
        return not any(name in SAYING for name, _ in self.fields)

    def in_words(self) -> str:
        """The content, and below it what the message says in fields of its own, for people and judges."""
        beside = [f"{name}: {text}" for name, text in self.fields if name in SAYING]
        return "\n".join([*([self.text] if self.text or not beside else []), *beside])

    def message(self) -> dict[str, Any]:
        """As chat templates and OpenAI-compatible servers take it: a text, or a list of parts by type."""
        content: Any = self.content
        if not isinstance(content, str):
            content = [
                {"type": "text", "text": part.text}
                if isinstance(part, TextPart)
                else {"type": "audio", "audio": part.path}
                for part in content
            ]
        return {"role": self.role, "content": content, **thawed(self.fields)}


REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which a message may hold its reasoning; transformers hands it to templates under all of them."""

SAYING = frozenset({"tool_calls", *REASONING})
"""Fields of a message that hold what the model writes itself, beside the content."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row to learn from.

    id: unique within its source. origin: which source it came from ("new", "replay", …); a
    mixture's composition is counted by it. meta: further columns of the row, untouched. variables: what the
    row gives to the chat template beside its messages: tools, and the names of chat_template_kwargs.
    place: file and line, for messages; two rows that differ in nothing else are equal.
    """

    id: str
    kind: Kind
    turns: tuple[Turn, ...]
    rejected: tuple[Turn, ...] = ()
    label: bool | None = None
    origin: str = "new"
    meta: Mapping[str, Any] = field(default_factory=dict)
    variables: Frozen = ()
    place: str = field(default="", compare=False)

    @property
    def prompt(self) -> Prompt:
        """What the model is given before it writes the last turn."""
        return Prompt(self.turns[:-1], self.variables)


@dataclass(frozen=True, eq=False, slots=True)
class Tokens:
    """One rendered example.

    ids: int32[T]; int64[T] where some stand for sounds (`sources.sound_marks`). weight: float32[T], how much
    predicting token t (from those before it) counts: 0 masks, 1 teaches; the first token's weight is never used.
    output: bool[T], True on tokens that the model itself writes in use, the end-of-turn token included. part: what
    it is of a row of several, such as "chosen" and "rejected"; empty where it stands alone. soft_label: of a pair's
    answers, how likely the chosen one is the better one, in [0, 1]. sound: what the tokens are the transcript of,
    where they are one.
    """

    ids: npt.NDArray[np.integer[Any]]
    weight: npt.NDArray[np.float32]
    output: npt.NDArray[np.bool_]
    example: str
    origin: str = "new"
    part: str = ""
    soft_label: float = 1.0
    sound: AudioPart | None = None

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.weight) == len(self.output):
            raise ValueError(f"{self.example}: ids, weight, output differ in length")

    def __len__(self) -> int:
        return len(self.ids)


@runtime_checkable
class Source(Protocol):
    """A lazy, repeatable sequence of examples.

    fingerprint: changes exactly when the rows would. Taking it may hash files; it never reads
    rows and never generates. describe(): one line for people. Iterating twice gives equal rows.
    """

    @property
    def fingerprint(self) -> str:
        """16 hex digits naming the rows and their order."""
        ...

    def describe(self) -> str:
        """One line for people: where the rows come from and how many, as far as known unread."""
        ...

    def __iter__(self) -> Iterator[Example]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to one item: everything that scoring needs, kept in answers/*.jsonl.

    text: the generated answer, None for likelihood kinds. finished: it ended with a stop
    token, not at the length limit. tokens: written for it, whether or not they stand in the text. data: kind-specific
    numbers (option log-probabilities, nats).
    """

    suite: str
    item: str
    text: str | None = None
    finished: bool | None = None
    tokens: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Score:
    """One item's score. value: NaN when missing, and then `reason` says why. weight: the item's
    share in the suite's mean (bytes for bits per byte, 1 elsewhere). note: what a kind read the answer as,
    where that says more than the value ("answered, unclear")."""

    suite: str
    item: str
    value: float
    reason: str | None = None
    weight: float = 1.0
    cluster: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.value) != (self.reason is not None):
            raise ValueError(f"{self.suite}/{self.item}: a missing score needs a reason, a present one none")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is put to a model: chat turns (rendered with its own template, generation prompt
    appended), raw text (a single turn of role "prompt" or "text"), or text that a template wrote already
    ("rendered": it gets no special tokens). variables: as of an Example."""

    turns: tuple[Turn, ...]
    variables: Frozen = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Generation:
    """One generated answer. text: decoded without special tokens. ids: the generated token ids
    without the stop token. finished: ended by a stop token, or a stop text, which `ids` then hold and
    `text` does not. discarded: tokens that were written for it and do not stand in it, as those of power sampling
    whose answers were not kept."""

    text: str
    ids: tuple[int, ...]
    finished: bool
    discarded: int = 0

    @property
    def written(self) -> int:
        """Tokens that it took, which is what it cost."""
        return len(self.ids) + self.discarded


@dataclass(frozen=True, slots=True)
class OptionScore:
    """log_prob: natural log of p(option | context), summed over `tokens` tokens. greedy: every
    token of the option was the most likely one."""

    log_prob: float
    tokens: int
    greedy: bool


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers are sampled; part of the frozen manifest. temperature 0 is greedy. stop: texts that
    end an answer, which is cut before the first of them."""

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def cut(self, text: str) -> str:
        """The text before the first of the stop texts."""
        for stop in self.stop:
            text = text.split(stop, 1)[0]
        return text


@dataclass(frozen=True, slots=True)
class PowerDecoding(Decoding):
    """Answers from p(x)^power, x being a whole answer (`models.power`). block: tokens by which answers are extended.
    steps: Metropolis-Hastings steps after each block. temperature: of the proposal; 1 / power is the usual one."""

    power: float = 4.0
    block: int = 192
    steps: int = 10


@dataclass(frozen=True, slots=True)
class RuleDecoding(Decoding):
    """Next tokens by the model and three rules that are added to its logits (`models.rules`), each of which may be
    off. end: ending becomes likelier with every token. repetition: what was read or written is less likely. words: a
    few words are likelier or less likely, whatever was asked."""

    end: bool = True
    repetition: bool = True
    words: bool = True


class LanguageModel(Protocol):
    """A model that can be asked. All batch calls keep the order of their input; batching is the
    implementation's affair and never changes a result beyond float tolerance."""

    @property
    def name(self) -> str:
        """What reports call it: a path, a hub id or a server's model name."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change when its answers could."""
        ...

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        """One answer per prompt."""
        ...

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        """Per context, the log-probability of each of its options as a continuation."""
        ...

    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Per text: summed -ln p of all its tokens after BOS, and how many tokens."""
        ...
