"""`mnemos labels` as a person types it, on a tiny model, what is left of it by a kill, and the study that it writes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import mnemos
from mnemos.cli import app
from mnemos.core.errors import DataError
from mnemos.core.files import read_json, read_jsonl
from mnemos.core.yaml_text import dump_yaml, read_yaml
from mnemos.measure.in_context import Asked, Labelled
from mnemos.sources.read import read
from mnemos.study.commands.labels import ask_labels, labelled_rows
from tests.measure.test_in_context import Reader
from tests.study.worlds import write_jsonl
from tests.tiny import save_tiny


@dataclass
class Loaded:
    """A handle whose model is there."""

    model: Any
    path: str = "scripted"
    fingerprint: str = "scripted"

    def load(self) -> Any:
        return self.model


FEW = ("--shots", "0", "--shots", "2", "--items", "4", "--draws", "2")


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["labels", *map(str, arguments)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"said": f"{name} {n}", "is": name} for n in range(12) for name in ("plant", "tool", "river")]
    write_jsonl(tmp_path / "data.jsonl", [*rows, {"said": "plant " * 100, "is": "plant"}, {"said": "Broken"}])
    return tmp_path / "data.jsonl"


COLUMNS = ("--column", "prompt=said", "--column", "completion=is", "--label", "plant", "--label", "tool")


def test_it_asks_in_context_and_writes_what_it_found(data: Path, tmp_path: Path) -> None:
    model, out = save_tiny(tmp_path / "M"), tmp_path / "labels"
    done = invoke(data, "--model", model, *COLUMNS, *FEW, "--out", out)
    assert done.exit_code == 0, (done.output, done.exception)
    record = read_json(out / "labels.json")
    assert record["labels"] == ["plant", "tool"]
    assert [(cell["labelling"], cell["shots"]) for cell in record["cells"]] == [
        (name, shots) for shots in (0, 2) for name in ("gold", "random", "abstract", "minimal")
    ]
    assert [one["shots"] for one in record["learned"]] == [2]
    assert "2 labels, 4 items, 2 draws of examples; 0 is chance (50.0 %)" in done.output
    for reason in ("12 another label", "1 longer than 400 characters"):
        assert f"left out: {reason}" in done.output, done.output
    assert done.output.count("left out: ") == 3, "the bad row is counted"
    assert re.search(r"(HOLDS|DOES NOT HOLD|CANNOT TELL) +random labels are above chance with 2 examples", done.output)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--label", "mineral"], "'mineral'"),
        (["--template", "{text}"], "must hold {text} once and end in {label}"),
        (["--items", "30"], "12 rows"),
        (["--learn", "500"], "from 1 to 20"),
    ],
)
def test_what_cannot_be_asked_is_refused(words: list[str], message: str, data: Path, tmp_path: Path) -> None:
    done = invoke(data, "--model", save_tiny(tmp_path / "M"), *COLUMNS, *FEW, *words, "--out", tmp_path / "out")
    assert message in str(done.exception)


def test_a_killed_asking_goes_on_where_it_was(tmp_path: Path) -> None:
    rows = [Labelled(f"{name} {n}", name) for n in range(20) for name in ("plant", "tool")]
    asked = Asked(shots=(0, 4), draws=2)

    class Killed(Reader):
        calls = 0

        def choose(self, *given: Any) -> Any:
            self.calls += 1
            if self.calls == 4:
                raise KeyboardInterrupt
            return super().choose(*given)

    whole = ask_labels(rows, Loaded(Reader(learns=1)), tmp_path / "whole", asked, 10)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        ask_labels(rows, Loaded(Killed(learns=1)), tmp_path / "broken", asked, 10)  # type: ignore[arg-type]
    again = Reader(learns=1)
    found = ask_labels(rows, Loaded(again), tmp_path / "broken", asked, 10)  # type: ignore[arg-type]
    assert {**found, "seconds": 0} == {**whole, "seconds": 0}
    # Fourteen readings of the examples in all, of which three were kept.
    assert again.read == 14 - 3


def test_the_study_that_it_writes_trains_on_each_labelling(data: Path, tmp_path: Path) -> None:
    model, out = save_tiny(tmp_path / "M"), tmp_path / "school"
    done = invoke(data, "--model", model, *COLUMNS, "--items", "8", "--learn", "2", "--learn", "4", "--out", out)
    assert done.output == f"mnemos run {out / 'study.yaml'}\n", done.exception
    arms = {name: [{"select": {"by": "random", "rows": 2}}] for name in ("gold-2", "abstract-2")}
    study = read_yaml(out / "study.yaml")
    assert [*study["arms"]] == [f"{labels}-{rows}" for labels in ("gold", "random", "abstract") for rows in (2, 4)]
    assert {name: study["arms"][name] for name in arms} == arms
    few = {"arms": arms, "arm_data": {"abstract-2": study["arm_data"]["abstract-2"]}, "seeds": [0]}
    place = out / "few.yaml"
    place.write_text(dump_yaml({**study, **few, "train": {"num_train_epochs": 1}}))
    record = mnemos.run(place, out=tmp_path / "run", quiet=True)
    assert {(one["arm"], one["suite"]) for one in record.comparisons} >= {
        (arm, suite) for arm in arms for suite in ("natural", "abstract")
    }
    assert [row["completion"] for row in read_jsonl(out / "abstract.jsonl")] != [
        row["completion"] for row in read_jsonl(out / "gold.jsonl")
    ]


def test_rows_without_text_or_label_are_counted(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", [{"prompt": "a", "completion": "x"}, {"prompt": " ", "completion": "x"}])
    rows, left = labelled_rows(read(str(tmp_path / "d.jsonl"), on_bad="skip"), 10)
    assert len(rows) == 1
    assert sum(left.values()) == 1
    with pytest.raises(DataError, match="1 labels"):
        ask_labels(rows, Loaded(Reader()), tmp_path / "out", Asked(), 10)  # type: ignore[arg-type]
