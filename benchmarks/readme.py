"""Put measured figures between the README's marks: python -m benchmarks.readme

Reads runs/demo/results.json and benchmarks/results/*.json; nothing in the tables is typed by hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemos.core.files import read_json, write_text

ROOT = Path(__file__).parents[1]


def demo_table(results: Mapping[str, Any]) -> str:
    """Suites down, arms across: the verdict with its size."""
    arms = [arm["arm"] for arm in results["arms"]]
    cells = {(row["suite"], row["arm"]): row for row in results["comparisons"]}
    suites = [entry for entry in results["manifest"]["suites"] if entry["role"] != "health"]
    lines = [f"| | before | {' | '.join(arms)} |", f"|---|---:|{'---|' * len(arms)}"]
    for entry in suites:
        name, points = entry["name"], entry["unit"] == "points"
        before = cells[name, arms[0]]["before"]
        shown = f"{100 * before:.1f}" if points else f"{before:.3f} {entry['unit']}"
        title = f"**{name}** (new)" if entry["role"] == "new" else name
        lines.append(f"| {title} | {shown} | {' | '.join(_cell(cells[name, arm], points) for arm in arms)} |")
    return "\n".join(lines)


def _cell(row: Mapping[str, Any], points: bool) -> str:
    scale, digits = (100, 1) if points else (1, 3)
    low, high = sorted(scale * row[key] for key in ("low", "high"))
    return f"{row['verdict']} {scale * row['delta']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def bench_table(folder: Path) -> str:
    """One line a benchmark."""
    lines = ["| benchmark | ours | peer | ratio | bound | holds |", "|---|---:|---:|---:|---:|---|"]
    for path in sorted(folder.glob("*.json")):
        row = read_json(path)
        figures = " | ".join(f"{row[key]:.3g}" for key in ("ours", "peer", "ratio"))
        bound = "–" if row["bound"] is None else f"{row['bound']:.3g}"
        lines.append(
            f"| {row['name']} ({row['direction']}) | {figures} | {bound} | {'yes' if row['holds'] else 'NO'} |"
        )
    return "\n".join(lines)


def fill(text: str, mark: str, table: str) -> str:
    """Replace what stands between <!-- mark --> and <!-- end -->."""
    pattern = rf"(<!-- {mark} -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda found: f"{found[1]}{table}\n{found[2]}", text, flags=re.S)


def main() -> None:
    """Fill both tables."""
    path = ROOT / "README.md"
    text = fill(path.read_text(encoding="utf-8"), "demo-table", demo_table(read_json(ROOT / "runs/demo/results.json")))
    write_text(path, fill(text, "bench-table", bench_table(ROOT / "benchmarks" / "results")))


if __name__ == "__main__":
    main()
