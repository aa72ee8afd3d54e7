"""Texts said aloud by a program on the command line (espeak-ng, piper, whatever writes a file of sound).

The program is called, never imported, and never through a shell: the command is parted into words once, and each
place in braces is filled within its word. What it says is kept by content: the same command, voice, rate, pitch and
text are spoken once on a machine, under $MNEMOS_CACHE.
"""

from __future__ import annotations

import dataclasses
import os
import random
import shlex
import shutil
import string
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnemos.core.cache import cache_folder
from mnemos.core.errors import DataError, UsageError, nearest
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import AudioPart, Example, Source, Turn
from mnemos.sources import audio
from mnemos.sources.bad_row import RowError

ESPEAK = "espeak-ng -v {voice} -s {rate} -p {pitch} -w {out} --stdin"
"""The text comes by standard input, where nothing in it can be taken for a setting."""
PLACES = ("text", "out", "voice", "rate", "pitch")
SECONDS = 60.0
"""A program that takes longer for one text is stopped."""
LONGEST = 2000
"""Characters of a text that are spoken at once."""


@dataclass(frozen=True)
class Voices:
    """Who speaks. command: words with {out}, and {text}, {voice}, {rate}, {pitch} where the program takes them; without
    {text} it is written to the program's standard input. voices: what stands for {voice}, one after the other. rate:
    words a minute, pitch: 0 to 99, each drawn evenly between two numbers by the text and the voice."""

    command: str = ESPEAK
    voices: tuple[str, ...] = ("en-us", "en-gb", "en-us+f3", "en-gb+m3", "en-us+f5")
    rate: tuple[int, int] = (130, 190)
    pitch: tuple[int, int] = (30, 70)

    def __post_init__(self) -> None:
        try:
            words = shlex.split(self.command)
            found = {name for word in words for _, name, _, _ in string.Formatter().parse(word) if name is not None}
        except ValueError as error:
            raise UsageError(
                f"command = {self.command!r}", f"cannot be parted into words ({error})", "mend it"
            ) from None
        stranger = next((name for name in found if name not in PLACES), None)
        if stranger is not None:
            raise UsageError(f"command: {{{stranger}}}", "is no place that is filled", nearest(stranger, PLACES))
        if not words or "out" not in found:
            raise UsageError(
                f"command = {self.command!r}", "must name {out}, the file that it writes", f"like {ESPEAK}"
            )
        for name, (low, high) in (("rate", self.rate), ("pitch", self.pitch)):
            if not 0 < low <= high:
                raise UsageError(f"{name} = {low}, {high}", "must rise from above 0", "give the lower one first")
        if not self.voices:
            raise UsageError("voices = []", "must name at least one", "espeak-ng --voices lists them")

    def say(self, text: str, voice: str, seed: int = 0) -> Path:
        """The file of the text in a voice. Raises UsageError for a program that is not there, DataError for one that
        fails, takes too long, or writes nothing that can be heard."""
        drawn = random.Random(f"{seed}\0{voice}\0{text}")
        filled = {"voice": voice, "rate": str(drawn.randint(*self.rate)), "pitch": str(drawn.randint(*self.pitch))}
        # What the program is not told cannot matter.
        given = {name: value for name, value in filled.items() if f"{{{name}}}" in self.command}
        place = cache_folder() / "spoken" / f"{fingerprint([self.command, given, text])}.wav"
        if not place.is_file():
            self._speak(text, given, place)
        return place

    def _speak(self, text: str, given: dict[str, str], place: Path) -> None:
        if not text.strip() or len(text) > LONGEST or "\0" in text:
            raise DataError(f"{text[:60]!r}", f"must have 1 to {LONGEST:,} characters to be spoken", "cut it")
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            out = Path(folder) / "said.wav"
            # A text that begins like a setting must not be taken for one.
            safe = f" {text}" if text.startswith("-") else text
            words = [word.format(**given, out=out, text=safe) for word in shlex.split(self.command)]
            _run(words, None if "{text}" in self.command else text)
            try:
                clip = audio.read(out, bounds=audio.Bounds(0.0, audio.MOST_SECONDS))
            except RowError as problem:
                why = (
                    "wrote no file" if problem.reason == "no such file" else f"wrote nothing to hear ({problem.reason})"
                )
                raise DataError(f"{words[0]}: {text[:60]!r}", why, f"try the command by hand: {self.command}") from None
            whole = Path(folder) / "whole.wav"
            audio.write(clip, whole)
            os.replace(whole, place)


def _run(words: Sequence[str], text: str | None) -> None:
    if shutil.which(words[0]) is None:
        install = "install it (apt install espeak-ng)" if words[0] == "espeak-ng" else "install it"
        raise UsageError(words[0], "is not installed here", f"{install}, or name another command")
    try:
        done = subprocess.run(
            words, input=None if text is None else text.encode(), stdin=subprocess.DEVNULL if text is None else None,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DataError(words[0], f"took longer than {SECONDS:g} s for one text", "try it by hand") from None
    except OSError as error:
        raise UsageError(words[0], f"cannot be run ({error.strerror})", "name another command") from None
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise DataError(words[0], f"failed with status {done.returncode}, saying: {last[0][:200]}", "try it by hand")


@dataclass(frozen=True)
class Spoken:
    """Rows of text as rows of sound and transcript: the last turn of each is spoken, by `copies` voices in turn.

    Rows that have a sound already stay as they are. rows: of any format; a question before the text is dropped.
    """

    rows: Source
    voices: Voices
    copies: int
    seed: int

    @property
    def fingerprint(self) -> str:
        """Of the rows and who speaks them; nothing is spoken for it."""
        return fingerprint({"spoken": [self.rows.fingerprint, self.voices, self.copies, self.seed]})

    def describe(self) -> str:
        """One line for people."""
        program = shlex.split(self.voices.command)[0]
        times = f" by {self.copies} voices each" if self.copies > 1 else ""
        return f"{self.rows.describe()}, spoken by {Path(program).name}{times}"

    def __iter__(self) -> Iterator[Example]:
        for number, row in enumerate(self.rows):
            if any(turn.sounds for turn in row.turns):
                yield row
                continue
            text = " ".join(row.turns[-1].text.split())
            for copy in range(self.copies):
                voice = self.voices.voices[(number + copy + self.seed) % len(self.voices.voices)]
                part = AudioPart(str(self.voices.say(text, voice, self.seed)))
                turns = (Turn("user", (part,)), Turn("assistant", text))
                meta = {**row.meta, "voice": voice}
                name = row.id if self.copies == 1 else f"{row.id}/{copy}"
                yield dataclasses.replace(row, id=name, kind="messages", turns=turns, meta=meta, variables=())
