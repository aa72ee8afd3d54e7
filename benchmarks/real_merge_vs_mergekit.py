"""Merging three copies of a real model: mnemos beside mergekit 0.1.5, whole commands.

real-merge-arithmetic, real-merge-slerp, real-merge-ties (and -memory)    wall time and peak resident memory

$MNEMOS_MODELS/qwen is the base; the other two are copies of it in which every matrix was changed a little. Each merge
is a command of its own, from the shell on; see `benchmarks.merge_vs_mergekit` for the commands and for how mergekit is
installed. What ours writes is compared with a float64 computation on a few tensors. The figures mean something on an
idle machine alone: other work slows the slower side more. ``--items`` takes the first of the three tasks.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from benchmarks.common import Result, alternate, compared
from benchmarks.merge_vs_mergekit import MERGEKIT, TASKS, WALL, Run, install, ours, peer, read, reference

REPETITIONS = 2
MEMORY = 1 / 3
NAMES = ("a", "b")
CHECKED = 4
"""Tensors of each result that are computed anew in float64."""


def run(items: int = len(TASKS)) -> Iterator[Result]:
    """Two results for each task; none, and why, where there is no model."""
    from mnemos.recipes.reproduce import models_folder

    model = models_folder() / "qwen"
    if not (model / "config.json").is_file():
        print(f"real-merge: skipped: no model in {model}", file=sys.stderr)
        return
    python = install()
    with tempfile.TemporaryDirectory() as name:
        places = copies(model, Path(name))
        for task in list(TASKS)[:items]:
            yield from _measured(task, places, Path(name), python)


def copies(model: Path, folder: Path) -> dict[str, Path]:
    """The model, and two copies of it whose matrices differ from it by a hundredth of their spread."""
    import torch
    from safetensors.torch import load_file, save_file

    places = {"base": model}
    for number, name in enumerate(NAMES, 1):
        places[name] = folder / name
        places[name].mkdir()
        for file in model.iterdir():
            if not file.is_file():
                continue
            if file.suffix != ".safetensors":
                shutil.copyfile(file, places[name] / file.name)
                continue
            torch.manual_seed(number)
            tensors = load_file(file)
            for key, value in tensors.items():
                if value.dim() > 1:
                    noise = torch.randn(value.shape) * (0.01 * value.float().std())
                    tensors[key] = (value.float() + noise).to(value.dtype)
            save_file(tensors, places[name] / file.name, metadata={"format": "pt"})
    return places


def _measured(task: str, places: dict[str, Path], folder: Path, python: Path) -> Iterator[Result]:
    began = os.getloadavg()[0]
    runs: dict[str, list[Run]] = {"ours": [], "peer": []}
    own, theirs = folder / "ours", folder / "peer"

    def once(side: str) -> float:
        made = ours(places, task, own) if side == "ours" else peer(places, task, theirs, python)
        runs[side].append(made)
        return made.seconds

    walls = alternate(lambda: once("ours"), lambda: once("peer"), REPETITIONS)
    details: dict[str, Any] = {
        "expression": TASKS[task][0],
        "largest_relative_error_ours": error(places, task, own),
        "largest_relative_error_peer": error(places, task, theirs),
        "peer_version": MERGEKIT,
        "load at the start": began,
    }
    peaks = tuple([one.peak / 1e6 for one in runs[side]] for side in ("ours", "peer"))
    for place in (own, theirs):
        shutil.rmtree(place, ignore_errors=True)
    name = f"real-merge-{task}"
    lower: Literal["lower is better"] = "lower is better"
    yield compared(name, walls, unit="s", direction=lower, bound=WALL[task], details=details)
    yield compared(f"{name}-memory", (peaks[0], peaks[1]), unit="MB", direction=lower, bound=MEMORY, details=details)


def error(places: dict[str, Path], task: str, out: Path) -> float:
    """The largest distance from the float64 computation over a few tensors, as a share of a tensor's largest value."""
    from safetensors import safe_open

    with safe_open(next(places["base"].glob("*.safetensors")), framework="pt") as file:
        keys = sorted(key for key in file.keys() if ".layers." in key and key.endswith("weight"))  # noqa: SIM118
    worst = 0.0
    for key in keys[:: max(1, len(keys) // CHECKED)]:
        expected = reference(places, task, key)
        worst = max(worst, float((read(out, key).double() - expected).abs().max() / expected.abs().max()))
    return worst
