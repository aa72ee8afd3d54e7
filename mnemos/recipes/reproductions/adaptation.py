"""What the reproduction of adapting while listening reads: real digits in strings, real noises, and a CTC head.

No wav2vec 2.0 checkpoint is small enough to ship. A Whisper encoder with a linear head is a CTC model as well: the
reproduction's first parts train the head, then both, on strings of digits from the takes that are no test. Clean
speech of four speakers is the source domain; the noises come later and are never trained on.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.core.files import write_jsonl

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_TAKES = range(5)
"""The data set's own test part; all later takes are for training."""
TRAINED, TESTED, OLD = 480, 100, 16
"""Strings to train on, to stream, and of the clean domain that is asked before and after."""
LONG, SHORT = (4, 6), (3, 3)
"""Digits of a string to train on, and of all others: least and most."""
PAUSE = (0.05, 0.3)
"""Seconds between two digits."""
NOISES = ("AirConditioner_6", "CopyMachine_2", "Neighbor_6", "VacuumCleaner_1")
SPEAKERS = ("george", "jackson", "nicolas", "theo")
MOST_RECORDINGS = 10_000


def digits(data: Path, out: Path) -> None:
    """Strings of digits, and noises. data: of third parties. out: the reproduction's folder."""
    below = out / "data"
    recordings = read_digits(data / "fsdd")
    made = {
        "train": strings(recordings, True, TRAINED, LONG, 0),
        "stream": strings(recordings, False, TESTED, SHORT, 1),
        "old": strings(recordings, False, OLD, SHORT, 2),
    }
    for name, rows in made.items():
        write_rows(below, name, rows)
    (below / "noise").mkdir(parents=True, exist_ok=True)
    for name in NOISES:
        path = data / "noise_ms_snsd" / "flac" / f"{name}.flac"
        (below / "noise" / path.name).write_bytes(path.read_bytes())


def recogniser(data: Path, out: Path) -> None:
    """The model of the first part: the encoder of whisper-tiny with a random head, the same every time."""
    import torch
    from transformers import AutoFeatureExtractor, WhisperModel

    from mnemos.models.recognisers.whisper_ctc import give_head
    from mnemos.recipes.reproduce import models_folder

    whisper, model = models_folder() / "whisper-tiny", out / "data" / "model"
    if not model.is_dir():
        making = model.with_name("model.making")
        encoder = WhisperModel.from_pretrained(whisper, dtype=torch.float32)
        give_head(encoder, AutoFeatureExtractor.from_pretrained(whisper), making, seed=0)
        making.rename(model)


def read_digits(folder: Path) -> dict[tuple[str, int, int], Any]:
    """(speaker, digit, take) -> clip, at 16 kHz. Raises FileNotFoundError for a speaker's archive that is not there."""
    from mnemos.sources.audio import read

    found: dict[tuple[str, int, int], Any] = {}
    with tempfile.TemporaryDirectory() as place:
        for name in SPEAKERS:
            with tarfile.open(folder / f"{name}.tar.gz") as tar:
                for member in tar:
                    # By the last part of its name alone, wherever the archive says that it belongs.
                    path = Path(place) / Path(member.name).name
                    if not member.isfile() or path.suffix != ".wav" or len(found) > MOST_RECORDINGS:
                        continue
                    file = tar.extractfile(member)
                    assert file is not None
                    path.write_bytes(file.read())
                    digit, speaker, take = path.stem.split("_")
                    clip = replace(read(path, rate=16000), path="", speaker=speaker)
                    found[speaker, int(digit), int(take)] = clip
    return found


def strings(
    recordings: dict[tuple[str, int, int], Any], train: bool, count: int, sizes: tuple[int, int], seed: int
) -> list[tuple[Any, str, str]]:
    """(clip, text, speaker) of strings by one speaker each, speakers in turn. sizes: digits, least and most."""
    from mnemos.sources.audio import joined

    draw = np.random.default_rng(seed)
    known = [key for key in sorted(recordings) if (key[2] in TEST_TAKES) != train]
    out = []
    for place in range(count):
        speaker = SPEAKERS[place % len(SPEAKERS)]
        own = [key for key in known if key[0] == speaker]
        length = int(draw.integers(sizes[0], sizes[1] + 1))
        keys = [own[int(at)] for at in draw.choice(len(own), size=length, replace=False)]
        clip = joined([recordings[key] for key in keys], float(draw.uniform(*PAUSE)))
        out.append((clip, " ".join(DIGITS[key[1]] for key in keys), speaker))
    return out


def write_rows(below: Path, name: str, rows: Sequence[tuple[Any, str, str]]) -> None:
    """Clips as files, and the rows that name them; an empty speaker is not named."""
    from mnemos.sources.audio import write

    folder = below / name
    folder.mkdir(parents=True, exist_ok=True)
    for place, (clip, _, _) in enumerate(rows):
        write(clip, folder / f"{place:04}.wav")
    write_jsonl(
        below / f"{name}.jsonl",
        [
            {"id": f"{name}-{place:04}", "audio": f"{name}/{place:04}.wav", "text": text}
            | ({"speaker": speaker} if speaker else {})
            for place, (_, text, speaker) in enumerate(rows)
        ],
    )


def page_table(results: Mapping[str, Any]) -> str:
    """The table of docs/speech.md: word error rates in %, each with its 95 % interval where one can be had, and below
    the difference to the source."""
    from mnemos.report.markdown import table
    from mnemos.report.words import figure, interval

    suites = [one["name"] for one in results["manifest"]["suites"]]
    shown = [name for name in suites if name in ("wer", "old-wer", "wer:clean") or name.endswith(" dB")]
    rows = {(row["arm"], row["suite"]): row for row in results["comparisons"]}
    heads = {"wer": "all", "old-wer": "clean, after all"}
    out = []
    for one in results["adaptation"]["arms"]:
        cells = []
        for suite in shown:
            rate, row = one["suites"][suite], rows[one["arm"], suite]
            text = f"{figure(_points(rate['mean']), 'points')} {_around(interval, rate)}".rstrip()
            if one["arm"] != "source":
                text += f"<br>{figure(_points(row['delta']), 'points', sign=True)} {_around(interval, row)}".rstrip()
            cells.append(text)
        out.append([one["arm"], *cells])
    return table(("", *(heads.get(name, name.removeprefix("wer:")) for name in shown)), out)


def _points(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _around(interval: Callable[..., str], entry: Mapping[str, Any]) -> str:
    return interval(_points(entry["low"]), _points(entry["high"]), "points", sign="delta" in entry)
