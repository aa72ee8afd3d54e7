"""What a run shows while it works, where stderr is piped and where it is a terminal, and its log."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import mnemos
from mnemos.core.errors import RunError
from mnemos.core.progress import Status, Work, working
from mnemos.study import progress
from mnemos.study.progress import LOG, Log, Progress, logged, phase
from tests.study.terminals import screen
from tests.study.worlds import make_study

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d  ")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """stderr from now on: a terminal of 60 columns and 5 lines."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda fallback=(80, 24): os.terminal_size((60, 5)))
    return found


def at_any_time(lines: Iterable[str]) -> list[str]:
    """Without how long it took."""
    return [re.sub(r"\d+:\d\d", "T", line) for line in lines]


def steady(lines: Iterable[str]) -> list[str]:
    """Without a first look at answers, and the lines that a slow machine has beside the others."""
    return [line for line in lines if not re.match(r"planning|comparing|.*so far$|.*: first answers|  ", line)]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def test_piped_a_step_is_named_when_it_begins_and_when_it_ends(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = make_study(tmp_path, arms={}, train={"learning_rate": 1e-3, "max_steps": 2})
    capfd.readouterr()
    mnemos.run(study, out=tmp_path / "run")
    text = capfd.readouterr()
    lines = [re.sub(r"\d+\.\d s.*", "S", line) for line in text.err.splitlines()]
    shown = [
        "[0/3] before: measure …",
        "[1/3] before: measure  S",
        "[1/3] plain, seed 0: train …",
        "[2/3] plain, seed 0: train  S",
        "[2/3] plain, seed 0: measure …",
        "[3/3] plain, seed 0: measure  S",
    ]
    assert steady(lines) == shown, "nothing of the libraries underneath"
    assert text.out == ""


def test_the_log_has_every_attempt_with_its_time(tmp_path: Path) -> None:
    study = make_study(tmp_path, arms={}, train={"learning_rate": 1e-3, "max_steps": 2})
    for _ in range(2):
        mnemos.run(study, out=tmp_path / "run", quiet=True)
    text = (tmp_path / "run" / LOG).read_text()
    lines = text.splitlines()
    assert all(STAMP.match(line) or line.startswith("      ") for line in lines)
    words = steady(re.sub(r"\d+\.\d s.*", "S", STAMP.sub("", line)) for line in lines)
    begin = f"mnemos {mnemos.__version__}: study, 3 steps"
    assert words[0] == begin
    assert "[1/3] before: measure  S" in words
    assert words[-3:] == [begin, "3 finished steps reused", "done"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RunError("the disk", "is full"), "failed: the disk: is full"),
        (KeyboardInterrupt(), "stopped; the same command"),
    ],
)
def test_the_log_says_how_a_run_ended(tmp_path: Path, error: BaseException, words: str) -> None:
    with pytest.raises(type(error)), logged(Log(tmp_path / LOG), "begins"):
        raise error
    first, last = (STAMP.sub("", line) for line in (tmp_path / LOG).read_text().splitlines())
    assert first == "begins"
    assert last.startswith(words)


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    Log(tmp_path / "gone" / LOG).write("nobody reads this")
    assert not (tmp_path / "gone").exists()


def test_lines_of_a_log_steer_no_terminal(tmp_path: Path) -> None:
    Log(tmp_path / LOG).write("one\x1b[2J\ntwo")
    assert STAMP.sub("", (tmp_path / LOG).read_text()) == "one\\x1b[2J\n    two\n"


def test_piped_a_long_step_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heard = io.StringIO()
    monkeypatch.setattr(sys, "stderr", heard)
    monkeypatch.setattr(progress, "EVERY", 0.01)
    with Progress(["train-a", "train-b"], silent=False, log=Log(tmp_path / LOG)) as shown:
        shown.start("train-a", "plain: train")
        shown.at("train-a", Status("", 3, 9, "steps", 2.0))
        until(lambda: "3 of 9 steps" in heard.getvalue())
        shown.finish("train-a")
    assert "[0/2] plain: train: 3 of 9 steps, loss 2.000, 0:00 so far" in heard.getvalue()
    assert "\r" not in heard.getvalue()
    assert [STAMP.sub("", line) for line in (tmp_path / LOG).read_text().splitlines()] == heard.getvalue().splitlines()


def test_a_step_is_followed_wherever_it_runs(tmp_path: Path) -> None:
    from mnemos.study.config import load_study
    from mnemos.study.experiment import build
    from mnemos.study.steps import execute

    seen: list[str] = []

    class Watched(Work):
        """Keeps every word that is put there."""

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "doing":
                seen.append(str(value))

    study = make_study(tmp_path, arms={}, train={"learning_rate": 1e-3, "max_steps": 2, "logging_steps": 1})
    counts = []
    for step in build(*load_study(study), tmp_path / "run").steps:
        with working(Watched(seen.append)) as work:
            execute(step, tmp_path / "run", quiet=True)
            counts.append(work.count)
    assert seen[:2] == ["", "loading the model"]
    assert {"suite new (1 of 6)", "reading the rows", "preparing the training", "saving the model"} <= set(seen)
    assert counts == [None] * 3


def test_a_terminal_has_one_line_a_running_step(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)
    with Progress(["a", "b"], 1, silent=False) as shown:
        shown.start("a", "one")
        shown.start("b", "one")  # two steps may be called the same
        assert at_any_time(screen(terminal.getvalue())) == ["1 finished steps reused", *["[0/2] one: T so far"] * 2]
        shown.at("a", Status("", 1, 2, "steps"))
        until(lambda: "[0/2] one: 1 of 2 steps, T so far" in at_any_time(screen(terminal.getvalue())))
        shown.note("a line that\nstays")
        shown.finish("a")
        lines = screen(terminal.getvalue())
        assert lines[1:3] == ["a line that", "stays"]
        assert lines[3].startswith("[1/2] one  ")
        assert at_any_time(lines[4:]) == ["[1/2] one: T so far"]
        shown.finish("b")
    assert len(screen(terminal.getvalue())) == 5
    assert screen(terminal.getvalue())[-1].startswith("[2/2] one  ")


def test_no_line_is_wider_or_higher_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)
    keys = [f"train-{n}" for n in range(9)]
    with Progress(keys, silent=False) as shown:
        for key in keys:
            shown.start(key, "漢字" * 40 if key == "train-0" else key)
    lines = screen(terminal.getvalue())
    assert len(lines) == 4
    assert lines[0].startswith("[0/9] 漢字")
    assert lines[0].endswith("…")
    assert len(lines[0].encode("utf-16-le")) // 2 <= 59
    assert lines[-1] == "… and 6 more"


def test_a_run_says_what_is_left_once_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = io.StringIO()
    monkeypatch.setattr(sys, "stderr", heard)
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    keys = ["measure-0", "train-1", "measure-1", "train-2", "measure-2"]
    with Progress(keys, silent=False) as shown:
        for key, seconds in zip(keys, (10, 100, 20, 200, 20), strict=True):
            shown.start(key, key)
            now[0] += seconds
            shown.finish(key)
    ends = [line.split("  ")[1] for line in heard.getvalue().splitlines() if "  " in line]
    # After the first training: measurements of 10 s and a training of 100 s are left.
    left = ", about {} left of the run"
    assert ends == [
        "10.0 s",
        "1:40" + left.format("2:00"),
        "20.0 s" + left.format("1:55"),
        "3:20" + left.format("0:15"),
        "20.0 s",
    ]


def test_a_short_phase_is_not_worth_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = io.StringIO()
    monkeypatch.setattr(sys, "stderr", heard)
    with phase("planning", silent=False):
        pass
    assert heard.getvalue() == ""
    monkeypatch.setattr(progress, "SHORT", 0.0)
    with phase("planning", silent=False):
        pass
    assert heard.getvalue() == "planning  0.0 s\n"


def test_a_terminal_that_is_gone_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    with Progress(["a"], silent=False) as shown:
        shown.start("a", "one")
        shown.finish("a")


def test_silence(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    study = make_study(tmp_path, arms={}, train={"learning_rate": 1e-3, "max_steps": 1})
    capfd.readouterr()
    mnemos.run(study, out=tmp_path / "run", quiet=True)
    assert capfd.readouterr() == ("", "")
