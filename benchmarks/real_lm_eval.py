"""What the benchmarks against lm-evaluation-harness on a real model share: the model, and the harness around it.

Both sides ask the same weights in memory, Qwen2.5-Coder-0.5B-Instruct in float32 on the CPU, from
$MNEMOS_MODELS/qwen. The harness is measured at each of `SIZES` rows a batch on a part of the items,
and beside ours at the fastest of them.
"""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SIZES = (1, 4, 8, 16, 32)


def ready(data: str) -> tuple[Path, Path] | str:
    """The model's folder and the file `data` of $MNEMOS_DATA, or why there is nothing to measure."""
    from mnemos.recipes.reproduce import data_folder, models_folder

    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    model, rows = models_folder() / "qwen", data_folder() / data
    if not (model / "config.json").is_file():
        return f"no model in {model}: set MNEMOS_MODELS to the folder of real models"
    if not rows.is_file():
        return f"no file {rows}: set MNEMOS_DATA to the folder of third-party data"
    return model, rows


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a compressed JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def both(folder: Path) -> tuple[Any, Any]:
    """Ours (LocalModel) and the harness's model (HFLM) of the same weights."""
    from lm_eval.models.huggingface import HFLM

    from mnemos.models.language import LocalModel
    from mnemos.models.load import load_model
    from mnemos.weights.checkpoint import load_tokenizer

    model, tokenizer = load_model(str(folder), dtype="float32"), load_tokenizer(str(folder))
    ours = LocalModel(model, tokenizer, str(folder), "real", device="cpu")
    # A tokenizer of its own: the harness sets its padding.
    return ours, HFLM(pretrained=model, tokenizer=load_tokenizer(str(folder)), device="cpu", batch_size=1)


def fastest(peer: Any, ask: Callable[[Any], Any]) -> tuple[int, dict[str, float]]:
    """The harness's fastest batch size at what `ask` asks it, and the seconds of each; left set."""
    seconds = {}
    for size in SIZES:
        peer.batch_size_per_gpu = size
        start = time.perf_counter()
        ask(peer)
        seconds[str(size)] = time.perf_counter() - start
    best = min(SIZES, key=lambda size: seconds[str(size)])
    peer.batch_size_per_gpu = best
    return best, seconds


def spread(count: int, of: Sequence[Any]) -> list[Any]:
    """`count` entries at equal distances."""
    return [of[k * len(of) // count] for k in range(min(count, len(of)))]
