"""Rows spoken by a program, and rows made worse: by content, by seed, and with clean errors."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

from mnemos.core.errors import DataError, UsageError
from mnemos.sources import audio
from mnemos.sources.read import read
from mnemos.sources.voices import Spoken, Voices
from mnemos.sources.worsened import Worsened
from tests.tiny_speech import sound

TONE = """#!/usr/bin/env python3
import sys, wave
text = sys.stdin.read() if len(sys.argv) < 3 else sys.argv[2]
open({log!r}, "a").write(text + chr(10))
with wave.open(sys.argv[1], "wb") as file:
    file.setparams((1, 2, 8000, 0, "NONE", ""))
    file.writeframes(bytes((i * 37) % 256 for i in range(1600 * max(1, len(text)))))
"""


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def program(folder: Path, source: str = TONE) -> str:
    path = folder / "speak"
    path.write_text(source.replace("{log!r}", repr(str(folder / "log"))))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def texts(folder: Path, *rows: dict[str, Any]) -> Any:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read(str(folder / "rows.jsonl"))


def test_texts_become_rows_of_sound_and_are_spoken_once(cached: Path) -> None:
    voices = Voices(f"{program(cached)} {{out}}", ("a", "b"))
    source = Spoken(texts(cached, {"text": "one  two"}, {"text": "three"}), voices, 2, 0)
    rows = list(source)
    assert [(row.id, row.meta["voice"], row.turns[-1].text) for row in rows] == [
        ("rows:1/0", "a", "one two"),
        ("rows:1/1", "b", "one two"),
        ("rows:2/0", "b", "three"),
        ("rows:2/1", "a", "three"),
    ]
    assert audio.read(rows[0].turns[0].sounds[0].path).seconds > 0.1
    # A program that is not told the voice says each text once, and never again.
    assert list(source) == rows
    assert (cached / "log").read_text().split("\n") == ["one two", "three", ""]


def test_a_text_is_one_word_of_the_command_whatever_it_holds(cached: Path) -> None:
    voices = Voices(f"{program(cached)} {{out}} {{text}}", ("a",))
    for text in ("$(touch x); `y` > z", "-f /etc/passwd", "{out} {voice}"):
        voices.say(text, "a")
    assert (cached / "log").read_text().split("\n") == ["$(touch x); `y` > z", " -f /etc/passwd", "{out} {voice}", ""]


WRITES_NOTHING = "#!/bin/sh\nexit 0\n"
FAILS = "#!/bin/sh\necho no such voice >&2\nexit 3\n"
SILENT = TONE.replace("(i * 37) % 256", "0")


@pytest.mark.parametrize(
    ("source", "what"), [(WRITES_NOTHING, "wrote no file"), (FAILS, "no such voice"), (SILENT, "silent")]
)
def test_a_program_that_fails_or_writes_nothing_is_an_error(source: str, what: str, cached: Path) -> None:
    with pytest.raises(DataError, match=what):
        Voices(f"{program(cached, source)} {{out}}").say("one", "a")
    assert not list((cached / "cache" / "spoken").glob("*.wav"))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Voices("no-such-program {out}").say("a", "b"), "is not installed"),
        (lambda: Voices("speak {text}"), "must name {out}"),
        (lambda: Voices("speak {out} {voise}"), "did you mean 'voice'"),
        (lambda: Voices("speak {out} 'a"), "parted into words"),
        (lambda: Voices(rate=(9, 3)), "must rise"),
    ],
)
def test_commands_that_cannot_be_meant(make: Callable[[], Any], what: str, cached: Path) -> None:
    with pytest.raises(UsageError, match=what):
        make()


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_speaks(cached: Path) -> None:
    found = audio.read(Voices().say("Seven five three.", "en-us"))
    assert 0.5 < found.seconds < 5
    assert audio.rms(found.samples) > 0.01


def heard(folder: Path) -> Any:
    for number in range(6):
        audio.write(sound(0.3, number), folder / f"{number}.wav")
    return texts(folder, *({"audio": f"{n}.wav", "text": "a"} for n in range(6)))


def test_a_share_of_rows_is_made_worse_by_seed(cached: Path) -> None:
    rows = heard(cached)
    (cached / "noises").mkdir()
    audio.write(sound(0.5, 99), cached / "noises" / "n.wav")

    def worse(seed: int, share: float = 0.5) -> list[str]:
        source = Worsened(rows, share, str(cached / "noises"), (5, 5), None, (), seed)
        return [row.turns[0].sounds[0].path for row in source]

    plain = [row.turns[0].sounds[0].path for row in rows]
    first = worse(1)
    assert 0 < sum(a != b for a, b in zip(plain, first, strict=True)) < 6
    assert worse(1) == first != worse(2)
    changed = worse(1, 1.0)
    assert all(Path(path).parent.name == "worsened" for path in changed)
    assert Worsened(rows, 1.0, str(cached / "noises"), (5, 5), None, (), 1).fingerprint != rows.fingerprint
    assert len(audio.read(changed[0]).samples) == 4_800


def test_a_folder_without_sounds_is_refused(cached: Path) -> None:
    (cached / "none").mkdir()
    with pytest.raises(DataError, match="holds no sounds"):
        list(Worsened(heard(cached), 1.0, str(cached / "none"), (5, 5), None, (), 1))
