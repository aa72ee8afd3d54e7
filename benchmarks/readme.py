"""Put measured figures between the marks of the README and of the pages of docs: python -m benchmarks.readme

    python -m benchmarks.readme --results docs/results/safety-benign.json --arms plain,mix-3,safeguard-0.6

The README opens with what the demo prints, and its table is the ledger of a reproduction's study; docs/benchmarks.md is
read from benchmarks/results/*.json; the ledgers of the demo and of `instruct` stand in docs/studies.md, those of the
studies on a real model in docs/real.md and docs/judges.md. Nothing is typed by hand.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.adaptation_intervals import covered_table
from benchmarks.suite_means import means_table
from mnemos.core.errors import UsageError, nearest
from mnemos.core.files import read_json, write_text
from mnemos.report import render
from mnemos.report.words import figure, interval
from mnemos.study.commands.judge_rates import rates
from mnemos.study.results.items import read_items, scores_beside

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "runs/demo/results.json"
CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
"""MT-bench's categories: its questions are numbered from 81, ten of each in this order."""
ARMS = "plain,lora,interpolation,kl_to_before,safety_mix"


def ledger_table(results: Mapping[str, Any], chosen: Sequence[str] = ()) -> str:
    """Suites down, arms across (all, or the chosen ones): the verdict with its size."""
    there = [arm["arm"] for arm in results["arms"]]
    stranger = next((arm for arm in chosen if arm not in there), None)
    if stranger is not None:
        raise UsageError(f"--arms {stranger}", "is not an arm of this study", nearest(stranger, there))
    arms = list(chosen) or there
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
    scale, unit = (100, "points") if points else (1, "bits")
    low, high = sorted(scale * row[key] for key in ("low", "high"))
    return f"{row['verdict']} {figure(scale * row['delta'], unit, sign=True)} {interval(low, high, unit, sign=True)}"


def change_table(results: Mapping[str, Any], chosen: Sequence[str] = ()) -> str:
    """As `ledger_table`, of the suites in points, without words: what is proven is bold. It fits a page."""
    lines = ledger_table(results, chosen).splitlines()
    cells = [[_bold(cell.strip()) for cell in line.split("|")[1:-1]] for line in lines if " bits |" not in line]
    return "\n".join(f"| {' | '.join(row)} |" if place != 1 else lines[1] for place, row in enumerate(cells))


def arms_table(results: Mapping[str, Any]) -> str:
    """Arms down, suites across, for studies of many arms: changes as in `change_table`, and what a training took, the
    mean over seeds. An arm that trains nothing of its own took what its training took."""
    cells = {(row["suite"], row["arm"]): row for row in results["comparisons"]}
    suites = [entry for entry in results["manifest"]["suites"] if entry["role"] != "health"]
    names = [f"**{entry['name']}** (new)" if entry["role"] == "new" else entry["name"] for entry in suites]
    points = {entry["name"]: entry["unit"] == "points" for entry in suites}
    before = [cells[entry["name"], results["arms"][0]["arm"]]["before"] for entry in suites]
    levels = [
        figure(100 * value if points[entry["name"]] else value, "points" if points[entry["name"]] else "bits")
        for entry, value in zip(suites, before, strict=True)
    ]
    lines = [f"| | {' | '.join(names)} | minutes | GB |", f"|---|{'---|' * len(names)}---:|---:|"]
    lines.append(f"| before | {' | '.join(levels)} | | |")
    for arm in results["arms"]:
        shown = [_bold(_cell(cells[entry["name"], arm["arm"]], points[entry["name"]])) for entry in suites]
        costs = [run["cost"] for run in arm["runs"]]
        minutes = f"{mean(cost['seconds'] for cost in costs) / 60:.1f}"
        memory = f"{max(cost['peak_memory_bytes'] for cost in costs) / 1e9:.1f}"
        lines.append(f"| {arm['arm']} | {' | '.join(shown)} | {minutes} | {memory} |")
    return "\n".join(lines)


def levels_table(results: Mapping[str, Any]) -> str:
    """Arms down: points learned and forgotten with their intervals, then each suite's score afterwards; of arms that
    learn answers of the model's own, how many of these were accepted."""
    cells = {(row["suite"], row["arm"]): row for row in results["comparisons"]}
    suites = [entry for entry in results["manifest"]["suites"] if entry["role"] != "health"]
    standing = {point["arm"]: point for point in results["frontier"]["points"]}

    def level(entry: Mapping[str, Any], arm: str, side: str) -> str:
        value = cells[entry["name"], arm][side]
        return f"{100 * value:.1f}" if entry["unit"] == "points" else f"{value:.3f}"

    lines = [f"| | learned | forgot | {' | '.join(entry['name'] for entry in suites)} |"]
    lines.append(f"|---|---|---|{'---:|' * len(suites)}")
    first = results["arms"][0]["arm"]
    lines.append(f"| before | | | {' | '.join(level(entry, first, 'before') for entry in suites)} |")
    for arm in results["arms"]:
        name = arm["arm"]
        means = [
            f"{100 * part['mean']:.1f} [{100 * part['low']:.1f}, {100 * part['high']:.1f}]"
            for part in (standing[name]["learned"], standing[name]["forgotten"])
        ]
        rates = [
            written["notes"]["acceptance rate"]
            for run in arm["runs"]
            for written in run.get("written") or ()
            if (written.get("notes") or {}).get("acceptance rate") is not None
        ]
        title = f"{name} ({100 * mean(rates):.0f} % accepted)" if rates else name
        lines.append(f"| {title} | {' | '.join([*means, *(level(entry, name, 'after') for entry in suites)])} |")
    return "\n".join(lines)


def _bold(cell: str) -> str:
    found = re.fullmatch(r"(gained|lost|kept|cannot tell) (\S+) (\[.*\])", cell)
    if not found:
        return cell
    return f"**{found[2]}** {found[3]}" if found[1] in ("gained", "lost") else f"{found[2]} {found[3]}"


def rates_table(path: Path) -> str:
    """Win rates of the study that a real model judges, without the judge's errors, by twenty labels and by all."""
    lines = rates(path, "json-pairs", checked_by="json-answers", labels=20)
    return "\n".join(line.replace("not possible: sensitivity + specificity is at most 1: ", "") for line in lines)


def category_table(path: Path) -> str:
    """Ratings of MT-bench's first turns by category, as points, from the scores that are kept: the model before, then
    each arm, the mean over its trainings and the category's questions."""
    kept = read_items(scores_beside(path))
    names = [
        CATEGORIES[(int(item.rpartition("-")[2]) - 81) // 10] for item in kept["suites"]["mt-bench-first"]["items"]
    ]
    sides: dict[str, list[list[float | None]]] = {}
    for side in kept["sides"]:
        if side.get("last", True):
            sides.setdefault(side["arm"] or "before", []).append(side["scores"]["mt-bench-first"])
    lines = [f"| | {' | '.join(CATEGORIES)} | all |", f"|---|{'---:|' * (len(CATEGORIES) + 1)}"]
    for arm, rows in sides.items():
        found = [(name, value) for row in rows for name, value in zip(names, row, strict=True) if value is not None]
        means = [mean(value for name, value in found if name == category) for category in CATEGORIES]
        cells = (f"{100 * value:.1f}" for value in (*means, mean(value for _, value in found)))
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def session(results: Mapping[str, Any]) -> str:
    """The command of the demo and the first lines that it prints: the headline and a sentence an arm."""
    lines = render(results, "text", 100).splitlines()
    first = lines[1 : lines.index("", lines.index("") + 1)]
    return "\n".join(
        ["```console", "$ mnemos run mnemos:demo.yaml --jobs 2", *(line.rstrip() for line in first), "```"]
    )


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description="Fill the README's tables.")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "docs/results/real-benign.json", help="of the first table"
    )
    parser.add_argument("--arms", default=ARMS, help="arms of the first table, by commas; all if empty")
    given = parser.parse_args(arguments)
    arms = [arm for arm in given.arms.split(",") if arm]
    put(ROOT / "README.md", "ledger-table", change_table(read_json(given.results), arms))
    put(ROOT / "docs" / "benchmarks.md", "bench-table", bench_table(ROOT / "benchmarks" / "results"))
    simulated = read_json(ROOT / "benchmarks/results/adaptation-intervals.json")["details"]
    put(ROOT / "docs" / "speech.md", "adaptation-intervals", covered_table(simulated))
    means = read_json(ROOT / "benchmarks/results/suite-means.json")["details"]
    put(ROOT / "docs" / "sweeps.md", "suite-means", means_table(means))
    put(ROOT / "docs" / "studies.md", "instruct-table", levels_table(read_json(ROOT / "docs/results/instruct.json")))
    for path in sorted((ROOT / "docs" / "results").glob("real-*.json")):
        put(ROOT / "docs" / "real.md", path.stem, arms_table(read_json(path)))
    judged = ROOT / "docs" / "results" / "real-judge.json"
    put(ROOT / "docs" / "judges.md", "real-judge", change_table(read_json(judged)))
    put(ROOT / "docs" / "judges.md", "real-judge-rates", rates_table(judged))
    put(ROOT / "docs" / "judges.md", "real-judge-categories", category_table(judged))
    if DEMO.is_file():
        put(ROOT / "README.md", "session", session(read_json(DEMO)))
        put(ROOT / "docs" / "studies.md", "demo-table", ledger_table(read_json(DEMO)))


def put(path: Path, mark: str, table: str) -> None:
    """Write the table between a page's marks."""
    write_text(path, fill(path.read_text(encoding="utf-8"), mark, table))


if __name__ == "__main__":
    main()
