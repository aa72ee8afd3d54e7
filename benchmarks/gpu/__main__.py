"""Measure what one GPU makes of mnemos and of its peers, and write results/gpu-<name>.json.

    make gpu                          all, within eight minutes
    python -m benchmarks.gpu NAME…    some parts
    python -m benchmarks.gpu --small  the whole script with a tiny model where there is no GPU; keeps no figures

Nothing is downloaded: the model has the shape of Qwen3-0.6B and random weights, the rows are words of Python's own
documentation. Exits with 1 where a part failed, with 2 where there is no GPU or a package is missing, and says which
wheels to carry. A part that could not begin before the time is over is named.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.gpu import machine

SECONDS = 480.0
Parts = dict[str, Callable[[], Iterable["object"]]]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    given = parser.parse_args(arguments)
    if lacking := machine.missing():
        print(machine.how_to_carry(lacking), file=sys.stderr)
        return 2
    import torch

    if not (given.small or torch.cuda.is_available()):
        print("no GPU is to be had here; --small tries the script without one", file=sys.stderr)
        return 2
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = parts_in(Path(name), small=given.small)
        if unknown := sorted(set(given.names) - set(parts)):
            print(f"no part {unknown[0]!r}; known: {', '.join(parts)}", file=sys.stderr)
            return 2
        wanted = {key: parts[key] for key in given.names or parts}
        return measure(wanted, time.monotonic() + given.seconds, keep=not given.small)


def parts_in(folder: Path, *, small: bool) -> Parts:
    """Each part by name, what is compared with most users first; the model is made in `folder` for all of them."""
    from benchmarks.gpu import asking, training, world

    size = world.SMALL if small else world.FULL
    model = world.make(folder / "model", size)
    return {
        "sft": lambda: training.sft(model, size, lora=False),
        "lora": lambda: training.sft(model, size, lora=True),
        "choice": lambda: [asking.choice(model, size)],
        "generate": lambda: asking.generate(model, size),
        "kl_to_before": lambda: [training.kl_to_before(model, size)],
        "dpo": lambda: [training.dpo(model, size)],
        "grpo": lambda: [training.grpo(model, size)],
    }


def measure(parts: Parts, deadline: float, *, keep: bool) -> int:
    """Carry parts out one after the other; a part that fails is shown, and the rest goes on."""
    from benchmarks.common import Result, save, table

    results: list[Result] = []
    failed: list[str] = []
    for name, part in parts.items():
        if time.monotonic() > deadline:
            failed.append(f"{name}: not begun, the time is over")
            continue
        began = time.monotonic()
        try:
            for result in part():
                assert isinstance(result, Result)
                results.append(result)
                if keep:
                    save(result)
        except Exception:
            failed.append(f"{name}: failed\n{traceback.format_exc(limit=-6)}")
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(table(results))
    print("\n".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
