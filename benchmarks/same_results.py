"""Are two results.json of one study the same, metric by metric?

    python -m benchmarks.same_results before/results.json after/results.json

What was renamed between the two is compared under its new name. What may differ though nothing that was found out
does (times, memory, machine, versions, commit, paths, fingerprints) is left out. One line a metric: how many numbers
or words there are in both, how many are equal, and the largest difference; then every one that differs, and what only
one of the two has.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.files import read_json

RENAMED = {"along": "trajectory", "drift": "kl_forgetting", "razor": "kl_forgetting"}
"""Keys of results.json that earlier versions called otherwise."""

OF_THE_RUN = {
    *("created", "commit", "dirty", "hardware", "versions", "path", "model", "seconds", "fingerprint"),
    "template_fingerprint",
    *("writing_seconds", "trajectory_seconds", "peak_memory_bytes", "tokens_a_second"),
}
"""Keys whose values say where and when a study was run."""

NAMES = ("arm", "suite", "name", "seed", "order", "source")
"""Keys by which an entry of a list is found again, where it has them."""


@dataclass(frozen=True)
class Difference:
    """where: arm, suite and key. old, new: the two values."""

    where: str
    old: Any
    new: Any

    @property
    def size(self) -> float:
        """Of two numbers; infinite for others."""
        return abs(self.new - self.old) if _number(self.old) and _number(self.new) else math.inf


def values(results: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, number or word) of everything that a study found out, under the names of today."""
    if isinstance(results, Mapping):
        for key, value in results.items():
            if key not in OF_THE_RUN and not key.startswith("peak_memory_"):
                yield from values(value, (*where, str(RENAMED.get(key, key))))
    elif isinstance(results, list):
        for place, value in enumerate(results):
            named = [str(value[key]) for key in NAMES if key in value] if isinstance(value, Mapping) else []
            yield from values(value, (*where, ", ".join(named) or str(place)))
    else:
        yield where, results


def compared(old: Any, new: Any) -> tuple[dict[str, list[Difference | None]], list[str], list[str]]:
    """(metric -> a difference, or None where equal, of each value that both have; paths of the old results alone; of
    the new alone). A metric is the first and the last name of a path."""
    one, other = dict(values(old)), dict(values(new))
    found: dict[str, list[Difference | None]] = defaultdict(list)
    for path in sorted(one.keys() & other.keys()):
        same = _same(one[path], other[path])
        metric = path[0] if len(path) == 1 else f"{path[0]}: {path[-1]}"
        found[metric].append(None if same else Difference(" / ".join(path), one[path], other[path]))
    gone, come = (sorted(" / ".join(path) for path in left) for left in (one.keys() - other, other.keys() - one))
    return dict(found), gone, come


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(one: Any, other: Any) -> bool:
    """Equal words; numbers equal to rounding."""
    if _number(one) and _number(other):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    return bool(one == other)


def lines(old: Any, new: Any) -> list[str]:
    """The comparison as Markdown."""
    found, gone, come = compared(old, new)
    out = ["| metric | in both | equal | largest difference |", "|---|---:|---:|---:|"]
    for metric, each in found.items():
        unlike = [one for one in each if one is not None]
        largest = max((one.size for one in unlike), default=0.0)
        text = "" if not unlike else "another word" if math.isinf(largest) else f"{largest:.3g}"
        out.append(f"| {metric} | {len(each)} | {len(each) - len(unlike)} | {text} |")
    differing = [one for each in found.values() for one in each if one is not None]
    out += ["", *(f"- {one.where}: {one.old!r}, now {one.new!r}" for one in differing)]
    out += [f"- only before: {path}" for path in gone] + [f"- only now: {path}" for path in come]
    return out


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison; 1 where something differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_results", description=__doc__.split("\n\n")[0])
    parser.add_argument("old", type=Path, help="results.json of the earlier run")
    parser.add_argument("new", type=Path, help="results.json of the later run")
    given = parser.parse_args(arguments)
    old, new = read_json(given.old), read_json(given.new)
    print("\n".join(lines(old, new)))
    return int(any(one is not None for each in compared(old, new)[0].values() for one in each))


if __name__ == "__main__":
    sys.exit(main())
