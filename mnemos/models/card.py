"""The model card of a merge: what was computed from what, so that anyone can do it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mnemos.core.files import read_json, write_json, write_text
from mnemos.core.fingerprint import file_fingerprint
from mnemos.models.load import Checkpoint
from mnemos.models.merge import Merged
from mnemos.models.merge_files import MARK
from mnemos.models.shards import pool

EMBEDDINGS = {
    "same": "one vocabulary, rows added as they lie",
    "align": "rows of equal tokens added, the others kept",
    "skip": "kept from one model",
}


def write_card(folder: Path, merged: Merged) -> None:
    """Write mnemos_merge.json, for programs, and README.md, for people, into `folder`."""
    prints = fingerprints(merged.checkpoints)
    value = {
        "expression": merged.expression,
        "checkpoints": {n: {"path": p, "fingerprint": prints[n]} for n, p in merged.checkpoints.items()},
        **asdict(merged.who),
        "embeddings": merged.how.embeddings,
        "dtypes": merged.dtypes,
        "warnings": list(merged.warnings),
        "notes": list(merged.notes),
        "kind": "vector" if merged.how.vector else "model",
    }
    write_json(folder / MARK, value)
    write_text(folder / "README.md", card(value))


def add_table(folder: Path, table: str) -> None:
    """Put a table of what was measured into the card of a merge."""
    write_text(folder / "README.md", card(read_json(folder / MARK), table))


def fingerprints(checkpoints: Mapping[str, str]) -> dict[str, str]:
    """Content fingerprint of each checkpoint, as `Checkpoint.fingerprint`; files are read side by side."""
    files = sorted({file for place in checkpoints.values() for file in Path(place).glob("*.safetensors")})
    with pool() as workers:
        list(workers.map(file_fingerprint, files))  # remembered, for the next line
    return {name: Checkpoint(place).fingerprint for name, place in checkpoints.items()}


def card(value: Mapping[str, Any], table: str = "") -> str:
    """README.md as text. value: the content of mnemos_merge.json. table: Markdown of what was measured."""
    names = value["checkpoints"]
    head = ["---", "tags:", "- merge", "- mnemos", "---", ""]
    kind = "difference of checkpoints" if value["kind"] == "vector" else "merge"
    lines = [*head, f"# A {kind}", "", "```", value["expression"], "```", "", "| name | checkpoint | fingerprint |",
             "|---|---|---|"]  # fmt: skip
    lines += [f"| `{name}` | {Path(one['path']).name} | `{one['fingerprint']}` |" for name, one in names.items()]
    counts = ", ".join(f"{count:,} in {kind}" for kind, count in value["dtypes"].items())
    lines += [
        "",
        f"- configuration, shapes and head: `{value['trunk']}`",
        f"- tokenizer: `{value['tokenizer']}`; chat template: `{value['template']}`",
        f"- embeddings: {value['embeddings']} ({EMBEDDINGS[value['embeddings']]})",
        f"- numbers: {counts}; accumulated in float32, rounded once",
    ]
    lines += [f"- {note}" for note in value["notes"]]
    lines += [f"- warning: {warning}" for warning in value["warnings"]]
    if table:
        lines += ["", "## Measured", "", table.rstrip()]
    return "\n".join(lines) + "\n"
