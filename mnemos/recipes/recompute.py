"""Compute every interval of a results.json again from the items' scores that lie beside it.

    python -m mnemos.recipes.recompute docs/results/chat_vector.json runs/reproductions/safety/benign
    python -m mnemos.recipes.recompute --keep runs/reproductions/chat-vector/chat_vector docs/results/chat_vector.json

Scores lie in items.json.gz beside a run's results.json, and in NAME.items.json.gz beside docs/results/NAME.json.
--keep copies both files of a run there. Exit code 1 where something comes out otherwise, or where there are no scores.
A study of a stream has its scores in the journal of its streams: its results are kept alone and not computed again.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from mnemos.core.errors import DataError, MnemosError, UsageError
from mnemos.core.files import read_json, write_text
from mnemos.core.places import RECIPES, resolved
from mnemos.recipes.reproduce import MODELS_VARIABLE, models_folder
from mnemos.study.results.again import computed_again, unlike
from mnemos.study.results.items import FILE, read_items, scores_beside

SHIPPED = re.compile(r"/[^\"\s]*/mnemos/recipes/")
"""Where any checkout's recipes lie."""

JOURNALLED = ("adaptation", "stream")
"""Kinds of results whose scores are steps of a stream."""

SHOWN = 10
"""Differences that are printed of one file."""


def differences(results: Path) -> list[str]:
    """What a results.json says otherwise than its items' scores. Raises DataError where there are none."""
    scores = scores_beside(results)
    if not scores.is_file():
        raise DataError(f"{results}", f"has no scores beside it ({scores.name})", "run the study again")
    printed = read_json(results)
    return list(unlike(printed, computed_again(printed, read_items(scores))))


def journalled(results: Path) -> bool:
    """Whether the scores of a results.json lie in a journal and not beside it."""
    return read_json(results).get("kind") in JOURNALLED


def keep(run: Path, target: Path) -> None:
    """Copy a run's results and scores: on one line, without answers (`flips`), and without the places of one machine:
    what ships with a package, this one or another checkout's, and real models are named as people write them, what lies
    in the run or beside it from there on. Raises UsageError for a directory without them."""
    scored = not ((run / "results.json").is_file() and journalled(run / "results.json"))
    for name in ("results.json", *([FILE] if scored else [])):
        if not (run / name).is_file():
            raise UsageError(f"{run}", f"holds no {name}", "name the directory of a finished run")
    results = {key: part for key, part in read_json(run / "results.json").items() if key != "flips"}
    text = json.dumps(results, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = SHIPPED.sub("mnemos:", text.replace(f"{RECIPES}/", "mnemos:"))
    text = text.replace(f"{models_folder()}/", f"${MODELS_VARIABLE}/")
    for place in (resolved(run), resolved(run).parent):
        text = text.replace(f"{place}/", "")
    write_text(target, text + "\n")
    if scored:
        shutil.copyfile(run / FILE, scores_beside(target))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mnemos.recipes.recompute", description="Intervals, once more.")
    parser.add_argument("results", type=Path, nargs="+", help="a results.json, or a run directory")
    parser.add_argument("--keep", type=Path, metavar="RUN", help="first copy this run's results and scores there")
    given = parser.parse_args(arguments)
    wrong = False
    try:
        if given.keep is not None:
            keep(given.keep, given.results[0])
        for path in given.results:
            file = path / "results.json" if path.is_dir() else path
            if file.is_file() and journalled(file):
                print(f"{file}: its scores lie in a journal and are not looked at")
                continue
            found = differences(file)
            wrong = wrong or bool(found)
            print(f"{file}: {f'{len(found)} differences' if found else 'every interval comes out again'}")
            print("".join(f"  {line}\n" for line in found[:SHOWN]), end="")
    except MnemosError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
