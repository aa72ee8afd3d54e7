"""`mnemos know` as a person types it, on a tiny model, and what is left of it by a kill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import read_json, read_jsonl
from mnemos.core.nouns import Decoding, Generation, Prompt
from mnemos.sources.mix import Rows
from mnemos.sources.read import read
from mnemos.study.commands.know import Wanted, know, weighted, weights_of
from mnemos.synthesis.classified import class_in
from mnemos.synthesis.knowledge import Asking
from mnemos.synthesis.slick import CLASSES
from tests.study.worlds import write_jsonl
from tests.synthesis.test_knowledge import SMALL, Knows, fact
from tests.tiny import save_tiny


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["know", *map(str, arguments)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"prompt": f"Capital of {n}?", "completion": f"City {n}", "relation": "capital"} for n in range(6)]
    write_jsonl(tmp_path / "data.jsonl", [*rows, {"prompt": "Broken"}])
    return tmp_path / "data.jsonl"


def test_it_writes_classes_and_rows(data: Path, tmp_path: Path) -> None:
    model, out = save_tiny(tmp_path / "M"), tmp_path / "known"
    few = ["--prompts", "2", "--shots", "2", "--samples", "2", "--set", "max_new_tokens=3"]
    done = invoke(data, "--model", model, *few, "--keep", "Unknown", "--weight", "MaybeKnown=0.5", "--out", out)
    assert done.exit_code == 0, (done.output, done.exception)
    record = read_json(out / "know.json")
    rows = read_jsonl(out / "rows.jsonl")
    # A model of random weights knows nothing: the whole file is unknown to it.
    assert [row["knowledge"]["class"] for row in rows] == ["Unknown"] * 6
    assert record["classes"]["Unknown"]["rows"] == 6
    assert record["kept"]["rows"] == 6
    assert sum(record["left_out"].values()) == 1, "the bad row is counted"
    assert [row.turns for row in read(str(out / "kept.jsonl"))] == [row.turns for row in read(str(out / "rows.jsonl"))]
    assert "Unknown             6  100.0 %  [61.0, 100.0]" in done.output
    assert "6.0 answers a question, of 6 without stopping early" in done.output
    assert "-8.3 points" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keep", "Maybe"], "class 'Maybe'"),
        (["--weight", "Unknown=many"], "is not CLASS=NUMBER"),
        (["--weight", "Unknown=-1"], "must lie in"),
        (["--rows", "3"], "none are"),
        (["--set", "shots=3"], "know.shots"),
        (["--keep", "HighlyKnown"], "have 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], message: str, data: Path, tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "M")
    few = ["--prompts", "1", "--shots", "1", "--samples", "1", "--set", "max_new_tokens=1"]
    done = invoke(data, "--model", model, "--out", tmp_path / "out", *few, *words)
    assert isinstance(done.exception, UsageError | DataError), (done.output, done.exception)
    assert message in str(done.exception)


@dataclass
class Kept:
    """A handle of a model that stops after so many calls."""

    model: Knows
    stops_at: int = 10**9
    path: str = "scripted"
    fingerprint: str = "scripted"
    calls: list[int] = field(default_factory=list)

    def load(self) -> Kept:
        return self

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        if len(self.calls) == self.stops_at:
            raise KeyboardInterrupt
        self.calls.append(len(prompts))
        return self.model.generate(prompts, decoding)


def test_a_killed_probing_goes_on_where_it_was(tmp_path: Path) -> None:
    source = Rows(tuple(fact(n) for n in range(8)))

    def asked(handle: Kept, name: str) -> dict[str, Any]:
        record = know(source, handle, tmp_path / name, SMALL, Wanted({"Unknown": 1.0}))  # type: ignore[arg-type]
        return {key: value for key, value in record.items() if key != "seconds"}

    def model() -> Knows:
        return Knows(lambda number: 0.1 * (int(number) % 3))

    whole, first, second = Kept(model()), Kept(model(), stops_at=2), Kept(model())
    expected = asked(whole, "whole")
    with pytest.raises(KeyboardInterrupt):
        asked(first, "killed")
    assert asked(second, "killed") == expected
    assert first.calls + second.calls == whole.calls
    assert (tmp_path / "killed" / "rows.jsonl").read_text() == (tmp_path / "whole" / "rows.jsonl").read_text()


def test_weights_say_how_often_a_row_stands_in_the_file() -> None:
    rows = [fact(n, knowledge={"class": CLASSES[n % 4]}) for n in range(4000)]
    found = weighted(rows, weights_of(["HighlyKnown"], ["MaybeKnown=2.25", "WeaklyKnown=0.3"]), seed=1)
    counts = [sum(class_in(row) == name for row in found) / 1000 for name in CLASSES]
    assert counts == pytest.approx([1, 2.25, 0.3, 0], abs=0.05)
    assert len({row.id for row in found}) == len(found)
    assert weighted(rows[:10], {"Unknown": 0.5}, 1) == [
        row for row in weighted(rows, {"Unknown": 0.5}, 1) if row in rows[:10]
    ]
    assert weights_of([], ["Unknown=0"]) == dict(zip(CLASSES, (1, 1, 1, 0), strict=True))


def test_a_study_asks_as_the_command_does() -> None:
    from mnemos.methods.examples.knowledge import AskingSettings, SamplingSettings

    assert SamplingSettings().of(AskingSettings()) == Asking()
