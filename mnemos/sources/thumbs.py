"""BinaryFeedback up and down: which columns say that an answer is good or bad, and which only look like it.

A boolean ``label`` and LLaMA-Factory's ``kto_tag`` are thumbs whatever else the row holds, so that an answer which
its file calls bad is never learned as a good one. Numbers and words that may be a thumb or the name of a class
(SST-2 has ``label: 0``) are asked about: `format: label` says thumb, any other format says class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from mnemos.sources.bad_row import refuse

Labels = Literal["thumb", "class", "ask"]
"""What a label that is no boolean says: a thumb, a class (so it is a column like any other), or nobody knows yet."""

_UP, _DOWN = frozenset({"1", "1.0", "true"}), frozenset({"0", "0.0", "-1", "-1.0", "false"})


def as_thumb(value: object) -> bool | None:
    """True for up, False for down: booleans, 1 against 0 or -1, and their spellings as text. None for all else."""
    text = str(value).lower() if isinstance(value, bool | int | float | str) else ""
    return True if text in _UP else False if text in _DOWN else None


def labels_of(rows: Iterable[Mapping[str, Any]]) -> Labels:
    """What the labels of these rows are: classes where one of them can be no thumb."""
    given = [row["label"] for row in rows if row.get("label") is not None]
    return "class" if any(as_thumb(value) is None for value in given) else "ask"


def unclear(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """The first label of rows without `kto_tag` that may be a thumb or a class, as it would be written."""
    labels = (row["label"] for row in rows if row.get("label") is not None and row.get("kto_tag") is None)
    return next((repr(one) for one in labels if not isinstance(one, bool) and as_thumb(one) is not None), None)


def thumb_of(row: Mapping[str, Any], labels: Labels) -> bool | None:
    """The row's thumb; None where it has none. Raises RowError where it cannot be told, or is said in two ways."""
    tag, label = row.get("kto_tag"), row.get("label")
    text = None if tag is None else as_thumb(tag)
    if tag is not None and text is None:
        refuse("wrong type", f"kto_tag = {tag!r}"[:80], "must be true or false", "mend kto_tag")
    if isinstance(label, bool) or (label is not None and labels == "thumb"):
        other = as_thumb(label)
        if other is None:
            refuse("wrong type", f"label = {label!r}"[:80], "must be true or false", "mend label")
        if text not in (None, other):
            refuse("two thumbs", f"kto_tag = {tag!r} and label = {label!r}", "say different things", "keep one of them")
        return other
    if text is None and labels == "ask" and (met := unclear([row])):
        refuse("unclear label", f"label = {met}", *ASKED)
    return text


ASKED = (
    "may be a thumb (a good or a bad answer) or the name of a class",
    "say which: `format: label` reads thumbs, the name of another format leaves the column alone",
)
"""Bound and cure of an unclear label."""
