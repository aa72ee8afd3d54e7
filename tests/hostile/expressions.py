"""Merging: expressions, names, numbers, sweeps and options that cannot be meant."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.hostile.models import GONE, adapter, changed, filled, headed, lora
from tests.hostile.runner import Case, Content

NAMES = ("a=model", "b=good")

EXPRESSIONS: list[tuple[str, str, str]] = [
    ("nothing", "", r"expression ''"),
    ("white space", "   ", r"expression ''"),
    ("half a sum", "a +", r"a \+"),
    ("two names", "a b", r"a b"),
    ("a bracket left open", "(a + b", r"\(a \+ b"),
    ("a bracket too many", "a + b)", r"a \+ b\)"),
    ("a product of models", "a * b", r"multiplies two checkpoints"),
    ("a division by a model", "a / b", r"divides by a checkpoint"),
    ("a division by nothing", "a / 0", r"divides by .*zero"),
    ("a division by what cancels", "a / (1 - 1)", r"divides by .*zero"),
    ("a power", "a ** 2", r"\*\*"),
    ("a rest", "a % 2", r"has no meaning"),
    ("a shift", "a << 2", r"has no meaning"),
    ("a comparison", "a < b", r"has no meaning"),
    ("a choice", "a if b else a", r"has no meaning"),
    ("an assignment", "a := b", r"a := b"),
    ("a function of Python", "__import__('os').system('touch PWNED')", r"__import__|has no meaning"),
    ("a lambda", "(lambda: a)()", r"has no meaning|lambda"),
    ("a comprehension", "sum(x for x in a)", r"sum|has no meaning"),
    ("an attribute", "a.__class__", r"has no meaning|__class__"),
    ("an index", "a[0]", r"has no meaning"),
    ("a text", "'x' + b", r"has no meaning"),
    ("a text of format", "f'{a}'", r"has no meaning"),
    ("a truth", "True * a", r"has no meaning"),
    ("an imaginary share", "1j * a", r"has no meaning"),
    ("a bare number", "a + 1", r"bare number"),
    ("only a number", "7", r"7"),
    ("infinity", "1e999 * a + b", r"inf"),
    ("infinity less infinity", "(1e999 - 1e999) * a + b", r"nan|inf"),
    ("a number of 5,000 digits", "9" * 5000 + " * a", r"999"),
    ("a number of 400 digits", "9" * 400 + " * a", r"999"),
    ("10,000 minus signs", "-" * 10_000 + "a", r"cannot be computed|---"),
    ("10,000 brackets", "(" * 10_000 + "a" + ")" * 10_000, r"\(\(\("),
    ("a sum of 20,000 terms", " + ".join(["a"] * 20_000), r"cannot be computed|a \+ a"),
    ("a comment", "a # + x", r"comment"),
    ("a line end", "a\n+", r"a \+"),
    ("a NUL", "a + \x01b", r"x01"),
    ("an escape code", "a + \x1b[2Jb", r"x1b"),
    ("a turned name", "a + \u202eb", r"u202e"),
    ("a name of Greek letters", "a + β", r"β"),
    ("what cancels", "a - a", r"names no checkpoint"),
    ("an unknown function", "slurp(a, b, 0.5)", r"slerp"),
    ("a function of nothing", "slerp()", r"slerp takes at least 2"),
    ("a function of one", "slerp(a, 0.5)", r"slerp"),
    ("an argument too many", "slerp(a, b, 0.5, 7)", r"one argument too many"),
    ("an argument twice", "slerp(a, b, 0.5, t=0.5)", r"t|one argument too many"),
    ("an unknown argument", "slerp(a, b, amount=0.5)", r"amount"),
    ("a star", "mean(*a)", r"Starred"),
    ("two stars", "ties(a, b, **b)", r"ties|has no meaning"),
    ("a density in words", "ties(a, b, density='half')", r"density|has no meaning"),
    ("a drop of 1", "dare(a, b, drop=1)", r"drop"),
    ("a spread beyond", "della(a, b, drop=0.1, spread=0.9)", r"drops with a chance"),
    ("a half seed", "dare(a, b, drop=0.5, seed=0.5)", r"seed must be an integer"),
    ("a seed below 0", "dare(a, b, drop=0.5, seed=-1)", r"seed"),
    ("a mean of nothing", "mean()", r"takes checkpoints"),
    ("a mean of numbers", "mean(1, 2)", r"bare number|takes"),
    ("a schedule of one point", "depth(1) * a", r"depth takes at least two"),
    ("a schedule of models", "depth(a, b)", r"depth takes numbers"),
    ("a schedule times a schedule", "depth(0, 1) * depth(1, 0) * a", r"multiplies two schedules"),
    ("a schedule of 5,000 points", "depth(" + ", ".join(["1"] * 4999 + ["2"]) + ") * a", r"1024 points"),
    ("schedules that never meet", "depth(" + ", ".join(str(i) for i in range(1000)) + ") * a + depth("
     + ", ".join(str(i) for i in range(998)) + ") * a", r"fit together only"),
    ("a pattern that is none", "where('([', a, b)", r"is not a regular expression"),
    ("a pattern of a model", "where(a, a, b)", r"pattern in quotes"),
    ("a pattern that never ends", r"where(r'(.*)(.*)(.*)(.*)(.*)(.*)(.*)\1\2[A-Z]', a, b)", r"finds no end"),
    ("a pattern with a space", "where('mlp ', a, b)", r"has spaces"),
    ("a soup in a sum", "soup(a, b) + a", r"soup|--suites"),
    ("a soup without suites", "soup(a, b)", r"--suites"),
    ("an unbound name", "a + c", r"c in 'a \+ c'"),
]  # fmt: skip

WORDS: list[tuple[str, tuple[str, ...], str]] = [
    ("an expression that begins with a minus", ("-a", *NAMES), r"b: does not stand in the expression"),
    ("a name twice", ("a", "a=model", "a=good"), r"given twice"),
    ("a name of no model", ("a + b", "a=model"), r"b in 'a \+ b'"),
    ("a name too many", ("a", *NAMES), r"b: does not stand in the expression"),
    ("a name without a place", ("a", "a="), r"NAME=DIRECTORY"),
    ("a name that is a number", ("a", "7=model"), r"NAME=DIRECTORY"),
    ("a name of Python", ("a + if", "a=model", "if=good"), r"a \+ if"),
    ("a place that is gone", ("a", "a=./gone"), r"gone"),
    ("a place of a server", ("a", "a=http://127.0.0.1:9/v1#m"), r"127\.0\.0\.1"),
    ("a place with a NUL code", ("a", "a=mo\x01del"), r"x01"),
    ("a place that is a file", ("a", "a=new.jsonl"), r"new\.jsonl"),
    ("a place that is a loop", ("a", "a=loop"), r"loop"),
    ("an output that is there", ("a", "a=model", "--out", "good"), r"good"),
    ("an output that is a file", ("a", "a=model", "--out", "new.jsonl"), r"new\.jsonl"),
    ("an output that is the input", ("a", "a=model", "--out", "model"), r"model"),
    ("an output below a file", ("a", "a=model", "--out", "new.jsonl/out"), r"new\.jsonl"),
    ("an output of 300 letters", ("a", "a=model", "--out", "o" * 300), r"ooo"),
    ("an output below the kernel", ("a", "a=model", "--out", "/proc/out"), r"/proc/out.*cannot be written"),
    ("a number in words", ("x*a", "a=model", "--let", "x=half"), r"x=half"),
    ("a number that is none", ("x*a", "a=model", "--let", "x=nan"), r"x=nan"),
    ("an infinite number", ("x*a", "a=model", "--let", "x=inf"), r"x=inf"),
    ("a number of a model", ("x*a", "a=model", "x=good", "--let", "x=1"), r"given twice|multiplies"),
    ("a sweep of nothing", ("x*a", "a=model", "--sweep", "x=1:0:1", "--suites", "new.yaml"), r"x=1:0:1"),
    ("a sweep without steps", ("x*a", "a=model", "--sweep", "x=0:1:0", "--suites", "new.yaml"), r"x=0:1:0"),
    ("a sweep of a billion", ("x*a", "a=model", "--sweep", "x=0:1:1e-9", "--suites", "new.yaml"), r"values, not 1"),
    ("a sweep of what is none", ("x*a", "a=model", "--sweep", "x=nan:1:0.1", "--suites", "new.yaml"), r"nan"),
    ("a sweep without suites", ("x*a", "a=model", "--sweep", "x=0:1:0.5"), r"--suites"),
    ("a sweep of nobody", ("a", "a=model", "--sweep", "x=0:1:0.5", "--suites", "new.yaml"), r"x"),
    ("a grid of a million", ("x*a+y*b", *NAMES, "--sweep", "x=0:1:0.001", "--sweep", "y=0:1:0.001",
     "--suites", "new.yaml"), r"grid of|values"),
    ("files of nothing", ("a", "a=model", "--shard-size", "0"), r"--shard-size 0"),
    ("files of words", ("a", "a=model", "--shard-size", "large"), r"--shard-size large"),
    ("files of infinite size", ("a", "a=model", "--shard-size", "1" * 400 + "TB"), r"--shard-size"),
    ("a precision of nobody", ("a", "a=model", "--dtype", "float99"), r"float99"),
    ("a precision of integers", ("a", "a=model", "--dtype", "int8"), r"int8"),
    ("no thread", ("a", "a=model", "--threads", "0"), r"threads"),
    ("a trunk of nobody", ("a", "a=model", "--config", "c"), r"c"),
    ("a tokenizer of nobody", ("a", "a=model", "--tokenizer", "c"), r"c"),
    ("a template of nobody", ("a", "a=model", "--template", "c"), r"c"),
]  # fmt: skip


def _tokenizer(path: Path) -> None:
    value = json.loads(path.read_text())
    value["model"]["vocab"] = {"zz" + key: number for key, number in value["model"]["vocab"].items()}
    path.write_text(json.dumps(value))


def loop(path: Path) -> None:
    """A link to itself."""
    path.symlink_to(path.name)


EMBEDDING = "model.embed_tokens.weight"
SUM = "a + 0.5*(b - a)"
FOLDERS: list[tuple[str, Mapping[str, Content], str]] = [
    ("of NaN", {"model/model.safetensors": filled(b"\0\0\xc0\x7f")}, r"not finite|NaN"),
    ("of infinity", {"model/model.safetensors": filled(b"\0\0\x80\x7f")}, r"not finite|inf"),
    ("of another width", {"model/model.safetensors": headed(lambda h: h[EMBEDDING].update(shape=[200, 64]))}, r"embed"),
    ("of integers", {"model/model.safetensors": headed(lambda h: h[EMBEDDING].update(dtype="I32"))}, r"I32"),
    ("of another name", {"model/model.safetensors":
     headed(lambda h: {k.replace("norm", "n\x1borm"): v for k, v in h.items()})}, r"n.x1borm"),
    ("cut short", {"model/model.safetensors": b"hello"}, r"model\.safetensors.*damaged"),
    ("without weights", {"model/model.safetensors": None}, r"no \*\.safetensors"),
    ("without configuration", {"model/config.json": None}, r"config\.json.*missing"),
    ("of a list", {"model/config.json": "[]"}, r"config\.json"),
    ("of no layer", {"model/config.json": changed({"num_hidden_layers": 0})}, r"num_hidden_layers = 0"),
    ("quantised", {"model/config.json": changed({"quantization_config": {"quant_method": "gptq"}})}, r"quanti"),
    ("of another vocabulary", {"model/tokenizer.json": _tokenizer}, r"tokens|vocabular"),
    ("of a broken tokenizer", {"model/tokenizer.json": "{"}, r"tokenizer"),
    ("of an index of nothing", {"model/model.safetensors": None, "model/model.safetensors.index.json": "{}"}, r"map"),
    ("of an adapter of itself", adapter({"base_model_name_or_path": "model"}), r"leads back"),
    ("of an adapter of nothing", adapter({"base_model_name_or_path": GONE}), r"base_model_name_or_path"),
    ("of an adapter of no rank", adapter({"r": 0}), r"r = 0"),
    ("of an adapter of another kind", adapter({"peft_type": "IA3"}), r"IA3"),
    ("of an adapter of an endless pattern", adapter({"rank_pattern": {"(.*)*(.*)*(.*)*(.*)*z": 2}}), r"rank_pattern"),
    ("of an adapter that fits nothing", adapter({"base_model_name_or_path": "good"}, lora(2, float("nan"))), r"finite"),
    ("of an adapter cut short", adapter({}, b"hello"), r"adapter_model\.safetensors"),
]  # fmt: skip

VECTORS: list[tuple[str, tuple[str, ...], str]] = [
    ("shown of nothing", ("show", "a=model"), r"names no difference"),
    ("shown of an unbound name", ("show", "a - c", "a=model"), r"c in"),
    ("shown of the same", ("show", "a - a", "a=model"), r"its checkpoints cancel"),
    ("saved of nothing", ("save", "", "--out", "v"), r"expression"),
    ("saved into what is there", ("save", "a - b", *NAMES, "--out", "good"), r"good"),
]


def cases() -> list[Case]:
    """All of them."""
    out = []
    for name, text, says in EXPRESSIONS:
        bound = tuple(pair for pair in NAMES if pair[0] in re.findall(r"\w+", text) or not text.strip())
        out.append(Case(f"an expression of {name}", says, ("merge", "--out", "o", "--", text, *bound)))
    for name, words, says in WORDS:
        more = () if "--out" in words else ("--out", "o")
        out.append(Case(f"merge, {name}", says, ("merge", *words, *more), {"loop": loop}))
    for name, files, says in FOLDERS:
        out.append(Case(f"a merge {name}", says, ("merge", SUM, *NAMES, "--out", "o"), files))
    out += [Case(f"a difference {name}", says, ("vector", *words)) for name, words, says in VECTORS]
    return [replace(case, fails=UNMENDED.get(case.name, "")) for case in out]


UNMENDED: dict[str, str] = {}
