"""Which arm to take: the order, the words, and where nothing can be said."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

import pytest

from mnemos.core.errors import UsageError
from mnemos.report import render
from mnemos.report.advice import advise, recommend, text
from mnemos.report.plot_curve import replay_curves, sweep_curves
from mnemos.report.reading import read
from tests.report import many, synthetic

SOME = ("plain", "replay", "token_mask", "kl_to_before", "lora", "ewc", "freeze-first", "interpolation-0.5")


@cache
def made() -> dict[str, Any]:
    return many.study(SOME)


@cache
def swept() -> dict[str, Any]:
    return many.sweep()


def test_the_knee_comes_first_then_the_frontier_then_who_is_beaten() -> None:
    advice = recommend(made())
    points = {point["arm"]: point for point in made()["frontier"]["points"]}
    assert set(advice.order) == set(SOME)
    assert advice.order[0] == advice.take == made()["frontier"]["knee"]
    front = [arm for arm in advice.order if points[arm]["on_frontier"]]
    assert advice.order[: len(front)] == tuple(front)
    balances = [points[arm]["balance"]["mean"] for arm in front[1:]]
    assert balances == sorted(balances, reverse=True)
    for place, arm in enumerate(advice.order):
        assert not set(points[arm]["dominated_by"]) & set(advice.order[place + 1 :])


def test_two_sentences_name_every_arm_that_is_beaten_and_say_what_cannot_be_told() -> None:
    advice = recommend(made())
    first, second = advice.sentences
    assert first.startswith(f"Take {advice.take}: it learned ")
    assert "of 2,000 resamples" in first
    for point in made()["frontier"]["points"]:
        assert (point["arm"] in second) == bool(point["dominated_by"])
    printed = text(advice)
    assert first in printed
    assert second in printed
    assert json.loads(json.dumps(advice.as_dict()))["why"] == f"{first} {second}"


def test_an_arm_that_is_beaten_without_proof_is_said_to_be_open() -> None:
    results = copy.deepcopy(made())
    for point in results["frontier"]["points"]:
        point.update(dominated_by=[], proven_by=[], on_frontier=True)
    assert "No arm is dominated" in recommend(results).sentences[1]
    results["frontier"]["points"][0].update(dominated_by=["ewc"], on_frontier=False)
    assert "one cannot tell: plain." in recommend(results).sentences[1]


def test_nothing_learned_recommends_nothing() -> None:
    results = copy.deepcopy(made())
    results["frontier"].update(knee=None, why_not="no arm is proven to have learned")
    advice = recommend(results)
    assert advice.take is None
    assert advice.sentences[0] == "Nothing can be recommended: no arm is proven to have learned."


def test_one_seed_orders_checkpoints_and_recommends_nothing() -> None:
    results = copy.deepcopy(made())
    for entry in results["arms"]:
        entry["runs"] = entry["runs"][:1]
    advice = recommend(results)
    assert advice.take is None
    assert advice.order == recommend(made()).order
    assert advice.sentences[0].startswith("Nothing can be recommended from one seed")
    assert "not about this way of training" in advice.sentences[0]


def test_a_sequence_without_old_suites_is_ordered_by_average_accuracy() -> None:
    advice = recommend(synthetic.sequence())
    assert advice.order == ("replay", "plain")
    assert "average accuracy" in advice.sentences[0]
    assert "do not overlap: plain." in advice.sentences[1]
    with pytest.raises(UsageError, match="no frontier"):
        recommend(synthetic.compare())


def test_a_sweep_recommends_among_its_values() -> None:
    facts = read(swept())
    assert "plain" not in advise(facts).order
    (curve,) = sweep_curves(facts)
    assert [words for words, _ in curve.arms] == ["0", "0.01", "0.03", "0.1", "0.3"]
    assert replay_curves(facts) == []
    words = render(swept(), "text", 120)
    assert "Sweep of replay.share_of_final" in words
    assert "plain training" in words


def test_a_grid_has_a_curve_for_each_value_of_the_other_key() -> None:
    results = copy.deepcopy(swept())
    results["sweep"]["over"].append({"key": "lora.rank", "values": [2, 4]})
    for place, one in enumerate(results["sweep"]["arms"]):
        one["values"]["lora.rank"] = 2 if place < 3 else 4
    curves = sweep_curves(read(results))
    assert [curve.also for curve in curves] == ["lora.rank = 2", "lora.rank = 4"]
    assert [len(curve.arms) for curve in curves] == [3, 2]


@pytest.mark.parametrize("format", ["md", "html"])
def test_every_format_says_the_same(format: str) -> None:
    advice = recommend(swept())
    words = render(swept(), format).replace("\u2212", "-").replace("\\_", "_")
    for sentence in advice.sentences:
        assert sentence in words
    if format == "html":
        assert f"mark-knee {advice.take}".removeprefix("mark-") in words


def test_many_arms_stay_readable() -> None:
    results = many.study(many.NAMES[:14])
    printed = render(results, "text", 120)
    lines = printed.splitlines()
    assert len(lines) < 14 * 8
    assert "Every suite of these 14 arms is in report.html" in printed
    assert "3 missing" in printed, "what is missing is said even where tables are not printed"
    assert all(f"{arm}:" in printed for arm in many.NAMES[:14])
    page = render(results, "html")
    assert "glance turned" in page
    assert page.index('id="advice"') < page.index('id="arms"')
    assert page.count('class="glance') == 1
    assert 'class="glance turned' not in render(made(), "html")


def test_pooled_orders_have_metrics_and_each_order_a_matrix() -> None:
    results = synthetic.sequence()
    single = results["matrix"]
    other = {"tasks": single["tasks"][::-1], "arms": copy.deepcopy(single["arms"])}
    pooled = {arm: {**entry, "seeds": {}} for arm, entry in single["arms"].items()}
    results["matrix"] = {"tasks": single["tasks"], "orders": [single, other], "over": "order", "arms": pooled}
    grids = read(results).grids
    assert [(grid.arm, grid.pooled) for grid in grids] == [
        (arm, first) for arm in ("plain", "replay") for first in (True, False, False)
    ]
    assert grids[0].title == "plain, mean of 2 orders"
    assert grids[0].seeds == 6
    assert recommend(results).order == ("replay", "plain")
    for format in ("text", "md", "html"):
        words = render(results, format, 100)
        assert "plain, mean of 2 orders" in words
        assert words.count("Once later tasks were taught") >= 1
