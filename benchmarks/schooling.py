"""Tokenizer measures, filters and deduplication beside a plain loop, datatrove, rensa and datasketch.

    MNEMOS_DATA=… MNEMOS_PEERS=/path/to/python python -m benchmarks.schooling

tokenizer-measures: seconds of `measures.measure` on the C4 pages, five times over, beside a Python loop over encode
that counts the same. filter-throughput: seconds of FineWeb's filters on the C4 and the labelled pages, beside
datatrove's in a process of the Python that MNEMOS_PEERS names (datatrove and spaCy installed there; without it this one
is left out), and which decisions differ. dedup: seconds of `dedup.minhash_groups` beside rensa's signatures and index
over the same shingles. All times are processor time of one process.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.common import Result, alternate, compared, save
from mnemos.recipes.reproduce import data_folder
from mnemos.sources.dedup import BANDS, ROWS, SEED, minhash_groups, shingles
from mnemos.sources.filters.page import Page, through
from mnemos.sources.filters.presets import made
from mnemos.sources.plain import texts_at
from mnemos.sources.tokenizer.measures import measure
from mnemos.sources.tokenizer.train import train
from mnemos.sources.words import words

C4, LABELLED = "web_and_wiki_demo/c4_demo.jsonl.gz", "dclm_quality/majority_minus_agreement_shared.jsonl.gz"
FILTERS = ("gopher_repetition", "gopher_quality", "c4", "fineweb")
PEER = """
import json, sys, time
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter
from datatrove.pipeline.filters import GopherRepetitionFilter
from datatrove.utils.text import split_into_words
filters = [GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=False),
           FineWebQualityFilter()]
texts = json.load(sys.stdin)
split_into_words("a b", "eng_Latn")
started, kept = time.process_time(), []
for text in texts:
    page = Document(text=text, id="0")
    kept.append(all(one.filter(page) is True for one in filters))
print(json.dumps({"seconds": time.process_time() - started, "kept": kept}))
"""


def timed(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def pages() -> list[str]:
    return [text for name in (C4, LABELLED) for text in _texts(name)]


def _texts(name: str) -> list[str]:
    rows = texts_at(str(data_folder() / name), column="text")
    return list(rows)


def run() -> Iterator[Result]:
    """The three results, the second only with MNEMOS_PEERS."""
    yield tokenizer_measures()
    if os.environ.get("MNEMOS_PEERS"):
        yield filter_throughput(os.environ["MNEMOS_PEERS"])
    yield dedup()


def tokenizer_measures() -> Result:
    texts = _texts(C4) * 5
    tokenizer = train(texts[:300], "byte-bpe", 8000)

    def loop() -> None:
        counts: Counter[int] = Counter()
        several = number = back = 0
        for text in texts:
            encoded = tokenizer.encode(text)
            counts.update(encoded.ids)
            number += len(words(text))
            several += sum(len(piece) == 1 for piece in encoded.tokens)
            back += tokenizer.decode(encoded.ids) == text

    sides = alternate(lambda: timed(loop), lambda: timed(lambda: measure(tokenizer, texts)), 3)
    return compared("tokenizer-measures", sides, unit="s", direction="higher is better", bound=5.0,
                    details={"texts": len(texts), "ours is the loop": True})  # fmt: skip


def filter_throughput(python: str) -> Result:
    texts = pages()
    filters = made(FILTERS)
    kept: list[bool] = []

    def ours() -> None:
        kept[:] = [through(filters, Page(text))[0] is not None for text in texts]

    def peer() -> float:
        done = subprocess.run([python, "-c", PEER], input=json.dumps(texts), capture_output=True, text=True, check=True)
        last.update(json.loads(done.stdout.splitlines()[-1]))
        return float(last["seconds"])

    last: dict[str, Any] = {}
    sides = alternate(lambda: timed(ours), peer, 2)
    differ = [at for at, (a, b) in enumerate(zip(kept, last["kept"], strict=True)) if a != b]
    return compared("filter-throughput", sides, unit="s", direction="lower is better", bound=1.0,
                    details={"pages": len(texts), "kept": sum(kept), "differ": differ})  # fmt: skip


def dedup() -> Result:
    from rensa import RMinHash, RMinHashLSH

    rng = random.Random(0)
    base = _texts(C4)
    texts = [" ".join(rng.sample(text.split(), len(text.split()))) for _ in range(6) for text in base]
    near = [" ".join(word for word in text.split() if rng.random() > 0.005) for text in texts[:200]]
    texts += near

    def peer() -> None:
        index = RMinHashLSH(threshold=0.75, num_perm=BANDS * ROWS, num_bands=BANDS)
        for at, text in enumerate(texts):
            signature = RMinHash(num_perm=BANDS * ROWS, seed=SEED)
            signature.update(shingles(text))
            index.query(signature)
            index.insert(at, signature)

    sides = alternate(lambda: timed(lambda: minhash_groups(texts)), lambda: timed(peer), 3)
    groups = minhash_groups(texts)
    start = len(texts) - 200
    found = sum(groups[start + at] == groups[at] for at in range(200))
    return compared("dedup", sides, unit="s", direction="lower is better", bound=1.2,
                    details={"texts": len(texts), "pairs": 200, "found": found})  # fmt: skip


def main() -> int:
    """Run and save."""
    for result in run():
        save(result)
        print(result.name, round(result.ours, 3), round(result.peer, 3), round(result.ratio, 2), result.holds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
