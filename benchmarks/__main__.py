"""Run every benchmark, write results/<name>.json for each, print one table.

    python -m benchmarks            all
    python -m benchmarks NAME...    modules of this folder by name

Exits with 1 when a bound does not hold.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from benchmarks.common import Result, save, table


def main(names: list[str]) -> int:
    found = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.ispkg]
    known = [name for name in sorted(found) if name not in ("common", "readme", "__main__")]
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no benchmark {unknown[0]!r}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    results: list[Result] = []
    for name in names or known:
        for result in importlib.import_module(f"benchmarks.{name}").run():
            save(result)
            results.append(result)
    print(table(results))
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
