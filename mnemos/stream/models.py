"""Requests of many streams to their models, answered in batches; shots that do not fit are left out and counted.

A greedy request that was answered before is not computed again (`answered`). It costs its agent what it cost then,
tokens, calls and seconds: what an agent costs does not depend on who else runs. What that saved is in `Totals`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from mnemos.core.errors import UsageError
from mnemos.core.nouns import Decoding, Generation, LanguageModel, Prompt, Turn
from mnemos.stream.answered import InMemory, Table, Timed, key
from mnemos.stream.learner import Ask, Generated

SERVER_TOKENS = 8192
"""Tokens of a prompt and its answer on a server that does not say what it takes, unless the study does."""
BORDER = "\n\n"
"""What ends an answer of a base model: behind it the next example would begin."""
TOO_LONG = "the question alone is longer than the model's window"
PIECE = 64
"""Answers that are written before they are kept: what a kill may cost where many are asked for at once."""


@dataclass(frozen=True, slots=True)
class Served:
    """An answer and what it cost. seconds: its share of the batch. failed: why there is none."""

    written: Generated
    prompt_tokens: int
    tokens: int
    seconds: float
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A prompt with the shots that fit. dropped: those that did not. tokens: of the prompt; ids: these, None for a
    server. fits: whether the question does."""

    prompt: Prompt
    dropped: int
    tokens: int
    ids: tuple[int, ...] | None
    fits: bool


class Models:
    """The models of a study, asked in batches. max_new_tokens: of an answer, where a request says nothing else. budget:
    tokens of a prompt; the model's window unless given, and never above it. table: keeps answers on disk, of models
    whose weights are known; without one, and of servers, they are kept in memory."""

    def __init__(
        self,
        models: Sequence[LanguageModel],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        budget: int | None = None,
        table: Table | None = None,
    ) -> None:
        self.models = list(models)
        self.max_new_tokens, self.temperature, self.top_p = max_new_tokens, temperature, top_p
        self.chats = [_chats(model) for model in self.models]
        self.windows = [_window(model, budget) for model in self.models]
        self.budget = budget
        self.table, self._memory = table, InMemory()
        for model, window in zip(self.models, self.windows, strict=True):
            if window <= max_new_tokens:
                bound = f"must be below what {model.name} takes, {window:,} tokens with the prompt"
                raise UsageError(f"max_new_tokens = {max_new_tokens:,}", bound, "ask for shorter answers")

    @property
    def estimated(self) -> bool:
        """Whether tokens are guessed from the bytes of texts, because a model is behind a server."""
        return any(not hasattr(model, "renderer") for model in self.models)

    def answer(self, asks: Sequence[tuple[Ask, int]], *, ahead: bool = False) -> list[Served]:
        """One answer a request. asks: with the seed of each, which counts where the temperature is above 0. ahead: of
        requests that will be made, so that none is counted yet."""
        fitted = [self._fitted(ask) for ask, _ in asks]
        groups: dict[tuple[int, int, int], list[int]] = {}
        for place, (ask, seed) in enumerate(asks):
            tokens = self._tokens(ask)
            groups.setdefault((ask.model, tokens, seed if self.temperature else 0), []).append(place)
        out: list[Served | None] = [None] * len(asks)
        for (model, tokens, seed), places in groups.items():
            stop = () if self.chats[model] else (BORDER,)
            decoding = Decoding(tokens, self.temperature, self.top_p, seed=seed, stop=stop)
            found = self._generated(self.models[model], [fitted[i] for i in places], decoding, ahead)
            for i, (generation, seconds) in zip(places, found, strict=True):
                out[i] = self._served(self.models[model], fitted[i], generation, seconds)
        return [one for one in out if one is not None]

    def _served(self, model: LanguageModel, fitted: _Fitted, generation: Generation, seconds: float) -> Served:
        written = Generated(generation.text, generation.finished, fitted.dropped)
        own = len(generation.ids) if hasattr(model, "renderer") else guessed(generation.text)
        return Served(written, fitted.tokens, own, seconds, None if fitted.fits else TOO_LONG)

    def _tokens(self, ask: Ask) -> int:
        """Of an answer: what the request says, but no more than half a window, which is the prompt's."""
        if ask.max_new_tokens is None:
            return self.max_new_tokens
        return min(ask.max_new_tokens, max(self.max_new_tokens, self.windows[ask.model] // 2))

    def _fitted(self, ask: Ask) -> _Fitted:
        model, window = self.models[ask.model], self.windows[ask.model]
        room = min(window - self._tokens(ask), self.budget or window)

        def written(dropped: int = 0) -> _Fitted:
            prompt = ask.prompt(dropped)
            prompt = prompt if self.chats[ask.model] else raw(prompt)
            tokens, ids = read(model, prompt)
            return _Fitted(prompt, dropped, tokens, ids, tokens <= room)

        found = written()
        low, high = 0, len(ask.shots)
        if found.fits or not high:
            return found
        # The fewest that must go, by halving: with a hundred shots one by one would render a hundred prompts.
        while low < high:
            middle = (low + high) // 2
            if written(middle).fits:
                high = middle
            else:
                low = middle + 1
        return written(low)

    def _generated(
        self, model: LanguageModel, asked: Sequence[_Fitted], decoding: Decoding, ahead: bool
    ) -> list[Timed]:
        """Each answer with its share of the seconds that its batch took."""
        count = 0 if ahead else len(asked)
        if self.temperature:
            return self._timed(model, [one.prompt for one in asked], decoding, count)
        kept = self.table if self.table is not None and hasattr(model, "renderer") else self._memory
        keys = [key(model, one.prompt, one.ids, decoding) for one in asked]
        found = kept.find(keys)
        # Each once, also where several streams ask it in the same batch.
        new = {name: one.prompt for name, one in zip(keys, asked, strict=True) if name not in found}
        names = list(new)
        for at in range(0, max(1, len(names)), PIECE):
            some = names[at : at + PIECE]
            # Requests are counted once, with the first piece; also where every answer was there.
            made = self._timed(model, [new[name] for name in some], decoding, 0 if at else count)
            found |= kept.keep(dict(zip(some, made, strict=True))) if made else {}
        return [found[name] for name in keys]

    def _timed(self, model: LanguageModel, prompts: Sequence[Prompt], decoding: Decoding, asked: int) -> list[Timed]:
        """asked: requests that these answer, for the totals."""
        began = time.monotonic()
        found = model.generate(prompts, decoding) if prompts else []
        seconds = time.monotonic() - began if prompts else 0.0
        if self.table is not None:
            self.table.count(asked, len(prompts), seconds)
        return [(one, seconds / len(prompts)) for one in found]


def raw(prompt: Prompt) -> Prompt:
    """A chat as the text that a base model continues."""
    return Prompt((Turn("prompt", BORDER.join(turn.text for turn in prompt.turns)),))


def _chats(model: LanguageModel) -> bool:
    """Whether a model takes a chat; a base model without a chat template continues text."""
    tokenizer = getattr(model, "tokenizer", None)
    return tokenizer is None or bool(tokenizer.chat_template)


def read(model: LanguageModel, prompt: Prompt) -> tuple[int, tuple[int, ...] | None]:
    """Tokens of a prompt, how many and which, as the model's own template writes it; guessed for a server, and None."""
    renderer = getattr(model, "renderer", None)
    if renderer is not None:
        ids = tuple(renderer.prompt_ids(prompt))
        return len(ids), ids
    return sum(guessed(turn.text) + 8 for turn in prompt.turns), None


def guessed(text: str) -> int:
    """A third of the bytes, rounded up: more than most tokenizers need, so that a window is not exceeded."""
    return -(-len(text.encode(errors="replace")) // 3)


def _window(model: LanguageModel, budget: int | None) -> int:
    inner = getattr(model, "model", None)
    if inner is None or not hasattr(inner, "config"):
        return max(SERVER_TOKENS, 2 * (budget or 0))
    from mnemos.models.forward import context_length

    return context_length(inner)
