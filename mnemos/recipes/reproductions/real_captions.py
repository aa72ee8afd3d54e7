"""What the reproduction of learning to hear from captions alone reads: clips, what the model itself says of each when
it is asked what it can hear, and tasks that it is never taught.

Called with (data, out) as in prepare.py; data as in real_listening.py. Needs espeak-ng for its synthetic voices. What
the model writes itself is journalled: a second call continues the first, or reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mnemos.core.files import read_jsonl
from mnemos.models.load import handle
from mnemos.models.speech.files import make as make_listener
from mnemos.recipes.listening import make as make_clips
from mnemos.recipes.reproduce import models_folder
from mnemos.recipes.reproductions.real_listening import SIZES, split_suites
from mnemos.study.commands.listen_rows import listen_rows
from mnemos.synthesis.listening import Asking

ASKING = Asking(questions="captions", max_new_tokens=96)
"""The one question of DeSTA2, to which a description of everything is the answer."""


def clips(data: Path, out: Path) -> None:
    """The clips of real-listening, and suites of tasks about the ones that measure."""
    make_clips(data, out / "data" / "clips", SIZES)
    split_suites(out / "data" / "clips")


def captions(data: Path, out: Path) -> None:
    """What the model says of each clip that is learned from, given what is known of it; and an untrained listener."""
    below = out / "data"
    qwen, whisper = (str(models_folder() / name) for name in ("qwen", "whisper-base"))
    listen_rows(below / "clips" / "train", handle(qwen), below / "rows", ASKING, ["self"])
    if not (below / "listener").is_dir():
        making = below / "listener.making"
        make_listener(making, language=qwen, encoder=whisper, bridge={"kind": "mlp"})
        making.rename(below / "listener")


ASKED = ("digit", "speaker", "noise", "accent", "gender", "intent")
"""What the tasks ask about."""


def named(data: Path, out: Path) -> list[str]:
    """Of what the tasks ask, how many captions say it: what no caption says, none of them can teach."""
    return mentions(read_jsonl(out / "data" / "rows" / "self.jsonl"))


def mentions(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line an attribute: of the rows whose clip has it, those whose answer holds its value as whole words."""
    found = list(rows)
    lines = [f"{len(found):,} captions"]
    for name in ASKED:
        own = [(str(row[name]), row["answer"]) for row in found if name in row]
        count = sum(bool(re.search(rf"\b{re.escape(value)}\b", answer, re.IGNORECASE)) for value, answer in own)
        lines += [f"  {name:<8} named in {count:,} of {len(own):,}"] if own else []
    return lines
