"""Driver and worker know of each other by files: a second attempt ends the first one's process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mnemos.core.progress import Status, Work, counting, working
from mnemos.study.engines import attempts

WORKER = """
import sys, time
from pathlib import Path
from mnemos.core.progress import Work
from mnemos.study.engines import attempts
attempts.LOOK_EVERY = 0.05
with attempts.attended(Path(sys.argv[1]), "train-1", sys.argv[2], ["n"], Work(print)):
    print("at work", flush=True)
    time.sleep(600)
"""


def test_what_a_worker_says_is_what_the_driver_reads(tmp_path: Path) -> None:
    name = attempts.begin(tmp_path, "train-1")
    assert attempts.status_of(attempts.last_word(tmp_path, name)) == Status("waiting for a place")
    work = Work(print)
    with working(work), counting(4, "steps") as count:
        count.to(3)
        with attempts.attended(tmp_path, "train-1", name, ["node"], work):
            pass
    word = attempts.last_word(tmp_path, name)
    assert word is not None
    assert word["nodes"] == ["node"]
    assert str(attempts.status_of(word)) == "3 of 4 steps"
    assert attempts.current(tmp_path, "train-1") == name


def test_half_a_word_is_none(tmp_path: Path) -> None:
    name = attempts.begin(tmp_path, "train-1")
    (tmp_path / attempts.FOLDER / f"{name}.json").write_text('{"nodes": [')
    assert attempts.last_word(tmp_path, name) is None
    assert attempts.current(tmp_path, "train-2") is None


def test_a_process_ends_when_another_one_has_its_step(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    first = attempts.begin(tmp_path, "train-1")
    words = [sys.executable, "-c", WORKER, str(tmp_path), first]
    with subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        attempts.begin(tmp_path, "train-2")
        assert process.poll() is None
        attempts.begin(tmp_path, "train-1")
        assert process.wait(300) == 1
