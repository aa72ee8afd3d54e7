"""Learned by heart? How far a model goes on with a text word for word, and how short a prompt makes it write it.

Two measures, neither of which needs labels:

- verbatim continuation: the model is given the first tokens of a text and writes on greedily (arXiv:2012.07805 and
  2202.07646 extract training data so). By length of the beginning: the share of texts that are continued exactly, the
  tokens in a row that are right, and how like the continuation is by edit distance.
- the adversarial compression ratio (arXiv:2404.15146): tokens of the text over tokens of the shortest prompt that makes
  the model write it. Above 1 the text is memorised: the prompt says less than the text. Prompts are searched exactly
  (`models.search`), so the ratio is a number where one was found, and a bound where none was.

Trap: a continuation that is right says that the text can be had from its beginning, and a text that everybody could
continue (a list of months) is not learned by heart: set texts beside it that were never read, or random ones.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mnemos.core.errors import DataError, ModelError
from mnemos.core.nouns import Decoding, LanguageModel
from mnemos.measure.emergence import edit_similarity
from mnemos.measure.uncertainty import mean_interval
from mnemos.models import decode
from mnemos.models.choose import started
from mnemos.models.language import LocalModel
from mnemos.models.search import refuse_many, shortest_prompts
from mnemos.sources.opening import stand_in_ids


@dataclass(frozen=True)
class Continued:
    """A text that was continued behind its first tokens. tokens: how many were asked for. run: how many of them are
    right before the first wrong one. similarity: 1 - edit distance / length of the longer, by characters. written: the
    model's own continuation."""

    tokens: int
    run: int
    similarity: float
    written: str

    @property
    def exact(self) -> bool:
        """Whether every token is right."""
        return self.run == self.tokens


@dataclass(frozen=True)
class Compressed:
    """What the search for a short prompt found. tokens: of the text. prompt: ids of the shortest one, None where none
    of up to `longest` tokens gives the text."""

    tokens: int
    prompt: tuple[int, ...] | None
    longest: int

    @property
    def ratio(self) -> float | None:
        """Tokens of the text over tokens of the prompt."""
        return None if self.prompt is None else self.tokens / len(self.prompt)

    @property
    def bound(self) -> float:
        """What the ratio is at most."""
        return self.tokens / (self.longest + 1) if self.ratio is None else self.ratio

    @property
    def memorised(self) -> bool | None:
        """Whether the ratio is above 1; None where a longer search could still find that it is."""
        if self.ratio is not None:
            return self.ratio > 1
        return False if self.bound <= 1 else None


def local(model: LanguageModel) -> LocalModel:
    """The model, where its tokens can be given and read."""
    if not isinstance(model, LocalModel):
        raise ModelError(model.name, "does not take tokens, which this counts in", "name a model that runs here")
    return model


@torch.inference_mode()
def continued(
    model: LanguageModel, texts: Sequence[str], prefixes: Sequence[int], longest: int
) -> dict[int, list[Continued | None]]:
    """By length of the beginning in tokens, each text continued by up to `longest` further tokens; None for a text that
    is no longer than its beginning. Special tokens are never compared: a model that ends too soon is wrong there."""
    own = local(model)
    ids = started(own.tokenizer, texts)
    opening = len(stand_in_ids(own.tokenizer))
    out: dict[int, list[Continued | None]] = {}
    for prefix in prefixes:
        there = [i for i, row in enumerate(ids) if len(row) > opening + prefix]
        rows = [ids[i][: opening + prefix] for i in there]
        decoding = Decoding(longest)
        written = decode.write(own.model, rows, own.stop_ids, decoding, own.batch_tokens) if rows else []
        found: list[Continued | None] = [None] * len(texts)
        for i, (answer, _) in zip(there, written, strict=True):
            found[i] = _compared(own, ids[i][opening + prefix :][:longest], answer)
        out[prefix] = found
    return out


def _compared(model: LocalModel, right: Sequence[int], answer: Sequence[int]) -> Continued:
    # What the model writes behind the text's end is not held against it.
    given = list(answer[: len(right)])
    run = next((t for t, token in enumerate(right) if t >= len(given) or given[t] != token), len(right))
    text = model.renderer.decode(given)
    return Continued(len(right), run, edit_similarity(text, model.renderer.decode(list(right))), text)


def compressed(model: LanguageModel, texts: Sequence[str], tokens: int, longest: int) -> list[Compressed]:
    """The shortest prompt of each text's first `tokens` tokens, among all prompts of up to `longest`.

    Where `tokens` is longest + 1 every text is decided; longer ones may stay open. Raises UsageError where too many
    prompts would have to be tried.
    """
    own = local(model)
    vocabulary = searched_ids(own)
    refuse_many(len(vocabulary), longest)
    opening = stand_in_ids(own.tokenizer)
    rows = own.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    rows = [list(row[:tokens]) for row in rows]
    if not opening or not all(rows):
        raise DataError("the texts", "hold an empty one, or the tokenizer has no BOS or EOS to begin with", "drop it")
    found = shortest_prompts(own.model, rows, longest, vocabulary, opening, own.batch_tokens)
    return [Compressed(len(row), prompt, longest) for row, prompt in zip(rows, found, strict=True)]


def searched_ids(model: LocalModel) -> list[int]:
    """Token ids that a prompt may hold: every one that stands for text."""
    special = set(model.tokenizer.all_special_ids) | model.stop_ids
    return sorted(one for one in model.tokenizer.get_vocab().values() if one not in special)


def random_texts(model: LanguageModel, number: int, tokens: int, seed: int = 0) -> list[str]:
    """Texts of so many random tokens: what no model has learned, as a measure of what chance gives."""
    own = local(model)
    rng = random.Random(f"random texts {seed}")
    ids = searched_ids(own)
    return [own.renderer.decode(rng.choices(ids, k=tokens)) for _ in range(number)]


def record_of(by_prefix: Mapping[int, Sequence[Continued | None]], short: Sequence[Compressed]) -> dict[str, Any]:
    """Shares and means with 95 % intervals over texts."""
    prefixes = []
    for prefix, found in by_prefix.items():
        there = [one for one in found if one is not None]
        prefixes.append(
            {
                "prefix": prefix,
                "texts": len(there),
                "exact": _interval([float(one.exact) for one in there]),
                "run": _interval([one.run / one.tokens for one in there]),
                "similarity": _interval([one.similarity for one in there]),
            }
        )
    if not short:
        return {"continued": prefixes}
    ratios = sorted(one.ratio for one in short if one.ratio is not None)
    return {
        "continued": prefixes,
        "compressed": {
            "texts": len(short),
            "searched": short[0].longest,
            "memorised": _interval([float(bool(one.memorised)) for one in short]),
            "undecided": sum(one.memorised is None for one in short),
            "largest ratio": ratios[-1] if ratios else None,
        },
    }


def _interval(values: Sequence[float]) -> list[float | None] | None:
    return list(mean_interval(values)) if values else None
