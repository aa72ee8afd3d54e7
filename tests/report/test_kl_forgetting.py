"""The curve of forgetting against KL in results.json in every format of the report."""

from __future__ import annotations

from typing import Any

import pytest

from mnemos.report import render
from mnemos.report.plot_notes import _curves, notes_plot
from mnemos.report.reading import read
from mnemos.report.sections import kl_forgetting
from tests.report.synthetic import study


def with_curve(**fit: Any) -> dict[str, Any]:
    results = study()
    arms = [entry["arm"] for entry in results["arms"]]
    points = [{"arm": arm, "replicate": 0, "kl": 0.1 * at, "forgotten": 0.02 * at} for at, arm in enumerate(arms)]
    fitted = {
        "coefficients": [0.0, 0.2, 0.1],
        "r2": {"mean": 0.714, "low": 0.5, "high": 0.93},
        "spearman": 0.8,
        "off": [{"arm": arms[0], "mean": 0.05, "low": 0.02, "high": 0.08}],
        **fit,
    }
    return {**results, "kl_forgetting": {"suites": ["kl:new"], "old": ["old"], "points": points, "fit": fitted}}


def test_it_is_said_in_every_format() -> None:
    results = with_curve()
    arm = results["arms"][0]["arm"]
    words = f"Off the curve of the other arms, points forgotten [95 %]: {arm} +5.0 [+2.0, +8.0]."
    for form in ("text", "md", "html"):
        text = " ".join(render(results, form, 400).split())
        assert "0.71 [0.50, 0.93]" in text
        assert "rank correlation 0.80" in text
    facts = read(results)
    assert words in kl_forgetting.words(facts, facts.sections["kl_forgetting"])
    page = render(results, "html")
    assert page.count('data-mark="kl-forgetting ') >= len(facts.arms)


def test_nothing_fitted_and_no_section() -> None:
    results = with_curve()
    results["kl_forgetting"] |= {"fit": None, "why_not": "2 points, a quadratic needs 5"}
    assert "No curve was fitted: 2 points, a quadratic needs 5." in " ".join(render(results, "text", 400).split())
    assert 'id="kl-forgetting"' not in render(study(), "html")
    within = with_curve(off=[{"arm": "x", "mean": 0.01, "low": -0.1, "high": 0.1}])
    facts = read(within)
    assert (
        kl_forgetting.words(facts, facts.sections["kl_forgetting"])[-1]
        == "No arm is proven to lie off the curve of the others."
    )


@pytest.mark.parametrize("item", [None, {}, {"points": []}, "x"])
def test_odd_sections_are_none(item: Any) -> None:
    assert "kl_forgetting" not in read({**study(), "kl_forgetting": item}).sections


def test_seeds_that_noted_unlike_often_are_averaged_at_the_same_steps() -> None:
    """160 points are drawn as they are and 161 in pairs; the reward is the step, and so is its mean."""
    results = study()
    for run, count in zip(results["arms"][0]["runs"], (160, 161), strict=False):
        run["noted"] = {"reward": [[step, float(step)] for step in range(1, count + 1)]}
    arm = read(results).arms[0]
    assert len(arm.runs) >= 2
    (curve,) = _curves([arm], "reward").values()
    assert all(step == value for step, value in curve)


def test_notes_are_drawn_one_panel_a_name() -> None:
    results = study()
    for place, entry in enumerate(results["arms"][:2]):
        for run in entry["runs"]:
            run["noted"] = {"reward margin": [[5, 0.1], [10, 0.2 + place]], "entropy": [[5, 1.0], [10, 0.9]]}
    facts = read(results)
    assert facts.arms[1].runs[0].noted["reward margin"] == ((5.0, 0.1), (10.0, 1.2))
    picture = notes_plot(facts, width=860, name="notes")
    names = [entry["arm"] for entry in results["arms"][:2]]
    assert f"reward margin: {names[0]} 0.2, {names[1]} 1.2; entropy: {names[0]} 0.9" in picture
    assert "What training noted by step" in render(results, "html")
    assert notes_plot(read(study()), width=860, name="notes") == ""
    assert "What training noted" not in render(study(), "html")
