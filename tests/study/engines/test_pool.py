"""Steps side by side: the same results, no step before those it needs, nothing left running."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import mnemos
from mnemos.core.errors import DataError, UsageError
from mnemos.study.engines.pool import ParallelEngine, _no_interrupt
from tests.study.test_run import without_timings
from tests.study.worlds import make_study

RUN = "import sys, mnemos; mnemos.run(sys.argv[1], out=sys.argv[2], jobs=2, quiet=True)"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    # Sums of floats depend on the number of threads: the same on both sides.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_two_jobs_give_what_one_gives_and_reuse_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        study = make_study(tmp_path)
        one = mnemos.run(study, out=tmp_path / "one", quiet=True)
    finally:
        torch.set_num_threads(threads)
    two = mnemos.run(study, out=tmp_path / "two", jobs=2)
    assert without_timings(two.results) == without_timings(one.results)
    steps = len(list((tmp_path / "two" / "steps").iterdir()))
    assert f"[{steps}/{steps}]" in capfd.readouterr().err
    again = mnemos.run(study, out=tmp_path / "two", jobs=2)
    assert again.results["comparisons"] == two.results["comparisons"]
    assert f"{steps} finished steps reused" in capfd.readouterr().err


def test_a_failed_step_is_raised_as_it_is_and_the_rest_stays_resumable(tmp_path: Path) -> None:
    train = {"learning_rate": 1e-3, "max_length": 2}  # known only when the rows are rendered
    study = make_study(tmp_path, arms={}, train=train)
    with pytest.raises(DataError, match=r"can be used|max_length|supervised"):
        mnemos.run(study, out=tmp_path / "run", jobs=2, quiet=True)
    assert not multiprocessing.active_children()
    assert not list((tmp_path / "run" / "steps").glob("train-*/done.json"))
    assert mnemos.run(make_study(tmp_path, arms={}), out=tmp_path / "run", quiet=True).comparisons


def test_workers_end_with_a_killed_parent_and_the_run_continues(tmp_path: Path) -> None:
    train = {"learning_rate": 1e-3, "num_train_epochs": 60, "per_device_train_batch_size": 4, "save_steps": 4}
    study = make_study(tmp_path, arms={}, train=train)
    out = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", RUN, str(study), str(out)], cwd=Path(__file__).parents[3])
    while not list(out.glob("steps/train-*/checkpoints/checkpoint-*")) and process.poll() is None:
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children()
    assert process.poll() is None
    assert workers
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, left = psutil.wait_procs(workers, timeout=20)
    assert not left
    assert mnemos.run(study, out=out, jobs=2, quiet=True).comparisons


def test_jobs_that_cannot_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="must be from 1 to 256"):
        ParallelEngine(0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="launcher of 2 processes"):
        ParallelEngine(2)


def test_an_interrupt_waits_until_a_worker_is_started_whichever_thread_it_reaches() -> None:
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    started: list[bool] = []
    # Whatever an earlier test of this process has left there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start() -> None:
        with _no_interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            started.append(True)

    try:
        with pytest.raises(KeyboardInterrupt):
            start()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
        over.set()
        other.join()
    assert started
