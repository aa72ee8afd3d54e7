"""Multiple choice by likelihood with a real model: mnemos beside lm-evaluation-harness' hf backend.

real-choice-vs-lm-eval      items per second, tokenising included

Items are made of xquad/en.jsonl.gz ($MNEMOS_DATA): a paragraph and a question, and as options the answer and three
answers to other questions, all different. Nothing is reported unless both sides choose the same option everywhere.
``--items`` asks fewer.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.choice_vs_lm_eval import agreement
from benchmarks.common import Result, alternate, compared
from benchmarks.real_lm_eval import both, fastest, read, ready, spread

NAME = "real-choice-vs-lm-eval"
ITEMS, TRIED, REPETITIONS = 100, 8, 3
OPTIONS = 4


def run(items: int = ITEMS) -> Iterator[Result]:
    """The one result; nothing, and why, where model or data are absent."""
    found = ready("xquad/en.jsonl.gz")
    if isinstance(found, str):
        print(f"{NAME}: skipped: {found}", file=sys.stderr)
        return
    from mnemos.core.nouns import Prompt, Turn
    from mnemos.models import choose

    folder, data = found
    began = os.getloadavg()[0]
    ours, peer = both(folder)
    asked = made(read(data), items)
    contexts = [Prompt((Turn("prompt", context),)) for context, _ in asked]
    options = [[" " + option for option in texts] for _, texts in asked]
    best, seconds = fastest(peer, lambda model: _peer(model, asked[:TRIED]))
    scores: dict[str, list[list[float]]] = {}

    def timed(side: str) -> float:
        start = time.perf_counter()
        if side == "ours":
            scores[side] = [[one.log_prob for one in row] for row in ours.choose(contexts, options)]
        else:
            scores[side] = _peer(peer, asked)
        return len(asked) / (time.perf_counter() - start)

    ours.choose(contexts[:2], options[:2])
    sides = alternate(lambda: timed("ours"), lambda: timed("peer"), REPETITIONS)
    tokens = choose.tokenized(ours.tokenizer, ours.renderer, contexts, options)
    details = {
        **agreement(scores["ours"], scores["peer"]),
        "items": len(asked),
        "tokens of a context, mean": sum(len(item.context) for item in tokens) / len(tokens),
        "tokens of an option, mean": sum(len(o) for item in tokens for o in item.options) / len(tokens) / OPTIONS,
        "peer's batch size": best,
        "peer's seconds by batch size": seconds,
        "load at the start": began,
    }
    yield compared(NAME, sides, unit="items/s", direction="higher is better", bound=3, details=details)


def made(rows: Sequence[Mapping[str, Any]], items: int) -> list[tuple[str, list[str]]]:
    """Contexts and options; the right one anywhere among them."""
    rng = random.Random(0)
    answers = sorted({_answer(row) for row in rows})
    out = []
    for row in spread(items, rows):
        own = _answer(row)
        others = rng.sample([text for text in answers if text != own], OPTIONS - 1)
        options = [own, *others]
        rng.shuffle(options)
        out.append((f"{row['context']}\nQuestion: {row['question']}\nAnswer:", options))
    return out


def _answer(row: Mapping[str, Any]) -> str:
    found = row["answers"]
    text = found["text"][0] if isinstance(found, Mapping) else found[0]
    return str(text["text"] if isinstance(text, Mapping) else text).strip()


def _peer(model: Any, asked: Sequence[tuple[str, Sequence[str]]]) -> list[list[float]]:
    from lm_eval.api.instance import Instance

    pairs = [(context, " " + option) for context, options in asked for option in options]
    requests = [Instance("loglikelihood", {}, pair, k) for k, pair in enumerate(pairs)]
    values = [value for value, _ in model.loglikelihood(requests, disable_tqdm=True)]
    return [values[k : k + OPTIONS] for k in range(0, len(values), OPTIONS)]
