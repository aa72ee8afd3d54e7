"""Run every benchmark, write results/<name>.json for each, print one table.

    python -m benchmarks            all
    python -m benchmarks NAME...    modules of this folder by name
    ... --items N                   ask N items where a benchmark lets one choose (those on real models)
    ... --work DIR                  keep what a long benchmark has walked there, and go on with it (teach_race)

Exits with 1 when a bound does not hold.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import sys
from pathlib import Path

from benchmarks.common import Result, save, table

SHARED = ("common", "readme", "real_lm_eval", "__main__")
"""Modules of this folder that are no benchmarks."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--items", type=int)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args(arguments)
    found = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.ispkg]
    known = [name for name in sorted(found) if name not in SHARED]
    unknown = sorted(set(given.names) - set(known))
    if unknown:
        print(f"no benchmark {unknown[0]!r}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    results: list[Result] = []
    for name in given.names or known:
        run = importlib.import_module(f"benchmarks.{name}").run
        settings = {"items": given.items, "work": given.work}
        takes = inspect.signature(run).parameters
        for result in run(**{key: value for key, value in settings.items() if value and key in takes}):
            save(result)
            results.append(result)
    print(table(results))
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
