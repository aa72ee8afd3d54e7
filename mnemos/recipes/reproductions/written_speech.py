"""What the reproduction of learning from written and spoken texts reads: requests of SLURP, and voices to be measured.

A recogniser is to understand requests of one scenario (what to play). Eight of them are there; a language model writes
more, and a program reads them aloud. Beside it stand as many true requests of that scenario, and as many of all
others: whether the domain's words matter, or only that a program speaks. SLURP's own recordings are CC BY-NC 4.0 and
not at hand, so another program of another kind, piper, reads the requests that measure; what people say is measured by
the few Harvard sentences alone whose text is certain.
"""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

from mnemos.recipes.reproduce import models_folder
from mnemos.recipes.reproductions.adaptation import write_rows
from mnemos.recipes.reproductions.synthetic_speech import write_texts
from mnemos.sources.audio import read
from mnemos.sources.voices import Voices

SCENARIO = "play"
FEW, MORE, TESTED, OLD = 8, 152, 100, 40
"""Requests that the author is shown, that are added to them, that measure, and of other scenarios that measure."""
PIPER = "piper -m {voice} -f {out}"
VOICE = Path("piper") / "en_US-joe-medium.onnx"


def requests(data: Path, out: Path) -> None:
    """Rows of text; and as suites requests that piper reads, and Harvard sentences that two people read. data: of third
    parties. out: the reproduction's folder. UsageError where there is no program piper."""
    below = out / "data"
    texts = parted(slurp(data))
    for name in ("few", "given", "others"):
        write_texts(below, name, texts[name])
    voices = Voices(PIPER, (str(models_folder() / VOICE),))
    for name in ("target-test", "other-test"):
        write_rows(below, name, [(read(voices.say(text, voices.voices[0])), text, "") for text in texts[name]])
    folder = data / "asr_speechbrain"
    with gzip.open(folder / "index.jsonl.gz", "rt", encoding="utf-8") as lines:
        clips = [json.loads(line) for line in lines]
    people = [one for one in clips if one["kind"] == "speech" and one["text_checked"]]
    write_rows(below, "people", [(read(folder / one["file"]), one["text_checked"].lower(), "") for one in people])


def slurp(data: Path) -> list[dict[str, Any]]:
    """SLURP's requests, each text once, in the order of the file."""
    with gzip.open(data / "slurp_text" / "devel.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return list({row["sentence"]: row for row in reversed(rows)}.values())[::-1]


def parted(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Texts by what they are for: no text has two uses."""
    wanted = [row["sentence"] for row in rows if row["scenario"] == SCENARIO]
    others = [row["sentence"] for row in rows if row["scenario"] != SCENARIO]
    rng = random.Random("written speech")
    rng.shuffle(wanted)
    rng.shuffle(others)
    return {
        "few": wanted[:FEW],
        "given": wanted[FEW : FEW + MORE],
        "target-test": wanted[FEW + MORE :][:TESTED],
        "others": others[:MORE],
        "other-test": others[MORE : MORE + OLD],
    }
