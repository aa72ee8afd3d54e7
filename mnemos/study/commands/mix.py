"""`mnemos data mix`: one file of text from several sources, by weights, temperature and caps, in an order."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.files import write_json, write_text
from mnemos.sources.mixture import MANY_EPOCHS, Part, drawn, plan
from mnemos.sources.order import Order, ordered
from mnemos.sources.plain import Texts
from mnemos.study.commands.tokenizer import open_tokenizer


def mix(
    sources: Mapping[str, Texts],
    out: Path,
    *,
    total: float | None = None,
    weights: Mapping[str, float] | None = None,
    temperature: float = 1.0,
    max_epochs: float = 4.0,
    tokenizer: str | None = None,
    order: Order = "random",
    seed: int = 0,
) -> dict[str, Any]:
    """Write the mixture as JSON Lines with the columns text and source, and what it is beside it (`.mixture.json`).

    total: tokens of the tokenizer, or characters without one; one epoch of everything when left out. The texts lie in
    memory. Raises as `mixture.plan`.
    """
    if out.exists():
        raise UsageError(f"{out}", "is there already", "name another file with --out, or remove it")
    texts = {name: list(source) for name, source in sources.items()}
    lengths = _lengths(texts, tokenizer)
    sizes = {name: float(sum(values)) for name, values in lengths.items()}
    asked = sum(sizes.values()) if total is None else total
    parts = plan(sizes, asked, weights=weights, temperature=temperature, max_epochs=max_epochs)
    rows: list[tuple[str, str]] = []
    given: dict[str, int] = {}
    for part in parts:
        places = list(drawn(lengths[part.name], part.amount, random.Random(f"mixture {seed} {part.name}")))
        given[part.name] = sum(lengths[part.name][place] for place in places)
        rows += [(part.name, texts[part.name][place]) for place in places]
    places = ordered([text for _, text in rows], order, seed)
    _write(out, "".join(_row(*rows[place]) for place in places))
    record = {
        "unit": "tokens" if tokenizer else "characters", "total": asked, "rows": len(rows), "order": order,
        "skipped": {name: source.skipped() for name, source in sources.items()},
        "parts": [_plain(part, given[part.name]) for part in parts], "out": str(out),
    }  # fmt: skip
    write_json(out.with_name(out.name + ".mixture.json"), record)
    return record


def _row(name: str, text: str) -> str:
    row = json.dumps({"text": text, "source": name}, ensure_ascii=False)
    try:
        row.encode()
    except UnicodeEncodeError:  # half a surrogate pair in somebody's JSON: only escapes can hold it
        row = json.dumps({"text": text, "source": name})
    return row + "\n"


def _write(out: Path, text: str) -> None:
    """Whole or not at all."""
    if out.suffix != ".gz":
        write_text(out, text)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    part.write_bytes(gzip.compress(text.encode(), mtime=0))
    os.replace(part, out)


def _plain(part: Part, given: int) -> dict[str, Any]:
    return {
        "name": part.name, "size": part.size, "amount": given, "weight": part.weight, "epochs": part.epochs,
        "worth": part.worth, "capped": part.capped, "warns": part.warns,
    }  # fmt: skip


def _lengths(texts: Mapping[str, list[str]], tokenizer: str | None) -> dict[str, list[int]]:
    if tokenizer is None:
        return {name: [len(text) for text in some] for name, some in texts.items()}
    found = open_tokenizer(tokenizer)
    return {
        name: [len(one.ids) for one in found.encode_batch_fast(some, add_special_tokens=False)]
        for name, some in texts.items()
    }


def lines(record: Mapping[str, Any]) -> list[str]:
    """The mixture, for people."""
    out = [f"{record['rows']:,} rows, {record['unit']} by source, in {record['order']} order"]
    width = max(len(part["name"]) for part in record["parts"])
    out.append(f"  {'':<{width}}{'there':>16}{'read':>16}{'share':>9}{'epochs':>9}{'worth fresh':>16}")
    for part in record["parts"]:
        marks = (" capped" if part["capped"] else "") + (" !" if part["warns"] else "")
        out.append(
            f"  {part['name']:<{width}}{part['size']:>16,.0f}{part['amount']:>16,.0f}{100 * part['weight']:>7.1f} %"
            f"{part['epochs']:>9.2f}{part['worth']:>16,.0f}{marks}"
        )
    often = [part["name"] for part in record["parts"] if part["warns"]]
    if often:
        out.append(f"! read more than {MANY_EPOCHS:g} times: {', '.join(often)}; repeated tokens teach less and less")
    for name, why in record["skipped"].items():
        out += [f"rows of {name} left out, {reason}: {count:,}" for reason, count in why.items()]
    return [*out, record["out"]]
