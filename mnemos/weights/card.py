"""The model card of a merge: what was computed from what, so that anyone can do it again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mnemos.core.files import read_json, write_json, write_text
from mnemos.core.fingerprint import LENGTH
from mnemos.weights.checkpoint import named
from mnemos.weights.files import chosen_files
from mnemos.weights.merge import Merged
from mnemos.weights.merge_files import MARK

WHOLE = 64 << 20
"""Bytes of weights that are read whole to name a checkpoint."""
FAR = 0.01
"""From here on a share that was kept is more than the one asked for."""
STEP, PIECE = 4 << 20, 64 << 10
EMBEDDINGS = {
    "same": "one vocabulary, rows added as they lie",
    "align": "rows of equal tokens added, the others kept",
    "skip": "kept from one model",
}


def write_card(folder: Path, merged: Merged) -> None:
    """Write mnemos_merge.json, for programs, and README.md, for people, into `folder`."""
    prints = {name: identify(Path(place)) for name, place in merged.checkpoints.items()}
    value = {
        "expression": merged.expression,
        "checkpoints": {n: {"path": p, "fingerprint": prints[n]} for n, p in merged.checkpoints.items()},
        **asdict(merged.who),
        "embeddings": merged.how.embeddings,
        "dtypes": merged.dtypes,
        "warnings": list(merged.warnings),
        "notes": [*merged.notes, *kept_lines(merged)],
        "kept": merged.kept,
        "kind": "vector" if merged.how.vector else "model",
    }
    write_json(folder / MARK, value)
    write_text(folder / "README.md", card(value))


def kept_lines(merged: Merged) -> list[str]:
    """What operators kept of their deltas, a line each."""
    of = f" (in the files written by the last call, all but {merged.resumed})" if merged.resumed else ""
    lines = []
    for written, shares in merged.kept.items():
        kept = ", ".join(f"{share:.1%} of {name}" for name, share in shares["kept"])
        lines.append(f"{written} kept {kept}; asked for {shares['asked']:.1%}{of}")
        if any(share > shares["asked"] + FAR for _, share in shares["kept"]):
            lines[-1] += ": equal sizes at the threshold are all kept, exact=1 takes exactly the share"
    return lines


def add_table(folder: Path, table: str) -> None:
    """Put a table of what was measured into the card of a merge."""
    write_text(folder / "README.md", card(read_json(folder / MARK), table))


def identify(place: Path) -> str:
    """What a checkpoint is, in a few hex digits.

    The content fingerprint of `weights.checkpoint.named` where its weights are small; else ``sample-…``, the SHA-256
    of the small files and of each large one's size, first bytes and a piece of every STEP bytes:
    reading all of a large model would take longer than merging it, and no training leaves the
    sampled bytes as they were. Trap: it is no proof against somebody who means harm.
    """
    files = chosen_files(place)
    if sum(file.stat().st_size for file in files) <= WHOLE:
        return named(str(place))
    digest = hashlib.sha256()
    texts = (path for path in place.iterdir() if path.suffix in (".json", ".jinja"))
    for file in sorted([*texts, *files]):
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with open(file, "rb") as opened:
            for start in range(0, size, STEP):
                opened.seek(start)
                digest.update(opened.read(PIECE if size > STEP else STEP))
    return f"sample-{digest.hexdigest()[:LENGTH]}"


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
