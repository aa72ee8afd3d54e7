"""A chat template is a program that came with a model. It is tried, in a process of its own and within limits of
memory and processor time, before it is used: one that multiplies a string, never ends, cannot be parsed, or writes
the same whatever it is given is refused here, and takes neither the run nor the machine with it.

Trap: a template that behaves on the conversations of the trial and not on others is met where it is rendered.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError

INSIDE = Path(__file__).with_name("template_inside.py")

MOST_SOURCE = 1 << 20
"""Characters of a template; the longest in use have some twenty thousand."""

MOST_WRITTEN = 1 << 20
"""Characters that a template may make of a conversation of the trial, which has at most some 30,000."""

CPU_SECONDS = 5
MEMORY_BYTES = 256 << 20
"""Of the process that tries it, the interpreter's 50 MB included."""

_CURE = "give another chat_template (chat_template.jinja, or in tokenizer_config.json): that of the original model"

Messages = Sequence[Mapping[str, str]]


def _conversations() -> list[Messages]:
    """Two that differ in every content, then longer ones."""
    user, answer = {"role": "user"}, {"role": "assistant"}
    pairs: list[Messages] = [
        [{**user, "content": f"{one} question?"}, {**answer, "content": f"{one} answer."}] for one in ("First", "Other")
    ]
    alone = [pair[:1] for pair in pairs]
    system: Messages = [{"role": "system", "content": "Be brief."}, *pairs[0], *pairs[1]]
    long: Messages = [{**user, "content": "word " * 3000}, {**answer, "content": "line\n" * 3000}]
    return [*pairs, *alone, [*pairs[0], *pairs[1]] * 4, system, long]


def try_template(source: str, variables: Mapping[str, Any], name: str) -> None:
    """Raise ModelError where the template cannot be used. variables: what it may read beside the messages. name: of
    the model. Costs a tenth of a second, once for a template."""
    where = f"chat template of {name}"
    if len(source) > MOST_SOURCE:
        raise ModelError(where, f"has {len(source):,} characters, more than {MOST_SOURCE:,}", _CURE)
    text = _verdict(source, json.dumps(dict(variables), sort_keys=True, default=str))
    if text:
        raise ModelError(where, text, _CURE)


@lru_cache(maxsize=256)
def _verdict(source: str, variables: str) -> str:
    """What is wrong with a template; "" where nothing is."""
    given = json.loads(variables)
    job = {
        "source": source,
        "variables": {"tools": None, "documents": None, **given},
        "conversations": _conversations(),
        "most": MOST_WRITTEN,
        "memory_bytes": MEMORY_BYTES,
        "cpu_seconds": CPU_SECONDS,
    }
    done = subprocess.run(
        [sys.executable, "-I", str(INSIDE)], input=json.dumps(job).encode(), capture_output=True, check=False
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"does not end: it took more than {CPU_SECONDS} s for a few short messages"
    if done.returncode < 0:
        return f"breaks the process that renders it ({signal.Signals(-done.returncode).name})"
    if done.returncode or not found:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        if reason and "MemoryError" in reason[-1]:
            found = [{"memory": True}]
        else:
            return f"cannot be tried ({reason[-1] if reason else f'exit code {done.returncode}'})"
    for one in found:
        if "broken" in one:
            return f"is no template ({one['broken']})"
        if "memory" in one:
            return f"takes more than {MEMORY_BYTES >> 20} MiB of memory for a few short messages"
        if "long" in one:
            return f"writes more than {MOST_WRITTEN:,} characters for a few messages"
    return _useless(found)


def _useless(found: Sequence[Mapping[str, Any]]) -> str:
    pairs, alone = (found[0], found[2]), (found[4], found[6])  # each also with the generation prompt, behind it
    read = [both for both in (pairs, alone) if all("digest" in one for one in both)]
    if not any("digest" in one for one in found) and not any("TemplateError" in one["refused"] for one in found):
        return f"fails on every conversation that was tried ({alone[0]['refused']})"
    if read and all(first["digest"] == second["digest"] for first, second in read):
        return f"writes the same {read[0][0]['length']:,} characters whatever the messages say"
    return ""
