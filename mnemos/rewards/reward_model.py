"""Reward models: a transformer whose head gives a conversation one number, as a reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import ModelError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, Prompt, Turn
from mnemos.core.plan import ModelHandle
from mnemos.core.reward import Rewarded, missing

if TYPE_CHECKING:
    from mnemos.sources.render import Renderer


def conversation(prompt: Prompt, answer: str, name: str = "answer") -> Example:
    """The prompt with an answer behind it, as a row: a chat, or a raw prompt and completion."""
    # A raw prompt is one text, in however many turns it was given.
    raw = all(turn.role in ("prompt", "completion", "text") for turn in prompt.turns)
    if not raw:
        return Example(name, "messages", (*prompt.turns, Turn("assistant", answer)), variables=prompt.variables)
    asked = Turn("prompt", "".join(turn.text for turn in prompt.turns))
    return Example(name, "completion", (asked, Turn("completion", answer)))


class Scorer:
    """A reward model in memory.

    model: of transformers, with a head `score` of one output. The number is read at the last token of
    the rendered conversation, its end-of-turn token. Deterministic; batching changes nothing beyond
    float tolerance.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_tokens: int = 8192) -> None:
        from mnemos.sources.render import Renderer

        self.model, self.renderer, self.batch_tokens = model.eval(), Renderer(tokenizer), batch_tokens

    def score(self, rows: Sequence[Example]) -> list[float]:
        """One number a row; NaN for one that is longer than the model's context."""
        return self.score_ids([rendered(self.renderer, row) for row in rows])

    def score_ids(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """One number for each row of token ids."""
        import torch

        from mnemos.models.forward import batches, context_length, right_padded

        limit, device = context_length(self.model), next(self.model.parameters()).device
        out = [math.nan] * len(rows)
        # Places of rows that the model can read; batches are made of these, and `fit[k]` leads back.
        fit = [i for i, row in enumerate(rows) if 0 < len(row) <= limit]
        with torch.inference_mode():
            for batch in batches([len(rows[i]) for i in fit], self.batch_tokens):
                taken = [rows[fit[k]] for k in batch]
                # hidden: float[B, T, D]; the head is put to one place a row, not to all T
                hidden = self.model.base_model(input_ids=right_padded(taken, device), use_cache=False)[0]
                # The last token by its place: looking for padding instead would take a last token
                # away wherever the padding token is also the one that ends a turn.
                last = torch.tensor([len(row) - 1 for row in taken], device=device)
                found = self.model.score(hidden[torch.arange(len(taken), device=device), last]).float()[:, 0]
                for k, value in zip(batch, found.tolist(), strict=True):
                    out[fit[k]] = value
        return out


def rendered(renderer: Renderer, row: Example) -> list[int]:
    """Token ids of a conversation that ends in its answer, the end-of-turn token last."""
    tokens = renderer.render(row)
    # A template may put a line break behind the end of a turn, and the number is read at the last token.
    written = [int(place) for place in tokens.output.nonzero()[0]]
    ids: list[int] = tokens.ids.tolist()
    return ids[: written[-1] + 1] if written else ids


def load_scorer(path: str) -> Scorer:
    """The reward model at `path`, on the GPU if there is one. ModelError where it is none."""
    import torch

    from mnemos.models.load import check_vocabulary, load_model
    from mnemos.weights.checkpoint import load_tokenizer

    model, tokenizer = load_model(path, reward=True), load_tokenizer(path)
    if not hasattr(model, "score"):
        raise ModelError(path, "has no head called score", "train a reward model with `mnemos reward train`")
    check_vocabulary(model, tokenizer, path)
    return Scorer(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer)


@lru_cache(maxsize=2)
def _loaded(path: str, content: str) -> Scorer:
    """One copy of a checkpoint however often it is asked. content: its fingerprint."""
    return load_scorer(path)


@dataclass(frozen=True)
class ModelReward:
    """What a reward model says of prompt and answer, in the model's own unbounded units."""

    model: ModelHandle

    @property
    def fingerprint(self) -> str:
        """Of the checkpoint."""
        return fingerprint({"is": "ModelReward", "model": self.model})

    def describe(self) -> str:
        """Which model."""
        return f"reward model {self.model.path}"

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[str], examples: Sequence[Example]
    ) -> list[Rewarded]:
        """One number an answer; missing where the conversation is too long, or the model gives NaN."""
        from mnemos.models.forward import context_length

        scorer = _loaded(self.model.path, self.model.fingerprint)
        rows = [rendered(scorer.renderer, conversation(p, a)) for p, a in zip(prompts, answers, strict=True)]
        limit = context_length(scorer.model)
        # NaN says only that there is no number; the length tells which of the two it was.
        too_long, broken = missing("longer than the reward model reads"), missing("the reward model gave no number")
        return [
            Rewarded(value) if math.isfinite(value) else too_long if len(row) > limit else broken
            for row, value in zip(rows, scorer.score_ids(rows), strict=True)
        ]
