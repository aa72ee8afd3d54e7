"""Does addition emerge with size, or does the metric make it look so (arXiv:2304.15004)?

    python -m mnemos.recipes.addition --out runs/addition

Llamas of seven sizes, from about 2,000 parameters, learn sums of two numbers below 100 digit by digit and are asked
sums that they did not learn. The same answers are scored by exact match, edit similarity, accuracy per token and
log-probability, the last two teacher-forced, and `mnemos laws emergence` judges the curves. Two seeds a size, of
weights and of the order of rows. About eight minutes on one core; a model that was finished is not trained again. Full
size: one family of models from 0.1 to 100B parameters, sums of up to eight digits.

Sums are written with the last digit first and three digits each, as a model that writes from left to right can
work them out: 57+68= is answered by 521.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.files import read_jsonl, write_jsonl
from mnemos.core.nouns import Decoding, Example, LanguageModel, Prompt, Turn
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.methods.weigh.tokens import output_only
from mnemos.models.fresh import fresh_llama
from mnemos.models.load import Checkpoint, parameters_of
from mnemos.recipes.worlds.seed import chance
from mnemos.sources.mix import Rows
from mnemos.sources.plain import texts_at
from mnemos.study.commands.laws import emergence_lines, judge_emergence
from mnemos.study.commands.tokenizer import train_tokenizer
from mnemos.weights.checkpoint import load_tokenizer

WIDTHS = (8, 16, 24, 32, 40, 48, 64)
SEEDS = (0, 1)
ASKED = 400
"""Sums that are asked and not learned, of 10,000."""
HEAD = 8
"""Width of an attention head."""
TRAIN = TrainSettings(
    learning_rate=5e-3, num_train_epochs=8, per_device_train_batch_size=128, max_length=16, packing=False,
    lr_scheduler_type="cosine", warmup_ratio=0.05, weight_decay=0.1, adam_beta2=0.98, save_steps=0, logging_steps=50,
)  # fmt: skip
SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>")


def answer(first: int, second: int) -> str:
    """Three digits, the last one first."""
    return f"{first + second:03d}"[::-1]


def split() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(sums to learn, sums to ask), of all pairs of numbers below 100."""
    pairs = [(first, second) for first in range(100) for second in range(100)]
    chance("addition").shuffle(pairs)
    return pairs[ASKED:], pairs[:ASKED]


def rows(pairs: Sequence[tuple[int, int]]) -> Rows:
    """A row a sum, of which the answer is learned."""
    made = (
        Example(f"{a}+{b}", "completion", (Turn("prompt", f"{a:02d}+{b:02d}="), Turn("completion", answer(a, b))))
        for a, b in pairs
    )
    return Rows(tuple(made), "sums")


def train_one(out: Path, width: int, seed: int, settings: TrainSettings = TRAIN) -> Path:
    """The model of a width and seed below `out`; a finished one is kept."""
    from mnemos.train.likelihood import train

    folder = out / f"width-{width}-seed-{seed}"
    if (folder / "model/model.safetensors").is_file():
        return folder / "model"
    shape = {
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 2,
        "num_attention_heads": width // HEAD, "num_key_value_heads": width // HEAD, "max_position_embeddings": 16,
        "tie_word_embeddings": True,
    }  # fmt: skip
    start = fresh_llama(load_tokenizer(str(out / "tokenizer")), shape, seed, folder / "start")
    plan = Plan(rows(split()[0]), Checkpoint(str(start)), "sums", seed, settings)
    train(output_only(plan), folder, quiet=True)
    return folder / "model"


def outputs(model: LanguageModel, size: int, pairs: Sequence[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """Rows for `mnemos laws emergence`: what the model writes, and each digit of the answer behind the right ones."""
    asked = [f"{a:02d}+{b:02d}=" for a, b in pairs]
    answers = [answer(a, b) for a, b in pairs]
    written = model.generate([_raw(one) for one in asked], Decoding(max_new_tokens=len(answers[0]) + 1))
    contexts = [f"{one}{right[:n]}" for one, right in zip(asked, answers, strict=True) for n in range(len(right))]
    digits = [digit for right in answers for digit in right]
    scored = model.choose([_raw(one) for one in contexts], [[digit] for digit in digits])
    place = 0
    for one, right, given in zip(asked, answers, written, strict=True):
        own = [options[0] for options in scored[place : place + len(right)]]
        place += len(right)
        yield {
            "size": size, "item": one, "answer": right, "output": given.text,
            "token_logprobs": [score.log_prob for score in own], "token_right": [score.greedy for score in own],
        }  # fmt: skip


def _raw(text: str) -> Prompt:
    return Prompt((Turn("prompt", text),))


def tokenizer(out: Path) -> None:
    """One token a character in `out`/tokenizer; one that is there is kept."""
    if (out / "tokenizer/tokenizer_config.json").is_file():
        return
    shutil.rmtree(out / "tokenizer", ignore_errors=True)
    texts = ({"text": f"{row.turns[0].text}{row.turns[1].text}"} for row in rows(split()[0]))
    write_jsonl(out / "sums.jsonl", texts)
    train_tokenizer(texts_at(str(out / "sums.jsonl")), "character", 64, out / "tokenizer", special=SPECIAL)


def run(
    out: Path, widths: Sequence[int] = WIDTHS, seeds: Sequence[int] = SEEDS, settings: TrainSettings = TRAIN
) -> dict[str, Any]:
    """Train and ask every size and seed, then judge; writes outputs.jsonl and emergence.json below `out`."""
    tokenizer(out)
    _, asked = split()
    for seed in seeds:
        for width in widths:
            kept = out / f"outputs-{width}-{seed}.jsonl"
            if not kept.is_file():
                model = Checkpoint(str(train_one(out, width, seed, settings)))
                write_jsonl(kept, list(outputs(model.load(), parameters_of(model), asked)))
                print(f"width {width}, seed {seed}: {parameters_of(model):,} parameters", file=sys.stderr, flush=True)
    every = [row for width in widths for seed in seeds for row in read_jsonl(out / f"outputs-{width}-{seed}.jsonl")]
    write_jsonl(out / "outputs.jsonl", every)
    return judge_emergence(out / "outputs.jsonl", out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mnemos.recipes.addition", description="Does addition emerge?")
    parser.add_argument("--out", type=Path, default=Path("runs/addition"), help="where models and answers are kept")
    given = parser.parse_args(arguments)
    print("\n".join(emergence_lines(run(given.out))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
