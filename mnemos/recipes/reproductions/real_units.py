"""What the reproduction of sounds as discrete units beside a bridge reads: digits that people said, asked in one
wording of both, a vocabulary with units, and an untrained model that listens.

Called with (data, out) as in prepare.py; data: the folder of third-party data, which keep their own licences (fsdd CC
BY-SA 4.0, the others as in real_models.py) and never enter this repository. Layer and number of units are chosen on
takes that are learned from: by what a count of neighbouring units tells of takes that it was not made of. Takes that
measure are looked at by no choice. A missing file raises FileNotFoundError.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnemos.core.files import read_json, read_jsonl, write_json, write_jsonl
from mnemos.models.speech.files import make as make_listener
from mnemos.recipes.reproduce import models_folder
from mnemos.recipes.reproductions.adaptation import TEST_TAKES, read_digits, write_rows
from mnemos.recipes.reproductions.prepare import Row
from mnemos.recipes.reproductions.real_models import benign_rows, refusal_suites, requests
from mnemos.recipes.unit_digits import rows_of
from mnemos.sources.units import INPUT, runs, text_of, tokens, units_of

if TYPE_CHECKING:
    from mnemos.models.units.states import LayerStates, States

TAKES, TESTED = 6, 2
"""Takes of each digit and speaker that are learned, and of the data set's own test takes that are asked."""
HELD = 2
"""Of the learned takes, those that choose layer and number of units."""
LAYERS, CLUSTERS = (3, 4, 5, 6), (64, 128)
"""What is chosen from."""
SYSTEM, QUESTION = "Listen.", "Which digit is spoken?"
"""What is said before every clip, in few tokens, and behind it."""
TEXTS, HARMFUL = 30, 40
PARTS = ("train", "test")
ENCODED = "encoded.json"
"""Layer, number of units, and each clip's units: what `units` writes last, so that it is whole where it is there."""


def digits(data: Path, out: Path) -> None:
    """Clips, the rows of both studies without their units, and suites of text."""
    below = out / "data"
    recordings = read_digits(data / "fsdd")
    learned = range(TEST_TAKES.stop, TEST_TAKES.stop + TAKES)
    for name, takes in zip(PARTS, (learned, range(TESTED)), strict=True):
        write_rows(below, name, rows_of(recordings, takes))
    _rows(below, {})
    texts = benign_rows(data)[:TEXTS]
    write_jsonl(below / "texts.jsonl", [{"id": f"read-{n}", "text": one["output"]} for n, one in enumerate(texts)])
    refusal_suites(data, below, requests(data)[2][:HARMFUL])


def _rows(below: Path, units: Mapping[str, str]) -> None:
    """Rows and items of both studies: the same conversations, in which a sound, or its units, stands first. units: clip
    -> its units as text; where one is not known yet, its place is left."""
    for part in PARTS:
        clips = list(read_jsonl(below / f"{part}.jsonl"))
        heard = [(one, [{"type": "audio", "audio": one["audio"]}, {"type": "text", "text": f"\n{QUESTION}"}])
                 for one in clips]  # fmt: skip
        read = [(one, f"{units.get(one['id'], INPUT)}\n{QUESTION}") for one in clips]
        if part == "train":
            # With the word beside it, which a method may put in the sound's place.
            spoken = [{**_taught(one, content), "transcript": one["text"]} for one, content in heard]
            write_jsonl(below / "train-heard.jsonl", spoken)
            write_jsonl(below / "train-units.jsonl", [_taught(one, content) for one, content in read])
    asked = [{"id": one["id"], "audio": one["audio"], "instruction": QUESTION, "label": one["text"]} for one in clips]
    write_jsonl(below / "test-heard.jsonl", asked)
    turns = [(one, [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}])
             for one, content in read]  # fmt: skip
    write_jsonl(
        below / "test-units.jsonl",
        [{"id": one["id"], "messages": messages, "answer": one["text"]} for one, messages in turns],
    )


def _taught(clip: Row, content: Any) -> Row:
    turns = ("system", SYSTEM), ("user", content), ("assistant", clip["text"])
    return {"id": clip["id"], "messages": [{"role": role, "content": text} for role, text in turns]}


def models(data: Path, out: Path) -> None:
    """Units and the rows that hold them, a language model whose vocabulary has them, and an untrained one with ears."""
    from mnemos.study.commands.tokenizer import add_tokens

    below = out / "data"
    qwen, whisper = (str(models_folder() / name) for name in ("qwen", "whisper-base"))
    if not (below / ENCODED).is_file():
        for name in ("units", "extended", "listener"):
            shutil.rmtree(below / name, ignore_errors=True)
        found = units(below, whisper)
        add_tokens(qwen, tokens(found["clusters"]), None, below / "extended", suppress=True)
        make_listener(below / "listener", language=qwen, encoder=whisper, bridge={"kind": "mlp"})
        write_json(below / ENCODED, found)
    _rows(below, read_json(below / ENCODED)["units"])


def units(below: Path, encoder: str) -> dict[str, Any]:
    """Choose layer and number of units, fit them on every clip that is learned, and say what each clip is in them.
    Writes the directory `units`."""
    from mnemos.models.units.centres import fit, save
    from mnemos.models.units.states import LayerStates

    layers = {layer: LayerStates(encoder, layer) for layer in LAYERS}
    clips = {part: list(read_jsonl(below / f"{part}.jsonl")) for part in PARTS}
    states = {part: list(_states(below, found, next(iter(layers.values())))) for part, found in clips.items()}
    words = [clip["text"] for clip in clips["train"]]
    held = _held(words)
    shares: list[dict[str, Any]] = []
    for place, layer in enumerate(LAYERS):
        own = [one[place] for one in states["train"]]
        frames = np.concatenate([one for one, out in zip(own, held, strict=True) if not out])
        for clusters in CLUSTERS:
            made, _ = fit(frames, clusters, layers[layer], normalisation="standard")
            read = [runs(made.nearest(one))[0] for one in own]
            shares.append({"layer": layer, "clusters": clusters, "right": share_right(read, words, held)})
    # The first of equally good ones: the lower layer, and the fewer units.
    best = max(shares, key=lambda one: one["right"])
    place = LAYERS.index(best["layer"])
    every = np.concatenate([one[place] for one in states["train"]])
    made, fitted = fit(every, best["clusters"], layers[best["layer"]], normalisation="standard")
    folder = below / "units"
    folder.mkdir(parents=True)
    save(made, folder, fitted)
    spelled = {
        clip["id"]: text_of(runs(made.nearest(one[place]))[0])
        for part in PARTS
        for clip, one in zip(clips[part], states[part], strict=True)
    }
    return {**best, "tried": shares, "units": spelled}


def _states(below: Path, clips: Sequence[Row], of: LayerStates) -> Iterator[list[States]]:
    """Of each clip, float32[T, H] of every one of `LAYERS`."""
    from mnemos.sources import audio

    for clip in clips:
        samples = audio.read(below / clip["audio"], rate=of.rate).samples
        yield list(of.encoder.states(samples, [layer - 1 for layer in LAYERS]).numpy())


def _held(words: Sequence[str]) -> list[bool]:
    """Which of the learned clips choose: of each word and speaker, whose takes follow each other, the last ones."""
    return [number % TAKES >= TAKES - HELD for number, _ in enumerate(words)]


def share_right(read: Sequence[Sequence[int]], words: Sequence[str], held: Sequence[bool]) -> float:
    """The share of held clips whose word is the likeliest by naive Bayes over pairs of neighbouring units, beginning
    and end included, each count one more than it is. read: units of each clip."""
    pairs = [list(pairwise([-1, *one, -2])) for one in read]
    counts: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    for found, word, out in zip(pairs, words, held, strict=True):
        if not out:
            counts[word].update(found)
    kinds = len(set().union(*counts.values())) + 1  # and one for all that were never seen
    totals = {word: sum(own.values()) + kinds for word, own in counts.items()}
    right = [
        word == max(counts, key=lambda guess: sum(math.log((counts[guess][one] + 1) / totals[guess]) for one in found))
        for found, word, out in zip(pairs, words, held, strict=True)
        if out
    ]
    return sum(right) / len(right)


# the two studies beside each other -----------------------------------------------------------

STUDIES = {"units": "units", "bridge": "units_bridge"}
"""What is compared, and the folder of its part."""
PAIRS = (
    (("bridge", "lora"), ("units", "plain")),
    (("bridge", "plain"), ("units", "plain")),
    (("units", "masked"), ("units", "plain")),
)
"""Arms whose difference is printed, the first minus the second."""


def beside(data: Path, out: Path) -> list[str]:
    """Lines of the table: each arm's score in each suite, and the differences of `PAIRS`, paired by item."""
    from mnemos.study.results.items import FILE, read_items

    kept = {name: read_items(out / folder / FILE) for name, folder in STUDIES.items()}
    scales = {name: read_json(out / folder / "results.json") for name, folder in STUDIES.items()}
    known = {one["suite"]: (one["scale"], one["unit"]) for found in scales.values() for one in found["comparisons"]}
    return [*counted(out / "data"), *compared(kept, known)]


def counted(below: Path) -> list[str]:
    """What was chosen, and what a count of neighbouring units over all learned takes tells of those that measure: how
    much of the words the units still hold, whatever learns to read them."""
    found = read_json(below / ENCODED)
    clips = [(part, clip) for part in PARTS for clip in read_jsonl(below / f"{part}.jsonl")]
    read = [units_of(found["units"][clip["id"]]) for _, clip in clips]
    share = share_right(read, [clip["text"] for _, clip in clips], [part == "test" for part, _ in clips])
    lengths = [len(one) for one in read]
    return [
        f"layer {found['layer']}, {found['clusters']} units: pairs of units tell {100 * found['right']:.1f} % of held "
        f"takes and {100 * share:.1f} % of those that measure; {sum(lengths) / len(lengths):.1f} units a clip"
    ]


def compared(kept: Mapping[str, Mapping[str, Any]], known: Mapping[str, tuple[float, str]]) -> list[str]:
    """kept: study -> what `read_items` gives. known: suite -> the factor of its scores, and their unit. Suites and
    items that both studies have are compared, and arms that were walked; of several seeds an item has its mean."""
    from mnemos.measure.uncertainty import paired

    sides = {name: _sides(found) for name, found in kept.items()}
    suites = [name for name in kept["units"]["suites"] if name in kept["bridge"]["suites"] and name in known]
    lines = [f"{'':<18}" + "".join(f"{study + ' ' + arm:>16}" for study, own in sides.items() for arm in own)]
    for suite in suites:
        scale, _ = known[suite]
        means = [scale * _mean(kept[study], suite, one[suite]) for study, own in sides.items() for one in own.values()]
        lines.append(f"{suite:<18}" + "".join(f"{mean:>16.4g}" for mean in means))
    there = [((study, arm), (other, than)) for (study, arm), (other, than) in PAIRS
             if arm in sides[study] and than in sides[other]]  # fmt: skip
    for (study, arm), (other, than) in there:
        lines.append(f"{study} {arm} - {other} {than}, with 95 % intervals over items, of these checkpoints:")
        for suite in suites:
            scale, unit = known[suite]
            first, second = sides[study][arm][suite], sides[other][than][suite]
            names = [name for name in first if None not in (first[name], second.get(name))]
            weights = dict(zip(kept[study]["suites"][suite]["items"], kept[study]["suites"][suite]["weights"],
                               strict=True))  # fmt: skip
            found = paired(
                [second[name] or 0.0 for name in names],
                [[first[name] or 0.0 for name in names]],
                weights=[weights[name] for name in names],
                bounded=unit == "points",
                power=False,
            )
            low, high = (math.nan if one is None else scale * one for one in (found.low, found.high))
            lines.append(
                f"  {suite:<16} {scale * found.delta:+.4g} [{low:+.4g}, {high:+.4g}] {unit}, {len(names)} items"
            )
    return lines


Scores = dict[str, float | None]


def _sides(kept: Mapping[str, Any]) -> dict[str, dict[str, Scores]]:
    """arm -> suite -> item -> its mean score over seeds, None where one has none; the model before is `before`."""
    found: dict[str, dict[str, list[list[float | None]]]] = {}
    for side in kept["sides"]:
        if side["arm"] is None or side["last"]:
            own = found.setdefault(side["arm"] or "before", defaultdict(list))
            for suite, values in side["scores"].items():
                own[suite].append(values)
    return {
        arm: {
            suite: {
                item: None if None in values else math.fsum(one or 0.0 for one in values) / len(values)
                for item, *values in zip(kept["suites"][suite]["items"], *rows, strict=True)
            }
            for suite, rows in own.items()
        }
        for arm, own in found.items()
    }


def _mean(kept: Mapping[str, Any], suite: str, scores: Scores) -> float:
    weights = dict(zip(kept["suites"][suite]["items"], kept["suites"][suite]["weights"], strict=True))
    there = [(weights[item], value) for item, value in scores.items() if value is not None]
    total = math.fsum(weight for weight, _ in there)
    return math.fsum(weight * value for weight, value in there) / total if there else math.nan
