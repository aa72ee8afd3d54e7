"""A process that has imported everything once, and forks for each command line that it is given.

python -m tests.hostile.worker reads a job a line and writes what came of it, both as JSON. A child changes into its
folder, takes on its limits, writes to files, and calls the entry point as a console does. It ends without the
interpreter's own clean-up, and whatever it started ends with it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pkgutil
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

PAGE = resource.getpagesize()
LIBRARIES = ("torch", "transformers", "peft", "pyarrow.parquet", "safetensors.torch", "datasets", "httpx2", "tenacity")
SLOW_TO_COME = ("AutoTokenizer", "AutoModelForCausalLM", "Trainer", "LlamaForCausalLM")
"""What transformers imports only when it is asked for."""


def warm() -> None:
    """Import what commands import, so that a fork finds it there."""
    import mnemos

    for module in pkgutil.walk_packages(mnemos.__path__, "mnemos."):
        if "__main__" not in module.name:
            importlib.import_module(module.name)
    for name in LIBRARIES:
        importlib.import_module(name)
    transformers: Any = importlib.import_module("transformers")
    for name in SLOW_TO_COME:
        getattr(transformers, name)


def size() -> tuple[int, int]:
    """Bytes of address space and of memory that this process has."""
    pages = Path("/proc/self/statm").read_text().split()
    return int(pages[0]) * PAGE, int(pages[1]) * PAGE


def child(job: dict[str, Any]) -> int:
    """Run one command line; the exit code that a console would see."""
    os.setsid()
    os.chdir(job["folder"])
    streams = [os.open(os.devnull, os.O_RDONLY)]
    streams += [os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for name in ("out", "err")]
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115 - as a console has them
    sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.update(job["env"])
    sys.argv = ["mnemos", *job["words"]]
    for kind, most in ((resource.RLIMIT_AS, size()[0] + job["space"]), (resource.RLIMIT_CPU, job["cpu"])):
        resource.setrlimit(kind, (most, most))
    from mnemos.cli import main

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Fork, wait, tell: exit code (below 0: the signal), seconds of processor time, bytes beyond the warm process."""
    heard, tells = os.pipe()
    process = os.fork()
    if process == 0:
        # A fork does not take over what files are mapped, so it has less than the warm process.
        os.write(tells, str(size()[1]).encode())
        code = 70
        try:
            code = child(job)
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
            with contextlib.suppress(BaseException):
                sys.stderr.flush()
            os._exit(code)
    os.close(tells)
    before = int(os.read(heard, 64))
    os.close(heard)
    watched = os.pidfd_open(process)
    in_time = bool(select.select([watched], [], [], job["wall"])[0])
    os.close(watched)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    if not in_time:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    _, status, used = os.wait4(process, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "in_time": in_time,
        "cpu": used.ru_utime + used.ru_stime,
        "grown": used.ru_maxrss * 1024 - before,
    }


def main() -> None:
    """Serve jobs until the input ends."""
    answers = io.TextIOWrapper(os.fdopen(os.dup(1), "wb"), line_buffering=True)
    os.dup2(2, 1)
    warnings.simplefilter("default")
    began = time.monotonic()
    warm()
    threads = [place.read_text().strip() for place in Path("/proc/self/task").glob("*/comm")]
    print(json.dumps({"seconds": time.monotonic() - began, "threads": sorted(threads)}), file=answers)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers)
    answers.close()
    os._exit(0)  # an interpreter that has imported everything takes seconds to clean up, on a busy machine minutes


if __name__ == "__main__":
    main()
