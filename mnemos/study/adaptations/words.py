"""Word errors of transcripts, and what is compared of them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from mnemos.stream.adaptation.collapse import distance

_APART = re.compile(r"[^\w']+")


@dataclass(frozen=True, slots=True)
class Counted:
    """errors: words inserted, deleted and replaced. words: of what was spoken."""

    errors: int
    words: int


def counted(spoken: str, transcript: str) -> Counted:
    """Errors of a transcript, without case and punctuation."""
    reference = normalised(spoken)
    return Counted(distance(reference, normalised(transcript)), len(reference))


def normalised(text: str) -> list[str]:
    """Words in small letters; whatever is neither letter, digit nor apostrophe parts words."""
    return [word for word in _APART.split(unicodedata.normalize("NFC", text).casefold()) if word]
