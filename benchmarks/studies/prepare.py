"""Turn third-party data into study inputs: python -m benchmarks.studies.prepare

Reads $MNEMOS_DATA (default ../shared/data) and writes JSONL files and suites to
benchmarks/studies/data, which git ignores: the data keep their own licences (WOZ Apache-2.0,
SLURP text CC BY 4.0, WikiSQL BSD-3-Clause, Tatoeba CC BY 2.0 FR).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnemos.core.files import write_jsonl, write_text

HERE = Path(__file__).parent
OUT = HERE / "data"
TEST_ITEMS = 200
AGGREGATES = ("none", "max", "min", "count", "sum", "avg")

Row = dict[str, Any]


def data_folder() -> Path:
    """Where the third-party data lie."""
    return Path(os.environ.get("MNEMOS_DATA", HERE.parents[2] / "shared" / "data"))


def rows(name: str) -> Iterator[Row]:
    """The rows of one gzip-compressed JSONL file."""
    with gzip.open(data_folder() / name, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def woz(name: str) -> Iterator[Row]:
    """The dialogue so far -> its belief state. Items of one dialogue share a cluster."""
    history: list[str] = []
    for row in rows(f"woz/{name}.jsonl.gz"):
        if row["turn_idx"] == 0:
            history = []
        history += [f"system: {row['system'].strip()}"] if row["system"].strip() else []
        history.append(f"user: {row['user'].strip()}")
        state = "; ".join(sorted(f"{slot}={value}" for slot, value in row["belief_state"])) or "nothing"
        yield {
            "id": f"woz-{name}-{row['dialogue_idx']}-{row['turn_idx']}",
            "prompt": " ".join(history) + "\nstate:",
            "completion": f" {state}",
            "cluster": str(row["dialogue_idx"]),
        }


def slurp() -> Iterator[Row]:
    """A spoken command -> its intent."""
    for row in rows("slurp_text/devel.jsonl.gz"):
        yield {
            "id": f"slurp-{row['slurp_id']}",
            "prompt": f"command: {row['sentence']}\nintent:",
            "completion": f" {row['intent']}",
        }


def wikisql() -> Iterator[Row]:
    """A question -> aggregate and condition values (the table headers are not in the data)."""
    for number, row in enumerate(rows("wikisql_notables/dev_first2000.jsonl.gz")):
        values = " and ".join(str(value) for _, _, value in row["sql"]["conds"]) or "none"
        yield {
            "id": f"wikisql-{number}",
            "prompt": f"question: {row['question'].strip()}\nquery:",
            "completion": f" {AGGREGATES[row['sql']['agg']]} where {values}",
            "cluster": row["table_id"],
        }


def tatoeba(limit: int) -> Iterator[Row]:
    """An English sentence -> Chinese, one translation for each English sentence, as a chat."""
    seen: set[str] = set()
    for row in rows("tatoeba_en_zh/shared.jsonl.gz"):
        if row["en"] in seen or len(row["en"]) > 40:
            continue
        seen.add(row["en"])
        if len(seen) > limit:
            return
        yield {
            "id": f"tatoeba-{len(seen)}",
            "messages": [
                {"role": "user", "content": f"Translate to Chinese: {row['en']}"},
                {"role": "assistant", "content": row["zh"]},
            ],
        }


def held_out(row: Row, share: float) -> bool:
    """A split that depends on the row's cluster alone, so that no table or dialogue is on both sides."""
    key = str(row.get("cluster") or row["id"])
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32 < share


def item(row: Row) -> Row:
    """A training row as a suite item."""
    if "messages" in row:
        return {"id": row["id"], "messages": row["messages"][:-1], "answer": row["messages"][-1]["content"]}
    cluster = {"cluster": row["cluster"]} if "cluster" in row else {}
    return {"id": row["id"], "prompt": row["prompt"], "answer": row["completion"].strip(), "raw": True, **cluster}


def without_cluster(row: Row) -> Row:
    """A training row: suites alone need clusters."""
    return {key: value for key, value in row.items() if key != "cluster"}


def write(name: str, train: list[Row], test: list[Row], max_new_tokens: int, match: str = "normalised") -> None:
    """One task: training rows, items, suite."""
    write_jsonl(OUT / f"{name}.jsonl", map(without_cluster, train))
    write_jsonl(OUT / f"{name}.items.jsonl", map(item, test[:TEST_ITEMS]))
    suite = {
        "name": name,
        "kind": "generated",
        "match": match,
        "data": f"{name}.items.jsonl",
        "max_new_tokens": max_new_tokens,
        "tolerance": 3.0,
    }
    write_text(OUT / f"{name}.yaml", json.dumps(suite, indent=1) + "\n")
    print(f"{name}: {len(train)} rows to learn, {len(test[:TEST_ITEMS])} items to measure")


def main() -> None:
    """Write everything that the studies beside this file read."""
    write("woz", list(woz("en_train")), list(woz("en_validate")), 64)
    for name, all_rows, tokens in (("slurp", list(slurp()), 16), ("wikisql", list(wikisql()), 48)):
        write(name, [r for r in all_rows if not held_out(r, 0.2)], [r for r in all_rows if held_out(r, 0.2)], tokens)
    pairs = list(tatoeba(4000))
    write("tatoeba", [r for r in pairs if not held_out(r, 0.1)], [r for r in pairs if held_out(r, 0.1)], 48, "chrf")
    bits = [{"id": r["id"], "text": r["messages"][-1]["content"]} for r in pairs if held_out(r, 0.1)]
    write_jsonl(OUT / "tatoeba-bits.items.jsonl", bits[:TEST_ITEMS])
    suite = {"name": "bits-per-byte:chinese", "kind": "bits_per_byte", "data": "tatoeba-bits.items.jsonl"}
    write_text(OUT / "tatoeba-bits.yaml", json.dumps(suite, indent=1) + "\n")


if __name__ == "__main__":
    main()
