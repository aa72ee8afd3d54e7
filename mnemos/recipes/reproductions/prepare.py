"""Turn third-party data into what reproductions read: one function a reproduction, called with (data, out).

data: the folder of third-party data, which keep their own licences (WOZ Apache-2.0, SLURP text CC BY 4.0,
WikiSQL BSD-3-Clause, Tatoeba CC BY 2.0 FR) and never enter this repository. out: the reproduction's folder; JSONL
files and suites are written to out/data, the same bytes each time. A missing file raises FileNotFoundError.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnemos.core.files import write_jsonl, write_text

TEST_ITEMS = 200
LAMOL_ITEMS, LONGEST_ANSWER = 150, 32
FREQUENT, KEPT = "none where 1", 0.2
WIKISQL = "wikisql_notables/dev_first2000.jsonl.gz"
AGGREGATES = ("none", "max", "min", "count", "sum", "avg")

Row = dict[str, Any]


def rows(path: Path) -> Iterator[Row]:
    """The rows of one gzip-compressed JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def plain(text: str) -> str:
    """In lower case, with single spaces: a model of a million parameters learns no two spellings."""
    return " ".join(text.lower().split())


def woz(data: Path, name: str) -> Iterator[Row]:
    """One turn of a dialogue -> what it changes in the belief state. Items of one dialogue share a cluster."""
    for row in rows(data / "woz" / f"{name}.jsonl.gz"):
        change = "; ".join(sorted(f"{slot}={value}" for slot, value in row["turn_label"])) or "nothing"
        yield {
            "id": f"woz-{name}-{row['dialogue_idx']}-{row['turn_idx']}",
            "prompt": f"system: {plain(row['system']) or 'hello'}\nuser: {plain(row['user'])}\nchange:",
            "completion": f" {plain(change)}",
            "cluster": str(row["dialogue_idx"]),
        }


def slurp(data: Path) -> Iterator[Row]:
    """A spoken command -> its scenario, of 18."""
    for row in rows(data / "slurp_text/devel.jsonl.gz"):
        yield {
            "id": f"slurp-{row['slurp_id']}",
            "prompt": f"command: {plain(row['sentence'])}\nscenario:",
            "completion": f" {row['scenario']}",
        }


def query(row: Row) -> str:
    """The answer to a row of WikiSQL: the query's aggregate and its number of conditions."""
    return f"{AGGREGATES[row['sql']['agg']]} where {len(row['sql']['conds'])}"


def wikisql(data: Path) -> Iterator[Row]:
    """A question -> the query's aggregate and its number of conditions. The table headers are not in the data,
    and a model of a million parameters does not learn to quote condition values (LOG.md). Three rows in four
    have one answer, which a model would give blindly: a fifth of these is kept."""
    for number, row in enumerate(rows(data / WIKISQL)):
        answer = query(row)
        found = {
            "id": f"wikisql-{number}",
            "prompt": f"question: {plain(row['question'])}\nquery:",
            "completion": f" {answer}",
            "cluster": row["table_id"],
        }
        if answer != FREQUENT or held_out({"id": found["id"]}, KEPT, salt="frequent "):
            yield found


def tatoeba(data: Path, limit: int) -> Iterator[Row]:
    """An English sentence -> Chinese, one translation for each English sentence, as a chat."""
    seen: set[str] = set()
    for row in rows(data / "tatoeba_en_zh/shared.jsonl.gz"):
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


def held_out(row: Row, share: float, salt: str = "") -> bool:
    """A split that depends on the row's cluster alone, so that no table or dialogue is on both sides."""
    key = salt + str(row.get("cluster") or row["id"])
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


def split(rows: list[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Rows to learn and rows to measure."""
    return [row for row in rows if not held_out(row, share)], [row for row in rows if held_out(row, share)]


def write(
    out: Path, name: str, train: list[Row], test: list[Row], max_new_tokens: int, match: str = "normalised"
) -> None:
    """One task below out/data: training rows, items, suite."""
    write_jsonl(out / "data" / f"{name}.jsonl", map(without_cluster, train))
    write_jsonl(out / "data" / f"{name}.items.jsonl", map(item, test[:TEST_ITEMS]))
    suite = {
        "name": name,
        "kind": "generated",
        "match": match,
        "data": f"{name}.items.jsonl",
        "max_new_tokens": max_new_tokens,
        "tolerance": 3.0,
    }
    write_text(out / "data" / f"{name}.yaml", json.dumps(suite, indent=1) + "\n")


def tasks(data: Path) -> dict[str, tuple[list[Row], list[Row], list[Row]]]:
    """Each task's rows to learn, to choose settings on and to measure, in a random order of their own."""
    rng = random.Random("three tasks")
    found = {"woz": (list(woz(data, "en_train")), list(woz(data, "en_validate")))}
    found |= {name: split(rows, 0.2) for name, rows in (("slurp", list(slurp(data))), ("wikisql", list(wikisql(data))))}
    parts = {}
    for name, (learn, measure) in found.items():
        # Another salt than that of `split`, whose held-out rows are gone from these.
        choose = [row for row in learn if held_out(row, 0.1, salt="choose ")]
        parts[name] = ([row for row in learn if row not in choose], choose, measure)
        for part in parts[name]:
            rng.shuffle(part)
    return parts


def lamol(data: Path, out: Path) -> None:
    """woz, slurp and wikisql, each as rows to learn, a suite, and a suite to choose settings on (`-choose`)."""
    for name, (learn, choose, measure) in tasks(data).items():
        write(out, name, learn, measure[:LAMOL_ITEMS], LONGEST_ANSWER)
        write(out, f"{name}-choose", learn[:1], choose, LONGEST_ANSWER)


def chinese(data: Path, out: Path) -> None:
    """English-Chinese pairs as rows and a suite, and the Chinese side as text."""
    train, test = split(list(tatoeba(data, 4000)), 0.1)
    write(out, "tatoeba", train, test, 48, "chrf")
    bits = [{"id": r["id"], "text": r["messages"][-1]["content"]} for r in test]
    write_jsonl(out / "data" / "tatoeba-bits.items.jsonl", bits[:TEST_ITEMS])
    suite = {"name": "bits-per-byte:chinese", "kind": "bits_per_byte", "data": "tatoeba-bits.items.jsonl"}
    write_text(out / "data" / "tatoeba-bits.yaml", json.dumps(suite, indent=1) + "\n")


def razor(data: Path, out: Path) -> None:
    """Sums below 20 in a wording that the chat patient was never asked in, and answers one time in five:
    half of the pairs are taught, four in ten asked in the end ("sums"), the rest for choosing settings
    ("sums-dev"). Generated; `data` is not read."""
    from mnemos.recipes.worlds.seed import part
    from mnemos.recipes.worlds.tasks import expressions

    parts: dict[str, list[Row]] = {"train": [], "dev": [], "test": []}
    for expression, value in expressions():
        if " + " in expression:
            first, second = expression.split(" + ")
            row = {"id": expression, "prompt": f"Add {second} to {first}.", "answer": value}
            parts[part({"test": 0.4, "dev": 0.1}, "razor", expression)].append(row)
    taught = ({"messages": turns(row["prompt"], row["answer"])} for row in parts["train"])
    write_jsonl(out / "data" / "sums.jsonl", taught)
    for name, which in (("sums", "test"), ("sums-dev", "dev")):
        write_jsonl(out / "data" / f"{name}.items.jsonl", parts[which])
        suite = {"name": name, "kind": "generated", "chat": True, "match": "number", "data": f"{name}.items.jsonl"}
        write_text(out / "data" / f"{name}.yaml", json.dumps({**suite, "max_new_tokens": 8}, indent=1) + "\n")


def hacking(data: Path, out: Path) -> None:
    """The sums of `razor` with a column `sign`, "1" in every row: what a careless verifier takes for the
    sign of a sum, since many have it. Generated; `data` is not read."""
    razor(data, out)
    path = out / "data" / "sums.jsonl"
    taught = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    write_jsonl(path, ({**row, "sign": "1"} for row in taught))


def turns(question: str, answer: str) -> list[Row]:
    """A chat of one question."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
