"""Chats that an aligned model makes up from nothing but its chat template (Magpie, arXiv:2406.08464)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import DataError, ModelError
from mnemos.core.nouns import Decoding, Example, Generation, Prompt, Source, Turn
from mnemos.core.plan import ModelHandle
from mnemos.sources.generated import NotGenerated, SynthesisContext
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
class MagpieRows(NotGenerated):
    """Chats that `author` makes up, so many that they are `share_of_final` of these and `new`."""

    new: Source
    author: ModelHandle
    share_of_final: float
    asking: Asking

    def describe(self) -> str:
        """One line for people."""
        return f"chats made up by {self.author.path} as {100 * self.share_of_final:g} % of all rows"

    def write(self, context: SynthesisContext) -> list[Example]:
        """Sample questions, filter, take a set that spreads, and answer it."""
        given, tally = self.asking, Tally(context)
        wanted = self._wanted(len(context.rows(self.new)))
        renderer = renderer_of(self.author)
        template = pre_query(renderer, given.system)
        prompt = Prompt((Turn("rendered", template.before),))
        decoding = Decoding(given.max_question_tokens, given.temperature, given.top_p, seed=given.seed)
        text = context.model(self.author).generate([prompt] * math.ceil(given.oversample * wanted), decoding)
        questions = filtered(tally, [asked(renderer, one, template.after) for one in text], given)
        context.note("usable share of questions", len(questions) / len(text))
        chosen = set(representative(questions, wanted, given.clusters, given.seed))
        # Chosen questions first; the others stand behind as substitutes for those whose answer has a fault.
        order = [*sorted(chosen), *(i for i in range(len(questions)) if i not in chosen)]
        rows = [
            Example(f"{i}", "messages", (Turn("user", questions[i]), Turn("assistant", "")), origin="replay")
            for i in order
        ]
        done = fill(
            rows,
            wanted,
            lambda batch: answered(tally, self.author, batch, given.max_answer_tokens, given.repetition),
        )
        cure = "raise magpie.oversample or max_answer_tokens, loosen a filter, or mix in stored rows with replay"
        return tally.keep(done, wanted, given.min_usable, what="made-up chats", cure=cure)

    def _wanted(self, new: int) -> int:
        # made / (made + new) = share, solved for made.
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
    from mnemos.weights.checkpoint import tokenizer_of

    return Renderer(tokenizer_of(author))


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
    # By ids, because decoding leaves special tokens out of the text, and with them the end.
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
    # Last, because comparing costs most, and of two near-duplicates the one with a fault must not be the one that
    # stays.
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
    # It announces a text that did not come.
    if question.endswith((":", "\uff1a")):
        return "the question ends with a colon"
    # NaN, of fewer than four words, is above nothing.
    return "the question repeats itself" if repeated_4grams(question) > asking.repetition else None
