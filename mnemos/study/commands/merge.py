"""Merging from the command line: one result, a sweep over named numbers, or a greedy soup.

What is measured is measured here, so that the arithmetic in `models` knows no suite.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mnemos.core.errors import UsageError, nearest
from mnemos.core.files import read_json, write_json, write_text
from mnemos.core.fingerprint import fingerprint
from mnemos.weights.combination import Call, Combination
from mnemos.weights.expression import names_in, parse

MOST_POINTS = 1000
SWEEP = "sweep.json"
SOUP = "soup.json"
POINT = ".point"
"""In the folder of a point: the key of what was written there, beside the weights and after them."""

Keep = Literal["best", "all"]


@dataclass(frozen=True)
class Bound:
    """An expression whose names are bound. places: name -> local directory."""

    text: str
    places: Mapping[str, Path]
    numbers: Mapping[str, float]

    @property
    def expression(self) -> Combination:
        """With the numbers filled in."""
        return parse(self.text, self.numbers)


def bind(text: str, given: Sequence[str], numbers: Mapping[str, float], *, more: Sequence[str] = ()) -> Bound:
    """Bind NAME=PLACE pairs and numbers to an expression's names.

    more: names that may stand beside those of the expression. Raises UsageError for a name that is
    bound twice, not at all, or for nothing.
    """
    from mnemos.study.paths import model_location
    from mnemos.weights.checkpoint import resolve

    pairs = [text_.partition("=") for text_ in given]
    for name, sign, place in pairs:
        if not sign or not name.isidentifier() or not place:
            raise UsageError(f"{name}{sign}{place}", "must be NAME=DIRECTORY", "for example chat=models/chat")
    written = names_in(text)
    names = [name for name, _, _ in pairs] + list(numbers)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"{twice[0]}", "is given twice", "bind each name once, to a checkpoint or to a number")
    idle = [name for name in names if name not in (*written, *more)]
    if idle and written:
        raise UsageError(f"{idle[0]}", "does not stand in the expression", nearest(idle[0], written))
    missing = [name for name in written if name not in names]
    if missing:
        raise UsageError(
            f"{missing[0]} in {text!r}",
            "is neither a checkpoint nor a number here",
            f"{nearest(missing[0], names)}\n  write {missing[0]}=DIRECTORY, or --let {missing[0]}=NUMBER",
        )
    parse(text, numbers)
    locations = {name: model_location(place, Path.cwd()) for name, _, place in pairs}
    places = {name: resolve(at, allow_pickle=False, trust_remote_code=False) for name, at in locations.items()}
    return Bound(text, places, dict(numbers))


def trunk_of(expression: Combination, places: Mapping[str, Path]) -> str:
    """The model that the rest is added to: the first with a positive coefficient; of an operator, its first."""
    from mnemos.weights.files import VECTOR

    for atom, coefficient in expression.terms:
        if isinstance(coefficient, float) and coefficient < 0:
            continue
        name = atom if isinstance(atom, str) else trunk_of(atom.models[0], places) if atom.models[0].terms else None
        if name is not None and not (places[name] / VECTOR).is_file():
            return name
    names = expression.names
    if not names:
        raise UsageError(f"{expression}", "names no checkpoint", "write at least one name")
    return names[0]


def axis(text: str) -> tuple[str, list[float]]:
    """``rho=0:1.5:0.1`` as the name and its values, both ends included."""
    match = re.fullmatch(r"(\w+)=([^:]+):([^:]+):([^:]+)", text)
    try:
        if match is None:
            raise ValueError
        low, high, step = (float(match[i]) for i in (2, 3, 4))
        # (1.5 - 0) / 0.1 is 15.000000000000002; without rounding the last value would be there or not by chance.
        count = round((high - low) / step, 6)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(f"--sweep {text}", "must be NAME=FROM:TO:STEP", "for example rho=0:1.5:0.1") from None
    if not 0 <= count < MOST_POINTS:
        raise UsageError(f"--sweep {text}", f"has {count + 1:g} values, not 1 to {MOST_POINTS}", "change the step")
    return match[1], [round(low + i * step, 10) for i in range(int(count + 1e-6) + 1)]


@dataclass
class Judge:
    """Measures checkpoints on suites. What was measured once is kept in `file` and not measured again."""

    suites: Sequence[str]
    file: Path

    def __post_init__(self) -> None:
        from mnemos.measure.suite import load_suites

        self.loaded = list(load_suites(list(self.suites), Path.cwd()))
        needy = [suite.name for suite in self.loaded if suite.kind == "kl"]
        if needy:
            raise UsageError(f"suite {needy[0]}", "looks at answers of the model before, which a sweep has none of", "")
        self.known: dict[str, Any] = {}
        if self.file.is_file():
            self.known = read_json(self.file)["measured"]

    def key(self, expression: str, inputs: Any) -> str:
        """The name of one measurement: expression, inputs and suites by content."""
        return fingerprint([expression, inputs, [suite.fingerprint for suite in self.loaded]])

    def measure(self, key: str, expression: str, place: Path) -> dict[str, Any]:
        """{expression, score, suites: {name: mean}} of a checkpoint."""
        if key not in self.known:
            from mnemos.measure.ask import measure
            from mnemos.measure.compare import summary
            from mnemos.models.load import Checkpoint

            measured = measure(Checkpoint(str(place)).load(), self.loaded)
            means = {suite.name: summary(measured[suite.name].scores, suite)["mean"] for suite in self.loaded}
            self.known[key] = {"expression": expression, "score": self.score(means), "suites": means}
            write_json(self.file, {"suites": [suite.name for suite in self.loaded], "measured": self.known})
        found: dict[str, Any] = self.known[key]
        return found

    def score(self, means: Mapping[str, float | None]) -> float | None:
        """One number to choose by: the mean over the suites in points, over all where there are none;
        where less is better, its negative. None where a suite could not be scored."""
        # Points and bits have no common scale, so bits decide only where there is nothing else.
        points = [suite for suite in self.loaded if suite.unit == "points"] or self.loaded
        values = [means[suite.name] for suite in points]
        if any(value is None for value in values):
            return None
        signed = [v if s.better == "higher" else -v for s, v in zip(points, values, strict=True) if v is not None]
        return sum(signed) / len(signed)


def merge(bound: Bound, out: Path, *, how: Any, trunk: str | None = None) -> Any:
    """Write one result with its card; see `weights.write.combine`."""
    from mnemos.weights.write import combine

    expression = bound.expression
    return combine(
        expression, bound.places, out, parent=trunk or trunk_of(expression, bound.places), how=replace(how, card=True)
    )


def measured_table(bound: Bound, out: Path, suites: Sequence[str], new: Sequence[str], trunk: str) -> str:
    """Compare the trunk with the result, put the table into the card; returns the text report."""
    from mnemos.report import card
    from mnemos.study.commands.compare import compare
    from mnemos.weights.card import add_table

    # A chat vector changes the template by intent; the card says whose it is.
    record = compare(bound.places[trunk], out, suites, new=new, allow_template_change=True)
    add_table(out, card(record.results))
    return record.report("text")


def sweep(
    bound: Bound,
    axes: Sequence[tuple[str, list[float]]],
    out: Path,
    suites: Sequence[str],
    *,
    how: Any,
    keep: Keep = "best",
    trunk: str | None = None,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Write, measure and remove each point; keep the best, or all, under `out`.

    Returns the measurements in the order of the grid, each with its `point` and, where it was kept,
    its `path`. A killed sweep continues: points that are measured are not measured again.
    """
    out.mkdir(parents=True, exist_ok=True)
    judge = Judge(suites, out / SWEEP)
    names = [name for name, _ in axes]
    points = math.prod(len(values) for _, values in axes)
    if points > MOST_POINTS:
        bound_words = f"is a grid of {points:,} points, above {MOST_POINTS:,}"
        raise UsageError(f"--sweep {' '.join(names)}", bound_words, "take larger steps")
    grid = list(itertools.product(*(values for _, values in axes)))
    inputs = [_inputs(bound.places), asdict(replace(how, threads=None)), trunk]
    rows: list[dict[str, Any]] = []
    keys: dict[str, str] = {}
    best: dict[str, Any] | None = None
    for values in grid:
        point = dict(zip(names, values, strict=True))
        here = replace(bound, numbers={**bound.numbers, **point})
        text = str(here.expression)
        place = out / _label(point)
        key = judge.key(text, inputs)
        keys[place.name] = key
        if key not in judge.known or keep == "all":
            _written(here, place, key, how=how, trunk=trunk)
        row = {"point": point, **judge.measure(key, text, place)}
        say(
            f"{place.name:<24} {_number(row['score'])}  "
            + "  ".join(f"{n} {_number(v)}" for n, v in row["suites"].items())
        )
        rows.append(row)
        better = row["score"] is not None and (best is None or row["score"] > best["score"])
        # One merged model beside the best one at a time is all that the disk has to hold.
        gone = place if not better else out / _label(best["point"]) if best is not None else None
        best = row if better else best
        if keep == "best" and gone is not None:
            shutil.rmtree(gone, ignore_errors=True)
    if best is not None:
        here = replace(bound, numbers={**bound.numbers, **best["point"]})
        label = _label(best["point"])
        _written(here, out / label, keys[label], how=how, trunk=trunk)
    for row in rows:
        place = out / _label(row["point"])
        row["path"] = str(place) if _holds(place, keys[place.name]) else None
    return rows


def _written(bound: Bound, place: Path, key: str, *, how: Any, trunk: str | None) -> None:
    """Write a point unless its folder holds it. Folders are named by the numbers alone: that of another expression or
    of other checkpoints, or of a merge that was killed, bears the same name."""
    if not _holds(place, key):
        shutil.rmtree(place, ignore_errors=True)
        merge(bound, place, how=how, trunk=trunk)
        write_text(place / POINT, key)


def _holds(place: Path, key: str) -> bool:
    file = place / POINT
    return file.is_file() and file.read_text(encoding="utf-8") == key


def soup(
    bound: Bound, out: Path, suites: Sequence[str], *, how: Any, trunk: str | None = None,
    say: Callable[[str], None] = print,
) -> Combination:  # fmt: skip
    """The greedy soup (arXiv:2203.05482): candidates by falling score, each added to the mean if
    that does not lower the score. Writes the result at `out`; returns it as an expression.

    Trap: the suites that choose are no longer evidence for the result; measure it on others.
    """
    candidates = soup_names(bound.expression)
    scratch = out.with_name(f".{out.name}.soup")
    scratch.mkdir(parents=True, exist_ok=True)
    judge = Judge(suites, scratch / SOUP)
    inputs = [_inputs(bound.places), asdict(replace(how, threads=None)), *([trunk] if trunk else [])]
    texts = [str(Combination(((name, 1.0),))) for name in candidates]
    scores = [
        judge.measure(judge.key(t, inputs), t, bound.places[n])["score"] for t, n in zip(texts, candidates, strict=True)
    ]
    for name, score in zip(candidates, scores, strict=True):
        say(f"{name:<24} {_number(score)}")
    ranked = sorted((n for n, s in zip(candidates, scores, strict=True) if s is not None),
                    key=lambda name: -scores[candidates.index(name)])  # fmt: skip
    if not ranked:
        raise UsageError("soup", "no candidate could be scored", "see the reasons with mnemos compare")
    # Greedy soup (arXiv:2203.05482): from the best candidate on, each is kept if the mean with it is no worse.
    chosen, level = [ranked[0]], scores[candidates.index(ranked[0])]
    for name in ranked[1:]:
        text = f"mean({', '.join([*chosen, name])})"
        place = scratch / "candidate"
        key = judge.key(text, inputs)
        if key not in judge.known:
            shutil.rmtree(place, ignore_errors=True)
            merge(replace(bound, text=text), place, how=how, trunk=trunk or chosen[0])
        score = judge.measure(key, text, place)["score"]
        taken = score is not None and score >= level
        say(f"+ {name:<22} {_number(score)}  {'taken' if taken else 'left out'}")
        if taken:
            chosen.append(name)
            level = score
    text = chosen[0] if len(chosen) == 1 else f"mean({', '.join(chosen)})"
    merge(replace(bound, text=text), out, how=how, trunk=trunk or chosen[0])
    shutil.rmtree(scratch)
    return parse(text)


def soup_names(expression: Combination) -> list[str]:
    """The candidates of ``soup(a, b, …)``; UsageError where soup is but a part, or of other than names."""
    atom = expression.terms[0][0] if len(expression.terms) == 1 and expression.terms[0][1] == 1 else None
    if not isinstance(atom, Call) or atom.operator != "soup":
        raise UsageError(f"{expression}", "soup must be the whole expression", "write soup(a, b, c)")
    for model in atom.models:
        if len(model.terms) != 1 or model.terms[0][1] != 1 or not isinstance(model.terms[0][0], str):
            raise UsageError(f"soup of {model}", "takes names of checkpoints", "save the sum first and name it")
    return [str(model.terms[0][0]) for model in atom.models]


def _inputs(places: Mapping[str, Path]) -> dict[str, Any]:
    """What the checkpoints are, cheaply: file names, sizes and times."""
    return {name: sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in place.iterdir() if f.is_file())
            for name, place in places.items()}  # fmt: skip


def _label(point: Mapping[str, float]) -> str:
    return ",".join(f"{name}={value:g}" for name, value in point.items())


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4f}"


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of a sweep for programs."""
    return json.dumps(list(rows), indent=1, ensure_ascii=False)
