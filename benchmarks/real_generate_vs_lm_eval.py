"""Greedy answers of a real model to GSM8K: mnemos beside lm-evaluation-harness' hf backend (`generate_until`).

real-generate-vs-lm-eval    tokens written per second, prompts read and text decoded included

The questions of gsm8k/test.jsonl.gz ($MNEMOS_DATA) in the model's own chat template, up to NEW tokens, ended
by the model's own stop token. Both sides must write the same texts; where one differs, the two most likely
tokens at the first difference must be as good as equal, or nothing is reported. ``--items`` asks fewer.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.common import Result, alternate, compared
from benchmarks.real_lm_eval import both, fastest, read, ready, spread

NAME = "real-generate-vs-lm-eval"
ITEMS, NEW, REPETITIONS = 100, 160, 2
TRIED, TRIED_NEW = 32, 16
TIE = 1e-3
"""Largest gap of two logits that rounding may turn round."""


def run(items: int = ITEMS) -> Iterator[Result]:
    """The one result; nothing, and why, where model or data are absent."""
    found = ready("gsm8k/test.jsonl.gz")
    if isinstance(found, str):
        print(f"{NAME}: skipped: {found}", file=sys.stderr)
        return
    from mnemos.core.nouns import Decoding, Prompt, Turn

    folder, data = found
    began = os.getloadavg()[0]
    ours, peer = both(folder)
    texts = [
        ours.tokenizer.apply_chat_template(
            [{"role": "user", "content": row["question"]}], tokenize=False, add_generation_prompt=True
        )
        for row in spread(items, read(data))
    ]
    best, seconds = fastest(peer, lambda model: _peer(model, texts[:TRIED], TRIED_NEW))
    prompts = [Prompt((Turn("rendered", text),)) for text in texts]
    written: dict[str, list[Any]] = {}

    def timed(side: str) -> float:
        start = time.perf_counter()
        if side == "ours":
            written[side] = ours.generate(prompts, Decoding(NEW))
        else:
            written[side] = _peer(peer, texts, NEW)
        return time.perf_counter() - start

    ours.generate(prompts[:1], Decoding(1))
    took = alternate(lambda: timed("ours"), lambda: timed("peer"), REPETITIONS)
    tokens = sum(len(answer.ids) + answer.finished for answer in written["ours"])
    details = {
        "items": len(texts),
        "tokens": tokens,
        "max_new_tokens": NEW,
        "peer's batch size": best,
        "peer's seconds by batch size": seconds,
        "seconds": {"ours": took[0], "peer": took[1]},
        "texts that differ, by the gap at their first difference": _gaps(ours, texts, written["ours"], written["peer"]),
        "load at the start": began,
    }
    rates = tuple([tokens / value for value in side] for side in took)
    yield compared(
        NAME, (rates[0], rates[1]), unit="tokens/s", direction="higher is better", bound=1.5, details=details
    )


def _peer(model: Any, texts: Sequence[str], new: int) -> list[str]:
    from lm_eval.api.instance import Instance

    asked = {"until": [], "max_gen_toks": new, "do_sample": False}
    requests = [Instance("generate_until", {}, (text, dict(asked)), k) for k, text in enumerate(texts)]
    found: list[str] = model.generate_until(requests, disable_tqdm=True)
    return found


def _gaps(ours: Any, texts: Sequence[str], answers: Sequence[Any], theirs: Sequence[str]) -> dict[str, float]:
    """By item: the gap of the two best logits where its texts part. RuntimeError where it is no tie."""
    import torch

    out = {}
    for k, (text, answer, other) in enumerate(zip(texts, answers, theirs, strict=True)):
        if answer.text == other:
            continue
        same = max(n for n in range(len(answer.ids) + 1) if other.startswith(ours.renderer.decode(answer.ids[:n])))
        ids = [*ours.tokenizer(text, add_special_tokens=False)["input_ids"], *answer.ids[:same]]
        with torch.inference_mode():
            best, second = ours.model(torch.tensor([ids])).logits[0, -1].topk(2).values.tolist()
        if best - second > TIE:
            raise RuntimeError(f"item {k}: texts differ where the best token leads by {best - second:.3g}: {other!r}")
        out[str(k)] = best - second
    return out
