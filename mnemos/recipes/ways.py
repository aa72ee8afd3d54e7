"""Several ways to ask one model the same items: which model, each way once, and two compared item by item."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import LanguageModel, Score
from mnemos.core.places import author_location
from mnemos.core.plan import ModelHandle
from mnemos.measure.ask import Measured, load_measured, measure, save_measured
from mnemos.measure.suite import Suite
from mnemos.measure.uncertainty import mean_interval, paired
from mnemos.models.load import handle
from mnemos.recipes.findings import Ordering, judge
from mnemos.recipes.pages import in_percent
from mnemos.recipes.reproduce import models_folder


def named_model(name: str) -> ModelHandle:
    """What `--model` of a recipe names: a directory, a hub id, a server, or a name below `models_folder`."""
    own = models_folder() / name
    return handle(str(own) if own.is_dir() else author_location(name, Path.cwd(), "--model"))


def ask(
    model: LanguageModel,
    out: Path,
    name: str,
    suites: Sequence[Suite],
    how: Callable[[], dict[str, Measured]] | None = None,
) -> dict[str, Measured]:
    """What a way's suites found, by suite. It lies below `out`, in a folder named after the way, the model and the
    suites, and what lies there is not asked again. how: asks, where not each suite its own question."""
    print_of = fingerprint([model.fingerprint, [suite.fingerprint for suite in suites]])
    folder = out / f"{name.replace(' ', '-')}-{print_of[:8]}"
    kept = load_measured(folder) if folder.is_dir() else {}
    if set(kept) != {suite.name for suite in suites}:
        kept = measure(model, suites) if how is None else how()
        save_measured(folder, kept)
        print(f"{name}: asked", file=sys.stderr, flush=True)
    return kept


def mean(scores: Sequence[Score]) -> tuple[float | None, float | None, float | None]:
    """The mean over items that have a score, and its 95 % interval; None where there is none."""
    values = [score.value for score in scores if not math.isnan(score.value)]
    return mean_interval(values) if values else (None, None, None)


def ordering(test: Ordering, arm: Sequence[Score], than: Sequence[Score]) -> dict[str, Any]:
    """Does a way stand to another as expected? The difference over items that both have a score for, with its 95 %
    interval, and the verdict; CANNOT TELL where no item has both."""
    pairs = [
        (before.value, after.value)
        for before, after in zip(than, arm, strict=True)
        if not (math.isnan(before.value) or math.isnan(after.value))
    ]
    found: dict[str, Any] = {"arm": test.arm, "than": test.than, "measure": test.measure, "expect": test.expect}
    if not pairs:
        return {**found, "items": 0, "verdict": judge(test, None, None)}
    one = paired([before for before, _ in pairs], [[after for _, after in pairs]], power=False)
    numbers = {"items": len(pairs), "delta": one.delta, "low": one.low, "high": one.high}
    return {**found, **numbers, "verdict": judge(test, one.low, one.high)}


def ordering_lines(orderings: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of Markdown. Each with `paper`, the paper's numbers in words, and in percent."""
    out = ["| | score | expected | the paper | difference | verdict |", "|---|---|---|---|---|---|"]
    for one in orderings:
        size = "-" if "delta" not in one else in_percent([one["delta"], one["low"], one["high"]])
        what = f"{one['arm']} - {one['than']} | {one['measure']} | {one['expect']} | {one['paper']}"
        out.append(f"| {what} | {size} | {one['verdict']} |")
    return out
