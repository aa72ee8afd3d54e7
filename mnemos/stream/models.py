"""Requests of many streams to their models, answered in batches; shots that do not fit are left out and counted.

Answers of greedy decoding are kept for prompts that come again (the same question without shots comes in every arm),
and counted as if they had been asked anew, seconds included: what an agent costs does not depend on who else runs.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.nouns import Decoding, Generation, LanguageModel, Prompt, Turn
from mnemos.stream.learner import Ask, Generated

SERVER_TOKENS = 8192
"""Tokens of a prompt and its answer on a server that does not say what it takes, unless the study does."""
BORDER = "\n\n"
"""What ends an answer of a base model: behind it the next example would begin."""
MOST_KEPT = 5_000
"""Answers that are kept."""
TOO_LONG = "the question alone is longer than the model's window"


@dataclass(frozen=True, slots=True)
class Served:
    """An answer and what it cost. seconds: its share of the batch. failed: why there is none."""

    written: Generated
    prompt_tokens: int
    tokens: int
    seconds: float
    failed: str | None = None


class Models:
    """The models of a study, asked in batches. max_new_tokens: of an answer, where a request says nothing else. budget:
    tokens of a prompt; the model's window unless given, and never above it."""

    def __init__(
        self,
        models: Sequence[LanguageModel],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        budget: int | None = None,
    ) -> None:
        self.models = list(models)
        self.max_new_tokens, self.temperature, self.top_p = max_new_tokens, temperature, top_p
        self.chats = [_chats(model) for model in self.models]
        self.windows = [_window(model, budget) for model in self.models]
        self.budget = budget
        # With the seconds that each took.
        self._kept: OrderedDict[Any, tuple[Generation, float]] = OrderedDict()
        for model, window in zip(self.models, self.windows, strict=True):
            if window <= max_new_tokens:
                bound = f"must be below what {model.name} takes, {window:,} tokens with the prompt"
                raise UsageError(f"max_new_tokens = {max_new_tokens:,}", bound, "ask for shorter answers")

    @property
    def estimated(self) -> bool:
        """Whether tokens are guessed from the bytes of texts, because a model is behind a server."""
        return any(not hasattr(model, "renderer") for model in self.models)

    def answer(self, asks: Sequence[tuple[Ask, int]]) -> list[Served]:
        """One answer a request. asks: with the seed of each, which counts where the temperature is above 0."""
        fitted = [self._fitted(ask) for ask, _ in asks]
        groups: dict[tuple[int, int, int], list[int]] = {}
        for place, (ask, seed) in enumerate(asks):
            tokens = self._tokens(ask)
            groups.setdefault((ask.model, tokens, seed if self.temperature else 0), []).append(place)
        out: list[Served | None] = [None] * len(asks)
        for (model, tokens, seed), places in groups.items():
            stop = () if self.chats[model] else (BORDER,)
            decoding = Decoding(tokens, self.temperature, self.top_p, seed=seed, stop=stop)
            found = self._generated(model, [fitted[i][0] for i in places], decoding)
            for i, (generation, seconds) in zip(places, found, strict=True):
                out[i] = self._served(self.models[model], fitted[i], generation, seconds)
        return [one for one in out if one is not None]

    def _served(
        self, model: LanguageModel, fitted: tuple[Prompt, int, int, bool], generation: Generation, seconds: float
    ) -> Served:
        _, dropped, tokens, fits = fitted
        written = Generated(generation.text, generation.finished, dropped)
        own = len(generation.ids) if hasattr(model, "renderer") else guessed(generation.text)
        return Served(written, tokens, own, seconds, None if fits else TOO_LONG)

    def _tokens(self, ask: Ask) -> int:
        """Of an answer: what the request says, but no more than half a window, which is the prompt's."""
        if ask.max_new_tokens is None:
            return self.max_new_tokens
        return min(ask.max_new_tokens, max(self.max_new_tokens, self.windows[ask.model] // 2))

    def _fitted(self, ask: Ask) -> tuple[Prompt, int, int, bool]:
        """(prompt, shots left out, tokens, whether it fits)."""
        model, window = self.models[ask.model], self.windows[ask.model]
        room = min(window - self._tokens(ask), self.budget or window)

        def written(dropped: int = 0) -> Prompt:
            prompt = ask.prompt(dropped)
            return prompt if self.chats[ask.model] else raw(prompt)

        prompt = written()
        tokens = count(model, prompt)
        low, high = 0, len(ask.shots)
        if tokens <= room or not high:
            return prompt, 0, tokens, tokens <= room
        # The fewest that must go, by halving: with a hundred shots one by one would render a hundred prompts.
        while low < high:
            middle = (low + high) // 2
            if count(model, written(middle)) <= room:
                high = middle
            else:
                low = middle + 1
        prompt = written(low)
        tokens = count(model, prompt)
        return prompt, low, tokens, tokens <= room

    def _generated(self, model: int, prompts: Sequence[Prompt], decoding: Decoding) -> list[tuple[Generation, float]]:
        """Each answer with its share of the seconds that its batch took."""
        if self.temperature:
            return self._timed(model, prompts, decoding)
        keys = [(model, prompt, decoding.max_new_tokens) for prompt in prompts]
        new = list(dict.fromkeys(key for key in keys if key not in self._kept))
        made = self._timed(model, [key[1] for key in new], decoding) if new else []
        found = dict(zip(new, made, strict=True))
        out = [found[key] if key in found else self._kept[key] for key in keys]
        self._kept.update(found)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return out

    def _timed(self, model: int, prompts: Sequence[Prompt], decoding: Decoding) -> list[tuple[Generation, float]]:
        began = time.monotonic()
        found = self.models[model].generate(prompts, decoding)
        share = (time.monotonic() - began) / len(prompts)
        return [(one, share) for one in found]


def raw(prompt: Prompt) -> Prompt:
    """A chat as the text that a base model continues."""
    return Prompt((Turn("prompt", BORDER.join(turn.text for turn in prompt.turns)),))


def _chats(model: LanguageModel) -> bool:
    """Whether a model takes a chat; a base model without a chat template continues text."""
    tokenizer = getattr(model, "tokenizer", None)
    return tokenizer is None or bool(tokenizer.chat_template)


def count(model: LanguageModel, prompt: Prompt) -> int:
    """Tokens of a prompt, as the model's own template writes it; guessed for a server."""
    renderer = getattr(model, "renderer", None)
    if renderer is not None:
        return len(renderer.prompt_ids(prompt))
    return sum(guessed(turn.text) + 8 for turn in prompt.turns)


def guessed(text: str) -> int:
    """A third of the bytes, rounded up: more than most tokenizers need, so that a window is not exceeded."""
    return -(-len(text.encode(errors="replace")) // 3)


def _window(model: LanguageModel, budget: int | None) -> int:
    inner = getattr(model, "model", None)
    if inner is None or not hasattr(inner, "config"):
        return max(SERVER_TOKENS, 2 * (budget or 0))
    from mnemos.models.forward import context_length

    return context_length(inner)
