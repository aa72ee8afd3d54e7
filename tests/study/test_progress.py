"""What a run says while it works, where stderr is piped and where it is a terminal."""

from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path

import pytest

import mnemos
from mnemos.study import progress
from mnemos.study.progress import Progress, clock, listening, say
from tests.study.worlds import make_study


def test_piped_a_step_is_named_when_it_begins_and_when_it_ends(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = make_study(tmp_path, arms={}, train={"learning_rate": 1e-3, "max_steps": 2})
    capfd.readouterr()
    mnemos.run(study, out=tmp_path / "run")
    text = capfd.readouterr()
    lines = [re.sub(r"\d+\.\d s.*", "S", line) for line in text.err.splitlines()]
    assert lines == [
        "[0/3] before: measure …",
        "[1/3] before: measure  S",
        "[1/3] plain, seed 0: train …",
        "[2/3] plain, seed 0: train  S",
        "[2/3] plain, seed 0: measure …",
        "[3/3] plain, seed 0: measure  S",
    ], "and nothing of the libraries underneath"
    assert text.out == ""


def test_piped_a_long_step_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = io.StringIO()
    monkeypatch.setattr(sys, "stderr", heard)
    monkeypatch.setattr(progress, "EVERY", 0.01)
    with Progress(2, 0, silent=False) as shown:
        shown.start("k", "plain: train")
        shown.at("k", "step 3 of 9")
        deadline = time.monotonic() + 60
        while "step 3 of 9" not in heard.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        shown.finish("k")
    assert "[0/2] plain: train: step 3 of 9, 0:0" in heard.getvalue()
    assert "\r" not in heard.getvalue()


def test_a_step_is_heard_wherever_it_runs(tmp_path: Path) -> None:
    heard: list[str] = []
    say("to nobody")
    study = make_study(tmp_path, arms={}, train={"learning_rate": 1e-3, "max_steps": 2, "logging_steps": 1})
    from mnemos.study.config import load_study
    from mnemos.study.experiment import build
    from mnemos.study.steps import execute

    with listening(heard.append):
        for step in build(*load_study(study), tmp_path / "run").steps:
            execute(step, tmp_path / "run", quiet=True)
    assert heard[0] == "loading the model"
    assert "suite new (1 of 6)" in heard
    assert any(re.fullmatch(r"step 2 of 2, loss \d+\.\d{3}", line) for line in heard)


def test_a_terminal_has_one_line_that_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    heard = Terminal()
    monkeypatch.setattr(sys, "stderr", heard)
    monkeypatch.setattr(progress, "REDRAW", 0.0)
    with Progress(2, 1, silent=False) as shown:
        shown.start("a", "one")
        shown.start("b", "one")  # two steps may be called the same
        shown.at("a", "step 1 of 2")
        shown.finish("a")
        shown.finish("b")
    first, *drawn = heard.getvalue().split("\r\033[K")
    assert first == "1 finished steps reused\n"
    assert drawn[2] == "[0/2] one: step 1 of 2 | one …"
    assert drawn[-1].startswith("[2/2] one")
    assert clock(65.9) == "1:05"


def test_silence(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    study = make_study(tmp_path, arms={}, train={"learning_rate": 1e-3, "max_steps": 1})
    capfd.readouterr()
    mnemos.run(study, out=tmp_path / "run", quiet=True)
    assert capfd.readouterr() == ("", "")
