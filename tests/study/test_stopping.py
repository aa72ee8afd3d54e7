"""A run that is stopped from outside says so, leaves no process, and is continued by the same command."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import mnemos
from mnemos.core.errors import RunError
from mnemos.study import steps
from mnemos.study.stopping import Terminated, terminable
from tests.study.worlds import make_study

# A shell starts what runs in its background deaf to Ctrl-C, these tests and their children included.
HEARING = "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
CODE = HEARING + "from mnemos.cli import main; main()"
LONG = {"learning_rate": 1e-3, "num_train_epochs": 400, "per_device_train_batch_size": 4, "save_steps": 4}


def _started(study: Path, out: Path, jobs: int) -> subprocess.Popen[str]:
    """In a process group of its own, so that a signal reaches the workers as Ctrl-C in a terminal does."""
    words = ["run", str(study), "--out", str(out), "--jobs", str(jobs)]
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *words],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _until(process: subprocess.Popen[str], out: Path, pattern: str) -> list[psutil.Process]:
    deadline = time.monotonic() + 300
    while not list(out.glob(pattern)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None
    return psutil.Process(process.pid).children(recursive=True)


def _works(process: psutil.Process) -> bool:
    """Whether it is a worker that still runs; the interpreter's own helper may close after it."""
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # gone, or a zombie
        return False


@pytest.mark.parametrize(
    ("sent", "code", "jobs", "pattern"),
    [
        (signal.SIGTERM, 143, 1, "steps/train-*/checkpoints/checkpoint-*"),
        pytest.param(signal.SIGTERM, 143, 2, "steps/train-*/checkpoints/checkpoint-*", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, 2, "steps/train-*/checkpoints/checkpoint-*", marks=pytest.mark.slow),
        (signal.SIGINT, 130, 2, "steps.json"),
    ],
    ids=["SIGTERM", "SIGTERM to two jobs", "Ctrl-C at two jobs", "Ctrl-C while workers spawn"],
)
def test_stopped_with_a_word_and_nothing_left(
    tmp_path: Path, sent: signal.Signals, code: int, jobs: int, pattern: str
) -> None:
    process = _started(make_study(tmp_path, arms={}, train=LONG), tmp_path / "run", jobs)
    children = _until(process, tmp_path / "run", pattern)
    if sent is signal.SIGINT:
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    _, text = process.communicate(timeout=120)
    assert process.returncode == code
    assert "mnemos: stopped; the same command continues where it was" in text
    assert "Traceback" not in text
    # The parent has waited for its workers: they are gone when it is.
    assert not [child for child in children if _works(child)]
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


WAITING = (
    HEARING
    + """
import time
from mnemos.study.commands import merge

def slow(*_, **__):
    print("at work", flush=True)
    time.sleep(600)

merge.bind = slow
from mnemos.cli import main
main()
"""
)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_starts_no_run_is_stopped_with_a_word_too(sent: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, "merge", "a", "a=a"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(sent)
    _, words = process.communicate(timeout=60)
    assert process.returncode == code
    assert words.strip() == "mnemos: stopped; the same command continues where it was"


def test_sigterm_is_an_interrupt_only_within_a_run() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), terminable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    assert issubclass(Terminated, KeyboardInterrupt)

    def handler(number: int, frame: object) -> None:
        heard.append(number)

    heard: list[int] = []
    signal.signal(signal.SIGTERM, handler)
    try:
        with terminable():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


@pytest.mark.parametrize("kind", [steps.MeasureStep, steps.TrainStep])
def test_a_deleted_run_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    study, out = make_study(tmp_path, arms={}), tmp_path / "run"
    work = kind.work  # type: ignore[attr-defined]

    def deleting(self: object, directory: Path, quiet: bool) -> object:
        shutil.rmtree(out)
        return work(self, directory, quiet)

    monkeypatch.setattr(kind, "work", deleting)
    with pytest.raises(RunError) as caught:
        mnemos.run(study, out=out, quiet=True)
    assert caught.value.value == str(out)
    assert "was deleted while the run worked in it" in caught.value.bound


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_run_directory_without_permission_is_said_so(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    out.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(RunError, match="cannot be written"):
        mnemos.run(make_study(tmp_path, arms={}), out=out, quiet=True)


def test_what_may_not_be_written_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: object, directory: Path, quiet: bool) -> object:
        raise PermissionError(13, "Permission denied", str(directory / "model"))

    monkeypatch.setattr(steps.TrainStep, "work", forbidden)
    with pytest.raises(RunError, match=r"model: may not be read or written \(permission denied\)"):
        mnemos.run(make_study(tmp_path, arms={}), out=tmp_path / "run", quiet=True)
