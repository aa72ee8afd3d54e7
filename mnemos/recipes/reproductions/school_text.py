"""Texts for studies of pre-training in small, by source: pages of the web, Wikipedia, a drama, sums in words.

Third-party text is read from $MNEMOS_DATA and stays below runs/. A source's documents are in one part each, learned or
held out; of Wikipedia whole articles are. The same bytes each time; a missing file raises FileNotFoundError.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.files import write_jsonl
from mnemos.recipes.worlds.seed import chance

Row = dict[str, Any]

WEB, PAGES = "web_and_wiki_demo/c4_demo.jsonl.gz", "dclm_quality/majority_minus_agreement_shared.jsonl.gz"
WIKI, DRAMA, SUMS = "web_and_wiki_demo/wiki_demo.txt.gz", "tinyshakespeare/input.txt.gz", "gsm8k/train.jsonl.gz"
SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>")
HELD = 10
"""Of so many documents (articles, of Wikipedia) one is held out."""
MEASURED = 60
"""Held-out texts of a suite."""
CALCULATION = re.compile(r"<<[^>]*>>")
"""What a solution of GSM8K holds for a calculator."""


def lines(path: Path) -> Iterator[str]:
    """Lines of a gzip-compressed text."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from file


def web(data: Path) -> list[str]:
    """300 pages of C4."""
    return [json.loads(line)["text"] for line in lines(data / WEB)]


def labelled(data: Path) -> list[tuple[str, bool]]:
    """DCLM's 218 pages, and whether people would keep each."""
    rows = [json.loads(line) for line in lines(data / PAGES)]
    return [(row["text"], str(row["label"]) == "1") for row in rows]


def articles(data: Path) -> list[str]:
    """30 articles of Wikipedia."""
    return [line.strip() for line in lines(data / WIKI) if line.strip()]


def drama(data: Path) -> str:
    """1.1 million characters of drama."""
    return "".join(lines(data / DRAMA))


def sums(data: Path) -> list[str]:
    """Questions of GSM8K's training part with their solutions, as text."""
    rows = (json.loads(line) for line in lines(data / SUMS))
    return [f"{row['question']}\n{CALCULATION.sub('', row['answer'])}" for row in rows]


def split(texts: Sequence[str], name: str, characters: int) -> tuple[list[str], list[str]]:
    """(documents to learn, held-out ones): the former up to so many characters, in a random order of their own."""
    order = list(range(len(texts)))
    chance("school", name).shuffle(order)
    held = [texts[place] for number, place in enumerate(order) if number % HELD == 0]
    learned, total = [], 0
    for number, place in enumerate(order):
        if number % HELD and total < characters:
            learned.append(texts[place])
            total += len(texts[place])
    return learned, held


def items(texts: Sequence[str], characters: int, measured: int = MEASURED) -> list[Row]:
    """Held-out texts of a suite, at most so many, each cut at `characters`."""
    return [{"id": str(n), "text": text[:characters]} for n, text in enumerate(texts[:measured])]


def start(out: Path, texts: Sequence[str], vocabulary: int, width: int, layers: int, context: int) -> Path:
    """A Llama of random weights in `out`/start with a byte-level BPE learned from the texts; a finished one is kept."""
    from mnemos.models.fresh import fresh_llama
    from mnemos.sources.plain import texts_at
    from mnemos.study.commands.pretrain import School
    from mnemos.study.commands.tokenizer import train_tokenizer
    from mnemos.weights.checkpoint import load_tokenizer

    folder = out / "start"
    if not (folder / "model.safetensors").is_file():
        write_jsonl(out / "tokenizer.jsonl", ({"text": text} for text in texts))
        if not (out / "tokenizer/tokenizer_config.json").is_file():
            found = texts_at(str(out / "tokenizer.jsonl"))
            train_tokenizer(found, "byte-bpe", vocabulary, out / "tokenizer", special=SPECIAL)
        shape = School(width=width, layers=layers, context=context).model()
        fresh_llama(load_tokenizer(str(out / "tokenizer")), shape, 0, folder)
    return folder
