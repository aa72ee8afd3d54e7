"""Which row of an embedding means which token, and what that says when vocabularies differ.

Rows of one token are found by the token's text. A row that not every model has is kept whole from
one that has it; rows of special tokens come from the model whose chat template is used, because
only there were they trained to mean what the template says.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnemos.core.errors import ModelError
from mnemos.weights.files import read_config
from mnemos.weights.tensors import View

SHOWN = 5
"""Tokens named in a message; the rest is counted."""


@dataclass(frozen=True)
class Vocabulary:
    """ids: token -> row, of the tokenizer's model. added: the entries of tokenizer.json that stand
    beside it. rows: of the stored embedding, padding included."""

    ids: Mapping[str, int]
    added: tuple[Mapping[str, Any], ...]
    rows: int

    @cached_property
    def all(self) -> dict[str, int]:
        """Every token that has a row."""
        found = {**self.ids, **{str(entry["content"]): int(entry["id"]) for entry in self.added}}
        return {token: number for token, number in found.items() if number < self.rows}

    @cached_property
    def special(self) -> frozenset[str]:
        """Tokens that are never text: turn marks, BOS, EOS, padding."""
        return frozenset(str(entry["content"]) for entry in self.added if entry.get("special"))


def read_vocabulary(folder: Path, rows: int) -> Vocabulary | None:
    """The vocabulary of a checkpoint's directory; None where it has no tokenizer."""
    file = folder / "tokenizer.json"
    if file.is_file():
        value = read_config(file, "the tokenizer")
        ids = value.get("model", {}).get("vocab")
        if isinstance(ids, list):
            # A unigram model lists [piece, score]; a piece's number is its place.
            ids = {str(entry[0]): number for number, entry in enumerate(ids)}
        if isinstance(ids, dict):
            return Vocabulary(ids, tuple(value.get("added_tokens") or ()), rows)
    if (folder / "vocab.json").is_file():
        extra = folder / "added_tokens.json"
        added = read_config(extra, "the added tokens") if extra.is_file() else {}
        ids = read_config(folder / "vocab.json", "the vocabulary")
        return Vocabulary(ids, tuple({"content": token, "id": number} for token, number in added.items()), rows)
    if (folder / "tokenizer.model").is_file():
        from mnemos.weights.checkpoint import load_tokenizer

        tokenizer = load_tokenizer(str(folder))
        special = set(tokenizer.all_special_tokens)
        ids = {token: number for token, number in tokenizer.get_vocab().items() if token not in special}
        special_ids = tuple({"content": t, "id": tokenizer.convert_tokens_to_ids(t), "special": True} for t in special)
        return Vocabulary(ids, special_ids, rows)
    return None


def differing(ours: Vocabulary, theirs: Vocabulary) -> list[str]:
    """Tokens whose rows do not mean the same in both, sorted; empty when rows can be added as they are.

    Tokens that only one model has added are none of them while both have the same rows: a chat
    model names rows that its base keeps unused.
    """
    # The model's own words must agree on both sides; added ones only where both sides have them.
    words = {t for t in ours.ids.keys() | theirs.ids.keys() if ours.ids.get(t) != theirs.ids.get(t)}
    both = ours.all.keys() & theirs.all.keys()
    return sorted(words | {token for token in both if ours.all[token] != theirs.all[token]})


@dataclass(frozen=True)
class Alignment:
    """Where the rows of the result come from.

    tokens: of the result, token -> row. index: model -> int64[rows], its row of the same token,
    -1 where it has none. keeper: int16[rows], the place in `names` of the model whose row is kept
    whole, -1 where the expression holds. notes: what was decided, in words.
    """

    names: tuple[str, ...]
    tokens: Mapping[str, int]
    index: Mapping[str, np.ndarray]
    keeper: np.ndarray
    added: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of the result's embedding."""
        return len(self.keeper)

    @property
    def live(self) -> int:
        """Rows on which the expression is computed."""
        return int((self.keeper < 0).sum())


@dataclass
class Aligning:
    """What `align` needs to know. vocabularies: of every model. names: of the models in the
    expression. tokenizer: whose ids the result has. template: whose special tokens count. trunk:
    whose rows are kept first. skip: keep every row, compute none. union: add every model's added
    tokens, not the template's special ones alone."""

    vocabularies: Mapping[str, Vocabulary]
    names: Sequence[str]
    tokenizer: str
    template: str
    trunk: str
    skip: bool = False
    union: bool = False
    notes: list[str] = field(default_factory=list)


def align(job: Aligning) -> Alignment:
    """Rows of the result by token, see `Alignment`."""
    donor = job.vocabularies[job.tokenizer]
    added = _added(job, donor)
    tokens = {**donor.all, **{str(entry["content"]): int(entry["id"]) for entry in added}}
    rows = max([donor.rows, *(number + 1 for number in tokens.values())])
    every = tuple(job.vocabularies)
    index = {name: _index(job.vocabularies[name], tokens, rows) for name in every}
    # bool[rows]: rows of the donor's embedding that no token names (padding up to a round number).
    unnamed = np.ones(rows, dtype=bool)
    unnamed[list(tokens.values())] = False
    unnamed[donor.rows :] = False
    index[job.tokenizer][unnamed] = np.flatnonzero(unnamed)  # padding has no token: the donor's own rows
    # complete: bool[rows], where every model of the expression has the token, so that it can be computed.
    keeper = np.full(rows, -1, dtype=np.int16)
    complete = np.logical_and.reduce([index[name] >= 0 for name in job.names])
    order = list(dict.fromkeys([*([job.tokenizer] if job.skip else [job.trunk, job.tokenizer]), job.template, *every]))
    # From the last to the first, so that the first in order that has the row overwrites the others.
    for name in reversed(order):
        keeper[(index[name] >= 0) & (True if job.skip else ~complete)] = every.index(name)
    special = [tokens[token] for token in job.vocabularies[job.template].special if token in tokens]
    # Last, so that it wins over both: a turn mark computed from models that never saw it means nothing.
    keeper[special] = every.index(job.template)
    _note(job, tokens, keeper, every, complete, special)
    return Alignment(every, tokens, index, keeper, tuple(added), tuple(job.notes))


def _added(job: Aligning, donor: Vocabulary) -> list[dict[str, Any]]:
    """Entries for tokens that the donor's tokenizer lacks, on its padding rows first."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in job.vocabularies if job.union else [job.template]:
        one = job.vocabularies[name]
        found.update({str(e["content"]): e for e in one.added
                      if str(e["content"]) in one.all and (job.union or e.get("special"))})  # fmt: skip
    known = {**donor.ids, **{str(entry["content"]): entry["id"] for entry in donor.added}}
    # Behind the highest number in use: where the embedding is longer than that, these are rows of padding.
    free = max([*known.values(), -1]) + 1
    lacking = sorted((e for token, e in found.items() if token not in known), key=lambda entry: int(entry["id"]))
    return [{**entry, "id": free + number} for number, entry in enumerate(lacking)]


def _index(vocabulary: Vocabulary, tokens: Mapping[str, int], rows: int) -> np.ndarray:
    out = np.full(rows, -1, dtype=np.int64)
    for token, number in tokens.items():
        out[number] = vocabulary.all.get(token, -1)
    return out


def _note(
    job: Aligning, tokens: Mapping[str, int], keeper: np.ndarray, every: Sequence[str], complete: np.ndarray,
    special: Collection[int],
) -> None:  # fmt: skip
    at = {number: token for token, number in tokens.items()}
    apart = set(special)
    if not job.skip:
        for place, name in enumerate(every):
            kept = [
                at[i] for i in map(int, np.flatnonzero((keeper == place) & ~complete)) if i in at and i not in apart
            ]
            if kept:
                lacking = [n for n in job.names if any(t not in job.vocabularies[n].all for t in kept)]
                where = f"rows kept from {name}, because {' and '.join(lacking)} lack them"
                job.notes.append(f"{_listed(kept)}: {where}")
    if special:
        job.notes.append(
            f"{_listed(sorted(at[i] for i in special))}: rows kept from {job.template}, whose chat template is used"
        )
    for name in every:
        gone = sorted(job.vocabularies[name].all.keys() - tokens.keys())
        if gone:
            job.notes.append(
                f"{_listed(gone)} of {name}: left out, because the tokenizer of {job.tokenizer} lacks them"
            )
    if job.skip:
        job.notes.append(f"embeddings and output head kept from {job.tokenizer}, nothing computed on them")


def _listed(tokens: Sequence[str]) -> str:
    shown = ", ".join(map(repr, tokens[:SHOWN]))
    return f"{len(tokens):,} token{'s' * (len(tokens) != 1)} ({shown}{', …' if len(tokens) > SHOWN else ''})"


@dataclass(frozen=True)
class Rows:
    """A view whose rows are another's in a new order. index: int64[rows], -1 for a row of zeros."""

    view: View
    index: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """With as many rows as the index has."""
        return (len(self.index), *self.view.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """The view's."""
        return self.view.dtype

    def block(self, start: int, stop: int, wide: torch.dtype) -> torch.Tensor:
        """Whole rows only."""
        width = int(np.prod(self.view.shape[1:], dtype=np.int64))
        picked = self.index[start // width : stop // width]
        out = torch.zeros(stop - start, dtype=wide)
        for first, last in _runs(picked):
            if picked[first] >= 0:
                source = int(picked[first]) * width
                part = self.view.block(source, source + (last - first) * width, wide)
                out[first * width : last * width] = part
        return out


def _runs(index: np.ndarray) -> Iterable[tuple[int, int]]:
    """[first, last) of stretches that are read in one go: consecutive rows, or rows of zeros."""
    if not len(index):
        return
    # Rows i, i + 1 belong to one stretch where both are zeros, or where their sources follow one another.
    step = np.diff(index)
    together = (step == 1) & (index[:-1] >= 0) | (step == 0) & (index[:-1] < 0)
    cuts = [0, *(np.flatnonzero(~together) + 1).tolist(), len(index)]
    yield from itertools.pairwise(cuts)


def refuse_other_vocabulary(ours: str, theirs: str, own: Vocabulary, other: Vocabulary, differ: Sequence[str]) -> None:
    """Raise the ModelError for vocabularies that differ where nothing was said about it."""
    cure = "embeddings=align adds rows of equal tokens and keeps the others, embeddings=skip keeps those of one model"
    if differ:
        raise ModelError(
            f"token {differ[0]!r}: {own.all.get(differ[0], 'absent')} in {ours}",
            f"{other.all.get(differ[0], 'absent')} in {theirs} ({len(differ)} tokens differ)",
            cure,
        )
    raise ModelError(f"{ours}: {own.rows} embedding rows", f"{other.rows} in {theirs}", cure)
