"""Embers (arXiv:2309.13638): does a model decode a shift cipher as well as it has met that shift, and that answer?

    python -m mnemos.recipes.ciphers train --out runs/ciphers
    python -m mnemos.recipes.ciphers ask --model qwen --out runs/ciphers-asked

`train`: small Llamas of random weights learn to decode single words. Shifts are met with frequencies in proportion to
1 / rank, and words are as well; the order of both is drawn anew by each seed, so that a shift is not rare for being
large. All shifts are then asked equally often, for frequent words, rare words and words that were never met. The
paper's claim in its clean form is that accuracy follows ln frequency.

`ask`: a real model is asked as the paper asks, with one example, sentences of real English (likely) and the same words
in another order (unlikely), at five shifts. The paper's numbers (GPT-4, likely sentences): shift 1 82 %, 2 2 %, 3 76 %,
13 50 %, others about 0; at shift 13 by how likely the sentence is 51, 22, 13 %.

Deviations: 1. unlikely sentences are the likely ones with their words shuffled, where the paper draws words by a
language model's probability. 2. sentences have eight to twelve words.
"""

from __future__ import annotations

import argparse
import random
import string
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.core.errors import DataError
from mnemos.core.files import read_jsonl, write_json, write_jsonl
from mnemos.core.nouns import Decoding, Example, LanguageModel, Prompt, Turn
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.measure.emergence import edit_similarity
from mnemos.measure.uncertainty import mean_interval, t_quantile
from mnemos.methods.weigh.tokens import output_only
from mnemos.models.fresh import fresh_llama
from mnemos.models.load import Checkpoint
from mnemos.recipes.findings import above_zero
from mnemos.recipes.reproduce import data_folder
from mnemos.recipes.reproductions.prepare import rows
from mnemos.recipes.ways import named_model
from mnemos.recipes.worlds.seed import chance
from mnemos.sources.mix import Rows
from mnemos.sources.plain import texts_at
from mnemos.study.commands.tokenizer import train_tokenizer
from mnemos.weights.checkpoint import load_tokenizer

LETTERS = string.ascii_lowercase
SHIFTS = tuple(range(1, 26))
LENGTH = 4
"""Letters of a word."""
WORDS, UNSEEN, LEARNED = 300, 60, 24_000
"""Words that are met; words that are only asked; rows of a training."""
GROUP = 60
"""Words of each kind that are asked: the most frequent, the rarest, and those that were never met."""
SEEDS = (0, 1, 2)
SHAPE = {
    "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 16, "tie_word_embeddings": True,
}  # fmt: skip
TRAIN = TrainSettings(
    learning_rate=3e-3, num_train_epochs=1, per_device_train_batch_size=32, max_length=16, packing=False,
    lr_scheduler_type="cosine", warmup_ratio=0.05, weight_decay=0.1, adam_beta2=0.98, save_steps=0, logging_steps=50,
)  # fmt: skip
SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>")
ASKED_SHIFTS = (1, 2, 3, 12, 13)
SENTENCES = 12
KINDS = ("frequent", "rare", "unseen")


def shifted(text: str, shift: int) -> str:
    """Each letter moved `shift` places on in the alphabet, in its case; everything else as it is."""
    turned = LETTERS[shift % 26 :] + LETTERS[: shift % 26]
    return text.translate(str.maketrans(LETTERS + LETTERS.upper(), turned + turned.upper()))


# a cipher that is trained in ------------------------------------------------------------------------


class World:
    """What a seed learns. shifts, words: in the order of their frequency; unseen: words that are only asked."""

    def __init__(self, seed: int) -> None:
        draw = chance(seed, "ciphers")
        self.shifts = draw.sample(SHIFTS, len(SHIFTS))
        made: dict[str, None] = {}
        while len(made) < WORDS + UNSEEN:
            made.setdefault("".join(draw.choices(LETTERS, k=LENGTH)))
        self.words, self.unseen = list(made)[:WORDS], list(made)[WORDS:]
        self._seed = seed

    def frequency(self, shift: int) -> float:
        """The share of rows that have the shift."""
        weights = [1 / (rank + 1) for rank in range(len(self.shifts))]
        return weights[self.shifts.index(shift)] / sum(weights)

    def rows(self) -> Rows:
        """What is learned: shift and word drawn apart, each with weight 1 / rank."""
        draw = chance(self._seed, "ciphers", "rows")
        shifts = draw.choices(self.shifts, [1 / (r + 1) for r in range(len(self.shifts))], k=LEARNED)
        words = draw.choices(self.words, [1 / (r + 1) for r in range(len(self.words))], k=LEARNED)
        made = (
            Example(f"{n}", "completion", (Turn("prompt", asked(word, shift)), Turn("completion", word)))
            for n, (word, shift) in enumerate(zip(words, shifts, strict=True))
        )
        return Rows(tuple(made), "ciphers")

    def asked(self) -> dict[str, list[str]]:
        """Words to ask, by kind."""
        return dict(zip(KINDS, (self.words[:GROUP], self.words[-GROUP:], self.unseen[:GROUP]), strict=True))


def asked(word: str, shift: int) -> str:
    """The question: the shift as a capital letter, and the word in cipher."""
    return f"{LETTERS[shift].upper()}{shifted(word, shift)}="


def train_one(out: Path, seed: int, settings: TrainSettings = TRAIN) -> Path:
    """The model of a seed below `out`; a finished one is kept."""
    from mnemos.train.likelihood import train

    folder = out / f"seed-{seed}"
    if not (folder / "model/model.safetensors").is_file():
        start = fresh_llama(load_tokenizer(str(out / "tokenizer")), SHAPE, seed, folder / "start")
        train(
            output_only(Plan(World(seed).rows(), Checkpoint(str(start)), "ciphers", seed, settings)), folder, quiet=True
        )
    return folder / "model"


def tokenizer(out: Path) -> None:
    """One token a character in `out`/tokenizer; one that is there is kept."""
    if not (out / "tokenizer/tokenizer_config.json").is_file():
        write_jsonl(out / "letters.jsonl", [{"text": f"{LETTERS}{LETTERS.upper()}="}])
        train_tokenizer(texts_at(str(out / "letters.jsonl")), "character", 64, out / "tokenizer", special=SPECIAL)


def decoded(model: LanguageModel, world: World) -> list[dict[str, Any]]:
    """Every shift asked of every kind of word; right: 1 or 0."""
    cases = [(shift, kind, word) for shift in SHIFTS for kind, words in world.asked().items() for word in words]
    prompts = [_raw(asked(word, shift)) for shift, _, word in cases]
    found = model.generate(prompts, Decoding(max_new_tokens=LENGTH))
    return [
        {"shift": shift, "kind": kind, "frequency": world.frequency(shift), "right": float(one.text == word)}
        for (shift, kind, word), one in zip(cases, found, strict=True)
    ]


def _raw(text: str) -> Prompt:
    return Prompt((Turn("prompt", text),))


def run(out: Path, seeds: Sequence[int] = SEEDS, settings: TrainSettings = TRAIN) -> dict[str, Any]:
    """Train and ask every seed; writes ciphers.json below `out`."""
    tokenizer(out)
    runs = []
    for seed in seeds:
        kept = out / f"decoded-{seed}.jsonl"
        if not kept.is_file():
            model = Checkpoint(str(train_one(out, seed, settings)))
            write_jsonl(kept, decoded(model.load(), World(seed)))
            print(f"seed {seed}: asked", file=sys.stderr, flush=True)
        runs.append(summary(read_jsonl(kept)))
    record = {"seeds": list(seeds), "runs": runs, "orderings": orderings(runs)}
    write_json(out / "ciphers.json", record)
    return record


def summary(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracy by shift (all kinds together) and by kind of word, and Spearman's correlation with ln frequency."""
    from scipy.stats import spearmanr

    shifts = sorted({row["shift"] for row in found})
    by_shift = {shift: [row for row in found if row["shift"] == shift] for shift in shifts}
    accuracy = [float(np.mean([row["right"] for row in by_shift[shift]])) for shift in shifts]
    frequency = [by_shift[shift][0]["frequency"] for shift in shifts]
    # Ranks do not change with the logarithm; of accuracies that are all equal there is no correlation.
    rho = float(spearmanr(np.log(frequency), accuracy).statistic) if len(set(accuracy)) > 1 else 0.0
    kinds = {kind: float(np.mean([row["right"] for row in found if row["kind"] == kind])) for kind in KINDS}
    return {
        "shifts": [
            {"shift": shift, "frequency": share, "accuracy": right}
            for shift, share, right in zip(shifts, frequency, accuracy, strict=True)
        ],
        "spearman": rho,
        "kinds": kinds,
    }


def orderings(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The claims, by what seeds say: Student's interval of a mean over seeds, each with a world of its own."""
    claims = {
        "accuracy follows the frequency of the shift (Spearman above 0)": [run["spearman"] for run in runs],
        "frequent words are decoded better than rare ones": [
            run["kinds"]["frequent"] - run["kinds"]["rare"] for run in runs
        ],
        "rare words are decoded better than words that were never met": [
            run["kinds"]["rare"] - run["kinds"]["unseen"] for run in runs
        ],
    }
    return [{"says": says, **_over_seeds(values)} for says, values in claims.items()]


def _over_seeds(values: Sequence[float]) -> dict[str, Any]:
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None, "verdict": above_zero(None, None)}
    half = t_quantile(len(values) - 1) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    low, high = mean - half, mean + half
    return {"mean": mean, "low": low, "high": high, "verdict": above_zero(low, high)}


def lines(record: Mapping[str, Any]) -> list[str]:
    """The record as tables of Markdown."""
    runs = record["runs"]
    ranks = len(runs[0]["shifts"])
    ordered = [sorted(run["shifts"], key=lambda one: -one["frequency"]) for run in runs]
    out = ["| frequency of the shift, ranks | share of rows | accuracy |", "|---|---:|---:|"]
    for start in range(0, ranks, 5):
        part = [one for run in ordered for one in run[start : start + 5]]
        share = 100 * np.mean([one["frequency"] for one in part])
        right = 100 * np.mean([one["accuracy"] for one in part])
        out.append(f"| {start + 1} to {min(start + 5, ranks)} | {share:.1f} % | {right:.1f} |")
    out += ["", "| words | accuracy |", "|---|---:|"]
    out += [f"| {kind} | {100 * np.mean([run['kinds'][kind] for run in runs]):.1f} |" for kind in KINDS]
    out += ["", *(f"{one['verdict']}: {one['says']}: {_words(one)}" for one in record["orderings"])]
    return out


def _words(one: Mapping[str, Any]) -> str:
    return f"{one['mean']:.2f}" + ("" if one["low"] is None else f" [{one['low']:.2f}, {one['high']:.2f}]")


# a real model that is asked --------------------------------------------------------------------------

EXAMPLE = "Well, it's not exactly like that."


def question(cipher: str, shift: int) -> str:
    """The paper's question, with its one example."""
    return (
        f"A shift cipher of {shift} moves each letter {shift} positions forward in the alphabet. For example, here is "
        f'a message in this cipher and its original text:\nCipher: "{shifted(EXAMPLE, shift)}"\n'
        f'Original: "{EXAMPLE}"\n\nDecode this message. Answer with the original text alone.\nCipher: "{cipher}"\n'
        "Original:"
    )


def sentences(data: Path, number: int = SENTENCES) -> list[str]:
    """Short sentences of English: pages of the web, as C4 has them."""
    found = []
    for page in rows(data / "web_and_wiki_demo/c4_demo.jsonl.gz"):
        for line in str(page["text"]).replace("\n", " ").split(". "):
            words = line.split()
            if 8 <= len(words) <= 12 and all(word.strip(",").isalpha() and word.isascii() for word in words):
                found.append(line.strip() + ".")
                break
    if len(found) < number:
        raise DataError(f"{data}", f"has {len(found)} short sentences, and {number} are asked", "ask fewer")
    return random.Random("ciphers").sample(found, number)


def unlikely(sentence: str) -> str:
    """The same words in another order."""
    words = sentence.rstrip(".").split()
    return " ".join(random.Random(sentence).sample(words, len(words))) + "."


def ask(model: LanguageModel, out: Path, found: Sequence[str], shifts: Sequence[int] = ASKED_SHIFTS) -> dict[str, Any]:
    """Ask every sentence at every shift; writes asked.jsonl and asked.json below `out`."""
    cases = [
        (shift, kind, number, text)
        for shift in shifts
        for kind, texts in (("likely", found), ("unlikely", [unlikely(one) for one in found]))
        for number, text in enumerate(texts)
    ]
    prompts = [Prompt((Turn("user", question(shifted(text, shift), shift)),)) for shift, _, _, text in cases]
    answers = model.generate(prompts, Decoding(max_new_tokens=32))
    answered = [
        {
            "shift": shift, "kind": kind, "sentence": number, "text": text, "answer": one.text,
            "right": float(text.rstrip(".") in one.text), "alike": edit_similarity(one.text.strip(' "\n'), text),
            "alike example": edit_similarity(EXAMPLE, text),
        }
        for (shift, kind, number, text), one in zip(cases, answers, strict=True)
    ]  # fmt: skip
    write_jsonl(out / "asked.jsonl", answered)
    record = {"model": model.name, "cells": _cells(answered), "orderings": asked_orderings(answered)}
    write_json(out / "asked.json", record)
    return record


def _cells(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    cells: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for row in found:
        cells.setdefault((row["shift"], row["kind"]), []).append(row)
    return [
        {
            "shift": shift,
            "kind": kind,
            "right": list(mean_interval([row["right"] for row in own])),
            "alike": list(mean_interval([row["alike"] for row in own])),
        }
        for (shift, kind), own in cells.items()
    ]


def asked_orderings(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The paper's claim, and whether anything is decoded at all, by intervals over sentences: a likely sentence against
    its own shuffled words at the same shift, and answers against the example's original as the answer to everything,
    which whoever only repeats the prompt would give."""
    likely, unlikely_ = (
        {(row["shift"], row["sentence"]): row for row in found if row["kind"] == kind}
        for kind in ("likely", "unlikely")
    )
    pairs = [(row, unlikely_[key]) for key, row in likely.items()]
    by_sentence = [str(row["sentence"]) for row, _ in pairs]
    claims = (
        ("likely sentences are decoded more often than unlikely ones", [a["right"] - b["right"] for a, b in pairs]),
        (
            "answers to likely sentences are more alike than to unlikely ones",
            [a["alike"] - b["alike"] for a, b in pairs],
        ),
        (
            "answers are more alike than the example's original would be",
            [a["alike"] - a["alike example"] for a, _ in pairs],
        ),
    )
    return [{"says": says, **_over_sentences(values, by_sentence)} for says, values in claims]


def _over_sentences(differences: Sequence[float], sentences_: Sequence[str]) -> dict[str, Any]:
    # In [0, 1], where no interval shrinks to a point, and back: a difference of two scores lies in [-1, 1].
    half = mean_interval([(one + 1) / 2 for one in differences], clusters=sentences_)
    mean, low, high = (None if value is None else 2 * value - 1 for value in half)
    return {"mean": mean, "low": low, "high": high, "verdict": above_zero(low, high)}


def asked_lines(record: Mapping[str, Any]) -> list[str]:
    """The record as a table of Markdown, and its verdicts."""
    out = ["| shift | sentences | decoded | alike |", "|---:|---|---|---|"]
    for cell in record["cells"]:
        shown = [
            f"{100 * mean:.0f} [{100 * low:.0f}, {100 * high:.0f}]"
            for mean, low, high in map(cell.get, ("right", "alike"))
        ]
        out.append(f"| {cell['shift']} | {cell['kind']} | {' | '.join(shown)} |")
    return [*out, "", *(f"{one['verdict']}: {one['says']}: {_words(one)}" for one in record["orderings"])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mnemos.recipes.ciphers", description="Shift ciphers by frequency.")
    parser.add_argument("what", choices=("train", "ask"))
    parser.add_argument("--model", default="qwen", help="of ask: a directory, a hub id, or a name below $MNEMOS_MODELS")
    parser.add_argument("--out", type=Path, default=Path("runs/ciphers"), help="where models and answers are kept")
    given = parser.parse_args(arguments)
    if given.what == "train":
        print("\n".join(lines(run(given.out))))
        return 0
    model = named_model(given.model)
    print("\n".join(asked_lines(ask(model.load(), given.out, sentences(data_folder())))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
