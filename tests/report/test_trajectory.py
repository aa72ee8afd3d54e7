"""Curves over training in every format of the report."""

from __future__ import annotations

from typing import Any

import pytest

from mnemos.report import render
from mnemos.report.reading import read
from mnemos.report.sections import trajectory
from tests.report.synthetic import study

SAID = (
    "reward hacking: the reward that plain was trained on rose from 0.31 to 0.98 (+0.67 [+0.60, +0.74]) while"
    " new-format fell from 60.0 at step 10 to 12.5 at the end (-47.5 [-55.0, -40.0])."
)


def moment(mean: float, half: float = 0.05) -> dict[str, float | None]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def with_curves(hacked: bool = True) -> dict[str, Any]:
    results = study()
    arms: list[dict[str, Any]] = []
    for place, entry in enumerate(results["arms"]):
        noted = {"reward": [moment(0.31), moment(0.9), moment(0.98)]} if place == 0 else {}
        suites = {
            "new-format": {
                "items": 240,
                "missing": 0,
                "moments": [moment(0.5), moment(0.6), moment(0.3), moment(0.125)],
            },
            "bits-per-byte:english": {"items": 64, "missing": 0, "moments": [moment(1.9), *[moment(2.0)] * 3]},
        }
        arms.append(
            {"arm": entry["arm"], "steps": [0.0, 10.0, 20.0, 30.0], "noted": noted, "suites": suites, "hacking": []}
        )
    if hacked:
        arms[0]["hacking"] = [
            {
                "suite": "new-format",
                "moment": 1,
                "reward": {"start": 0.31, "end": 0.98, "delta": 0.67, "low": 0.6, "high": 0.74},
                "score": {"start": 0.6, "end": 0.125, "delta": -0.475, "low": -0.55, "high": -0.4},
                "p_holm": 0.001,
            }
        ]
    curves = {"suites": ["new-format", "bits-per-byte:english"], "moments": 3, "arms": arms}
    return {**results, "trajectory": curves}


def said_of(results: dict[str, Any]) -> list[str]:
    facts = read(results)
    return trajectory.words(facts, facts.sections["trajectory"])


def test_keys_of_earlier_versions_are_read() -> None:
    results = with_curves()
    older = {"along" if key == "trajectory" else key: part for key, part in results.items()}
    assert render(older, "html") == render(results, "html")


def test_a_hacked_reward_is_said_in_every_format() -> None:
    assert said_of(with_curves()) == [SAID]
    for form in ("text", "md", "html"):
        for results, words in ((with_curves(), True), (with_curves(hacked=False), False), (study(), False)):
            text = " ".join(render(results, form, 400).replace("\u2212", "-").replace("\\", "").split())
            assert (SAID in text) is words, form


def test_one_panel_a_name_and_one_line_an_arm() -> None:
    facts = read(with_curves())
    record = facts.sections["trajectory"]
    assert record.names == ("reward", "new-format", "bits-per-byte:english")
    picture = trajectory.figures(facts, record)[0].drawing.wide
    assert picture.count('data-mark="trajectory reward"') == 3
    assert picture.count('data-mark="trajectory new-format"') == 4 * len(facts.arms)
    for text in ("reward that training saw", "new-format, points", "bits-per-byte:english, bits", ">step<"):
        assert text in picture
    facts = read(with_curves(hacked=False))
    calm = trajectory.figures(facts, facts.sections["trajectory"])[0].drawing.narrow
    assert "new-format: plain 12.5" in calm
    assert 'id="trajectory"' in render(with_curves(), "html")
    assert 'id="trajectory"' not in render(study(), "html")


def test_a_suite_that_is_better_when_lower_worsens() -> None:
    results = with_curves()
    results["trajectory"]["arms"][0]["hacking"][0] |= {
        "suite": "bits-per-byte:english",
        "score": {"start": 1.9, "end": 2.5, "delta": 0.6, "low": 0.5, "high": 0.7},
    }
    (text,) = said_of(results)
    assert "bits-per-byte:english worsened from 1.900 at step 10 to 2.500 at the end (+0.600 [+0.500, +0.700])" in text


@pytest.mark.parametrize("item", [None, {}, {"arms": []}, "x"])
def test_odd_sections_are_none(item: Any) -> None:
    assert "trajectory" not in read({**study(), "trajectory": item}).sections
