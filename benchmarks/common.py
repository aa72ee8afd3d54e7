"""What every benchmark shares: two sides measured in turn, one JSON file, one table.

A benchmark module has `run() -> Iterable[Result]`; `python -m benchmarks` runs them all and saves
each result as soon as it is there. Both sides run on the same machine within one run, several
times in alternation, and the medians are compared, so that a busy moment hits both.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("mnemos", "torch", "transformers", "tokenizers", "lm-eval", "trl")


@dataclass(frozen=True)
class Result:
    """One comparison. ours, peer: figures in `unit`. ratio: ours / peer, whatever the direction.
    bound: what the ratio must reach, at least (higher is better) or at most (lower is better).
    details: everything else worth keeping, such as all repetitions."""

    name: str
    ours: float
    peer: float
    unit: str
    direction: Literal["higher is better", "lower is better"]
    bound: float
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.ours / self.peer

    @property
    def holds(self) -> bool:
        return self.ratio >= self.bound if self.direction == "higher is better" else self.ratio <= self.bound


def alternate(
    ours: Callable[[], float], peer: Callable[[], float], repetitions: int
) -> tuple[list[float], list[float]]:
    """Figures of both sides, measured in turn; each call returns one figure."""
    pairs = [(ours(), peer()) for _ in range(repetitions)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def compared(
    name: str,
    sides: tuple[Sequence[float], Sequence[float]],
    *,
    unit: str,
    direction: Literal["higher is better", "lower is better"],
    bound: float,
    details: dict[str, Any] | None = None,
) -> Result:
    """The Result of the medians of both sides; all repetitions are kept in its details."""
    ours, peer = sides
    kept = {"ours": list(ours), "peer": list(peer), **(details or {})}
    return Result(name, statistics.median(ours), statistics.median(peer), unit, direction, bound, kept)


def byte_level_bpe(texts: Iterable[str], vocabulary: int, special: list[str]) -> Any:
    """A tokenizer of `tokenizers`, trained on the spot."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return core


def save(result: Result) -> Path:
    """Write results/<name>.json with the figures and what made them."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{result.name}.json"
    value = {**asdict(result), "ratio": result.ratio, "holds": result.holds, **provenance()}
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return path


def provenance() -> dict[str, Any]:
    """versions, commit (with "+dirty" when a tracked file differs) and hardware."""
    return {"versions": _versions(), "commit": _commit(), "hardware": _hardware()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    def git(*words: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _hardware() -> dict[str, Any]:
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    # A load above the number of cores says that other work slowed both sides down.
    load = [round(value, 1) for value in os.getloadavg()]
    return {"cpu": cpu, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": gpu, "load": load}


def table(results: Sequence[Result]) -> str:
    """One line a result, for people."""
    head = ("benchmark", "ours", "peer", "ratio", "bound", "holds")
    rows = [head]
    for r in results:
        sign = ">=" if r.direction == "higher is better" else "<="
        rows.append(
            (
                r.name,
                f"{r.ours:.4g} {r.unit}",
                f"{r.peer:.4g} {r.unit}",
                f"{r.ratio:.2f}",
                f"{sign} {r.bound:g}",
                "yes" if r.holds else "NO",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
