"""Magpie: an aligned model writes questions from nothing but its chat template, and answers them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.core.method import method
from mnemos.core.nouns import Decoding, Example, Generation, Prompt, Source, Turn
from mnemos.core.plan import ModelHandle, Plan
from mnemos.core.settings import AskedModelRef, Seed
from mnemos.sources.generated import Desk, Unwritten
from mnemos.sources.mix import Beside
from mnemos.sources.similarity import distinct, repeated_4grams, representative
from mnemos.synthesis.writers import Tally, answered, fill

if TYPE_CHECKING:
    from mnemos.sources.render import Renderer

_CONTENT = "\ue000question\ue001"
"""Stands for a user's content; private-use characters, which no template trims or matches."""


@dataclass(frozen=True)
class Asking:
    """Settings of the questions; see the method."""

    system: str
    temperature: float
    top_p: float
    max_question_tokens: int
    max_answer_tokens: int
    oversample: float
    min_chars: int
    max_chars: int
    repetition: float
    similarity: float
    clusters: int
    min_usable: float
    seed: int


@dataclass(frozen=True)
class PreQuery:
    """A chat template around a first user turn. before: what is given to the model. after: what
    stands between the user's content and the answer."""

    before: str
    after: str


@dataclass(frozen=True)
class MagpieRows(Unwritten):
    """Chats that `author` makes up, so many that they are `share_of_final` of these and `new`."""

    new: Source
    author: ModelHandle
    share_of_final: float
    asking: Asking

    def describe(self) -> str:
        """One line for people."""
        return f"chats made up by {self.author.path} as {100 * self.share_of_final:g} % of all rows"

    def write(self, desk: Desk) -> list[Example]:
        """Sample questions, filter, take a set that spreads, and answer it."""
        given, tally = self.asking, Tally(desk)
        wanted = self._wanted(len(desk.rows(self.new)))
        renderer = renderer_of(self.author)
        template = pre_query(renderer, given.system)
        prompt = Prompt((Turn("rendered", template.before),))
        decoding = Decoding(given.max_question_tokens, given.temperature, given.top_p, seed=given.seed)
        said = desk.model(self.author).generate([prompt] * math.ceil(given.oversample * wanted), decoding)
        questions = filtered(tally, [asked(renderer, one, template.after) for one in said], given)
        desk.note("usable share of questions", len(questions) / len(said))
        chosen = set(representative(questions, wanted, given.clusters, given.seed))
        order = [*sorted(chosen), *(i for i in range(len(questions)) if i not in chosen)]
        rows = [
            Example(f"{i}", "messages", (Turn("user", questions[i]), Turn("assistant", "")), origin="replay")
            for i in order
        ]
        done = fill(
            rows,
            wanted,
            lambda lot: answered(tally, self.author, lot, given.max_answer_tokens, given.repetition),
        )
        cure = "raise magpie.oversample or max_answer_tokens, loosen a filter, or mix in stored rows with replay"
        return tally.keep(done, wanted, given.min_usable, what="made-up chats", cure=cure)

    def _wanted(self, new: int) -> int:
        wanted = round(self.share_of_final / (1 - self.share_of_final) * new)
        if wanted < 1:
            raise DataError(
                f"magpie.share_of_final = {self.share_of_final:g} beside {new:,} new rows",
                "is less than one row",
                f"raise it to {1 / (1 + new):.4f} at least",
            )
        return wanted


def renderer_of(author: ModelHandle) -> Renderer:
    """The author's renderer, without its weights."""
    from mnemos.sources.render import Renderer
    from mnemos.weights.checkpoint import load_tokenizer

    consent = bool(getattr(author, "trust_remote_code", False))
    return Renderer(load_tokenizer(author.path, trust_remote_code=consent))


def pre_query(renderer: Renderer, system: str = "") -> PreQuery:
    """The chat template up to a first user turn's content, found by rendering one. system: a system
    turn before it. Raises ModelError where the tokenizer has no template or the template drops the
    user's content."""
    turns = [*([Turn("system", system)] if system else []), Turn("user", _CONTENT)]
    before, found, after = renderer.template.text(turns, generation=True).partition(_CONTENT)
    if not found:
        raise ModelError(
            f"the chat template of {renderer.tokenizer.name_or_path!r}",
            "does not show the user's words as they are, so a model cannot be asked to go on with them",
            "use replay with stored rows instead of magpie",
        )
    return PreQuery(before, after)


def asked(renderer: Renderer, generation: Generation, after: str) -> str | None:
    """The user's words in what a model wrote behind a pre-query; None where they have no end.

    They end at the first special token, whether or not generation stops at it, and at the template's
    own text behind a user turn where that is plain ("ASSISTANT:").
    """
    special = _special(renderer.tokenizer)
    end = next((i for i, token in enumerate(generation.ids) if token in special), None)
    text = generation.text if end is None else renderer.decode(generation.ids[:end])
    border = after.strip()
    question, found, _ = text.partition(border) if border else (text, "", "")
    return question.strip() if found or end is not None or generation.finished else None


def _special(tokenizer: Any) -> frozenset[int]:
    return frozenset(number for number, token in tokenizer.added_tokens_decoder.items() if token.special)


def filtered(tally: Tally, questions: Sequence[str | None], asking: Asking) -> list[str]:
    """Questions worth answering, in order; the others are counted by reason."""
    good: list[str] = []
    for question in questions:
        reason = _fault(question, asking)
        if reason is None:
            assert question is not None
            good.append(question)
        else:
            tally.drop(reason)
    kept = distinct(good, asking.similarity)
    tally.drop("a near-duplicate of an earlier question", len(good) - len(kept))
    return [good[i] for i in kept]


def _fault(question: str | None, asking: Asking) -> str | None:
    if question is None:
        return "the question has no end"
    if not question:
        return "empty question"
    if len(question) < asking.min_chars:
        return "question too short"
    if len(question) > asking.max_chars:
        return "question too long"
    if question.endswith((":", "\uff1a")):
        return "the question ends with a colon"
    # NaN, of fewer than four words, is above nothing.
    return "the question repeats itself" if repeated_4grams(question) > asking.repetition else None


@method(paper="arXiv:2406.08464", changes={"examples"}, off={"share_of_final": 0.0})
def magpie(
    plan: Plan,
    *,
    share_of_final: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    author: AskedModelRef | None = None,
    system: str = "",
    temperature: Annotated[float, Field(gt=0)] = 1.0,
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0,
    oversample: Annotated[float, Field(ge=1, le=1000)] = 3.0,
    max_question_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 256,
    max_answer_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 512,
    min_chars: Annotated[int, Field(ge=1, le=1_000_000)] = 8,
    max_chars: Annotated[int, Field(ge=1, le=1_000_000)] = 2000,
    repetition: Annotated[float, Field(ge=0, le=1)] = 0.2,
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.8,
    clusters: Annotated[int, Field(ge=1, le=1_000_000)] = 20,
    min_usable: Annotated[float, Field(ge=0, le=1)] = 0.5,
    seed: Seed = 0,
) -> Plan:
    """Rehearse chats that the model before the stage makes up by itself, without any stored data.

    share_of_final: made-up chats as a share of all rows, in [0, 1).
    author: path or hub id of the chat model that writes questions and answers; unset, the model
    before the stage. Another model's chats would shift this one instead of keeping it.
    system: a system turn under which questions are written, to steer what they are about ("You
    help with mathematics."); answers are given without it.
    temperature: of questions. The paper has 1, and 0.7 for Qwen2.5.
    top_p: smallest set of likeliest tokens with this probability that questions are drawn from.
    oversample: questions drawn per chat wanted.
    max_question_tokens: longest question; a longer one has no end and is left out.
    max_answer_tokens: longest answer; a longer one is left out.
    min_chars: characters of a question at least.
    max_chars: characters of a question at most.
    repetition: share of 4-grams that may repeat an earlier one, in a question and in an answer.
    similarity: two questions are near-duplicates from this Jaccard similarity of their 5-character
    shingles on, in (0, 1]; the later one is left out.
    clusters: of k-means over the questions; those nearest the centroids are taken, from each cluster
    in proportion to its size.
    min_usable: refuse when less than this share of the chats wanted is usable.
    seed: added to the arm's seed where questions are drawn.

    The model is given its own chat template up to where a user's words would begin (found by
    rendering a turn, for any template), writes the words, and answers them greedily. It works
    without a sequence: what is rehearsed is the chat model as it came.

    Trap: it needs the weights or a completion endpoint of the very template; behind a chat server
    only greetings come out, so a server is refused as author. A base model without a chat template
    is refused too: use pretraining_mix.

    Trap: small chat models write poor questions; look at the rows of the step before you trust them.

    Deviations from the paper: 1. quality, difficulty and reward are not tagged by further models;
    filters are rules. 2. near-duplicates are found by shared pieces of words instead of distances of
    embeddings. 3. questions that spread over clusters are taken instead of those with the longest
    answers. 4. questions and answers are shorter than its 2,048 and 4,096 tokens unless set so.

    Raises UsageError for a server as author, DataError with counts by reason when too few chats are
    usable or the share is below one row, ModelError for a model without a chat template.
    """
    if share_of_final == 0:
        return plan
    asking = Asking(
        system=system,
        temperature=temperature,
        top_p=top_p,
        max_question_tokens=max_question_tokens,
        max_answer_tokens=max_answer_tokens,
        oversample=oversample,
        min_chars=min_chars,
        max_chars=max_chars,
        repetition=repetition,
        similarity=similarity,
        clusters=clusters,
        min_usable=min_usable,
        seed=plan.seed + seed,
    )
    rows = MagpieRows(plan.examples, _author(plan, author), share_of_final, asking)
    return dataclasses.replace(plan, examples=Beside(plan.examples, (rows,)))


def _author(plan: Plan, author: str | None) -> ModelHandle:
    from mnemos.models.load import handle

    if author is None:
        return plan.before
    if author.startswith(("http://", "https://")):
        raise UsageError(
            f"magpie.author = {author!r}",
            "is a server, whose chat template is not known here and which answers chats only",
            "name a model directory or hub id",
        )
    return handle(author)
