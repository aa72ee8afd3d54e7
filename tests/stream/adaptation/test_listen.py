"""Streams of utterances on disk: the same numbers after a kill, nothing learned by a panel, nothing dropped unsaid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, RunError
from mnemos.stream.adaptation import listen
from mnemos.stream.adaptation.listen import Listening, noted, summary
from mnemos.stream.adaptation.methods import make
from mnemos.stream.journal import Journal, Step
from mnemos.stream.store import Store
from tests.stream.adaptation.ears import Sounded, TinyEars, clip
from tests.stream.test_loop import committed

SETTINGS = {"learning_rate": 3e-3, "steps": 2, "buffer": 2, "window": 6, "patience": 1, "z": 0.5}


def sounding(name: str) -> Sounded:
    if name == "long":
        return clip(0, 25.0)
    if name == "broken":
        raise DataError("broken", "damaged audio", "record it again")
    return clip(int(name))


def listening(
    folder: Path, method: str, order: list[str], settings: dict[str, Any] | None = None, **more: Any
) -> Listening:
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(Store(folder / "stream.db"), f"{method} [x]", "x")
    adapter = make(method, TinyEars(), settings)
    return Listening(adapter, order, sounding, journal, lambda _: "", lambda _, text: text == "", **more)  # type: ignore[arg-type]


def numbers(steps: list[Step]) -> list[Any]:
    return [(step.item, step.answer, step.value, step.reason, step.note, step.calls) for step in steps]


def names(count: int) -> list[str]:
    return [str(at) for at in range(count)]


KILLED = """
import sys
from pathlib import Path
from mnemos.stream.adaptation import listen
from tests.stream.adaptation.test_listen import SETTINGS, listening, names

listen.SAVED = int(sys.argv[2])
listening(Path(sys.argv[1]), "dsuta-dynamic", names(60), SETTINGS, panel=("3", "4")).run()
"""


@pytest.mark.slow
def test_killed_it_goes_on_with_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A state of which a step may write a third: stored every third step, and up to two are heard again.
    size = sum(one.numel() * 4 for one in make("dsuta", TinyEars()).tensors())
    whole = listening(tmp_path / "whole", "dsuta-dynamic", names(60), SETTINGS, panel=("3", "4"))
    whole.run()
    broken, kills = tmp_path / "broken", 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    for wanted in (8, 20):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(broken), str(size // 3)], env=environment)
        end = time.monotonic() + 300
        while process.poll() is None and committed(broken) < wanted and time.monotonic() < end:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() != 0
    assert kills == 2
    assert 20 <= committed(broken) < 60
    monkeypatch.setattr(listen, "SAVED", size // 3)
    again = listening(broken, "dsuta-dynamic", names(60), SETTINGS, panel=("3", "4"))
    again.run()
    assert numbers(again.journal.steps()) == numbers(whole.journal.steps())
    assert again.journal.panels() == whole.journal.panels()
    assert any(noted(step).heard.reset for step in whole.journal.steps())  # type: ignore[union-attr]


@pytest.mark.parametrize("method", ["csuta", "awmc", "suta"])
def test_stopped_and_opened_again(tmp_path: Path, method: str) -> None:
    settings = {"learning_rate": 3e-3, "steps": 1}
    whole = listening(tmp_path / "whole", method, names(7), settings)
    whole.run()
    for count in (3, 7):
        part = listening(tmp_path / "parts", method, names(count), settings)
        part.run()
    assert numbers(part.journal.steps()) == numbers(whole.journal.steps())


def test_a_replay_that_hears_otherwise_is_refused(tmp_path: Path) -> None:
    listening(tmp_path, "csuta", names(3), {"learning_rate": 3e-3}).run()
    part = listening(tmp_path, "csuta", names(4), {"learning_rate": 3e-3})
    store = part.journal.store
    with store.transaction() as run:
        run.execute("delete from carried")
        run.execute("update steps set answer = 'zzz' where step = 1")
    with pytest.raises(RunError, match="'zzz'"):
        part.run()


def test_what_cannot_be_heard_is_counted(tmp_path: Path) -> None:
    made = listening(tmp_path, "csuta", ["0", "long", "broken", "1"])
    made.run()
    steps = made.journal.steps()
    assert [step.reason for step in steps] == [None, "longer than 20 s", "damaged audio", None]
    assert [step.value is None for step in steps] == [False, True, True, False]
    plain = listening(tmp_path / "b", "csuta", ["0", "1"])
    plain.run()
    assert [step.answer for step in plain.journal.steps()] == [steps[0].answer, steps[3].answer]
    found = summary(steps)
    assert (found["utterances"], found["left_out"], found["steps"]) == (2, 2, 2)
    assert found["sound_seconds"] == pytest.approx(0.5)


def test_a_panel_teaches_nothing_and_is_asked_once(tmp_path: Path) -> None:
    settings = {"learning_rate": 3e-3}
    made = listening(tmp_path, "csuta", names(4), settings, panel=("5", "broken"))
    made.run()
    adapter = make("csuta", TinyEars(), settings)
    for name in names(4):
        adapter.hear(adapter.ears.sound(name, sounding(name)))
    expected = adapter.ears.text(adapter.ears.asked(adapter.ears.sound("5", sounding("5"))))
    panel = made.journal.panels()
    assert [(one.step, one.item, one.answer, one.reason) for one in panel] == [
        (4, "5", expected, None), (4, "broken", "", "damaged audio"),
    ]  # fmt: skip
    episodic = listening(tmp_path / "b", "suta", names(2), panel=("5",))
    episodic.run()
    source = make("source", TinyEars())
    assert episodic.journal.panels()[0].answer == source.hear(source.ears.sound("5", sounding("5"))).text


def test_a_collapse_is_announced_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = listening(tmp_path, "source", [str(at % 3) for at in range(25)])
    made.source = lambda _: "x" * 1000
    made.run()
    assert capsys.readouterr().err.count("collapsed at utterance 20") == 1
    found = [noted(step) for step in made.journal.steps()]
    assert [one.collapsed is not None for one in found if one is not None] == [False] * 19 + [True] * 6
