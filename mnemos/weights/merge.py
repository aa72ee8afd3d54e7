"""A merge, checked and laid out before anything is computed: which tensor of the result comes from where.

Tensors of a task's head that only some models have are kept from the trunk, so that a reward
model and a language model can be added (DogeRM, arXiv:2407.01470).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from mnemos.core.errors import ModelError, UsageError
from mnemos.weights.checkpoint import parts_of
from mnemos.weights.combination import Combination
from mnemos.weights.lineage import warnings_of
from mnemos.weights.merge_files import Donors, donors, text_folder
from mnemos.weights.operators import BLOCK, Sum, Tensor, chosen, resolve
from mnemos.weights.selection import blocks
from mnemos.weights.shards import Piece, Target
from mnemos.weights.tensors import HEADS, INPUT_NAMES, OUTPUT_NAMES, Stored, View, Weights, places
from mnemos.weights.vocabulary import (
    Aligning,
    Alignment,
    Rows,
    Vocabulary,
    align,
    differing,
    read_vocabulary,
    refuse_other_vocabulary,
)

Embeddings = Literal["same", "align", "skip"]
"""What happens where vocabularies differ: same refuses, align adds rows of equal tokens and keeps
the others, skip keeps the embeddings and output head of one model."""
ROW_KEYS = (*INPUT_NAMES, *OUTPUT_NAMES, "lm_head.bias", "embed_out.bias")
"""Tensors with a row (or number) for each token."""
NAMED_DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}


@dataclass(frozen=True)
class How:
    """Choices beside the expression.

    dtype: of the result, else each tensor's in the trunk. shard_size: bytes a file, else the
    trunk's own files. tokenizer, template: whose (see `merge_files.Donors`); "union" as tokenizer
    is the trunk's with every added token of the others. vector: the result is a difference. card:
    write README.md and mnemos_merge.json too.
    """

    dtype: str | None = None
    shard_size: int | None = None
    embeddings: Embeddings = "same"
    tokenizer: str | None = None
    template: str | None = None
    allow_nonfinite: bool = False
    threads: int | None = None
    vector: bool = False
    card: bool = False

    @property
    def givers(self) -> list[str]:
        """Models named beside those of the expression."""
        return [name for name in (self.tokenizer, self.template) if name is not None and name != "union"]


@dataclass(frozen=True)
class Merged:
    """What was written. warnings: what looks wrong but was done. notes: what was decided about
    tokens. resumed: shards that an earlier, killed call had finished. kept: operator that keeps the
    largest deltas -> {"asked": their share, "kept": [model, share kept] of the tensors that this call wrote}."""

    expression: str
    checkpoints: dict[str, str]
    who: Donors
    how: How
    dtypes: dict[str, int]
    bytes: int
    resumed: int
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kept: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass
class Merge:
    """A merge that is checked and laid out, but not computed. targets: in the trunk's order. tensors: those
    that something is computed for, with what was kept of their deltas once they are written."""

    expression: Combination
    opened: dict[str, Weights]
    who: Donors
    how: How
    alignment: Alignment | None
    targets: list[Target] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)

    @property
    def trunk(self) -> Weights:
        """The checkpoint that gives shapes."""
        return self.opened[self.who.trunk]


def plan(expression: Combination, opened: dict[str, Weights], parent: str, how: How) -> Merge:
    """Check everything that can be checked without computing. Raises as `combine` does."""
    if any(opened[name].untied for name in expression.names) and opened[parent].shares_embeddings:
        # An adapter gave one of them two matrices, so the result has two.
        opened[parent].untie()
    if opened[parent].is_vector and not how.vector:
        raise UsageError(
            f"{expression}: {parent} is a saved difference", "a sum of differences is no model", "add it to a model"
        )
    # A tokenizer that is named brings its template along unless another template is named.
    who = donors(expression, opened, parent)
    given = None if how.tokenizer == "union" else how.tokenizer
    who = Donors(parent, given or who.tokenizer, how.template or (given if given else who.template))
    alignment, tokenizer = _vocabularies(expression, opened, who, how)
    merge = Merge(expression, opened, Donors(parent, tokenizer, who.template), how, alignment)
    _same_tensors(merge)
    _same_parts(merge)
    depth = places(merge.trunk.stored)
    merge.targets = [_target(merge, key, depth[key]) for key in merge.trunk.stored]
    merge.warnings = warnings_of(expression, opened, parent, vector=how.vector)
    return merge


def kept_shares(merge: Merge) -> dict[str, dict[str, Any]]:
    """What operators kept of their deltas, in the form of `Merged.kept`: by elements over all tensors."""
    found: dict[str, dict[str, Any]] = {}
    for written in dict.fromkeys(written for tensor in merge.tensors for written in tensor.kept):
        seen = [(tensor, tensor.kept[written]) for tensor in merge.tensors if written in tensor.kept]
        # Rows that are kept whole are zeros in every model: seen, but no part of any share.
        # A share of what was seen, not a count: an operator within another is computed once for each pass over the
        # tensor, so `seen` may be a multiple of its elements.
        stayed = [tensor.count * np.array(kept.stayed) / np.maximum(kept.seen, 1) for tensor, kept in seen]
        shares = np.sum(stayed, axis=0) / max(sum(tensor.live for tensor, _ in seen), 1)
        first = seen[0][1]
        found[written] = {"asked": first.asked, "kept": list(zip(first.models, shares.round(6).tolist(), strict=True))}
    return found


def rows_of(weights: Weights) -> int | None:
    """Rows of the input embedding; None where there is none."""
    return next((one.shape[0] for key, one in weights.stored.items() if key.endswith(INPUT_NAMES)), None)


def _vocabularies(
    expression: Combination, opened: Mapping[str, Weights], who: Donors, how: How
) -> tuple[Alignment | None, str]:
    """How rows are aligned (None where they lie alike), and whose tokenizer the result has."""
    rows = {name: count for name, one in opened.items() if (count := rows_of(one)) is not None}
    if who.trunk not in rows:
        return None, who.tokenizer
    read = {name: read_vocabulary(text_folder(opened[name]), count) for name, count in rows.items()}
    found: dict[str, Vocabulary] = {name: one for name, one in read.items() if one is not None}
    first = found.get(who.trunk)
    differ = {name: differing(first, one) for name, one in found.items()} if first is not None else {}
    odd = [name for name in rows if differ.get(name) or rows[name] != rows[who.trunk]]
    if not odd and (how.tokenizer != "union" or len(found) < 2):
        # Nothing moves; the chat model's tokenizer is the trunk's with the names of more rows.
        fuller = who.template in found and first is not None and found[who.template].all.keys() >= first.all.keys()
        return None, who.template if how.tokenizer is None and fuller else who.tokenizer
    if odd and how.embeddings == "same":
        if first is None or odd[0] not in found:
            raise ModelError(
                f"{who.trunk}: {rows[who.trunk]} embedding rows",
                f"{rows[odd[0]]} in {odd[0]}, and no tokenizer says which token a row means",
                "put the tokenizer's files beside the weights",
            )
        refuse_other_vocabulary(who.trunk, odd[0], first, found[odd[0]], differ[odd[0]])
    bare = [name for name in rows if name not in found]
    if bare:
        raise ModelError(
            f"{bare[0]}", "has no tokenizer, so nobody knows what its rows mean", "copy its tokenizer there"
        )
    skip, union = how.embeddings == "skip", how.tokenizer == "union"
    return align(Aligning(found, expression.names, who.tokenizer, who.template, who.trunk, skip, union)), who.tokenizer


def _same_tensors(merge: Merge) -> None:
    ours = merge.trunk
    for name in dict.fromkeys((*merge.expression.names, ours.name)):
        theirs = merge.opened[name]
        for key in sorted(ours.stored):
            place = theirs.find(key)
            if place is None:
                if _other_task(ours, theirs, key):
                    continue
                raise ModelError(
                    f"tensor {key}: in {ours.name} with shape {ours.shape(key)}",
                    f"{name} has none of that name",
                    "combine checkpoints of one architecture",
                )
            same = theirs.shape(place) == ours.shape(key)
            if not same and not (merge.alignment is not None and _per_token(key, ours, theirs, place)):
                raise ModelError(
                    f"tensor {key}: shape {ours.shape(key)} in {ours.name}",
                    f"shape {theirs.shape(place)} in {name}",
                    "combine checkpoints of one architecture and vocabulary",
                )
        extra = _extra(ours, theirs)
        if extra:
            raise ModelError(
                f"tensor {extra[0]}: in {name} with shape {theirs.shape(extra[0])}",
                f"{ours.name} has none of that name",
                "combine checkpoints of one architecture",
            )


def _same_parts(merge: Merge) -> None:
    """Of models that listen the bridge alone lies in the directory: what it speaks to must be one model."""
    ours = merge.trunk
    parts = parts_of(ours.adapter or ours.folder)
    for name in dict.fromkeys(merge.expression.names):
        theirs = parts_of(merge.opened[name].adapter or merge.opened[name].folder)
        differ = sorted(part for part in parts.keys() | theirs.keys() if parts.get(part) != theirs.get(part))
        if differ:
            raise ModelError(
                f"{differ[0]} of {name}",
                f"is another model than that of {ours.name}, and bridges between other models do not add up",
                "combine models that listen of the same parts",
            )


def _other_task(ours: Weights, theirs: Weights, key: str) -> bool:
    """A head that the other model has no counterpart of, because it is for another task."""
    return key.startswith(HEADS) and ours.architecture != theirs.architecture


def _per_token(key: str, ours: Weights, theirs: Weights, place: str) -> bool:
    return (
        key.endswith(ROW_KEYS)
        and ours.shape(key)[1:] == theirs.shape(place)[1:]
        and (ours.shape(key)[0], theirs.shape(place)[0]) == (rows_of(ours), rows_of(theirs))
    )


def _extra(ours: Weights, theirs: Weights) -> list[str]:
    # A tied model may store its output embedding all the same; an untied one means it.
    tied = {key for key in theirs.stored if theirs.tied and key.endswith(OUTPUT_NAMES)} if ours.tied else set()
    used = {theirs.find(key) for key in ours.stored}
    return sorted(key for key in theirs.stored.keys() - used - tied if not _other_task(ours, theirs, key))


def _target(merge: Merge, key: str, place: float) -> Target:
    ours = merge.trunk.view(key)
    if not ours.dtype.is_floating_point:
        return Target(key, ours.dtype, ours.shape, lambda: _copied(ours))
    # A saved difference is float32: that of two 16-bit numbers is seldom a 16-bit number.
    own = merge.trunk.own.get(key, ours.dtype)
    dtype = NAMED_DTYPES[merge.how.dtype] if merge.how.dtype else torch.float32 if merge.how.vector else own
    formula = chosen(merge.expression, key)
    found = {name: merge.opened[name].find(key) for name in formula.names}
    if any(at is None for at in found.values()):
        formula, found = Combination(((merge.who.trunk, 1.0),)), {merge.who.trunk: key}
    views: dict[str, View] = {name: merge.opened[name].view(str(at)) for name, at in found.items()}
    shape, live = ours.shape, math.prod(ours.shape)
    kept: Sequence[View] = ()
    if merge.alignment is not None and key.endswith(ROW_KEYS) and ours.shape[0] == rows_of(merge.trunk):
        views, kept = _aligned(merge, merge.alignment, key, views)
        shape = (merge.alignment.rows, *ours.shape[1:])
        live = merge.alignment.live * math.prod(ours.shape[1:])
    tensor = Tensor(key, shape, place, torch.float64 if dtype == torch.float64 else torch.float32, views, live)
    merge.tensors.append(tensor)
    job = Job(merge, tensor, formula, dtype, tuple((1.0, view) for view in kept))
    return Target(key, dtype, shape, job.pieces)


def _aligned(
    merge: Merge, alignment: Alignment, key: str, views: Mapping[str, View]
) -> tuple[dict[str, View], Sequence[View]]:
    """Views by row of the result with zeros where a row is kept, and the views of the kept rows."""
    # Every operator makes 0 of rows that are 0 in all models, so adding the kept rows puts them in unchanged.
    live = {name: Rows(view, np.where(alignment.keeper < 0, alignment.index[name], -1)) for name, view in views.items()}
    kept: list[View] = []
    for number, name in enumerate(alignment.names):
        own = alignment.keeper == number
        at = merge.opened[name].find(key)
        if own.any() and at is not None:
            ours, theirs = merge.trunk.shape(key)[1:], merge.opened[name].shape(at)[1:]
            if ours != theirs:
                raise ModelError(
                    f"tensor {key}: rows of shape {ours} in {merge.who.trunk}",
                    f"of shape {theirs} in {name}, which is to give some of them",
                    "name another model for tokenizer or template",
                )
            kept.append(Rows(merge.opened[name].view(at), np.where(own, alignment.index[name], -1)))
    return dict(live), kept


def _copied(view: View) -> Iterator[Piece]:
    for start, stop in blocks(math.prod(view.shape), 1, 8 * BLOCK):
        yield start, view.block(start, stop, view.dtype)


@dataclass(frozen=True)
class Job:
    """One tensor of the result. kept: rows that are added as they are."""

    merge: Merge
    tensor: Tensor
    formula: Combination
    dtype: torch.dtype
    kept: tuple[tuple[float, View], ...]

    def pieces(self) -> Iterator[Piece]:
        """Its values, block by block. Raises ModelError where one is not finite."""
        formula = self._sum()
        alone = formula.alone
        # A tensor that is only copied never passes through another dtype: its bits arrive as they are.
        raw = alone if isinstance(alone, Stored) and alone.dtype == self.dtype else None
        for start, stop in blocks(self.tensor.count, self.tensor.width, BLOCK):
            values = raw.raw(start, stop) if raw else formula.block(start, stop, self.tensor.wide).to(self.dtype)
            if not self.merge.how.allow_nonfinite and not _finite(values):
                raise self._refusal(formula)
            yield start, values

    def _sum(self) -> Sum:
        made = resolve(self.formula, self.tensor)
        return Sum((*made.terms, *self.kept)) if self.kept else made

    def _refusal(self, formula: Sum) -> ModelError:
        bad = sum(int((~block.to(self.dtype).isfinite()).sum()) for (block,) in self.tensor.each(formula))
        guilty = [name for name, view in self.tensor.views.items()
                  if not all(_finite(block) for (block,) in self.tensor.each(view))]  # fmt: skip
        return ModelError(
            f"tensor {self.tensor.key} of {self.merge.expression}",
            f"{bad} of {self.tensor.count} values are not finite in {self.dtype}",
            f"{' and '.join(guilty)} is broken there: use another checkpoint" if guilty
            else "the coefficients are too large, or the dtype too small",
        )  # fmt: skip


def _finite(values: torch.Tensor) -> bool:
    # One sum instead of a look at each value; only a sum that overflowed is looked into.
    return math.isfinite(float(values.sum(dtype=torch.float32))) or bool(values.isfinite().all())
