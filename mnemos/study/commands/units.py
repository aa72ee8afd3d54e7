"""`mnemos listen units`: fit discrete units on an encoder's layer, and write sounds as units for a language model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import write_jsonl
from mnemos.core.nouns import AudioPart, Example, Turn
from mnemos.sources import audio, units
from mnemos.sources.bad_row import RowError

if TYPE_CHECKING:
    from mnemos.models.units.states import LayerStates

MOST_FRAMES = 10_000_000


def examples_at(place: str, limit: int | None = None) -> tuple[Iterator[Example], Counter[str]]:
    """(rows with a sound, bad rows by reason, filled while these are read). place: sounds, or a folder of them without
    transcripts; else whatever rows of sound training reads."""
    from mnemos.sources.read import read
    from mnemos.sources.speech import metadata_files
    from mnemos.study.commands.adapt import files_of
    from mnemos.study.paths import data_location

    bad: Counter[str] = Counter()
    path = Path(place)
    bare = path.suffix.lower() in audio.SUFFIXES or (
        path.is_dir() and not metadata_files(path, "train") and _sounds(path)
    )
    if bare:
        found = files_of([place])[:limit]
        return (_bare(one, path if path.is_dir() else path.parent) for one in found), bad
    source = read(data_location(place, Path()), limit=limit, on_bad="skip")

    def rows() -> Iterator[Example]:
        yield from source
        bad.update({reason: count for reason, count in source.counts.items() if reason != "rows"})

    return rows(), bad


def _sounds(folder: Path) -> bool:
    return any(one.suffix.lower() in audio.SUFFIXES for one in folder.rglob("*"))


def _bare(path: Path, root: Path) -> Example:
    name = str(path.relative_to(root).with_suffix(""))
    return Example(name, "messages", (Turn("user", (AudioPart(str(path)),)),), place=str(path))


def _heard(
    examples: Iterator[Example], states: LayerStates, left_out: Counter[str]
) -> Iterator[tuple[Example, Any, float]]:
    """(row, float32[T, H], seconds) of each row whose sound can be heard; the others are counted by reason."""
    for example in examples:
        sounds = [part for turn in example.turns for part in turn.sounds]
        if len(sounds) != 1:
            left_out[f"{len(sounds)} sounds in a row"] += 1
            continue
        try:
            clip = audio.read(sounds[0].path, rate=states.rate, part=sounds[0], bounds=audio.Bounds(0.0))
        except RowError as problem:
            left_out[problem.reason] += 1
            continue
        if not states.shortest <= clip.seconds <= states.longest:
            left_out["too short" if clip.seconds < states.shortest else "longer than the encoder hears at once"] += 1
            continue
        yield example, states(clip), clip.seconds


def fit_units(
    place: str,
    encoder: str,
    out: Path,
    *,
    layer: int,
    clusters: int,
    normalisation: str = "none",
    frames: int = 200_000,
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit units on the sounds at `place`, and write their directory. frames: sampled at most. Returns what was found.

    Raises DataError where no sound can be heard, and as `models.units.centres.fit` and `LayerStates`.
    """
    from mnemos.models.units.centres import fit, save
    from mnemos.models.units.sample import FrameSample
    from mnemos.models.units.states import LayerStates
    from mnemos.study.commands.tokenizer import refuse_taken
    from mnemos.study.paths import model_location
    from mnemos.train.save import whole

    refuse_taken(out)
    if not 2 <= frames <= MOST_FRAMES:
        raise UsageError(f"frames = {frames:,}", f"must be from 2 to {MOST_FRAMES:,}", "200000 is usual")
    examples, left_out = examples_at(place, limit)
    states = LayerStates(model_location(encoder, Path()), layer)
    sample, clips, seconds = FrameSample(frames, seed), 0, 0.0
    for _, one, lasts in _heard(examples, states, left_out):
        sample.add(one)
        clips, seconds = clips + 1, seconds + lasts
    if not clips:
        raise _nothing(place, left_out)
    made, fitted = fit(sample.frames(), clusters, states, normalisation=normalisation, seed=seed)  # type: ignore[arg-type]
    with whole(out) as folder:
        save(made, folder, fitted)
    return {
        "clips": clips, "seconds": seconds, "frames": sample.seen, "left_out": dict(left_out), "clusters": clusters,
        "layer": layer, "layers": states.layers, "width": made.width, "fitted": fitted.as_dict(), "out": str(out),
    }  # fmt: skip


def _nothing(place: str, left_out: Mapping[str, int]) -> DataError:
    why = ", ".join(f"{reason}: {count:,}" for reason, count in left_out.items()) or "there are no rows"
    return DataError(place, f"holds no sound that can be used ({why})", "check the files, and the columns of the rows")


def fitted_lines(record: Mapping[str, Any]) -> list[str]:
    """What was fitted, for people."""
    fitted = record["fitted"]
    return [
        f"{record['clips']:,} clips, {record['seconds'] / 60:.1f} minutes, {record['frames']:,} frames of layer "
        f"{record['layer']} of {record['layers']}, width {record['width']}",
        *_left_out(record),
        f"{record['clusters']:,} units on {fitted['frames']:,} frames: {fitted['used']:,} used, perplexity "
        f"{fitted['perplexity']:.1f}, {100 * fitted['explained']:.1f} % of the variance explained",
        record["out"],
    ]


def _left_out(record: Mapping[str, Any]) -> list[str]:
    return [f"left out, {reason}: {count:,}" for reason, count in record["left_out"].items()]


def encode_units(
    place: str,
    folder: Path,
    out: Path,
    *,
    encoder: str | None = None,
    form: str = "transcribe",
    prompt: str | None = None,
    chat: bool = False,
    with_counts: bool = False,
    limit: int | None = None,
) -> dict[str, Any]:
    """Write the sounds at `place` as rows of units. folder: of the units. encoder: where theirs lies now, if it has
    been moved; another one is refused. form, prompt, chat, with_counts: of `sources.units.row`.

    A row that asks something about its sound keeps its question, unless `prompt` is given. Returns how many rows there
    are, and how many units a second before and after repeats are merged.
    """
    from mnemos.models.units.centres import load
    from mnemos.models.units.states import LayerStates
    from mnemos.study.commands.tokenizer import refuse_taken
    from mnemos.study.paths import model_location

    refuse_taken(out)
    asked = units.checked_prompt(prompt, form)
    known = load(folder)
    examples, left_out = examples_at(place, limit)
    states = LayerStates(known.encoder if encoder is None else model_location(encoder, Path()), known.layer)
    known.refuse_other(states)
    rows: list[dict[str, Any]] = []
    seconds, frames, kept, longest = 0.0, 0, 0, 0
    for example, one, lasts in _heard(examples, states, left_out):
        found = known.nearest(one)
        try:
            question = asked if prompt is not None or form != "transcribe" else _question(example, asked)
            text = example.turns[-1].text if example.turns[-1].role == "assistant" else ""
            how: Any = {"form": form, "prompt": question, "chat": chat, "with_counts": with_counts}
            rows.append({"id": example.id, **units.row(found, text, **how, beside=example.meta)})
        except RowError as problem:
            left_out[problem.reason] += 1
            continue
        merged = len(units.runs(found)[0])
        seconds, frames, kept, longest = seconds + lasts, frames + len(found), kept + merged, max(longest, merged)
    if not rows:
        raise _nothing(place, left_out)
    write_jsonl(out, rows)
    return {
        "rows": len(rows), "seconds": seconds, "left_out": dict(left_out), "frames_per_second": frames / seconds,
        "units_per_second": kept / seconds, "longest": longest, "clusters": known.size, "out": str(out),
    }  # fmt: skip


def _question(example: Example, usual: str) -> str:
    """What a row asks about its sound, with a place for units; `usual` where it asks nothing."""
    text = next((turn.text for turn in example.turns if turn.sounds), "").strip()
    if not text:
        return usual
    units.refuse_spelled(text, "the question")
    return f"{text.replace(units.INPUT, '')}\nThis is input: {units.INPUT}"


def encoded_lines(record: Mapping[str, Any]) -> list[str]:
    """What was written, for people."""
    return [
        f"{record['rows']:,} rows, {record['seconds'] / 60:.1f} minutes of sound",
        *_left_out(record),
        f"{record['frames_per_second']:.1f} units a second, {record['units_per_second']:.1f} where repeats are merged; "
        f"the longest row has {record['longest']:,}",
        record["out"],
    ]
