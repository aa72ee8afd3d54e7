"""`mnemos model export`: a model of a finished run on its own, with its card, its making, and a GGUF file if wanted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, RunError, UsageError, nearest, printable
from mnemos.core.files import read_json, write_json, write_text
from mnemos.report import render
from mnemos.report.markdown import escape, table
from mnemos.study.teach.hand_over import copied
from mnemos.weights.export_gguf import convert, converter
from mnemos.weights.files import ADAPTER_CONFIG, read_config
from mnemos.weights.push import check_hub, push

MADE = "mnemos_model.json"
"""The making of an exported model, for programs; README.md says the same to people."""


@dataclass(frozen=True)
class Exported:
    """Where things are. gguf, address: of the GGUF file and the hub's repository, where they were asked for."""

    model: Path
    gguf: Path | None = None
    address: str | None = None


def export(
    run: Path, arm: str, out: Path, *, seed: int | None = None, gguf: str | None = None, push_to_hub: str | None = None
) -> Exported:
    """Write the model of an arm of a finished run to `out`, complete, with README.md and mnemos_model.json.

    run: the directory of a study, or its results.json. seed: of its training; the first unless given. Of a sequence of
    tasks it is the model after the last one. gguf: also write `out`.gguf with numbers of this type, by llama.cpp's own
    converter. push_to_hub: OWNER/NAME of a repository that gets the directory.

    Weights are hard links where the disk allows. Raises UsageError for an arm, seed or converter that is not there,
    DataError for a run without results or whose model was removed, RunError where `out` exists, ModelError where the
    converter or the hub refuses: the directory stays.
    """
    root = run if run.is_dir() else run.parent
    results = _results(root)
    found = _run_of(results, arm, seed)
    source = root / found["model"]
    if not source.is_dir() or not source.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{source}", "is not there any more", "run the study again: what is missing is made anew")
    if out.exists():
        raise RunError(f"{out}", "is there already", "remove it, or name another place with --out")
    # Before anything is copied: a program, a name, a network, a token.
    program = converter(gguf, source) if gguf is not None else None
    if push_to_hub is not None:
        check_hub(push_to_hub)
    # It takes its name when it is whole: hashes are of the files as they are then.
    fresh = out.with_name(f".{out.name}.export")
    out.parent.mkdir(parents=True, exist_ok=True)
    copied(source, fresh, "")
    _settle_base(source, fresh)
    made = making(root, results, arm, found, fresh)
    write_json(fresh / MADE, made)
    write_text(fresh / "README.md", card(made, results))
    os.replace(fresh, out)
    packed = convert(program, out, gguf) if program is not None and gguf is not None else None
    return Exported(out, packed, push(out, push_to_hub) if push_to_hub is not None else None)


def _results(root: Path) -> dict[str, Any]:
    path = root / "results.json"
    if not path.is_file():
        raise DataError(f"{path}", "is not there: no finished run of a study", f"mnemos run {root / 'study.yaml'}")
    results = read_json(path)
    if not isinstance(results, dict) or results.get("kind") != "study":
        raise UsageError(f"{path}", "is of no study, and has no arms", "name the directory of a `mnemos run`")
    return results


def _run_of(results: Mapping[str, Any], arm: str, seed: int | None) -> dict[str, Any]:
    arms = {str(one["arm"]): one for one in results["arms"]}
    if arm not in arms:
        raise UsageError(f"--arm {arm}", "is no arm of this run", nearest(arm, arms))
    runs = [one for one in arms[arm]["runs"] if seed is None or one["seed"] == seed]
    if not runs:
        seeds = ", ".join(str(one["seed"]) for one in arms[arm]["runs"])
        raise UsageError(f"--seed {seed}", f"was not trained for {arm}", f"one of {seeds}")
    return {**runs[0], "history": arms[arm]["history"], "train": arms[arm]["train"]}


def making(root: Path, results: Mapping[str, Any], arm: str, found: Mapping[str, Any], model: Path) -> dict[str, Any]:
    """What the model is made of: before, rows, methods, settings, changes measured, and SHA-256 of every file."""
    manifest = results["manifest"]
    inputs = read_json(root / "inputs.json") if (root / "inputs.json").is_file() else {}
    kept = ("suite", "role", "before", "after", "delta", "low", "high", "verdict", "unit", "scale", "items", "seeds",
            "claim")  # fmt: skip
    return {
        "format": 1,
        "study": results["study"],
        "arm": arm,
        "seed": found["seed"],
        "plan": found["fingerprint"],
        "measured": results["created"],
        # The name without the place: where somebody's models lie is nobody's business.
        "before": {"name": Path(manifest["model"]["path"]).name, "fingerprint": manifest["model"]["fingerprint"]},
        "rows": {k.partition(", ")[2]: v for k, v in inputs.items() if k.startswith(f"rows of {arm}, ")},
        "methods": found["history"],
        "train": found["train"],
        "changes": [{k: row.get(k) for k in kept} for row in results["comparisons"] if row["arm"] == arm],
        "manifest": manifest["fingerprint"],
        "versions": manifest["versions"],
        "commit": manifest.get("commit"),
        "files": {str(path.relative_to(model)): _sha256(path) for path in _files(model)},
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in ("README.md", MADE))


def _sha256(path: Path) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def card(made: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """README.md: what it is, what it was made of, what changed, and the hashes."""
    before = made["before"]
    rows = ", ".join(f"{escape(task)}: `{print_}`" for task, print_ in made["rows"].items()) or "not recorded"
    commit = f", commit `{made['commit']}`" if made["commit"] else ""
    lines = [
        "---", "tags:", "- mnemos", "library_name: transformers", "---", "",
        f"# {escape(before['name'])}, taught in {escape(made['study'])} by {escape(made['arm'])}", "",
        f"- before: {escape(before['name'])}, fingerprint `{before['fingerprint']}`",
        f"- rows, by the fingerprint of what was read of each task: {rows}",
        f"- methods: {methods(made['methods'])}",
        f"- training: {', '.join(f'`{k}: {v}`' for k, v in made['train'].items() if k in SHOWN)}; seed {made['seed']}",
        f"- measured on the manifest `{made['manifest']}`; plan `{made['plan']}`",
        f"- made by mnemos {escape(made['versions']['mnemos'])}{commit}",
        "",
        "## What changed", "",
        changes(made["changes"]), "",
        "## Files", "",
        table(("file", "SHA-256"), [(f"`{printable(name)}`", f"`{value}`") for name, value in made["files"].items()]),
        "",
        f"The same for programs: `{MADE}`. The whole study, with its other arms:", "",
    ]  # fmt: skip
    return "\n".join(lines) + "\n" + render(results, "md")


SHOWN = ("learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "optim", "saved_dtype")


def methods(history: Sequence[Mapping[str, Any]]) -> str:
    """Methods left to right with their settings and papers; those that are off are left out."""

    def one(step: Mapping[str, Any]) -> str:
        settings = ", ".join(f"{k}={v}" for k, v in step["settings"].items() if v is not None)
        return f"{escape(step['method'])}({escape(settings)}), {escape(step['paper'])}"

    return "; ".join(one(step) for step in history if not step["off"]) or "none"


def changes(rows: Sequence[Mapping[str, Any]]) -> str:
    """The arm's comparisons as a table; a missing number is said."""

    def shown(row: Mapping[str, Any], key: str) -> str:
        return "missing" if row[key] is None else f"{row[key] * row['scale']:+.3g}"

    cells = [
        (f"{escape(row['suite'])}{' (new)' if row['role'] == 'new' else ''}", escape(row["verdict"]),
         f"{shown(row, 'delta')} {escape(row['unit'])}", f"{shown(row, 'low')} to {shown(row, 'high')}",
         str(row["items"]), escape(row["claim"]))
        for row in rows
    ]  # fmt: skip
    return table(("suite", "verdict", "change", "95 % interval", "items", "is"), cells)


def _settle_base(source: Path, out: Path) -> None:
    """Name the base of an exported adapter by its whole place, where it was named from the adapter's own."""
    config = out / ADAPTER_CONFIG
    if config.is_file():
        value = read_config(config, "the adapter's configuration")
        base = source / str(value.get("base_model_name_or_path", ""))
        if base.is_dir():
            value["base_model_name_or_path"] = str(base.resolve())
            write_json(config, value)
