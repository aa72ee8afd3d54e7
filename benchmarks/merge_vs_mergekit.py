"""Merging checkpoints: mnemos beside mergekit 0.1.5.

Task arithmetic, TIES and SLERP over random Llama checkpoints of 0.3 B and 1.1 B parameters in
bfloat16, several files each, made in a temporary directory. Each merge runs in a process of its
own, starting with the command line: wall time of the whole process and its peak resident memory.
Inputs are read once before, so that both sides find them in the page cache.

mergekit lives in a virtual environment of its own, made on the first run under $MNEMOS_BENCH
(default ~/.cache/mnemos-bench) with the torch version of ours. Both sides compute the same: TIES
with density 0.2 and equal weights. mergekit computes in bfloat16 unless told otherwise; it is
timed that way, as its documentation shows, and its error is given beside ours: the distance from
a float64 computation in units in the last place of bfloat16.

`details.bandwidth`: bytes read and written per second of wall time, over the machine's own copy
bandwidth (one thread, memory to memory).

    python -m benchmarks merge_vs_mergekit          # everything
    python -m benchmarks.merge_vs_mergekit --ours   # our side of 0.3 B alone, no peer installed
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.common import Result, alternate, compared

MERGEKIT = "mergekit==0.1.5"
REPETITIONS = 3
SHARD_BYTES = 400 << 20
NAMES = ("base", "a", "b")


@dataclass(frozen=True)
class Size:
    """A Llama's shape."""

    label: str
    hidden: int
    inner: int
    layers: int
    heads: int
    vocabulary: int


SIZES = (Size("0.3B", 1024, 2816, 16, 16, 32000), Size("1.1B", 2048, 5632, 22, 32, 32000))
TINY = Size("tiny", 64, 128, 2, 4, 256)

TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "arithmetic": (
        "base + 0.6*(a - base) + 0.4*(b - base)",
        {"merge_method": "task_arithmetic", "weights": (0.6, 0.4), "parameters": {"normalize": False}},
    ),
    "ties": (
        "ties(base, a, b, density=0.2)",
        {"merge_method": "ties", "weights": (1.0, 1.0), "density": 0.2, "parameters": {"normalize": True}},
    ),
    "slerp": ("slerp(a, b, 0.35)", {"merge_method": "slerp", "parameters": {"t": 0.35}}),
}
WALL = {"arithmetic": 1 / 3, "slerp": 1 / 3, "ties": 1 / 10}


def shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """Tensors of a Llama by name."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (size.vocabulary, size.hidden)}
    for layer in range(size.layers):
        head = f"model.layers.{layer}."
        for name in ("q", "k", "v", "o"):
            found[f"{head}self_attn.{name}_proj.weight"] = (size.hidden, size.hidden)
        found[f"{head}mlp.gate_proj.weight"] = found[f"{head}mlp.up_proj.weight"] = (size.inner, size.hidden)
        found[f"{head}mlp.down_proj.weight"] = (size.hidden, size.inner)
        found[f"{head}input_layernorm.weight"] = found[f"{head}post_attention_layernorm.weight"] = (size.hidden,)
    return {**found, "model.norm.weight": (size.hidden,), "lm_head.weight": (size.vocabulary, size.hidden)}


def make(folder: Path, size: Size) -> dict[str, Path]:
    """base, a and b: random weights, and the same with small random differences."""
    for number, name in enumerate(NAMES):
        place = folder / name
        place.mkdir(parents=True)
        _write_config(place, size)
        where, group, count = {}, {}, 0
        for i, (key, shape) in enumerate(shapes(size).items()):
            torch.manual_seed(i)
            value = torch.randn(shape) * 0.02 if len(shape) > 1 else torch.ones(shape)
            if number:
                torch.manual_seed(1000 * number + i)
                value += torch.randn(shape) * 0.002
            group[key] = value.bfloat16()
            if sum(2 * one.numel() for one in group.values()) > SHARD_BYTES or key == "lm_head.weight":
                count += 1
                save_file(group, place / f"model-{count:05}.safetensors", metadata={"format": "pt"})
                where.update(dict.fromkeys(group, f"model-{count:05}.safetensors"))
                group = {}
        index = {"metadata": {"total_size": 2 * sum(map(math.prod, shapes(size).values()))}, "weight_map": where}
        (place / "model.safetensors.index.json").write_text(json.dumps(index))
    return {name: folder / name for name in NAMES}


def _write_config(place: Path, size: Size) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden,
        "intermediate_size": size.inner,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads,
        "vocab_size": size.vocabulary,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    }
    (place / "config.json").write_text(json.dumps(config))


LAUNCH = """
import resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
seconds = time.perf_counter() - start
if done.returncode:
    sys.exit(done.stdout[-3000:])
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""A small parent: a process's peak counts that of the one it was forked from."""


@dataclass(frozen=True)
class Run:
    """One process. seconds: wall. peak: resident bytes."""

    seconds: float
    peak: int


def timed(command: list[str]) -> Run:
    """Run a command to its end; raises RuntimeError with its output where it fails."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    env.pop("OMP_NUM_THREADS", None)  # each side chooses for itself
    launch = [sys.executable, "-S", "-c", LAUNCH, *command]
    done = subprocess.run(launch, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    seconds, kilobytes = done.stdout.split()
    return Run(float(seconds), int(kilobytes) * 1024)


def ours(places: Mapping[str, Path], task: str, out: Path) -> Run:
    """`mnemos merge` in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    expression = TASKS[task][0]
    bound = [f"{name}={place}" for name, place in places.items() if name in expression]
    return timed([sys.executable, "-m", "mnemos.cli", "merge", expression, *bound, "--out", str(out)])


def peer(places: Mapping[str, Path], task: str, out: Path, python: Path) -> Run:
    """`mergekit-yaml` in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    text = dict(TASKS[task][1])
    slerp = task == "slerp"
    weights, density = text.pop("weights", None), text.pop("density", None)
    models = []
    for i, name in enumerate(("a", "b")):
        own = {} if slerp else {"weight": weights[i], **({"density": density} if density else {})}
        models.append({"model": str(places[name]), **({"parameters": own} if own else {})})
    config = {**text, "base_model": str(places["a" if slerp else "base"]), "models": models, "dtype": "bfloat16"}
    file = out.with_suffix(".yaml")
    file.write_text(json.dumps(config))  # JSON is YAML
    return timed([str(python.parent / "mergekit-yaml"), str(file), str(out), "--lazy-unpickle"])


def install() -> Path:
    """The Python of the peer's virtual environment, made where it is missing."""
    cache = Path(os.environ.get("MNEMOS_BENCH", Path.home() / ".cache" / "mnemos-bench"))
    folder = cache / MERGEKIT.replace("==", "-")
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, f"torch=={torch.__version__.split('+')[0]}"], check=True)
        subprocess.run([*pip, MERGEKIT], check=True)
        frozen = subprocess.run([str(python), "-m", "pip", "freeze"], check=True, capture_output=True, text=True)
        done.write_text(frozen.stdout)
    return python


def read(folder: Path, key: str) -> torch.Tensor:
    """One tensor of a checkpoint."""
    listed = folder / "model.safetensors.index.json"
    name = json.loads(listed.read_text())["weight_map"][key] if listed.is_file() else "model.safetensors"
    with safe_open(folder / name, framework="pt") as file:
        return file.get_tensor(key)


def reference(places: Mapping[str, Path], task: str, key: str) -> torch.Tensor:
    """The task on one tensor in float64, written from the formulas."""
    base, a, b = (read(places[name], key).double() for name in NAMES)
    if task == "arithmetic":
        return base + 0.6 * (a - base) + 0.4 * (b - base)
    if task == "slerp":
        cosine = float((a * b).sum() / (a.norm() * b.norm()))
        if abs(cosine) >= 0.9995:
            return 0.65 * a + 0.35 * b
        angle = math.acos(cosine)
        return (math.sin(0.65 * angle) * a + math.sin(0.35 * angle) * b) / math.sin(angle)
    deltas = []
    for model in (a, b):
        delta = model - base
        size = delta.abs().flatten()
        least = size.kthvalue(size.numel() - round(0.2 * size.numel()) + 1).values
        deltas.append(torch.where(delta.abs() >= least, delta, torch.zeros_like(delta)))
    sign = (deltas[0] + deltas[1]).sign()
    agree = [(delta * sign > 0) for delta in deltas]
    total = sum(torch.where(yes, delta, torch.zeros_like(delta)) for delta, yes in zip(deltas, agree, strict=True))
    return base + total / (agree[0].double() + agree[1].double()).clamp(min=1)


def error(places: Mapping[str, Path], task: str, out: Path, size: Size) -> dict[str, float]:
    """Distance of a result from `reference` over a sample of tensors, in bfloat16 ulps of the largest
    number that goes in or comes out: the mean, the largest, and the share of values that are not
    the reference rounded once."""
    worst, total, wrong, count = 0.0, 0.0, 0, 0
    for key in sorted(shapes(size))[:: max(len(shapes(size)) // 8, 1)]:
        expected = reference(places, task, key)
        found = read(out, key)
        largest = torch.stack([expected.abs(), *(read(places[name], key).double().abs() for name in NAMES)]).amax(0)
        ulp = torch.exp2(torch.floor(torch.log2(largest.clamp(min=2.0**-126))) - 7)
        off = (found.double() - expected).abs() / ulp
        worst, total, count = max(worst, float(off.max())), total + float(off.sum()), count + off.numel()
        wrong += int((found != expected.to(torch.bfloat16)).sum())
    return {"mean_ulps": total / count, "largest_ulps": worst, "share_not_rounded_once": wrong / count}


def copy_bandwidth() -> float:
    """Bytes read and written per second by one thread that copies 256 MB in memory; best of five."""
    source = torch.ones(64 << 20, dtype=torch.float32)
    target = torch.empty_like(source)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - start)
    torch.set_num_threads(before)
    return 2 * source.nbytes / best


def measure(size: Size, task: str, folder: Path, python: Path, repetitions: int) -> list[Result]:
    """Wall time and memory of one task at one size."""
    places = make(folder / size.label, size) if not (folder / size.label).is_dir() else {
        name: folder / size.label / name for name in NAMES}  # fmt: skip
    runs: dict[str, list[Run]] = {"ours": [], "peer": []}

    def side(name: str, call: Callable[[], Run]) -> Callable[[], float]:
        def once() -> float:
            runs[name].append(call())
            return runs[name][-1].seconds

        return once

    own, theirs = folder / f"{size.label}-{task}-ours", folder / f"{size.label}-{task}-peer"
    walls = alternate(
        side("ours", lambda: ours(places, task, own)),
        side("peer", lambda: peer(places, task, theirs, python)),
        repetitions,
    )
    model = 2 * sum(map(math.prod, shapes(size).values()))
    moved = model * (1 + sum(name in TASKS[task][0] for name in NAMES))
    largest = 2 * max(map(math.prod, shapes(size).values()))
    fastest = min(walls[0])
    details = {
        "expression": TASKS[task][0],
        "error_ours": error(places, task, own, size),
        "error_peer": error(places, task, theirs, size),
        "bytes_moved": moved,
        "bandwidth": moved / fastest / copy_bandwidth(),
        "largest_tensor_bytes": largest,
        "memory_bound_bytes": 8 * largest + 300_000_000,
        "within_memory_bound": max(run.peak for run in runs["ours"]) < 8 * largest + 300_000_000,
        "peer_version": MERGEKIT,
    }
    peaks = tuple([run.peak / 1e6 for run in runs[name]] for name in ("ours", "peer"))
    for place in (own, theirs):
        shutil.rmtree(place, ignore_errors=True)
    name = f"merge-{task}-{size.label.lower()}"
    lower: Literal["lower is better"] = "lower is better"
    return [
        compared(name, walls, unit="s", direction=lower, bound=WALL[task], details=details),
        compared(f"{name}-memory", (peaks[0], peaks[1]), unit="MB", direction=lower, bound=1 / 3, details=details),
    ]


def run(sizes: tuple[Size, ...] = SIZES, repetitions: int = REPETITIONS) -> list[Result]:
    """Two results, wall time and memory, for each size and task."""
    python = install()
    with tempfile.TemporaryDirectory() as name:
        return [result for size in sizes for task in TASKS
                for result in measure(size, task, Path(name), python, repetitions)]  # fmt: skip


def main(arguments: list[str]) -> None:
    """Our side alone."""
    size = TINY if "--tiny" in arguments else SIZES[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = make(folder / size.label, size)
        for task in TASKS:
            one = min((ours(places, task, folder / "out") for _ in range(2)), key=lambda run: run.seconds)
            off = error(places, task, folder / "out", size)
            print(f"{task:10} {one.seconds:6.2f} s  {one.peak / 1e6:7.0f} MB  {off}")


if __name__ == "__main__":
    main(sys.argv[1:])
