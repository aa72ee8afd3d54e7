"""Which of float32 and bfloat16 computes faster here, found out once and kept.

Many CPUs compute bfloat16 by detours, ten times slower than float32; GPUs and newer CPUs have units for it and are
several times faster. So the step that training is made of, a perceptron's forward and backward pass, is timed in
both, and the choice is kept in the cache (`core.cache`) by processor and version of torch: a later run on this machine
reads it, so that its steps have the same keys. Where the cache cannot be written it is chosen anew in each process;
the margin is wide, so that the choice does not hang on what else the machine does.

Trap: a CPU is timed in one thread. With several, the time of the process counts threads that wait for each other, which
float32 and bfloat16 do differently: the same machine was found 2.7 times slower in bfloat16, and twice as fast.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from mnemos.core.cache import cache_folder
from mnemos.core.errors import ModelError
from mnemos.core.files import read_json, write_json
from mnemos.core.fingerprint import fingerprint
from mnemos.core.plan import ModelHandle
from mnemos.weights.adapter import adapter_base
from mnemos.weights.checkpoint import resolve
from mnemos.weights.files import ADAPTER_CONFIG
from mnemos.weights.precision import SINGLE, stored_precision
from mnemos.weights.speech import speech_config, speech_folder

HALF = "bfloat16"
HALVES = ("bfloat16", "float16")
"""What a checkpoint is stored in that may be computed in 16 bits without being asked."""
MARGIN = 1.5
"""Times that bfloat16 must be faster to be chosen: it has three significant digits, float32 seven."""
REPEATS = 5
SIZES = {"cpu": (64, 896, 2432), "cuda": (4096, 2048, 8192)}
"""Rows, width and inner width of the perceptron: enough work that its kernels take longer than to start them."""
WAY = 2
"""Which way of timing found a choice: one that an earlier way found and kept is not read, but found anew."""


def compute_dtype(model: ModelHandle) -> str:
    """The name of the torch dtype that a model computes in: its `torch_dtype` where one was asked for; float32 where it
    came in float32, whose digits nobody gave up yet; else the faster one of this machine's device. An adapter on an
    adapter computes in float32: the lower one is added to its base, and 16 bits would lose much of what it changed."""
    asked: str | None = getattr(model, "torch_dtype", None)
    if asked:
        return asked
    consent = {name: bool(getattr(model, name, False)) for name in ("trust_remote_code", "allow_pickle")}
    try:
        folder = resolve(model.path, **consent)
        own, chain = stored_precision(computed_folder(folder, **consent)).own, stacked(folder, **consent)
    except ModelError:  # it is not there yet, or cannot be loaded, which loading says better
        return SINGLE
    return fast_dtype() if own in HALVES and not chain else SINGLE


def computed_folder(folder: Path, **consent: bool) -> Path:
    """Whose numbers decide: the language model's, where a model listens and has a small bridge of its own."""
    listens = speech_folder(str(folder))
    return folder if listens is None else resolve(speech_config(listens).language, **consent)


def stacked(folder: Path, **consent: bool) -> bool:
    """Whether a directory is an adapter that was trained on another adapter. consent: as `resolve` takes it."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return False
    return (resolve(adapter_base(folder), **consent) / ADAPTER_CONFIG).is_file()


@lru_cache(maxsize=1)
def fast_dtype() -> str:
    """bfloat16 where it computes faster by MARGIN on the GPU, or on the CPU without one; else float32."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    chip = torch.cuda.get_device_name() if device == "cuda" else processor()
    here = {"device": device, "chip": chip, "torch": str(torch.__version__), "way": WAY}
    place = cache_folder() / "precision" / f"{fingerprint(here)}.json"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # Processes that begin together must choose alike: the first one does, the others read.
        with FileLock(place.with_suffix(".lock")):
            kept = _kept(place)
            if kept is None:
                kept = {**here, **probe(device)}
                write_json(place, kept)
    except OSError:
        kept = probe(device)
    return str(kept["dtype"])


def _kept(place: Path) -> dict[str, Any] | None:
    try:
        value = read_json(place)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and value.get("dtype") in (SINGLE, HALF) else None


def processor() -> str:
    """What the system calls the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def probe(device: str) -> dict[str, Any]:
    """{dtype, seconds: {float32, bfloat16}}: the choice, and the least time of a step in either. About a second."""
    import torch

    if device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return {"dtype": SINGLE, "seconds": {}}
    with _one_thread():
        steps = {name: _step(device, getattr(torch, name)) for name in (SINGLE, HALF)}
        clock = time.process_time if device == "cpu" else time.perf_counter
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for step in steps.values():
            step()  # kernels are chosen and memory is taken the first time
        for _ in range(REPEATS):
            # In turns, and on a CPU by the time of this process: other work on the machine says nothing about either.
            for name, step in steps.items():
                began = clock()
                step()
                seconds[name].append(clock() - began)
    # The least, not the median: what else the machine does can only lengthen a step.
    least = {name: min(found) for name, found in seconds.items()}
    return {"dtype": chosen(least), "seconds": least}


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def chosen(seconds: dict[str, float]) -> str:
    """The dtype by the time of a step in either."""
    return HALF if seconds[SINGLE] >= MARGIN * seconds[HALF] else SINGLE


def _step(device: str, dtype: Any) -> Callable[[], None]:
    import torch
    from torch.nn import functional

    rows, width, inner = SIZES[device]
    made = torch.Generator(device).manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=made, device=device).div(shape[-1] ** 0.5).to(dtype)

    x, up, down = drawn(rows, width), drawn(inner, width).requires_grad_(), drawn(width, inner).requires_grad_()

    def step() -> None:
        loss = (functional.silu(x @ up.T) @ down.T).square().mean()
        torch.autograd.grad(loss, (up, down))
        if device == "cuda":
            torch.cuda.synchronize()

    return step
