"""A recogniser of clean digits learns noisy ones: rows and a study, of what the reproduction `adaptation` prepares.

    python -m mnemos.recipes.noisy_digits runs/reproductions/adaptation/data --out noisy-digits
    mnemos run noisy-digits/study.yaml

Target: strings of real digits in the noise of a vacuum cleaner at 0 dB. Source: the same strings clean. Rows that are
learned and rows that measure are of different takes, as that reproduction parts them.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Sequence
from pathlib import Path

from mnemos.core.errors import DataError
from mnemos.core.files import write_jsonl, write_text
from mnemos.core.nouns import Example

NOISE, SNR = "noise/VacuumCleaner_1.flac", 0.0
MODEL = "adaptation_source/arms/plain/seed-0/model"
"""The recogniser of clean digits, in the reproduction's folder."""
TARGET, SOURCE, TESTED = 96, 64, 80
"""Strings to learn in noise, strings to rehearse without, and strings that measure, both ways."""

STUDY = """\
# A recogniser of clean digits learns noisy ones; what of the clean ones is left?
name: noisy-digits
model: {model}
teach: {{data: target-train.jsonl}}
suites:
  new: [{{name: noisy, kind: wer, data: target-test.jsonl}}]
  old: [{{name: clean, kind: wer, data: source-test.jsonl}}]
arms:
  plain: []
  replay: [{{replay: {{data: source-train.jsonl, share_of_final: 0.33}}}}]
  ewc: [{{ewc: {{data: source-train.jsonl, coefficient: 10.0, samples: 32}}}}]
  halfway: [{{weights: {{expression: "before + 0.5*(after - before)"}}}}]
train: {{learning_rate: 1.0e-4, num_train_epochs: 2, per_device_train_batch_size: 8}}
seeds: [0]
"""


def make(data: Path, out: Path) -> Path:
    """Rows, sounds and study.yaml below `out`; returns the study's path. data: of the reproduction, beside what its
    first parts trained; holds noise/, train.jsonl and stream.jsonl. Raises DataError where rows are fewer than are
    needed."""
    from mnemos.sources.read import read

    train, tested = (list(read(str(data / f"{name}.jsonl"))) for name in ("train", "stream"))
    if len(train) < TARGET + SOURCE or len(tested) < TESTED:
        raise DataError(f"{data}", f"holds {len(train)} and {len(tested)} rows", "prepare the reproduction adaptation")
    noise = data / NOISE
    _write(out, "target-train", train[:TARGET], noise, 0)
    _write(out, "source-train", train[TARGET : TARGET + SOURCE], None, 1)
    _write(out, "target-test", tested[:TESTED], noise, 2)
    _write(out, "source-test", tested[:TESTED], None, 3)
    write_text(out / "study.yaml", STUDY.format(model=os.path.relpath(data.parent / MODEL, out)))
    return out / "study.yaml"


def _write(out: Path, name: str, examples: Sequence[Example], noise: Path | None, seed: int) -> None:
    from mnemos.sources import audio
    from mnemos.sources.augment import noisy

    drawn = random.Random(seed)
    beside = None if noise is None else audio.read(noise, rate=16_000)
    rows = []
    (out / "sounds").mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(examples):
        clip = audio.read(example.turns[0].sounds[0].path, rate=16_000)
        if beside is not None:
            clip = noisy(clip, beside, SNR, start=drawn.randrange(len(beside.samples)))
        place = f"sounds/{name}-{number}.flac"
        audio.write(clip, out / place)
        rows.append({"audio": place, "text": example.turns[-1].text, "speaker": example.meta.get("speaker", "")})
    write_jsonl(out / f"{name}.jsonl", rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m mnemos.recipes.noisy_digits", description="Write a study.")
    parser.add_argument("data", type=Path, help="what the reproduction adaptation prepared")
    parser.add_argument("--out", type=Path, default=Path("noisy-digits"), help="the study's folder")
    given = parser.parse_args(arguments)
    print(make(given.data, given.out))


if __name__ == "__main__":
    main()
