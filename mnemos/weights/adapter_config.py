"""adapter_config.json before peft acts on it: a rank that can be meant, and patterns that come to an end.

peft matches patterns against every module's name with Python's `re`, which nothing stops; so each is
tried on these names in a process of its own first.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError

MOST_RANK = 1 << 16
RANKED = ("LORA", "ADALORA", "LOHA", "LOKR")
"""Kinds of adapters whose `r` is a rank; of others 0 may mean that another setting says the size."""
CPU_SECONDS = 2

_TRIAL = """
import json, re, resource, sys
patterns, names, seconds = json.load(sys.stdin)
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
for where, pattern in patterns:
    print(json.dumps(where), flush=True)
    for name in names:
        re.fullmatch(pattern, name)
"""


def check_adapter_config(file: Path, config: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise ModelError naming the key where a rank is none, or where a pattern is none or finds no end on the names
    of a model's modules."""
    ranks = [("r", config.get("r"))] if config.get("peft_type") in RANKED else []
    ranks += [(f"rank_pattern.{key}", rank) for key, rank in _mapping(file, config, "rank_pattern").items()]
    for key, rank in ranks:
        # `type` and not isinstance: true is an int to Python, and no rank.
        if rank is not None and not (type(rank) is int and 1 <= rank <= MOST_RANK):
            raise ModelError(
                f"{file}: {key} = {rank!r}", f"must be a whole number from 1 to {MOST_RANK:,}", "restore this file"
            )
    patterns = list(_patterns(file, config))
    if not patterns:
        return
    job = json.dumps([patterns, list(names), CPU_SECONDS]).encode()
    # -I: whatever lies in the working directory or in the environment is not imported along.
    done = subprocess.run([sys.executable, "-I", "-c", _TRIAL], input=job, capture_output=True, check=False)
    if done.returncode:
        # The trial names each pattern before it tries it, so the last name is the one that it did not get past; ended
        # by a signal (of its limit of processor time) it has a negative exit code.
        where = json.loads(done.stdout.splitlines()[-1]) if done.stdout else "a pattern"
        text = done.stderr.decode(errors="replace").strip().splitlines()
        broken = text[-1] if text else f"exit code {done.returncode}"
        bound = f"finds no end in {CPU_SECONDS} s" if done.returncode < 0 else f"is no pattern ({broken})"
        raise ModelError(f"{file}: {where} = {dict(patterns).get(where)!r}", bound, "name the modules in a list")


def _patterns(file: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, regular expression) as peft puts them together."""
    for key in ("target_modules", "exclude_modules"):
        text = config.get(key)
        if isinstance(text, str) and text != "all-linear":
            yield key, text
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in _mapping(file, config, key):
            yield f"{key}.{pattern}", rf"(.*\.)?({pattern})$"


def _mapping(file: Path, config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    text = config.get(key) or {}
    if not isinstance(text, dict):
        raise ModelError(f"{file}: {key} = {text!r}", "must be an object of names and numbers", "restore this file")
    return text
