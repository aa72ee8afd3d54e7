"""The process in which a chat template is tried: it reads a job as JSON, takes on limits, renders, and tells.

Run by its path and not as a module, so that it starts in a tenth of a second: nothing of mnemos is imported here.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import resource
import sys
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment


class _Generation(Extension):
    """The block {% generation %}, which transformers adds to the language: it shows its body."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_shown"), [], [], body).set_lineno(line)

    def _shown(self, caller: Any) -> Any:
        return caller()


def environment() -> ImmutableSandboxedEnvironment:
    """What transformers renders templates with."""

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, **how: Any) -> str:
        return json.dumps(value, **{"ensure_ascii": False, **how})

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = refuse
    made.globals["strftime_now"] = lambda form: datetime.date(2024, 7, 26).strftime(form)
    return made


def rendered(template: Any, variables: dict[str, Any], messages: Any, most: int) -> dict[str, Any]:
    """What becomes of one conversation: length and digest of the text, or why there is none."""
    length, digest = 0, hashlib.sha256()
    try:
        for piece in template.generate(**{**variables, "messages": messages}):
            length += len(piece)
            if length > most:
                return {"long": length}
            digest.update(piece.encode("utf-8", "replace"))
    except MemoryError:
        return {"memory": True}
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"[:300]}
    return {"length": length, "digest": digest.hexdigest()}


def main() -> None:
    """Do the job on the standard input. What was found goes to the standard output, two lines
    a conversation: as it is, and with the generation prompt."""
    job = json.load(sys.stdin)
    for kind, most in ((resource.RLIMIT_AS, job["memory_bytes"]), (resource.RLIMIT_CPU, job["cpu_seconds"])):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    try:
        template = environment().from_string(job["source"])
    except MemoryError:
        print(json.dumps({"memory": True}))
        return
    except Exception as error:
        print(json.dumps({"broken": f"{type(error).__name__}: {error}"[:300]}))
        return
    for messages in job["conversations"]:
        for prompt in (False, True):
            variables = {**job["variables"], "add_generation_prompt": prompt}
            print(json.dumps(rendered(template, variables, messages, job["most"])), flush=True)


if __name__ == "__main__":
    main()
