"""Cases of hostile input, and what is asked of each: one clear error, exit 1 or 2, within its bounds.

A case is a folder with a model, rows, suites and a study, in which something is wrong, and a command line. Commands
run in forks of one warm process (`worker`), so that hundreds of them take minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.study.worlds import make_study

ROOT = Path(__file__).parents[2]
WALL = 240.0
"""Seconds after which a command counts as hung; the bound that is judged is one of processor time."""
SPACE = 3 << 30
"""Bytes of address space beyond the warm process."""
LONGEST = 7000
"""Characters of an error: its three parts are cut at 2,000 each."""
FORK_KNOWS = {"jemalloc_bg_thd"}
"""Threads of libraries that prepare for a fork themselves."""

Content = str | bytes | None | Callable[[Path], Any]
"""Of a file: text, bytes, None for none, or what makes it."""


@dataclass(frozen=True)
class Case:
    """name: of the case. message: what the error must say, a regular expression. words: the command line.
    files: path in the folder -> its content. code: the exit code; 0 for either of 1 and 2. env: more variables.
    cpu, mb: seconds of processor time and megabytes of memory that it may take. untouched: a folder in which
    nothing may have been measured; cache and runs lie there. fails: why it still does, where that is known."""

    name: str
    message: str
    words: Sequence[str] = ("run", "study.yaml", "--out", "run", "--quiet")
    files: Mapping[str, Content] = field(default_factory=dict)
    code: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    cpu: int = 30
    mb: int = 400
    untouched: str = "run"
    fails: str = ""


class Warm:
    """The warm process, and a folder that cases are copied from."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.world = folder / "world"
        self.world.mkdir()
        make_study(self.world)
        shutil.copytree(self.world / "model", self.world / "good")
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        environment |= {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.worker"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        others = set(self._answer()["threads"]) - FORK_KNOWS
        assert len(others) == 1, f"a process with threads must not be forked: {others}"

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(WALL)
        self.process.stdout.close()

    def run(self, case: Case, **names: str) -> None:
        """Make the case's folder, run its command, and assert what is asked of it. names: put into words and files."""
        self.count += 1
        around = self.folder / f"{self.count}"
        folder, out, err = around / "here", self.folder / f"{self.count}.out", self.folder / f"{self.count}.err"
        shutil.copytree(self.world, folder)
        for place, content in case.files.items():
            write(folder / place, content, names)
        job = {
            "folder": str(folder),
            "words": [filled(word, names) for word in case.words],
            "env": {"MNEMOS_CACHE": "run", **case.env},
            "out": str(out),
            "err": str(err),
            "space": SPACE,
            "cpu": case.cpu,
            "wall": WALL,
        }
        assert self.process.stdin is not None
        print(json.dumps(job), file=self.process.stdin, flush=True)
        found = self._answer()
        shown, text = out.read_bytes(), err.read_bytes()
        judge(case, found, shown, text)
        assert {place.name for place in around.iterdir()} == {"here"}, "something was written outside of the folder"
        place = folder / case.untouched
        assert not (place.is_dir() and list(place.rglob("answers"))), "a model was measured before the error"
        shutil.rmtree(around)


def filled(text: str, names: Mapping[str, str]) -> str:
    """The text with NAME in braces replaced, and no other brace touched."""
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return text


def write(place: Path, content: Content, names: Mapping[str, str]) -> None:
    """Put content where it belongs."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    elif isinstance(content, bytes):
        place.write_bytes(content)
    elif isinstance(content, str):
        place.write_text(filled(content, names), encoding="utf-8", newline="")
    else:
        content(place)


def judge(case: Case, found: Mapping[str, Any], out: bytes, err: bytes) -> None:
    """Assert one clear error, and the bounds."""
    words = err.decode("utf-8")  # raises where it is none
    story = f"\nexit {found['code']}, {found['cpu']:.1f} s, {found['grown'] >> 20} MB\n{words[-3000:]}"
    assert found["in_time"], f"hung{story}"
    assert found["code"] in ((case.code,) if case.code else (1, 2)), story
    assert "Traceback" not in words, story
    assert "defect of mnemos" not in words, story
    errors = re.findall(r"^(?:mnemos: (?!warning: )|Error: )", words, re.MULTILINE)
    assert len(errors) == 1, f"{len(errors)} errors{story}"
    assert not re.search(r"Warning: |Error in|LOAD REPORT", words), f"noise before the error{story}"
    last = words[words.rindex(errors[0]) :]
    assert len(last) <= LONGEST, f"an error of {len(last)} characters{story}"
    assert re.search(case.message, last), f"does not say {case.message!r}{story}"
    for text in (words, out.decode("utf-8")):
        steering = {c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs")}
        assert not steering, f"raw control characters {steering!r}{story}"
    assert found["grown"] <= case.mb << 20, f"more than {case.mb} MB{story}"


def parameters(cases: Sequence[Case], quick: Sequence[str] = ()) -> list[Any]:
    """What `pytest.mark.parametrize` takes: each case under its name, slow but for a sample."""
    assert len({case.name for case in cases}) == len(cases), "two cases of one name"
    assert set(quick) <= {case.name for case in cases}, "no such case"
    out = []
    for case in cases:
        marks = [] if case.name in quick else [pytest.mark.slow]
        if case.fails:
            marks.append(pytest.mark.xfail(reason=case.fails, strict=True))
        out.append(pytest.param(case, id=re.sub(r"\W+", "-", case.name), marks=marks))
    return out
