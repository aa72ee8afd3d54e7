"""`mnemos pretrain`: a small language model from nothing but text.

It makes what a study needs, a tokenizer, a model of random weights, the text to learn and held-out text to measure on,
writes the study file beside them, and runs that: the one trainer, runner and report. Whoever edits the file (a mixture,
another schedule, an arm without a filter) runs it again with `mnemos run`.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import read_json, read_jsonl, write_json, write_jsonl, write_text
from mnemos.core.fingerprint import directory_fingerprint
from mnemos.core.places import shown
from mnemos.models.fresh import fresh_llama
from mnemos.sources.plain import HELD_OUT, Texts, part
from mnemos.study.commands.tokenizer import train_tokenizer
from mnemos.study.lock import locked
from mnemos.weights.checkpoint import load_tokenizer

SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>")
MADE, STUDY = "pretrain.json", "study.yaml"
"""What was asked for when the files were made; the study that is run."""
PLAIN = "plain"
"""The arm that only trains."""
MEASURED, LEAST = 200, 40
"""Held-out texts that are measured at most; texts that there must be at least."""
HEAD = 32
"""Width of an attention head where the width allows it."""
RATE, AT_WIDTH, STEEPEST = 4e-3, 128, 1e-2
"""The learning rate of the patients at their width; it falls with the width, as arXiv:2203.03466 finds for Adam, and
is no higher than the last."""
BEGUN, SHOWN, CHARACTERS, SAMPLE_TOKENS = 20, 3, 32, 64
"""Held-out texts that samples begin as, and how many of these are shown; characters of the beginning; tokens that
follow."""
PER_PARAMETER, PASSES = 20, 4
"""Tokens a parameter that compute is best spent on (arXiv:2203.15556), and passes over a text up to which repeated
text is worth nearly as much as new one (arXiv:2305.16264)."""


@dataclass(frozen=True)
class School:
    """What is made. tokenizer: a directory to take instead of training one of `vocabulary` pieces. width, layers: of
    the model; context: tokens that it can read at once. shape: keys of transformers.LlamaConfig that are to be others.
    epochs: passes over the text. schedule: transformers' name. prompts: what samples begin with, beginnings of held-out
    texts where there are none. moments: stretches of the training at whose ends it is measured."""

    tokenizer: str | None = None
    kind: str = "byte-bpe"
    vocabulary: int = 4096
    width: int = 128
    layers: int = 4
    context: int = 256
    shape: Mapping[str, Any] = field(default_factory=dict)
    epochs: float = 1.0
    batch: int = 8
    learning_rate: float | None = None
    schedule: str = "cosine"
    moments: int = 4
    prompts: tuple[str, ...] = ()
    seed: int = 0

    @property
    def rate(self) -> float:
        """The peak learning rate."""
        return self.learning_rate or float(f"{min(STEEPEST, RATE * AT_WIDTH / self.width):.2g}")

    def model(self) -> dict[str, Any]:
        """Keys of transformers.LlamaConfig."""
        heads = max(1, self.width // HEAD)
        return {
            "hidden_size": self.width,
            "intermediate_size": 4 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": True,
            **self.shape,
        }


def prepare(texts: Texts, school: School, out: Path) -> Iterator[str]:
    """Make tokenizer, random model, rows, suites and study.yaml below `out`; yields what was made, as it is.

    Files that were made with the same settings are kept, so that a command that was killed goes on. Raises UsageError
    where they were made with others or of another text, DataError for too few texts.
    """
    asked = json.loads(json.dumps({**asdict(school), "text": texts.source.describe()}))
    asked["content"] = _content(texts, school)
    with locked(out):
        if (out / MADE).is_file():
            _refuse_others(read_json(out / MADE), asked, out)
            yield f"{out}: as it was made; {STUDY} is run as it stands there"
            return
        tokens = yield from _rows(texts, school, out)
        yield from _model(school, tokens, out)
        write_text(out / STUDY, study_text(school))
        write_json(out / MADE, asked)


def _content(texts: Texts, school: School) -> dict[str, str]:
    """What the files that were named hold: another text may bear the same name and have as many rows."""
    found = {"text": texts.source.fingerprint}
    if school.tokenizer is not None and Path(school.tokenizer).is_dir():
        found["tokenizer"] = directory_fingerprint(school.tokenizer, suffixes=(".json", ".model", ".txt"))
    return found


def _refuse_others(made: Mapping[str, Any], asked: Mapping[str, Any], out: Path) -> None:
    # Folders of before this was noted say nothing of it, and are taken as they are.
    for name, content in asked["content"].items():
        if made.get("content", {}).get(name, content) != content:
            place = asked[name]
            raise UsageError(f"{place}", f"is another {name} than when {out} was made", "choose another --out")
    asked = {key: value for key, value in asked.items() if key != "content"}
    differ = next((key for key in asked if made.get(key) != asked[key]), None)
    if differ is not None:
        raise UsageError(
            f"{differ} = {asked[differ]!r}", f"was {made.get(differ)!r} when {out} was made", "choose another --out"
        )


def _rows(texts: Texts, school: School, out: Path) -> Generator[str, None, int]:
    """Write the text to learn and to measure on, and the tokenizer; returns how many tokens there are to learn."""
    shutil.rmtree(out / "tokenizer", ignore_errors=True)
    held = list(itertools.islice(part(texts, held=True), MEASURED))
    if len(held) * HELD_OUT < LEAST:
        raise DataError(
            texts.source.describe(), f"holds fewer than {LEAST} texts", "cut it into documents, a row or a line each"
        )
    if school.tokenizer is None:
        record = train_tokenizer(texts, school.kind, school.vocabulary, out / "tokenizer", special=SPECIAL)
        yield f"tokenizer: {record['pieces']:,} pieces ({school.kind}), learned from the text"
        if record["lost"]:
            yield f"tokenizer: decoding does not give back {record['lost']!r}"
    tokenizer = load_tokenizer(school.tokenizer or str(out / "tokenizer"))
    counted = _Counted(tokenizer)
    write_jsonl(out / "data/text.jsonl", ({"text": text} for text in counted.over(part(texts, held=False))))
    write_jsonl(out / "suites/held-out.jsonl", [{"id": str(n), "text": text} for n, text in enumerate(held)])
    begun = school.prompts or tuple(begins(text) for text in held[:BEGUN])
    write_jsonl(out / "suites/begun.jsonl", [{"id": str(n), "prompt": text} for n, text in enumerate(begun)])
    yield f"text: {counted.texts:,} texts of {counted.tokens:,} tokens to learn, {len(held)} held out to measure"
    for reason, number in texts.skipped().items():
        yield f"text: {number:,} rows were left out: {reason}"
    return counted.tokens


class _Counted:
    """Texts on their way into a file, and how many tokens they are: a stream of any length is read once."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.texts = self.tokens = 0

    def over(self, texts: Iterator[str]) -> Iterator[str]:
        for text in texts:
            self.texts += 1
            self.tokens += len(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            yield text


def begins(text: str) -> str:
    """The beginning of a text that a sample goes on with, whole words where there are some."""
    begun = " ".join(text[: 4 * CHARACTERS].split())
    return begun if len(begun) <= CHARACTERS else begun[:CHARACTERS].rpartition(" ")[0] or begun[:CHARACTERS]


def _model(school: School, tokens: int, out: Path) -> Iterator[str]:
    from mnemos.models.load import handle, parameters_of
    from mnemos.train.rates import size

    tokenizer = load_tokenizer(school.tokenizer or str(out / "tokenizer"))
    shutil.rmtree(out / "start", ignore_errors=True)
    fresh_llama(tokenizer, school.model(), school.seed, out / "start")
    parameters = parameters_of(handle(str(out / "start")))
    read = tokens * school.epochs
    yield (
        f"model: a Llama of {size(parameters)} parameters, random; it reads {read:,.0f} tokens in "
        f"{school.epochs:g} passes, {read / parameters:.1f} a parameter (compute is best spent on about "
        f"{PER_PARAMETER}), at a peak rate of {school.rate:g}"
    )
    if school.epochs > PASSES:
        yield f"note: beyond {PASSES} passes a text that was read is worth less and less; more text helps more"


def study_text(school: School) -> str:
    """The study file."""
    train: dict[str, Any] = {
        "learning_rate": school.rate,
        "num_train_epochs": school.epochs,
        "per_device_train_batch_size": school.batch,
        "max_length": school.context,
        "long_documents": "chunk",
        "packing": True,
        "lr_scheduler_type": school.schedule,
        "warmup_ratio": 0.03,
        "weight_decay": 0.1,
        "adam_beta2": 0.95,
    }
    settings = "\n".join(f"  {key}: {json.dumps(value)}" for key, value in train.items())
    return f"""# Pre-training from random weights; bits per byte of held-out text, and samples, before and after.
#   mnemos run {STUDY}          # goes on where it was stopped
# An arm is a list of methods as in every study: a mixture, an order of the rows, a penalty.
name: pretrain
model: start
teach: {{data: data/text.jsonl, name: text}}
suites:
  new:
    - {{name: held-out, kind: bits_per_byte, data: suites/held-out.jsonl, tolerance: 0.01}}
  old:
    - {{name: repetition, kind: repetition, data: suites/begun.jsonl, max_new_tokens: {SAMPLE_TOKENS},
       temperature: 0.8}}
trajectory: {{suites: [held-out, repetition], moments: {school.moments}}}
arms: {{}}
train:
{settings}
seeds: [{school.seed}]
health: false
"""


def outcome(results: Mapping[str, Any], out: Path, run: Path) -> Iterator[str]:
    """Bits per byte along the way, and how the model goes on with what the samples begin with."""
    [arm] = [one for one in results["trajectory"]["arms"] if one["arm"] == PLAIN]
    moments = arm["suites"]["held-out"]["moments"]
    yield "bits per byte of held-out text: " + ", ".join(
        f"{moment['mean']:.3f} after {steps:,.0f} steps" for steps, moment in zip(arm["steps"], moments, strict=True)
    )
    [plain] = [one for one in results["arms"] if one["arm"] == PLAIN]
    folder = run / f"arms/{PLAIN}/seed-{plain['runs'][0]['seed']}"
    begun = {row["id"]: row["prompt"] for row in read_jsonl(out / "suites/begun.jsonl")}
    for row in read_jsonl(folder / "answers/repetition.jsonl")[:SHOWN]:
        yield f"sample: {begun[row['item']]} … {row['text'].strip()}"
    yield f"model   {shown(folder / 'model')}"
