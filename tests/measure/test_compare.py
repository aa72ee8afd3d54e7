"""Comparisons and the gate: verdicts by rule, missing items counted, mismatches refused."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from mnemos.core.errors import NotComparable, RunError, UsageError
from mnemos.core.nouns import Score
from mnemos.measure.compare import Comparison, comparisons, judge, summary, unmoved_in
from mnemos.measure.gate import CANNOT_TELL, KEPT, LOST, amount, gate
from mnemos.measure.suite import Suite, load_suites
from mnemos.measure.uncertainty import paired


def suite(name: str = "s", kind: str = "generated", **values: Any) -> Suite:
    item = {"text": "t"} if kind == "bits_per_byte" else {"prompt": "p", "answer": "x"}
    return load_suites([{"name": name, "kind": kind, "items": [item], **values}], Path("."))[0]


def scores(values: list[float], name: str = "s", weight: float = 1.0, clusters: list[str] | None = None) -> list[Score]:
    return [
        Score(name, str(i), v, "gone" if math.isnan(v) else None, weight, clusters[i] if clusters else None)
        for i, v in enumerate(values)
    ]


def one(before: list[float], *after: list[float], of: Suite | None = None, **more: Any) -> Comparison:
    of = of or suite()
    sides = {seed: {of.name: scores(values, of.name)} for seed, values in enumerate(after)}
    return comparisons([of], {of.name: scores(before, of.name)}, sides, arm="plain", roles={}, **more)[0]


def test_a_proven_loss_a_gain_and_a_kept_skill() -> None:
    assert one([1.0] * 100, [0.0] * 60 + [1.0] * 40).verdict == "lost"
    assert one([0.0] * 100, [1.0] * 60 + [0.0] * 40).verdict == "gained"
    assert one([1.0] * 400, [1.0] * 400).verdict == "kept"
    assert one([1.0] * 20, [1.0] * 20).verdict == "cannot tell"
    assert one([1.0] * 100, [0.0] * 3 + [1.0] * 97).verdict == "cannot tell"


def test_the_fields_of_results_json() -> None:
    found = one([1.0] * 100, [0.0] * 60 + [1.0] * 40, [0.0] * 50 + [1.0] * 50)
    row = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    keys = (
        "arm suite role seeds items missing before after delta low high verdict minimum_detectable p p_holm tolerance"
    )
    assert list(row) == [*keys.split(), "unit", "better", "method", "scale", "claim", "notices"]
    assert row["notices"] == []
    assert row["scale"] * row["delta"] == pytest.approx(-55.0), "delta times scale is in the unit"
    assert row["claim"] == "about this way of training"
    assert one([1.0] * 9, [0.0] * 9).claim == "about this checkpoint"
    assert (row["seeds"], row["items"], row["before"], row["role"]) == (2, 100, 1.0, "old")
    assert row["after"] == pytest.approx(0.45)
    assert row["delta"] == pytest.approx(-0.55)


def test_lower_is_better_flips_the_words_not_the_numbers() -> None:
    of = suite(kind="bits_per_byte")
    before = [1.0 + i / 100 for i in range(50)]
    worse = one(before, [v + 0.2 + (i % 3) / 100 for i, v in enumerate(before)], of=of)
    assert (worse.verdict, worse.unit, worse.better) == ("lost", "bits", "lower")
    assert worse.delta == pytest.approx(0.21, abs=0.005)
    assert one(before, [v - 0.2 + (i % 3) / 100 for i, v in enumerate(before)], of=of).verdict == "gained"
    assert one(before, [v + (i % 3) / 1000 for i, v in enumerate(before)], of=of).verdict == "kept"


def test_missing_items_are_dropped_in_pairs_and_counted() -> None:
    nan = math.nan
    found = one([1.0, nan, 1.0, 0.0], [1.0, 1.0, nan, 0.0], [0.0, 1.0, 1.0, 0.0])
    assert (found.items, found.missing) == (2, 2)
    assert found.before == 0.5
    nothing = one([nan, nan], [1.0, 1.0])
    assert (nothing.items, nothing.missing, nothing.delta, nothing.verdict) == (0, 2, None, "cannot tell")
    report = summary(scores([1.0, nan, 0.0]), suite())
    assert report == {**report, "mean": 0.5, "items": 2, "missing": 1, "reasons": {"gone": 1}}
    assert summary(scores([nan]), suite())["mean"] is None


def test_weights_make_a_ratio_of_sums_and_clusters_widen() -> None:
    of = suite(kind="bits_per_byte")
    before = [Score("s", str(i), 1.0, None, w) for i, w in enumerate([1.0, 3.0])]
    after = [Score("s", str(i), v, None, w) for i, (v, w) in enumerate([(2.0, 1.0), (1.0, 3.0)])]
    found = comparisons([of], {"s": before}, {0: {"s": after}}, arm="a", roles={})[0]
    assert found.after == pytest.approx(1.25)
    clusters = [str(i // 10) for i in range(100)]
    values = [0.0] * 30 + [1.0] * 70
    wide = comparisons(
        [suite()], {"s": scores([1.0] * 100, clusters=clusters)}, {0: {"s": scores(values)}}, arm="a", roles={}
    )
    narrow = one([1.0] * 100, values)
    assert wide[0].high is not None
    assert narrow.high is not None
    assert wide[0].high > narrow.high
    assert "10 clusters" in wide[0].method


def test_holm_is_applied_over_the_suites_of_an_arm() -> None:
    names = ["a", "b", "c"]
    before = {n: scores([1.0] * 60, n) for n in names}
    after = {n: scores([0.0] * k + [1.0] * (60 - k), n) for n, k in zip(names, (6, 8, 0), strict=True)}
    found = comparisons([suite(n) for n in names], before, {0: after}, arm="a", roles={"c": "new"})
    expected = multipletests([c.p for c in found], method="holm")[1]
    assert [c.p_holm for c in found] == pytest.approx(list(expected))
    assert [c.role for c in found] == ["old", "old", "new"]
    assert found[0].p is not None
    assert found[0].p < 0.05 < (found[0].p_holm or 0)
    assert found[0].verdict == "cannot tell"


def test_only_p_is_corrected_and_an_interval_is_its_suites_own() -> None:
    before = {n: scores([1.0] * 60, n) for n in "abcde"}
    after = {n: scores([0.0] * 9 + [1.0] * 51, n) for n in before}
    alone = one([1.0] * 60, [0.0] * 9 + [1.0] * 51)
    for found in comparisons([suite(n) for n in before], before, {0: after}, arm="a", roles={}):
        assert (found.low, found.high, found.p) == (alone.low, alone.high, alone.p)
        assert alone.p_holm is not None
        assert found.p_holm == pytest.approx(5 * alone.p_holm)
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert "p is Holm-corrected over suites, the intervals are not" in " ".join(readme.split())


def test_health_suites_weaken_no_verdict() -> None:
    """Six of six lost (p = 0.031) stays proven beside suites that decide nothing."""
    before = {n: scores([1.0] * 6, n) for n in ("json", "stop", "repetition", "kl")}
    after = {n: scores([0.0] * 6 if n == "json" else [1.0] * 6, n) for n in before}
    roles = {n: "health" for n in before if n != "json"}
    found = comparisons([suite(n) for n in before], before, {0: after}, arm="a", roles=roles)
    assert found[0].p_holm == found[0].p == pytest.approx(2 * 0.5**6)
    assert found[0].verdict == "lost"
    assert [c.p_holm for c in found[1:]] == [1.0] * 3


def test_too_few_items_for_scores_without_bounds_are_told() -> None:
    of = suite(kind="bits_per_byte")
    few = one([1.0, 1.1, 1.3, 0.9], [1.4, 1.6, 1.5, 1.3], of=of)
    assert (few.low, few.high, few.p, few.verdict) == (None, None, None, "cannot tell")
    assert few.delta == pytest.approx(0.375)
    assert few.method == "too few items or seeds for this kind of score"
    assert gate([few]).reasons == ("s: cannot tell: too few items or seeds for this kind of score",)


def test_order_of_items_does_not_matter_but_their_set_does() -> None:
    a, b = scores([1.0, 0.0, 1.0]), list(reversed(scores([1.0, 0.0, 0.0])))
    found = comparisons([suite()], {"s": a}, {0: {"s": b}}, arm="a", roles={})[0]
    assert found.delta == pytest.approx(-1 / 3)
    with pytest.raises(NotComparable, match="different items"):
        comparisons([suite()], {"s": a}, {0: {"s": b[:2]}}, arm="a", roles={})
    heavier = [dataclasses.replace(score, weight=2.0) for score in b]
    with pytest.raises(NotComparable, match="weighs 1 before and 2 after"):
        comparisons([suite()], {"s": a}, {0: {"s": heavier}}, arm="a", roles={})


def test_the_same_model_is_exactly_zero_or_an_error() -> None:
    same = one([1.0, 0.0, math.nan], [1.0, 0.0, math.nan], same_model=True)
    assert (same.delta, same.low, same.high, same.verdict, same.method) == (0.0, 0.0, 0.0, "kept", "identical model")
    empty = one([math.nan], [math.nan], same_model=True)
    assert (empty.delta, empty.before, empty.missing) == (0.0, None, 1)
    with pytest.raises(RunError, match="all that answers is the same"):
        one([1.0, 0.0], [1.0, 1.0], same_model=True)


def test_what_nothing_trained_answers_is_kept_by_construction() -> None:
    """Of two suites with the same scores on both sides, the one that was asked again has an interval."""
    suites = [suite(name="asked"), suite(name="alike")]
    both = {name: scores([1.0, 0.0, 1.0], name) for name in ("asked", "alike")}
    runs = [["alike", "other"], ["alike"]]
    assert unmoved_in(runs) == {"alike"}
    assert unmoved_in([*runs, []]) == frozenset()
    assert unmoved_in([]) == frozenset()
    asked, alike = comparisons(suites, both, {0: both, 1: both}, arm="a", roles={}, unmoved=unmoved_in(runs))
    assert asked.low is not None
    assert asked.low < 0
    assert asked.verdict == "cannot tell"
    assert (alike.delta, alike.low, alike.high, alike.verdict) == (0.0, 0.0, 0.0, "kept")
    assert alike.method == "nothing that answers was trained"
    moved = {**both, "alike": scores([1.0, 1.0, 1.0], "alike")}
    with pytest.raises(RunError, match="all that answers is the same"):
        comparisons(suites, both, {0: moved}, arm="a", roles={}, unmoved=["alike"])


NUMBER = st.floats(-1, 1)


@given(NUMBER, NUMBER, st.floats(0, 1), st.floats(0, 0.5))
def test_the_four_verdicts(a: float, b: float, p: float, margin: float) -> None:
    low, high = min(a, b), max(a, b)
    found = judge(low, high, p, margin=margin, better="higher")
    flipped = judge(-high, -low, p, margin=margin, better="lower")
    assert found == flipped
    inside = -margin <= low and high <= margin
    assert (found == "kept") == inside
    if found == "lost":
        assert high < 0
        assert p < 0.05
    if found == "gained":
        assert low > 0
        assert p < 0.05
    assert judge(None, None, p, margin=margin, better="higher") == "cannot tell"


def comparison(**values: Any) -> Comparison:
    start = one([1.0] * 100, [0.0] * 10 + [1.0] * 90)
    return dataclasses.replace(start, **values)


def test_gate_codes() -> None:
    kept = comparison(low=-0.01, high=0.02)
    lost = comparison(low=-0.3, high=-0.1, p_holm=0.001)
    unsure = comparison(low=-0.05, high=0.02)
    assert gate([kept], max_loss=2).exit_code == KEPT
    assert gate([kept, unsure], max_loss=2).exit_code == CANNOT_TELL
    decision = gate([kept.as_dict(), unsure, lost], max_loss=2)
    assert decision.exit_code == LOST
    assert [finding.outcome for finding in decision.findings] == [LOST, CANNOT_TELL, KEPT]
    assert decision.reasons[0] == "s: lost: loss between 10.0 points and 30.0 points, 2.0 points allowed"


def test_gate_needs_the_whole_interval_beyond_the_limit_and_significance() -> None:
    assert gate([comparison(low=-0.05, high=-0.01, p_holm=0.001)], max_loss=2).exit_code == CANNOT_TELL
    open_ = gate([comparison(low=-1.0, high=-0.448, p_holm=0.2)], max_loss=2)
    assert open_.exit_code == CANNOT_TELL
    assert open_.reasons[0].startswith("s: cannot tell: loss between 44.8 points and 100.0 points, 2.0 points allowed")
    assert "but not proven once corrected for the number of suites: p = 0.200" in open_.reasons[0]
    assert gate([comparison(low=-0.3, high=-0.1, p_holm=0.001)], max_loss=40).exit_code == KEPT


def test_gate_holds_other_units_to_their_tolerance_and_direction() -> None:
    bits = {"unit": "bits", "better": "lower", "tolerance": 0.02, "p_holm": 0.001}
    assert gate([comparison(low=-0.5, high=0.01, **bits)], max_loss=2).exit_code == KEPT
    assert gate([comparison(low=0.03, high=0.05, **bits)], max_loss=2).exit_code == LOST


def test_gate_does_not_call_kept_what_was_hardly_scored() -> None:
    hidden = comparison(low=-0.01, high=0.01, items=90, missing=10)
    decision = gate([hidden])
    assert decision.exit_code == CANNOT_TELL
    assert "10 of 100 items have no score" in decision.reasons[0]
    assert gate([comparison(low=None, high=None, p_holm=None, method="no item")]).exit_code == CANNOT_TELL
    assert gate([one([math.nan], [math.nan], same_model=True)]).exit_code == KEPT


def test_gate_looks_at_old_suites_only_and_refuses_an_empty_gate() -> None:
    with pytest.raises(UsageError, match="has no suite of role old"):
        gate([comparison(role="new")])
    assert gate([comparison(role="new", low=0.0, high=0.01)], roles=("new",)).exit_code == KEPT
    with pytest.raises(UsageError, match="must not be negative"):
        gate([comparison()], max_loss=-1)


def test_items_needed_settle_the_question() -> None:
    """Ten times the items with the same flips: the guess holds."""
    unsure = one([1.0] * 60, [0.0] * 6 + [1.0] * 54)
    finding = gate([unsure], max_loss=2).findings[0]
    assert finding.outcome == CANNOT_TELL
    assert finding.items_needed is not None
    share = 0.1
    n = finding.items_needed
    found = paired([1.0] * n, [[0.0] * round(share * n) + [1.0] * (n - round(share * n))])
    assert found.high is not None
    assert -found.high == pytest.approx(0.02, abs=0.02)
    at_limit = comparison(low=-0.04, high=0.0)
    assert gate([at_limit], max_loss=2).findings[0].items_needed is None


def test_amounts_carry_their_unit() -> None:
    assert amount(0.031, "points") == "3.1 points"
    assert amount(0.0213, "bits") == "0.0213 bits"
    assert amount(-0.0001, "points") == "0.0 points", "nought has no sign"
    assert amount(-0.0, "nats") == "0 nats"
    assert amount(-0.0006, "points") == "-0.1 points"
