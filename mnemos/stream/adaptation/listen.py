"""Hear one utterance after the other, adapt, write down, commit; go on after a kill with the same numbers.

A step and what the adapter carries go into the stream's SQLite file in one transaction. What it carries is stored, not
computed anew, so that no other machine, library or number of threads changes it; but for a large model that is tens of
megabytes, so it is stored every few steps only (`SAVED`), and the steps since are heard again: the same steps from the
same bits. Each of them must give the transcript that the file has, or the stream does not go on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import DataError, RunError
from mnemos.core.progress import counting, note
from mnemos.stream.adaptation.adapters import Adapter
from mnemos.stream.adaptation.collapse import Collapse, Sight
from mnemos.stream.adaptation.ears import Heard, Sound
from mnemos.stream.journal import Asked, Journal, Step

if TYPE_CHECKING:
    from torch import Tensor

    from mnemos.sources.audio import Clip

TABLE = (
    "create table if not exists carried (stream integer not null, place integer not null, step integer not null, "
    "state text not null, tensor blob not null, unique (stream, place))"
)
SAVED = 4_000_000
"""Bytes a step that are written at most, in the mean."""
LONGEST = 20.0
"""Seconds of an utterance; longer ones are counted and left out, as in the published code."""


@dataclass(frozen=True, slots=True)
class Noted:
    """What is kept of a step beside its transcript, as `note` of the journal's step. seconds: of sound. source: the
    source model's transcript. collapsed: why the recogniser counts as collapsed behind this step."""

    heard: Heard
    seconds: float
    source: str
    collapsed: str | None = None

    def text(self) -> str:
        """JSON."""
        return json.dumps({**asdict(self), "heard": {**asdict(self.heard), "text": ""}})

    @staticmethod
    def read(text: str, answer: str) -> Noted:
        """What `text` gave."""
        found = json.loads(text)
        heard = found["heard"]
        loss = None if heard["loss"] is None else tuple(heard["loss"])
        return Noted(
            Heard(**{**heard, "text": answer, "loss": loss}), found["seconds"], found["source"], found["collapsed"]
        )


def noted(step: Step) -> Noted | None:
    """What was kept of a step; None of an utterance that was not heard."""
    return None if step.note is None else Noted.read(step.note, step.answer)


@dataclass
class Listening:
    """One method on one stream. order: names of utterances. clip: of a name; DataError for one that cannot be heard.
    source: the source model's transcript of a name that was heard. right: whether a transcript is right, for the
    journal. panel: names that are transcribed behind the stream, without learning. announced: whether it was written
    that the recogniser has collapsed."""

    adapter: Adapter
    order: Sequence[str]
    clip: Callable[[str], Clip]
    journal: Journal
    source: Callable[[str], str]
    right: Callable[[str, str], bool]
    longest: float = LONGEST
    panel: Sequence[str] = ()
    announced: bool = False

    def run(self) -> None:
        """Bring the stream to its end."""
        store = self.journal.store
        with store.transaction() as run:
            run.execute(TABLE)
        done = self.journal.steps()
        collapse = self._remembered(done)
        asked = {one.item for one in self.journal.panels()}
        if self.adapter.carries and (len(done) < len(self.order) or asked < set(self.panel)):
            self._continue(done)
        with counting(len(self.order), "utterances") as count:
            for at in range(len(done), len(self.order)):
                count.to(at)
                step = self._step(at, collapse)
                with store.transaction():
                    self.journal.write(step, {})
                    if self.adapter.carries and self._due(at):
                        self._save(at + 1)
            count.to(len(self.order))
        if asked < set(self.panel):
            self._ask()

    def _ask(self) -> None:
        """Transcribe the panel by the model that is left; nothing is learned, and one transaction keeps it."""
        self.adapter.come_to_rest()
        found = []
        for name in self.panel:
            try:
                text = self.adapter.ears.text(self.adapter.ears.asked(self.sound(name)))
            except DataError as error:
                found.append(Asked(len(self.order), name, "", None, error.bound))
                continue
            found.append(Asked(len(self.order), name, text, float(self.right(name, text)), None))
        with self.journal.store.transaction():
            self.journal.write_panel(found)

    def _step(self, at: int, collapse: Collapse) -> Step:
        name, began = self.order[at], time.monotonic()
        try:
            sound = self.sound(name)
        except DataError as error:
            return _step(at, name, "", None, error.bound, None, 0, 0.0)
        heard = self.adapter.hear(sound)
        took = time.monotonic() - began
        found = Noted(heard, sound.seconds, self.source(name))
        why = collapse.saw(sight(found))
        if why is not None and not self.announced:
            self.announced = True
            note(f"{self.journal.name.rpartition(' [')[0]}: collapsed at utterance {at + 1:,}: {why}")
        value = float(self.right(name, heard.text))
        return _step(at, name, heard.text, value, None, replace(found, collapsed=why).text(), heard.steps, took)

    def sound(self, name: str) -> Sound:
        """The utterance, ready to be heard. DataError for one that is too long."""
        clip = self.clip(name)
        if clip.seconds > self.longest:
            raise DataError(f"{name}: {clip.seconds:.1f} s", f"longer than {self.longest:g} s", "cut it at pauses")
        return self.adapter.ears.sound(name, clip)

    def _remembered(self, done: Sequence[Step]) -> Collapse:
        """The rule as it stood behind the steps that are done."""
        collapse = Collapse()
        for step in done:
            found = noted(step)
            if found is not None:
                collapse.sights.append(sight(found))
                self.announced = self.announced or found.collapsed is not None
        return collapse

    # what is carried ----------------------------------------------------------------------

    def _due(self, at: int) -> bool:
        size = sum(one.numel() * one.element_size() for one in self.adapter.tensors())
        return (at + 1) % max(1, math.ceil(size / SAVED)) == 0

    def _save(self, step: int) -> None:
        """Within an open transaction: what the adapter carries behind so many steps, in place of what was there."""
        run, number = self.journal.store.connection, self.journal.number
        run.execute("delete from carried where stream = ?", (number,))
        state = json.dumps(self.adapter.state())
        rows = [(number, place, step, state, _bytes(one)) for place, one in enumerate(self.adapter.tensors())]
        run.executemany("insert into carried values (?, ?, ?, ?, ?)", rows)

    def _continue(self, done: Sequence[Step]) -> None:
        """Bring the adapter to where it was behind the last step."""
        found: list[Any] = self.journal.store.rows(
            "select step, state, tensor from carried where stream = ? order by place", self.journal.number
        )
        start = 0
        if found:
            start = int(found[0][0])
            like = self.adapter.ears.moves.flats[0].values
            self.adapter.load(json.loads(found[0][1]), [_tensor(row[2], like) for row in found], self.sound)
        for step in done[start:]:
            if step.note is not None:
                heard = self.adapter.hear(self.sound(step.item))
                if heard.text != step.answer:
                    bound = f"step {step.step:,} was written as {step.answer!r} and is now heard as {heard.text!r}"
                    cure = "continue where it was begun, with the same packages and threads, or name another directory"
                    raise RunError(f"stream {self.journal.name}", bound, cure)


def sight(found: Noted) -> Sight:
    """What the rule of collapse looks at."""
    heard = found.heard
    return Sight(heard.blank, heard.text, found.source, found.seconds, heard.entropy)


def _step(
    at: int, name: str, answer: str, value: float | None, reason: str | None, kept: str | None, steps: int, took: float
) -> Step:
    return Step(at, name, answer, None, value, reason, kept, steps, 0, 0, took, 0)


def _bytes(one: Tensor) -> bytes:
    return bytes(one.detach().cpu().contiguous().view(-1).numpy().tobytes())


def _tensor(data: bytes, like: Tensor) -> Tensor:
    import torch

    return torch.frombuffer(bytearray(data), dtype=like.dtype).to(like.device)


def summary(steps: Sequence[Step]) -> Mapping[str, float]:
    """Of a stream: seconds of work and of sound, the real-time factor (work over sound), optimiser steps, steps refused
    and resets."""
    found = [one for step in steps if (one := noted(step)) is not None]
    sound = math.fsum(one.seconds for one in found)
    work = math.fsum(step.seconds for step in steps)
    return {
        "utterances": len(found),
        "left_out": len(steps) - len(found),
        "sound_seconds": sound,
        "seconds": work,
        "real_time_factor": work / sound if sound else math.nan,
        "steps": sum(one.heard.steps for one in found),
        "refused": sum(one.heard.refused for one in found),
        "resets": sum(one.heard.reset for one in found),
        "blank": sum(one.heard.blank for one in found),
    }
