"""`mnemos asr adapt`: transcripts as they come, by a recogniser that adapts while it listens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, UsageError
from mnemos.core.places import model_location
from mnemos.sources.audio import SUFFIXES, Clip, read
from mnemos.sources.bad_row import RowError
from mnemos.stream.adaptation.collapse import Collapse, Sight
from mnemos.stream.adaptation.listen import LONGEST
from mnemos.stream.adaptation.methods import METHODS, make, row, settings_of

MOST_FILES = 1_000_000


@dataclass(frozen=True, slots=True)
class Transcribed:
    """One file. text: as adapted; source: by the model as it came; None where it could not be heard, and `reason` says
    why. seconds: of sound; took: of adapting and writing, without the source's pass. reset: the method began again
    behind it. collapsed: why the recogniser counts as collapsed."""

    path: str
    text: str | None
    source: str | None = None
    reason: str | None = None
    seconds: float = 0.0
    took: float = 0.0
    reset: bool = False
    collapsed: str | None = None

    @property
    def changed(self) -> bool:
        """Whether adapting changed the transcript."""
        return self.text != self.source


def files_of(places: Sequence[str]) -> list[Path]:
    """Files as they are named, and those of folders in the order of their names. DataError for one that is not there,
    or a folder without sound."""
    out: list[Path] = []
    for place in places:
        path = Path(place)
        if path.is_dir():
            found = sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file())
            if not found:
                raise DataError(f"{path}", "holds no sound", f"known are {', '.join(SUFFIXES)}")
            out += found
        elif path.is_file():
            out.append(path)
        else:
            raise DataError(f"{path}", "does not exist", "give files of sound, or folders of them")
        if len(out) > MOST_FILES:
            raise DataError(f"{len(out):,} files", f"above {MOST_FILES:,}", "give fewer at a time")
    return out


def adapted(
    places: Sequence[str],
    model: str,
    method: str,
    given: Mapping[str, Any] | None = None,
    *,
    language_model: str | None = None,
    longest: float = LONGEST,
    seed: int = 0,
) -> Iterator[Transcribed]:
    """Hear files one after the other, and give each transcript as it is written.

    Raises UsageError for a method or setting that there is not, before the model is loaded. A file that cannot be heard
    is given with its reason, and the next one follows.
    """
    from mnemos.models.recognisers.load import load
    from mnemos.study.adaptations.opened import language_of

    settings_of(method, given)
    if row(method).values.get("reset") == "oracle" or (given or {}).get("reset") == "oracle":
        raise UsageError(f"--method {method}", "needs to be told where domains end", "use dsuta-dynamic")
    paths = files_of(places)
    recogniser = load(model_location(model, Path.cwd()))
    adapter = make(method, recogniser, given, seed=seed, language=language_of(language_model))
    rule = Collapse()
    try:
        for path in paths:
            yield _written(path, adapter, longest, rule)
    finally:
        adapter.ears.close()


def _written(path: Path, adapter: Any, longest: float, rule: Collapse) -> Transcribed:
    try:
        clip: Clip = read(path, rate=16000)
        if clip.seconds > longest:
            return Transcribed(str(path), None, reason=f"longer than {longest:g} s", seconds=clip.seconds)
        began = time.monotonic()
        sound = adapter.ears.sound(str(path), clip)
    except RowError as error:
        return Transcribed(str(path), None, reason=str(error.reason))
    except DataError as error:
        return Transcribed(str(path), None, reason=error.bound)
    heard = adapter.hear(sound)
    took = time.monotonic() - began
    source = _by_source(adapter, sound)
    why = rule.saw(Sight(heard.blank, heard.text, source, sound.seconds, heard.entropy))
    return Transcribed(str(path), heard.text, source, None, sound.seconds, took, heard.reset, why)


def _by_source(adapter: Any, sound: Any) -> str:
    """The transcript of the model as it came; what moves is put back."""
    moving = adapter.ears.moving
    if moving is None:
        return str(adapter.ears.text(adapter.ears.asked(sound)))
    kept = moving.values()
    moving.put(moving.source.values)
    text = adapter.ears.text(adapter.ears.asked(sound))
    moving.put(kept)
    return str(text)


def method_rows() -> list[dict[str, Any]]:
    """Every method: name, summary, paper, settings with their values, deviations."""
    return [
        {
            "name": name,
            "summary": one.summary,
            "paper": one.paper,
            "settings": settings_of(name).model_dump(mode="json"),
            "deviations": list(one.deviations),
        }
        for name, one in METHODS.items()
    ]


def last_lines(found: Sequence[Transcribed]) -> list[str]:
    """What came of all of them, in words."""
    heard = [one for one in found if one.text is not None]
    sound, work = sum(one.seconds for one in heard), sum(one.took for one in heard)
    out = [f"{len(heard):,} heard, {sum(one.changed for one in heard):,} transcripts changed by adapting"]
    if sound:
        out.append(f"{sound:.1f} s of sound in {work:.1f} s: a real-time factor of {work / sound:.2f}")
    left = len(found) - len(heard)
    if left:
        out.append(f"{left:,} could not be heard")
    collapsed = next((one for one in heard if one.collapsed), None)
    if collapsed is not None:
        out.append(
            f"collapsed at {collapsed.path}: {collapsed.collapsed}; use dsuta-dynamic, or a method that restores"
        )
    return out
