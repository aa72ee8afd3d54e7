"""Study files in which something cannot be meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.hostile.runner import Case, Content

BASE = """\
model: model
teach: {data: new.jsonl}
suites: {new: [new.yaml], old: [old.yaml]}
arms: {replay: [{replay: {data: old.jsonl, share_of_final: 0.25}}]}
train: {learning_rate: 1.0e-3, num_train_epochs: 1, per_device_train_batch_size: 8}
seeds: [0]
"""
LINES = {line.partition(":")[0]: line for line in BASE.splitlines()}


def with_keys(change: str) -> str:
    """The base study with the keys of `change` in place of its own."""
    own = set(re.findall(r"^([a-z_]+):", change, re.MULTILINE))
    return "\n".join([line for key, line in LINES.items() if key not in own] + [change, ""])


def arm(method: str) -> str:
    """One arm of one method."""
    return f"arms: {{a: [{method}]}}"


CHANGED: list[tuple[str, str, str]] = [
    ("a seed below 0", "seeds: [-1]", r"seeds.*-1"),
    ("a seed above 32 bits", "seeds: [4294967296]", r"4294967296"),
    ("a seed of 5,000 digits", f"seeds: [{'9' * 5000}]", r"seeds"),
    ("a seed that is true", "seeds: [true]", r"seeds"),
    ("a seed that is a half", "seeds: [0.5]", r"seeds.*0\.5"),
    ("a seed that is a date", "seeds: [2024-05-12]", r"seeds.*2024-05-12"),
    ("no seed", "seeds: []", r"seeds"),
    ("seeds that are a text", "seeds: many", r"seeds.*many"),
    ("one seed twice", "seeds: [7, 7]", r"seeds.*7"),
    ("an infinite learning rate", "train: {learning_rate: .inf}", r"learning_rate"),
    ("a learning rate beyond floats", "train: {learning_rate: 1e300}", r"learning_rate.*1e"),
    ("a learning rate that is no number", "train: {learning_rate: .nan}", r"learning_rate"),
    ("a learning rate in words", "train: {learning_rate: fast}", r"learning_rate.*fast"),
    ("a learning rate below 0", "train: {learning_rate: -1e-4}", r"learning_rate"),
    ("infinitely many epochs", "train: {num_train_epochs: .inf}", r"num_train_epochs"),
    ("1e300 epochs", "train: {num_train_epochs: 1e300}", r"num_train_epochs"),
    ("no epoch", "train: {num_train_epochs: 0}", r"num_train_epochs"),
    ("steps of 30 digits", "train: {max_steps: 100000000000000000000000000000}", r"max_steps"),
    ("a batch of nothing", "train: {per_device_train_batch_size: 0}", r"per_device_train_batch_size"),
    ("a batch beyond memory", "train: {per_device_train_batch_size: 99999999999999999999}", r"batch_size"),
    ("rows of one token", "train: {max_length: 1}", r"max_length"),
    ("an unknown optimiser", "train: {optim: adam_wow}", r"adam_wow"),
    ("an unknown scheduler", "train: {lr_scheduler_type: zigzag}", r"zigzag"),
    ("an unknown tracker", "train: {report_to: [nobody]}", r"nobody"),
    ("two ways to cut up", "train: {fsdp: full_shard, deepspeed: {zero: 1}}", r"fsdp"),
    ("a misspelt key of training", "train: {learning_rat: 1e-4}", r"did you mean 'learning_rate'"),
    ("a misspelt key", "sutes: {new: [new.yaml]}", r"did you mean 'suites'"),
    ("a mapping for a model", "model: {path: model}", r"model"),
    ("a model of no name", 'model: ""', r"model"),
    ("a model with a NUL", 'model: "mo\\0del"', r"mo.x00del"),
    ("a model with an escape code", 'model: "\\e[2J\\e[31mmodel"', r"x1b\[2J"),
    ("a model with a turned name", 'model: "model\\u202eledom"', r"u202e"),
    ("a model's name of 20,000 letters", f"model: {'m' * 20_000}", r"mmm"),
    ("a model that is absent", "model: ./modle", r"modle"),
    ("a model that is a device", "model: /dev/zero", r"/dev/zero"),
    ("data that are absent", "teach: {data: nwe.jsonl}", r"nwe\.jsonl"),
    ("data that never end", "teach: {data: /dev/zero}", r"/dev/zero"),
    ("data that are a folder of nothing", "teach: {data: /proc/self/fdinfo}", r"/proc/.*no data files"),
    ("data in a loop of links", "teach: {data: loop.jsonl}", r"loop"),
    ("data with a NUL", 'teach: {data: "new\\0.jsonl"}', r"new"),
    ("an unknown format", "teach: {data: new.jsonl, format: chatml}", r"chatml"),
    ("a limit of 0 rows", "teach: {data: new.jsonl, limit: 0}", r"limit"),
    ("an unknown way with bad rows", "teach: {data: new.jsonl, on_bad: ignore}", r"on_bad.*ignore"),
    ("a column that is absent", "teach: {data: new.jsonl, columns: {prompt: question}}", r"question"),
    ("nothing to teach", "teach: []", r"teach"),
    ("a number to teach", "teach: 7", r"teach"),
    ("two tasks of one name", "teach: [{data: new.jsonl, name: t, suites: [new.yaml]}, "
     "{data: old.jsonl, name: t, suites: [old.yaml]}]", r"t: is there twice"),
    ("a task that leaves its folder", "teach: {data: new.jsonl, name: ../../out}", r"\.\./\.\./out"),
    ("a study that leaves its folder", "name: ../out", r"\.\./out"),
    ("an arm that leaves its folder", "arms: {../out: []}", r"\.\./out"),
    ("an arm named by a dot", 'arms: {"..": []}', r"\.\."),
    ("an arm with an escape code", 'arms: {"a\\e[2Jb": []}', r"x1b"),
    ("an arm of 300 letters", f"arms: {{{'a' * 300}: []}}", r"aaa"),
    ("an arm that is a number", "arms: {a: 7}", r"arms"),
    ("an arm of two methods at once", arm("{lora: {}, replay: {}}"), r"arms\.a"),
    ("an unknown method", arm("lorra: {}"), r"lora"),
    ("a rank below 0", arm("lora: {rank: -1}"), r"rank"),
    ("an absurd rank", arm("lora: {rank: 100000000000}"), r"rank"),
    ("an adapter on nothing", arm("lora: {rank: 2, targets: [nothing]}"), r"nothing"),
    ("an adapter by a broken pattern", arm('lora: {rank: 2, targets: "(["}'), r"targets|\(\["),
    ("a share above 1", arm("replay: {data: old.jsonl, share_of_final: 1.5}"), r"share_of_final"),
    ("a share of almost all", arm("replay: {data: old.jsonl, share_of_final: 0.9999999999}"), r"share_of_final"),
    ("a replay of nothing", arm("replay: {data: none.jsonl, share_of_final: 0.1}"), r"none\.jsonl"),
    ("weights in a bad expression", arm('weights: {expression: "after +"}'), r"after \+"),
    ("weights of an unknown model", arm('weights: {expression: "after + other"}'), r"other"),
    ("training of an unknown arm", "arm_train: {nobody: {learning_rate: 1e-4}}", r"nobody"),
    ("data of an unknown arm", "arm_data: {nobody: {new: old.jsonl}}", r"nobody"),
    ("a billion moments", "trajectory: {suites: [new], moments: 1000000000}", r"moments"),
    ("moments of an unknown suite", "trajectory: {suites: [nobody]}", r"nobody"),
    ("an order of one task", "order: [new]", r"order"),
    ("no suite at all", "suites: {}", r"suites"),
    ("an unknown suite", "suites: {new: [refusal]}", r"refusals"),
    ("a suite that is a number", "suites: {new: [7]}", r"suite"),
    ("a suite that is a list", "suites: {new: [[new.yaml]]}", r"suite"),
    ("the same suite twice", "suites: {new: [new.yaml], old: [new.yaml]}", r"new"),
    ("suites without roles", "suites: [new.yaml]", r"suites"),
    ("a yes where a truth is meant", "health: ja", r"health.*ja"),
]  # fmt: skip

BROKEN: list[tuple[str, str | bytes, str]] = [
    ("a tab", "model:\tmodel\n\tteach: x", r"study\.yaml"),
    ("a bracket left open", BASE + "order: [a, b", r"study\.yaml"),
    ("a quote left open", BASE + 'name: "study', r"study\.yaml"),
    ("a key twice", BASE + "seeds: [1]\n", r"study\.yaml:7.*seeds"),
    ("two documents", BASE + "---\n" + BASE, r"second document"),
    ("an object of Python", BASE + "name: !!python/object/apply:os.system ['touch PWNED']\n", r"study\.yaml:7.*tag"),
    ("aliases of aliases", "a0: &a0 [x, x]\n"
     + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)), r"study\.yaml"),
    ("an alias of itself", BASE + "order: &a [*a]\n", r"study\.yaml"),
    ("an alias of nothing", BASE + "order: *a\n", r"study\.yaml"),
    ("lists 100,000 deep", BASE + "order: " + "[" * 100_000, r"study\.yaml:7.*nested"),
    ("mappings 3,000 deep", BASE + "order: " + "{a: " * 3000 + "1" + "}" * 3000, r"study\.yaml:7.*nested"),
    ("12 MB", BASE + "# " + "x" * 12_000_000, r"study\.yaml"),
    ("one long line of commas", BASE + "order: [" + "," * 50_000 + "]", r"study\.yaml"),
    ("nothing", "", r"study\.yaml"),
    ("a comment alone", "# nothing yet\n", r"study\.yaml"),
    ("a list", "[1, 2]", r"study\.yaml"),
    ("a text", "teach the model", r"study\.yaml"),
    ("UTF-16", BASE.encode("utf-16"), r"study\.yaml"),
    ("Latin-1", (BASE + "name: café\n").encode("latin-1"), r"study\.yaml"),
    ("NULs", b"\0" * 5000, r"study\.yaml"),
    ("escape codes", BASE + "name: \x1b[2Jx\n", r"study\.yaml"),
    ("half a surrogate pair", BASE + 'name: "\\ud83d"\n', r"study\.yaml|surrogate"),
    ("JSON cut short", '{"model": "model", "teach": ', r"study\.yaml"),
    ("a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40, r"study\.yaml"),
]  # fmt: skip

WORDS: list[tuple[str, str, str]] = [
    ("a list cut short", "seeds=[1", r"seeds=\[1"),
    ("no key", "=1", r"=1"),
    ("no value", "seeds", r"seeds"),
    ("an index too far", "arms.replay.7.replay.share_of_final=0.1", r"7"),
    ("a key through a number", "seeds.0.x=1", r"seeds\.0\.x|has no x"),
    ("a key of dots", "...=1", r"is not a known key"),
    ("a NUL in a key", "na\x01me=1", r"x01"),
    ("an object of Python", "name=!!python/name:os.system", r"tag"),
    ("lists 5,000 deep", "seeds=" + "[" * 5000, r"nested|seeds"),
]


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


FILES: list[tuple[str, Mapping[str, Content], str]] = [
    ("a study that is a folder", {"study.yaml": _folder}, r"study\.yaml"),
    ("a study that is a loop", {"study.yaml": _loop}, r"study\.yaml"),
    ("a study that is gone", {"study.yaml": None}, r"study\.yaml"),
    ("an output folder that is a file", {"study.yaml": BASE, "run": "x"}, r"run"),
]


UNMENDED: dict[str, str] = {}
"""What is still met later or worse than it should be."""


def cases() -> list[Case]:
    """All of them."""
    loop: dict[str, Content] = {"loop.jsonl": _loop}
    out = [Case(name, message, files={"study.yaml": with_keys(text), **loop}) for name, text, message in CHANGED]
    out += [Case(f"a file of {name}", message, files={"study.yaml": text}) for name, text, message in BROKEN]
    words = ("run", "study.yaml", "--out", "run", "--quiet", "--set")
    out += [Case(f"set, {name}", message, (*words, text), {"study.yaml": BASE}) for name, text, message in WORDS]
    out += [Case(name, message, files=files, untouched="nothing") for name, files, message in FILES]
    return [replace(case, fails=UNMENDED.get(case.name, "")) for case in out]
