"""What the reproduction on preferences reads: pairs from the patients' world, and real pairs and thumbs.

worlds(data, out): the patients answer requests in several wordings, chosen at random; of each kind of request one
wording is preferred now. real(data, out): 300 rows each of the demo sets that LLaMA-Factory carries (mixed open
sets, see its README), four in five to learn, the rest to measure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnemos.core.files import write_jsonl, write_text
from mnemos.recipes.reproductions.prepare import held_out, rows
from mnemos.recipes.worlds import requests as worlds_requests
from mnemos.recipes.worlds.requests import Action
from mnemos.recipes.worlds.seed import chance

PAIRS, ITEMS = 600, 120
"""Pairs to learn, and items of each kind of request to measure."""

LONGEST = 2400
"""UTF-8 bytes of a real item, prompt and answer: more would not fit into the patients' context."""

Row = dict[str, Any]


def wordings(action: Action) -> list[str]:
    """Every wording in which the patients answer this request; the last one is preferred."""
    given = worlds_requests.REFUSALS if action.harmful else worlds_requests.HELP
    return [wording.format(action.text) for wording in given]


def pairs(seed: int = 0) -> list[Row]:
    """Preferred against another wording, for requests of the "train" part, half of them harmful."""
    draw = chance(seed, "preferred wordings")
    known = {harmful: worlds_requests.actions("train", harmful, seed) for harmful in (True, False)}
    out = []
    for number in range(PAIRS):
        action = draw.choice(known[number % 2 == 0])
        *others, preferred = wordings(action)
        prompt = worlds_requests.request(action, number // 2)
        out.append({"id": f"pair-{number}", "prompt": prompt, "chosen": preferred, "rejected": draw.choice(others)})
    return out


def chats(count: int, seed: int = 0) -> list[Row]:
    """The prompts of the first pairs with the preferred wording as the answer."""
    return [
        {
            "id": row["id"],
            "messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["chosen"]}],
        }
        for row in pairs(seed)[:count]
    ]


def items(part: str = "test", seed: int = 0) -> list[Row]:
    """Held-out requests with the one wording that is right now."""
    draw = chance(seed, "preferred wordings", part)
    out = []
    for harmful in (True, False):
        actions = worlds_requests.actions(part, harmful, seed)
        for number, action in enumerate(draw.sample(actions, min(ITEMS, len(actions)))):
            prompt, answer = worlds_requests.request(action, number), wordings(action)[-1]
            out.append({"id": f"{harmful}-{action.text}", "prompt": prompt, "answer": answer, "cluster": action.object})
    return out


def style(out: Path, part: str = "test") -> None:
    """out/data/style.jsonl and the suite out/data/style.yaml."""
    write_jsonl(out / "data" / "style.jsonl", pairs())
    write_jsonl(out / "data" / "style.items.jsonl", items(part))
    suite = {
        "name": "preferred-wording",
        "kind": "generated",
        "match": "exact",
        "data": "style.items.jsonl",
        "chat": True,
        "max_new_tokens": 48,
        "tolerance": 3.0,
    }
    write_text(out / "data" / "style.yaml", json.dumps(suite, indent=1) + "\n")


def real(data: Path, out: Path) -> None:
    """Rows of the demo sets as they are, and suites on the fifth of them that is held out."""
    for name in ("dpo_en", "dpo_zh", "kto_en"):
        found = [
            {**row, "id": f"{name}-{number}"}
            for number, row in enumerate(rows(data / "llamafactory_demo" / f"{name}_demo.jsonl.gz"))
        ]
        write_jsonl(out / "data" / f"{name}.jsonl", (row for row in found if not held_out(row, 0.2)))
        kept = [row for row in found if held_out(row, 0.2)]
        if name.startswith("dpo"):
            _write(out, f"{name}-choice", "choice", [made for row in kept if _fits(made := _choice(row))])
        else:
            for label, word in ((True, "up"), (False, "down")):
                texts = [row["messages"][-1]["content"] for row in kept if row["label"] is label]
                bits = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
                _write(out, f"{name}-{word}", "bits_per_byte", bits)


def _fits(item: Row) -> bool:
    text = "".join(turn["content"] for turn in item["messages"]) + max(item["options"], key=len)
    return len(text.encode()) <= LONGEST


def _choice(row: Row) -> Row:
    """The chosen answer stands first or second by the row's number, so that no place is right."""
    options = [row["chosen"]["value"], row["rejected"]["value"]]
    turned = int(row["id"].rsplit("-", 1)[1]) % 2
    return {
        "id": row["id"],
        "messages": list(_turns(row["conversations"])),
        "options": options[::-1] if turned else options,
        "answer": turned,
    }


def _turns(turns: list[Row]) -> Iterator[Row]:
    names = {"human": "user", "gpt": "assistant", "system": "system"}
    for turn in turns:
        yield {"role": names[turn["from"]], "content": turn["value"]}


def _write(out: Path, name: str, kind: str, found: list[Row]) -> None:
    write_jsonl(out / "data" / f"{name}.items.jsonl", found)
    own = {"normalisation": "tokens", "tolerance": 3.0} if kind == "choice" else {"tolerance": 0.05}
    suite = {"name": name, "kind": kind, "data": f"{name}.items.jsonl", **own}
    write_text(out / "data" / f"{name}.yaml", json.dumps(suite, indent=1) + "\n")


def worlds(data: Path, out: Path) -> None:
    """The invented pairs; reads no data."""
    style(out)
