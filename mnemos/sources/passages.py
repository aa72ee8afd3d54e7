"""A long text in passages that end where a sentence or a line does."""

from __future__ import annotations

import re


def passages(text: str, characters: int) -> list[str]:
    """Pieces of about so many characters, cut behind sentences, or behind lines where there are some; a single longer
    sentence stays whole."""
    lines = "\n" in text
    parts = re.split(r"(?<=\n)" if lines else r"(?<=[.!?]) ?(?=[A-Z])", text)
    # Lists of parts joined once: a text that grows by every sentence would be copied as often.
    found: list[list[str]] = [[]]
    size = 0
    for part in parts:
        if size and size + len(part) > characters:
            found.append([])
            size = 0
        found[-1].append(part)
        size += len(part) + (0 if lines or len(found[-1]) == 1 else 1)
    joined = (("" if lines else " ").join(own) for own in found)
    return [one.strip() for one in joined if one.strip()]
