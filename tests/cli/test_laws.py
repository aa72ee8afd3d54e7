"""`mnemos laws`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.core.errors import DataError, UsageError
from mnemos.measure.laws import chinchilla
from mnemos.measure.laws.points import as_csv
from tests.measure.test_emergence import outputs
from tests.measure.test_laws import runs


def invoke(*words: str | Path) -> str:
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_a_fit_is_printed_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = chinchilla.starts()
    monkeypatch.setattr(chinchilla, "starts", lambda: every[::40])
    points, out = tmp_path / "points.csv", tmp_path / "laws"
    points.write_text(as_csv(runs(0.01)) + "1e9,1e10,nan,1e10,x\n")
    several = ("--approach", "3", "--approach", "2", "--without-highest", "2")
    words = invoke("laws", "fit", points, "--draws", "20", *several, "--out", out)
    assert "left out, loss is no positive number: 1" in words
    assert "approach 3, all 42 points" in words
    assert "approach 3, without the 2 of highest loss" in words
    assert "not fitted: 0 compute budgets" in words
    record = json.loads((out / "laws.json").read_text())
    fit = next(one for one in record["fits"] if "numbers" in one)
    assert fit["numbers"]["alpha"]["low"] <= fit["numbers"]["alpha"]["value"] <= fit["numbers"]["alpha"]["high"]
    for name in ("loss", "optimum"):
        assert ElementTree.parse(out / f"{name}.svg").getroot().tag.endswith("svg")
    page = (out / "laws.html").read_text()
    assert page.count("<svg") == 2
    assert "http-equiv" not in page


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text("parameters,tokens,loss\n1e9,1e10,2.5\n")
    with pytest.raises(DataError, match="too few"):
        invoke("laws", "fit", points, "--out", tmp_path / "o")
    with points.open("a") as file:
        file.write("1e9,1e10,nan\n")
    with pytest.raises(DataError, match="rows left out, loss is no positive number: 1"):
        invoke("laws", "fit", points, "--out", tmp_path / "o")
    with pytest.raises(UsageError, match="compute = -1"):
        invoke("laws", "fit", points, "--compute", "-1")
    with pytest.raises(UsageError, match="did you mean 'loss'"):
        invoke("laws", "fit", points, "--column", "los=x")
    assert not (tmp_path / "o").exists()


def test_emergence_is_judged_and_drawn(tmp_path: Path) -> None:
    rows, out = tmp_path / "outputs.jsonl", tmp_path / "emergence"
    rows.write_text("".join(json.dumps(row) + "\n" for row in outputs(items=25)))
    words = invoke("laws", "emergence", rows, "--out", out)
    assert "25 items answered at every size" in words
    assert "below the detection limit" in words
    assert json.loads((out / "emergence.json").read_text())["verdict"] in words
    assert "<svg" in (out / "emergence.html").read_text()
    rows.write_text('{"size": 1\n')
    with pytest.raises(DataError):
        invoke("laws", "emergence", rows)
