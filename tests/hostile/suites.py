"""Suites in which something cannot be asked, scored or read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.hostile.rows import bomb
from tests.hostile.runner import Case, Content

COMPARE = ("compare", "good", "model", "--suites", "s.yaml", "--no-health")

ITEM = "{id: a, prompt: hi, answer: ho}"

KEYS: list[tuple[str, str, str]] = [
    ("no name", f"{{kind: generated, items: [{ITEM}]}}", r"name"),
    ("a name that is a number", f"{{name: 7, kind: generated, items: [{ITEM}]}}", r"name"),
    ("a name that leaves its folder", f"{{name: ../../x, kind: generated, items: [{ITEM}]}}", r"\.\./\.\./x"),
    ("a name of dots", f'{{name: "..", kind: generated, items: [{ITEM}]}}', r"name"),
    ("a name with an escape code", f'{{name: "a\\e[2J", kind: generated, items: [{ITEM}]}}', r"x1b"),
    ("a name with a NUL", f'{{name: "a\\0b", kind: generated, items: [{ITEM}]}}', r"x00"),
    ("a name of 300 letters", f"{{name: {'n' * 300}, kind: generated, items: [{ITEM}]}}", r"nnn"),
    ("no kind", f"{{name: s, items: [{ITEM}]}}", r"kind"),
    ("a kind of nobody", f"{{name: s, kind: generate, items: [{ITEM}]}}", r"did you mean 'generated'"),
    ("a kind of a list", f"{{name: s, kind: [generated], items: [{ITEM}]}}", r"kind"),
    ("a misspelt key", f"{{name: s, kind: generated, itmes: [{ITEM}]}}", r"items"),
    ("no item", "{name: s, kind: generated, items: []}", r"no items"),
    ("items of a text", "{name: s, kind: generated, items: hello}", r"items"),
    ("items of numbers", "{name: s, kind: generated, items: [1, 2]}", r"item 1"),
    ("items and a file", f"{{name: s, kind: generated, items: [{ITEM}], data: new.jsonl}}", r"exactly one"),
    ("neither items nor a file", "{name: s, kind: generated}", r"exactly one"),
    ("a file that is gone", "{name: s, kind: generated, data: gone.jsonl}", r"gone\.jsonl"),
    ("a file of a NUL", '{name: s, kind: generated, data: "a\\0.jsonl"}', r"x00"),
    ("a file of a folder", "{name: s, kind: generated, data: model}", r"model"),
    ("a file without end", "{name: s, kind: generated, data: /dev/zero}", r"/dev/zero"),
    ("a file of tables", "{name: s, kind: generated, data: study.yaml}", r"study\.yaml"),
    ("a limit of 0", f"{{name: s, kind: generated, limit: 0, items: [{ITEM}]}}", r"limit"),
    ("an infinite tolerance", f"{{name: s, kind: generated, tolerance: .inf, items: [{ITEM}]}}", r"tolerance"),
    ("a tolerance below 0", f"{{name: s, kind: generated, tolerance: -1, items: [{ITEM}]}}", r"tolerance"),
    ("a tolerance in words", f"{{name: s, kind: generated, tolerance: much, items: [{ITEM}]}}", r"tolerance"),
    ("answers without end", f"{{name: s, kind: generated, max_new_tokens: 1e30, items: [{ITEM}]}}", r"max_new_tokens"),
    ("answers of no token", f"{{name: s, kind: generated, max_new_tokens: 0, items: [{ITEM}]}}", r"max_new_tokens"),
    ("a temperature below 0", f"{{name: s, kind: generated, temperature: -1, items: [{ITEM}]}}", r"temperature"),
    ("a temperature of no number", f"{{name: s, kind: generated, temperature: .nan, items: [{ITEM}]}}", r"temperature"),
    ("a seed below 0", f"{{name: s, kind: generated, seed: -1, temperature: 1, items: [{ITEM}]}}", r"seed"),
    ("a match of nobody", f"{{name: s, kind: generated, match: nearly, items: [{ITEM}]}}", r"match.*nearly|nearly"),
    ("columns of nobody", f"{{name: s, kind: generated, columns: {{prompt: frage}}, items: [{ITEM}]}}", r"frage"),
    ("of nobody", "{name: s, kind: stop_rate, of: nobody}", r"nobody"),
    ("of itself", "{name: s, kind: stop_rate, of: s}", r"s"),
    ("of each other", "[{name: s, kind: stop_rate, of: t}, {name: t, kind: stop_rate, of: s}]", r"of"),
    ("two of one name", f"[{', '.join([f'{{name: s, kind: generated, items: [{ITEM}]}}'] * 2)}]", r"named twice"),
    ("a classifier that is gone", f"{{name: s, kind: classifier, model: ./gone, label: x, items: [{ITEM}]}}", r"gone"),
    ("a classifier that is none", f"{{name: s, kind: classifier, model: good, label: x, items: [{ITEM}]}}", r"good"),
    ("a task of nobody", "{name: s, kind: lm_eval, task: no_such_task}", r"no_such_task"),
    ("a database that is gone", f"{{name: s, kind: generated, match: sql, database: gone.db, items: [{ITEM}]}}",
     r"gone\.db"),
    ("a database that is none", f"{{name: s, kind: generated, match: sql, database: new.jsonl, items: [{ITEM}]}}",
     r"new\.jsonl.*no sqlite file"),
    ("a refusal judge of nobody", "{name: s, kind: refusal, judge: oracle, items: [{prompt: hi, expect: refuse}]}",
     r"judge"),
    ("suites beside a key", f"{{suites: [{{name: s, kind: generated, items: [{ITEM}]}}], more: 1}}", r"more"),
    ("a key twice", f"{{name: s, name: t, kind: generated, items: [{ITEM}]}}", r"name"),
    ("an object of Python", "!!python/object:os.system {}", r"tag"),
    ("lists 5,000 deep", "[" * 5000, r"nested"),
    ("nothing", "", r"s\.yaml"),
    ("a number", "7", r"suite"),
]  # fmt: skip

ITEMS: list[tuple[str, str, str, str]] = [
    ("no prompt", "generated", '{"answer": "ho"}', r"prompt"),
    ("a prompt of a number", "generated", '{"prompt": 7, "answer": "ho"}', r"prompt = 7"),
    ("a prompt and messages", "generated", '{"prompt": "a", "messages": [], "answer": "ho"}', r"both prompt and"),
    ("no message", "generated", '{"messages": [], "answer": "ho"}', r"messages"),
    ("an answer to itself", "generated", '{"messages": [{"role": "assistant", "content": "a"}], "answer": "b"}',
     r"ends with an assistant turn"),
    ("a role of nobody", "generated", '{"messages": [{"role": "wizard", "content": "a"}], "answer": "b"}', r"wizard"),
    ("no answer", "generated", '{"prompt": "a"}', r"answer"),
    ("an answer and answers", "generated", '{"prompt": "a", "answer": "b", "answers": ["c"]}', r"both answer and"),
    ("answers of a text", "generated", '{"prompt": "a", "answers": "b"}', r"answers"),
    ("an answer that is true", "generated", '{"prompt": "a", "answer": true}', r"answer = True"),
    ("a misspelt key", "generated", '{"promt": "a", "answer": "b"}', r"did you mean 'prompt'"),
    ("half a letter", "generated", '{"prompt": "\\ud83d", "answer": "b"}', r"half of a character"),
    ("a number of 5,000 digits", "generated", '{"prompt": "a", "answer": ' + "7" * 5000 + "}", r"5,000 digits"),
    ("lists 600 deep", "generated", '{"prompt": "a", "answer": ' + "[" * 600 + "]" * 600 + "}", r"nested"),
    ("17 MB", "generated", json.dumps({"prompt": "a" * (17 << 20), "answer": "b"}), r"longer than 16 MiB"),
    ("one option", "choice", '{"prompt": "a", "options": ["b"], "answer": 0}', r"options"),
    ("options of one kind", "choice", '{"prompt": "a", "options": ["b", "b"], "answer": 0}', r"options"),
    ("options of a text", "choice", '{"prompt": "a", "options": "b", "answer": 0}', r"options"),
    ("an option beyond", "choice", '{"prompt": "a", "options": ["b", "c"], "answer": 7}', r"answer 7"),
    ("an option below", "choice", '{"prompt": "a", "options": ["b", "c"], "answer": -1}', r"answer -1"),
    ("an option of nobody", "choice", '{"prompt": "a", "options": ["b", "c"], "answer": "d"}', r"'d'"),
    ("no right option", "choice", '{"prompt": "a", "options": ["b", "c"]}', r"names no right option"),
    ("an empty text", "bits_per_byte", '{"text": ""}', r"text"),
    ("no text", "bits_per_byte", '{"prompt": "a"}', r"text"),
    ("a refusal of maybe", "refusal", '{"prompt": "a", "expect": "maybe"}', r"maybe"),
    ("a language of nobody", "language", '{"prompt": "a", "language": "klingon"}', r"klingon"),
    ("a pattern that is none", "generated, match: regex", '{"prompt": "a", "answer": "(["}', r"\(\["),
    ("a number that is none", "generated, match: number", '{"prompt": "a", "answer": "many"}', r"many"),
    ("JSON that is none", "generated, match: json", '{"prompt": "a", "answer": "{"}', r"answer|JSON"),
    ("a schema that is none", "generated, match: json", '{"prompt": "a", "schema": {"type": "thing"}}', r"thing"),
    ("a schema of itself", "generated, match: json", '{"prompt": "a", "schema": {"$ref": "http://127.0.0.1:9/x"}}',
     r"points to 'http://127\.0\.0\.1:9/x'"),
    ("a schema of no pattern", "generated, match: json", '{"prompt": "a", "schema": {"pattern": "(["}}', r"\(\["),
]  # fmt: skip


FILES: list[tuple[str, Mapping[str, Content], tuple[str, ...], str]] = [
    ("a pipe", {"s.yaml": os.mkfifo}, COMPARE, r"s\.yaml"),
    ("a folder", {"s.yaml": Path.mkdir}, COMPARE, r"s\.yaml"),
    ("a loop", {"s.yaml": lambda path: path.symlink_to(path.name)}, COMPARE, r"s\.yaml"),
    ("absent", {}, COMPARE, r"s\.yaml"),
    ("of NULs", {"s.yaml": b"\0" * 999}, COMPARE, r"s\.yaml"),
    ("in UTF-16", {"s.yaml": "name: s".encode("utf-16")}, COMPARE, r"s\.yaml"),
    ("of a broken JSON", {"s.json": "{"}, ("compare", "good", "model", "--suites", "s.json"), r"s\.json"),
    ("of items in a bomb", {"s.yaml": "{name: s, kind: generated, data: i.jsonl.gz}", "i.jsonl.gz": bomb}, COMPARE,
     r"i\.jsonl\.gz.*times its size"),
    ("of items in a damaged gzip", {"s.yaml": "{name: s, kind: generated, data: i.jsonl.gz}",
     "i.jsonl.gz": b"\x1f\x8b\x08" + b"\xff" * 50}, COMPARE, r"i\.jsonl\.gz.*damaged"),
    ("of items in a pipe", {"s.yaml": "{name: s, kind: generated, data: i.jsonl}", "i.jsonl": os.mkfifo}, COMPARE,
     r"i\.jsonl"),
    ("of twice the same item", {"s.yaml": "{name: s, kind: generated, data: i.jsonl}",
     "i.jsonl": '{"id": "x", "prompt": "a", "answer": "b"}\n' * 2}, COMPARE, r"i\.jsonl:2.*stands at"),
    ("of nobody's name", {}, ("compare", "good", "model", "--suites", "refusal"), r"refusals"),
    ("of an escape code", {}, ("compare", "good", "model", "--suites", "\x1b[2J"), r"x1b"),
    ("new to nobody", {"s.yaml": f"{{name: s, kind: generated, items: [{ITEM}]}}"}, (*COMPARE, "--new", "t"), r"new t"),
    ("lost beyond nothing", {"s.yaml": f"{{name: s, kind: generated, items: [{ITEM}]}}"},
     ("gate", *COMPARE[1:], "--max-loss", "nan"), r"max-loss"),
]  # fmt: skip


def cases() -> list[Case]:
    """All of them."""
    out = [Case(f"a suite of {name}", says, COMPARE, {"s.yaml": text}) for name, text, says in KEYS]
    for name, kind, item, says in ITEMS:
        settings = f"{{name: s, kind: {kind}, data: i.jsonl}}"
        out.append(Case(f"an item of {name}", says, COMPARE, {"s.yaml": settings, "i.jsonl": item + "\n"}))
    for name, files, words, says in FILES:
        out.append(Case(f"a suite {name}", says, words, files))
    return [replace(case, fails=UNMENDED.get(case.name, "")) for case in out]


UNMENDED: dict[str, str] = {}
