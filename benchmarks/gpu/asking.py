"""Asking a model on a GPU: mnemos beside lm-evaluation-harness and transformers, in bfloat16.

gpu-choice     items of four options a second, tokenising included
gpu-generate   tokens written a second, prompts read and text decoded included
gpu-vllm       the same of mnemos through vLLM beside mnemos alone, where vLLM is installed
"""

from __future__ import annotations

import gc
import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Result, alternate, compared
from benchmarks.gpu.world import Size, texts
from mnemos.core.nouns import Decoding, Prompt, Turn

ROWS = 64
"""Rows a batch of the peers; mnemos fills its batches by tokens."""
REPETITIONS = 2


def choice(folder: Path, size: Size) -> Result:
    """Multiple choice by likelihood. Options of a random model are as good as equal, so that rounding may choose
    another one: how many are chosen alike is in the details."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = _model(folder)
    peer = HFLM(pretrained=model.model, tokenizer=_tokenizer(folder), device=str(model.device), batch_size=ROWS)
    rows = texts(size, 4 * size.items, seed=2)
    contexts = [Prompt((Turn("prompt", rows[4 * n][0]),)) for n in range(size.items)]
    options = [[" " + " ".join(rows[4 * n + k][1].split()[:6]) for k in range(4)] for n in range(size.items)]
    requests = [
        Instance("loglikelihood", {}, (context.turns[0].text, option), n)
        for n, (context, several) in enumerate(zip(contexts, options, strict=True))
        for option in several
    ]
    found: dict[str, Any] = {}

    def timed(side: str) -> float:
        gc.collect()
        start = time.perf_counter()
        if side == "ours":
            found[side] = [[one.log_prob for one in row] for row in model.choose(contexts, options)]
        else:
            values = [value for value, _ in peer.loglikelihood(requests, disable_tqdm=True)]
            found[side] = np.array(values).reshape(-1, 4).tolist()
        return size.items / (time.perf_counter() - start)

    timed("ours"), timed("peer")
    sides = alternate(lambda: timed("ours"), lambda: timed("peer"), REPETITIONS)
    ours, other = np.array(found["ours"]), np.array(found["peer"])
    details = {
        "items": size.items,
        "share chosen alike": float((ours.argmax(1) == other.argmax(1)).mean()),
        "largest relative difference in log_prob": float((np.abs(ours - other) / np.abs(other)).max()),
    }
    return compared("gpu-choice", sides, unit="items/s", direction="higher is better", bound=1.0, details=details)


def generate(folder: Path, size: Size) -> Iterator[Result]:
    """Greedy answers; a random model hardly ever stops by itself."""
    import torch

    model = _model(folder)
    prompts = [Prompt((Turn("user", text),)) for text, _ in texts(size, size.prompts, seed=3)]
    decoding = Decoding(max_new_tokens=size.written)

    def ours() -> float:
        start = time.perf_counter()
        answers = model.generate(prompts, decoding)
        return sum(len(answer.ids) + answer.finished for answer in answers) / (time.perf_counter() - start)

    tokenizer = _tokenizer(folder)
    tokenizer.padding_side = "left"
    chats = [[{"role": "user", "content": prompt.turns[0].text}] for prompt in prompts]

    def peer() -> float:
        start, written = time.perf_counter(), 0
        for first in range(0, len(chats), ROWS):
            batch = tokenizer.apply_chat_template(
                chats[first : first + ROWS],
                add_generation_prompt=True,
                padding=True,
                return_dict=True,
                return_tensors="pt",
            ).to(model.device)
            with torch.inference_mode():
                ids = model.model.generate(**batch, do_sample=False, max_new_tokens=size.written)
            new = ids[:, batch["input_ids"].shape[1] :]
            tokenizer.batch_decode(new, skip_special_tokens=True)
            written += int((new != tokenizer.pad_token_id).sum())
        return written / (time.perf_counter() - start)

    ours(), peer()
    sides = alternate(ours, peer, REPETITIONS)
    details = {"prompts": size.prompts, "max_new_tokens": size.written}
    yield compared("gpu-generate", sides, unit="tokens/s", direction="higher is better", bound=1.0, details=details)
    if importlib.util.find_spec("vllm") is not None:
        yield _vllm(folder, prompts, decoding, sides[0])


def _vllm(folder: Path, prompts: list[Prompt], decoding: Decoding, alone: list[float]) -> Result:
    from mnemos.models.load import handle

    engine = handle(f"vllm:{folder}").load()
    engine.generate(prompts[:4], decoding)
    start = time.perf_counter()
    answers = engine.generate(prompts, decoding)
    rate = sum(len(answer.ids) + answer.finished for answer in answers) / (time.perf_counter() - start)
    return compared("gpu-vllm", ([rate], alone), unit="tokens/s", direction="higher is better", bound=1.0)


def _model(folder: Path) -> Any:
    from mnemos.models.load import Checkpoint

    return Checkpoint(str(folder), torch_dtype="bfloat16").load()


def _tokenizer(folder: Path) -> Any:
    from mnemos.weights.checkpoint import load_tokenizer

    return load_tokenizer(str(folder))
