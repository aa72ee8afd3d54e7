"""Pictures, films and sounds beside or inside a row: refused by name, because they would be learned as if absent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mnemos.sources.bad_row import refuse

COLUMNS = ("images", "image", "videos", "video", "audios", "audio", "rejected_images")
"""Where the files of LLaMA-Factory, TRL, LLaVA and ms-swift keep them."""

_TAG = "<(image|video|audio)>"
_PLACE = re.compile(rf"\A\s*{_TAG}|^[ \t]*{_TAG}[ \t]*$|{_TAG}\s*\Z", re.MULTILINE)
"""A placeholder as LLaVA and LLaMA-Factory write it: first, last, or alone on its line."""

_CURE = "only text is learned here: take such rows out, or the column where the text stands for itself"


def refuse_media(row: Mapping[str, Any], where: str = "") -> None:
    """Raise RowError where a row (or a message, at `where`) holds something to see or to hear."""
    for name in COLUMNS:
        value = row.get(name)
        if value is not None and value != "" and value != [] and value != {}:
            refuse("unsupported media", f"{where}{name}", "cannot be learned from", _CURE)


def refuse_placeholder(content: str, where: str) -> None:
    """Raise RowError where a user's text says that a picture stands there. A pair of tags is HTML."""
    met = _PLACE.search(content)
    name = next((one for one in met.groups() if one), "") if met else ""
    if name and f"</{name}>" not in content:
        refuse("unsupported media", f"{where}: <{name}>", "stands for a file that is not read here", _CURE)
