"""On a busy machine right answers stay right, sleep is the answer's own doing, and what is in doubt is missing."""

import contextlib
import math
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnemos.rewards import checks
from mnemos.rewards.sandbox import box, clock
from mnemos.rewards.sandbox.box import Code, Limits, Outcome, Sandbox
from tests.rewards.test_sandbox import namespaces

pytestmark = pytest.mark.skipif(not namespaces(), reason="the kernel gives users no namespaces here")

COMPUTE = "import time\nwhile time.process_time() < {}: pass\ndef f(x): return x + 1"
THREADS = """
import threading, time
def work():
    while time.thread_time() < 0.1: pass
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
def f(x): return x + 1
"""
TEST = "assert f(1) == 2"


@contextmanager
def pinned(burners):
    """This thread, and what it starts, on one core, which `burners` processes keep busy."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    # Each in a session of its own, since some kernels share processors out among sessions.
    burn = ["/bin/sh", "-c", "while :; do :; done"]
    burning = [subprocess.Popen(burn, start_new_session=True) for _ in range(burners)]
    try:
        yield
    finally:
        for one in burning:
            one.kill()
            one.wait()
        os.sched_setaffinity(0, cores)


def test_a_busy_core_turns_no_right_answer_wrong():
    # Seven others share the core: half a second of computing takes four.
    limits = Limits(wall_seconds=1.5, cpu_seconds=2)
    with pinned(0), Sandbox(limits=limits, workers=1) as sandbox:
        (warm,) = sandbox.run([Code("pass")])
        with pinned(7):
            sleep = "import time\ntime.sleep(99)"
            found = sandbox.run([Code(one, TEST) for one in (COMPUTE.format(0.5), THREADS, sleep)])
    assert [one.status for one in (warm, *found)] == ["passed", "passed", "passed", "time"]


def test_what_a_busy_machine_leaves_in_doubt_is_missing():
    limits = Limits(wall_seconds=0.15, cpu_seconds=2)
    with pinned(0), Sandbox(limits=limits, workers=1) as sandbox:
        sandbox.run([Code("pass")])
        with pinned(30):
            (found,) = sandbox.run([Code(COMPUTE.format(1.9), TEST)])
    assert found.status == "busy"
    assert math.isnan(checks._rewarded(found).value)
    assert checks._rewarded(found).reason == "the machine was busy"


def test_a_check_that_found_the_machine_busy_is_tried_once_more(monkeypatch):
    outcomes = [Outcome("busy"), Outcome("passed"), Outcome("busy"), Outcome("busy"), Outcome("failed")]
    monkeypatch.setattr(box._Worker, "_once", lambda self, check: outcomes.pop(0))
    with Sandbox(workers=1) as sandbox:
        assert [one.status for one in sandbox.run([Code("")] * 3)] == ["passed", "busy", "failed"]


def youngest(pid):
    """The last process of the line that begins with `pid`."""
    with contextlib.suppress(OSError):  # one that ended just now
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = int(children[-1])
    return pid


def test_what_is_killed_from_outside_is_tried_once_more_and_then_missing():
    sleep = Code("import time\ntime.sleep(60)", TEST)
    killed = 0
    with Sandbox(limits=Limits(wall_seconds=60), workers=1) as sandbox, ThreadPoolExecutor(1) as threads:
        sandbox.run([Code("pass")])
        # The worker, and the first process of its namespace: a check is the one behind them.
        worker = sandbox._all[0].process.pid
        resting = youngest(worker)
        waiting = threads.submit(sandbox.run, [sleep])
        while not waiting.done():
            time.sleep(0.05)
            if (one := youngest(worker)) not in (worker, resting):
                os.kill(one, signal.SIGKILL)
                killed += 1
    (found,) = waiting.result()
    assert killed == 2
    assert found.status == "busy"
    assert math.isnan(checks._rewarded(found).value)


def child(seconds):
    """A process that sleeps."""
    return subprocess.Popen(["/bin/sleep", str(seconds)])


def test_a_clock_tells_sleep_from_a_busy_machine(monkeypatch):
    processes = clock.open_processes()
    sleeper = child(60)
    try:
        name = str(sleeper.pid).encode()
        watched = clock.Clock(sleeper.pid, name, processes, 0.1, 1)
        assert watched.over() is None
        assert 0 < watched.left() <= 0.1
        time.sleep(0.11)
        assert watched.over() == "time"
        # Where the kernel does not say how long it was kept waiting, it is in doubt until patience ends.
        watched = clock.Clock(sleeper.pid, b"", processes, 0.1, 1)
        time.sleep(0.11)
        assert watched.over() is None
        monkeypatch.setattr(clock, "PATIENCE", 1.0)
        time.sleep(watched.left())
        assert watched.over() == "busy"
    finally:
        sleeper.kill()
        sleeper.wait()
        os.close(processes)


def test_a_process_is_known_by_its_name_in_proc():
    processes = clock.open_processes()
    assert clock.own_name(processes) == str(os.getpid()).encode()
    assert clock.own_name(None) == b""
    os.close(processes)
