"""Spoken digits as discrete units of Whisper's encoder, and a chat model that learns to read them: rows and a study.

    python -m mnemos.recipes.unit_digits DATA --encoder openai/whisper-tiny --out unit-digits
    mnemos run unit-digits/study.yaml

DATA holds fsdd/, the recordings of the Free Spoken Digit Dataset as archives, one a speaker. Units are fitted on the
takes that are learned; the data set's own test takes measure, by speakers that were heard in training.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnemos.core.files import write_text
from mnemos.recipes.reproductions.adaptation import DIGITS, TEST_TAKES, read_digits, write_rows

PATIENT = "mnemos:patients/chat"
LAYER, CLUSTERS = 3, 64
TAKES = 10
"""Takes of each digit and speaker that are learned from."""

STUDY = """\
# A chat model learns to read digits that come as discrete units; what is left of what it could? Items are takes of
# four speakers who were heard in training: what is found says nothing of a fifth.
name: unit-digits
model: extended
teach: {data: train-units.jsonl}
suites:
  new:
    - {name: digits, kind: answer_wer, data: test-units.jsonl, columns: {answer: completion}, max_new_tokens: 8}
  old: [facts, biographies, json-answers, "bits-per-byte:english"]
arms:
  masked: [{mask_units: {}}]
  replay: [{replay: {data: "mnemos:data/old.jsonl", share_of_final: 0.5}}]
  masked+replay: [{mask_units: {}}, {replay: {data: "mnemos:data/old.jsonl", share_of_final: 0.5}}]
train: {learning_rate: 1.0e-3, num_train_epochs: 6, per_device_train_batch_size: 16, max_length: 256}
seeds: [0]
"""


def make(data: Path, encoder: str, out: Path, *, layer: int = LAYER, takes: int = TAKES) -> Path:
    """Sounds, units, rows, the extended patient and study.yaml below `out`; returns the study's path. Raises as
    `read_digits`, and as the commands of `mnemos listen units` and `mnemos tokenizer extend`."""
    from mnemos.sources.units import tokens
    from mnemos.study.commands.tokenizer import add_tokens
    from mnemos.study.commands.units import encode_units, fit_units
    from mnemos.study.paths import model_location

    recordings = read_digits(data / "fsdd")
    train = range(TEST_TAKES.stop, TEST_TAKES.stop + takes)
    for name, numbers in (("train", train), ("test", TEST_TAKES)):
        write_rows(out, name, rows_of(recordings, numbers))
    settings: Any = {"layer": layer, "clusters": CLUSTERS, "normalisation": "standard"}
    fit_units(str(out / "train.jsonl"), encoder, out / "units", **settings)
    for name in ("train", "test"):
        encode_units(str(out / f"{name}.jsonl"), out / "units", out / f"{name}-units.jsonl")
    add_tokens(model_location(PATIENT, out), tokens(CLUSTERS), None, out / "extended", suppress=True)
    write_text(out / "study.yaml", STUDY)
    return out / "study.yaml"


def rows_of(recordings: dict[tuple[str, int, int], Any], takes: range) -> list[tuple[Any, str, str]]:
    """(clip, word, speaker) of these takes, by speaker, digit and take."""
    return [(clip, DIGITS[digit], speaker) for (speaker, digit, take), clip in sorted(recordings.items(), key=_name)
            if take in takes]  # fmt: skip


def _name(entry: tuple[tuple[str, int, int], Any]) -> tuple[str, int, int]:
    return entry[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m mnemos.recipes.unit_digits", description="Write a study.")
    parser.add_argument("data", type=Path, help="the folder that holds fsdd/")
    parser.add_argument("--encoder", default="openai/whisper-tiny", help="whose layer is clustered")
    parser.add_argument("--layer", type=int, default=LAYER, help="which of its hidden layers")
    parser.add_argument("--takes", type=int, default=TAKES, help="takes a digit and speaker to learn from")
    parser.add_argument("--out", type=Path, default=Path("unit-digits"), help="the study's folder")
    given = parser.parse_args(arguments)
    print(make(given.data, given.encoder, given.out, layer=given.layer, takes=given.takes))


if __name__ == "__main__":
    main()
