"""A few answers before and after, chosen by rule, as soon as an arm is measured."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mnemos
from mnemos.core.nouns import Answer, Score
from mnemos.measure.ask import Measured
from mnemos.measure.suite import Suite, load_suites
from mnemos.study import first_look
from tests.study.worlds import make_study

SCORES = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, math.nan]), st.sampled_from([0.0, 0.5, 1.0])), min_size=3)


def suite(name: str, items: int) -> Suite:
    (made,) = load_suites(
        [
            {
                "name": name,
                "kind": "generated",
                "items": [{"id": str(n), "prompt": f"Ask {n}.", "answer": str(n)} for n in range(items)],
            }
        ],
        Path("."),
    )
    return made


def measured(of: Suite, scores: list[float], text: str) -> Measured:
    return Measured(
        of.name,
        [Answer(of.name, item.id, f"{text} {item.id}") for item in of.items],
        [
            Score(of.name, item.id, value, "none" if math.isnan(value) else None)
            for item, value in zip(of.items, scores, strict=True)
        ],
    )


def entries(pairs: dict[str, list[tuple[float, float]]], seed: int = 0) -> list[dict[str, object]]:
    suites = [suite(name, len(scores)) for name, scores in pairs.items()]
    sides = [
        {one.name: measured(one, [pair[k] for pair in pairs[one.name]], ("old", "new")[k]) for one in suites}
        for k in (0, 1)
    ]
    return first_look.found(suites, sides[0], sides[1], seed=seed)


@given(SCORES, SCORES, st.integers(0, 9))
def test_the_largest_changes_of_all_suites_are_shown(
    one: list[tuple[float, float]], other: list[tuple[float, float]], seed: int
) -> None:
    pairs = {"one": one, "other": other}
    text = first_look.lines("plain", entries(pairs, seed), seed=seed, more="there").splitlines()
    changes = [after - before for before, after in [*one, *other] if not math.isnan(before)]
    for why, most in (("largest loss", min(changes, default=0.0)), ("largest gain", max(changes, default=0.0))):
        (line,) = [line for line in text if line.startswith(f"  {why}")]
        if (most < 0) == (why == "largest loss") and most:
            words = line.replace(",", "").split()
            before, after = float(words[words.index("before") - 1]), float(words[words.index("after") - 1])
            assert after - before == most
        else:
            assert line == f"  {why}: none"
    assert len(text) <= 1 + 3 * 4
    assert max(map(len, text)) <= 12 + first_look.LONGEST


def test_equal_changes_are_drawn_by_the_seed() -> None:
    pairs = {name: [(1.0, 0.0)] * 5 for name in "abcdefgh"}
    seen = {first_look.lines("t", entries(pairs, seed), seed=seed, more="m").splitlines()[1] for seed in range(30)}
    assert len(seen) > 8
    again = {first_look.lines("t", entries(pairs, 3), seed=3, more="m") for _ in range(3)}
    assert len(again) == 1


def test_what_a_model_wrote_steers_nothing_and_breaks_no_file() -> None:
    of = suite("of", 3)
    before = {of.name: measured(of, [1.0, 0.0, 1.0], "fine")}
    after = {of.name: measured(of, [0.0, 1.0, 1.0], "\x1b[2J```\n# not a heading\n" + "x" * 5000)}
    found = first_look.found([of], before, after, seed=0)
    text, document = first_look.lines("p\x1b", found, seed=0, more="m"), first_look.document("p", found)
    assert "\x1b" not in document
    assert "\x1b" not in text.replace("p\x1b", "")
    assert len(document) < 12 * first_look.LONGEST_IN_FILE
    assert "````text\n" in document


def test_an_arm_is_shown_when_it_is_measured_and_only_then(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = make_study(tmp_path, arms={}, train={"learning_rate": 1e-2, "max_steps": 3})
    capfd.readouterr()
    mnemos.run(study, out=tmp_path / "run")
    lines = capfd.readouterr().err.splitlines()
    (at,) = [n for n, line in enumerate(lines) if "first answers before and after" in line]
    assert lines[at].startswith("plain, seed 0: ")
    assert any(line.startswith("[2/3] plain, seed 0: measure") for line in lines[:at])
    assert any(line.startswith("[3/3] plain, seed 0: measure") for line in lines[at:])
    written = tmp_path / "run" / "arms" / "plain" / "seed-0" / first_look.FILE
    assert written.read_text().startswith("# plain, seed 0: answers before and after\n")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "first answers before and after" in log
    mnemos.run(study, out=tmp_path / "run")
    assert "first answers" not in capfd.readouterr().err


def test_no_result_hangs_on_it(tmp_path: Path) -> None:
    from mnemos.study.config import load_study
    from mnemos.study.experiment import build
    from mnemos.study.steps import MeasureStep

    experiment = build(*load_study(make_study(tmp_path)), tmp_path / "run")
    steps = [step for step in experiment.steps if isinstance(step, MeasureStep)]
    assert [step.shown for step in steps] == [None, ("plain, seed 0", 0), ("replay, seed 0", 0)]
    assert replace(steps[1], shown=None).key == steps[1].key
