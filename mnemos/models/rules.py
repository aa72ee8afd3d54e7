"""The rule adapter: three rules that make a base model answer instructions, without training (arXiv:2409.14254).

The next token is drawn from the product of two distributions, the model's and one of hand-written rules, which is
softmax(logits + rules): what the rules say of a token is added to its logit, in nats. That so little suffices is the
paper's point: a base model knows how to answer, and tuning tells it when.

1. `end`: END * n / END_AT for the stop tokens behind n tokens of an answer.
2. `words`: `WORDS` for fifteen pieces, the same at every step.
3. `repetition`: REPETITION for every token that stands in the prompt or in the answer so far, once for each kind.

Deviations from the authors' code: 1. behind END_AT tokens the first rule stays at END, where theirs falls back to 0
(a later branch that was to end long answers is never reached). 2. the third rule reads the whole prompt, system turn
included, where theirs begins behind the user's marker; special tokens and those that end an answer are never held
against a text, or a chat of several turns could not be ended. 3. the pieces are those of LLaMA's tokenizer; of another
one, those that are spelled alike count, with or without a space before them as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from mnemos.core.errors import UsageError
from mnemos.core.nouns import RuleDecoding

END, END_AT = 15.0, 250
"""Nats that ending is likelier behind so many tokens."""
REPETITION = -1.5
WORDS: Mapping[str, float] = {
    "<": -4.0, " <": -4.0, "|": -4.0, "I": -5.0, " I": -5.0, "What": -5.0, " We": -3.0, " should": -6.0,
    " *": 1.0, " -": 1.0, "   ": 1.0, " #": 1.0, " ##": 1.0, "\n": 1.0, "!": 1.0,
}  # fmt: skip
"""Pieces of a vocabulary, and what is added to their logits: markup, and what asks back or speaks of oneself, is less
likely, marks of lists and headings likelier."""


class RuleAdapter:
    """What the rules add to logits, for one model. tokenizer: its own. stop: token ids that end an answer.

    Raises UsageError where `words` is on and the vocabulary has none of the pieces.
    """

    def __init__(self, decoding: RuleDecoding, tokenizer: Any, stop: frozenset[int]) -> None:
        self.decoding = decoding
        self.how = ["rules", decoding.end, decoding.repetition, decoding.words]
        self._stop = sorted(stop)
        self._free = stop | frozenset(int(one) for one in tokenizer.all_special_ids)
        self._words = pieces(tokenizer.get_vocab()) if decoding.words else {}
        if decoding.words and not self._words:
            raise UsageError(
                "rules: words", f"none of the {len(WORDS)} pieces is in the model's vocabulary", "set words: false"
            )

    def __call__(self, logits: torch.Tensor, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> torch.Tensor:
        """float[B, V]: new logits. texts: by row, the prompt's token ids and those of the answer so far."""
        out = logits.clone()
        words = torch.tensor(list(self._words), dtype=torch.long, device=out.device)
        out[:, words] += torch.tensor(list(self._words.values()), dtype=out.dtype, device=out.device)
        for row, (prompt, written) in enumerate(texts):
            if self.decoding.end and self._stop:
                out[row, self._stop] += END * min(len(written), END_AT) / END_AT
            if self.decoding.repetition:
                seen = [token for token in {*prompt, *written} if token not in self._free]
                out[row, seen] += REPETITION
        return out


def pieces(vocabulary: Mapping[str, int]) -> dict[int, float]:
    """Token id -> nats, of the pieces of `WORDS` that a vocabulary spells in any of the usual ways."""
    found = {}
    for text, nats in WORDS.items():
        for spelling in _spellings(text):
            if spelling in vocabulary:
                found[int(vocabulary[spelling])] = nats
    return found


def _spellings(text: str) -> Iterator[str]:
    """As SentencePiece, byte-level BPE and byte fallback write a piece."""
    yield text
    yield text.replace(" ", "\u2581")
    yield text.replace(" ", "\u0120").replace("\n", "\u010a")
    if len(text) == 1:
        yield f"<0x{ord(text):02X}>"
