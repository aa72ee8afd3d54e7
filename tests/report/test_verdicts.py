from __future__ import annotations

import itertools
import math
import re
from typing import Any

import pytest

from mnemos.report import render
from mnemos.report.claims import claim_words
from mnemos.report.facts import Change
from mnemos.report.headlines import headline
from mnemos.report.reading import read
from mnemos.report.standing import read_frontier
from mnemos.report.verdicts import (
    change_words,
    metric_words,
    missing_words,
    sentence,
    short_words,
    tone,
    verdict_words,
)
from tests.report import synthetic


def change(**more: Any) -> Change:
    row = {"arm": "plain", "suite": "s", "role": "old", "unit": "points", "better": "higher", "verdict": "lost",
           "before": 0.98, "after": 0.67, "delta": -0.31, "low": -0.364, "high": -0.251, "tolerance": 2.0, "items": 200,
           "missing": 0, "seeds": 3, **more}  # fmt: skip
    return read({"comparisons": [row]}).changes[0]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, "lost 31.0 points [25.1, 36.4]"),
        ({"verdict": "gained", "delta": 0.92, "low": 0.9, "high": 0.935}, "gained 92.0 points [90.0, 93.5]"),
        (
            {"verdict": "kept", "delta": -0.003, "low": -0.011, "high": 0.005},
            "kept: -0.3 points [-1.1, +0.5], within \u00b12.0",
        ),
        (
            {"verdict": "cannot tell", "delta": -0.03, "low": -0.072, "high": 0.012},
            "cannot tell: -3.0 points [-7.2, +1.2]",
        ),
        (
            {"unit": "bits", "better": "lower", "delta": 0.18, "low": 0.15, "high": 0.21},
            "lost: rose 0.180 bits [0.150, 0.210]",
        ),
        (
            {"better": "lower", "verdict": "gained", "delta": -0.05, "low": -0.08, "high": -0.02},
            "gained: fell 5.0 points [2.0, 8.0]",
        ),
        ({"low": None, "high": None}, "lost 31.0 points"),
        ({"delta": None, "verdict": "cannot tell"}, "cannot tell: missing (no reason recorded)"),
        ({"verdict": "kept", "delta": 0.0, "low": 0.0, "high": 0.0}, "kept: 0.0 points [0.0, 0.0], within \u00b12.0"),
    ],
)
def test_verdict_in_words(more: dict[str, Any], text: str) -> None:
    assert verdict_words(change(**more)) == text


def test_other_words() -> None:
    assert change_words(change()) == "-31.0 [-36.4, -25.1]"
    assert short_words(change()) == "lost 31.0"
    assert verdict_words(change(), unit=False) == "lost 31.0 [25.1, 36.4]"
    assert missing_words(change(missing={"no JSON": 12, "empty": 1})) == "13 missing (no JSON: 12, empty: 1)"
    assert missing_words(change()) == ""


def test_sentence_names_every_suite_with_its_fate() -> None:
    facts = read(synthetic.study())
    plain = sentence(facts.arms[0])
    assert plain.startswith("learned new-format +97.1 points; lost refusals 96.5, json-answers")
    assert "bits-per-byte:english 0.403 bits" in plain
    assert "health worse: repeated-4-grams" in plain
    assert "kl-on-new" not in plain
    for arm in facts.arms:
        text = sentence(arm)
        for row in arm.changes:
            if row.role in ("new", "old") and "all 5" not in text:
                assert row.suite in text, (arm.name, row.suite)


def test_no_loss_proven_is_not_kept() -> None:
    facts = read(synthetic.study())
    replay = next(arm for arm in facts.arms if arm.name == "replay")
    assert {row.verdict for row in replay.of("old")} == {"kept", "cannot tell"}
    assert "no loss proven" in sentence(replay)
    assert tone(replay) == "unclear"


def test_headlines() -> None:
    assert headline(read(synthetic.study())) == (
        "Plain training learned new-format but lost all 5 old suites. lora+replay learned too and kept every old suite."
    )
    assert headline(read(synthetic.compare())) == "The model after lost refusals (1 of 6 suites) and gained arithmetic."
    assert "earlier ones lost 62.8 points under plain and 6.4 points under replay" in headline(
        read(synthetic.sequence())
    )
    assert headline(read({"comparisons": []})) == "Nothing was compared."


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        (["kept", "kept"], "The model after kept every suite."),
        (["kept", "gained"], "The model after lost nothing and gained s1."),
        (["kept", "cannot tell"], "The model after shows no proven loss; s1 cannot be told at this sample size."),
        (["lost", "lost"], "The model after lost s0 and s1 (2 of 2 suites)."),
    ],
)
def test_compare_headline(verdicts: list[str], text: str) -> None:
    rows = [
        {"arm": "after", "suite": f"s{i}", "role": "old", "delta": 0.0, "verdict": v} for i, v in enumerate(verdicts)
    ]
    assert headline(read({"kind": "compare", "comparisons": rows})) == text


def test_a_loss_shown_alone_is_not_said_to_be_no_loss() -> None:
    """Its interval lies below zero, and only the correction for several suites leaves it open."""
    row = {"arm": "after", "role": "old", "delta": -0.7, "low": -1.0, "high": -0.448, "p_holm": 0.06}
    kept = {"arm": "after", "role": "old", "delta": 0.0, "low": -0.01, "high": 0.01, "verdict": "kept"}
    rows = [{**row, "suite": "json", "verdict": "cannot tell"}, {**kept, "suite": "other"}]
    facts = read({"kind": "compare", "comparisons": rows})
    assert headline(facts) == "The model after may have lost json: shown alone, not proven beside 1 other suite."
    assert sentence(facts.arms[0]).startswith("may have lost json 70.0 points (not proven beside the other suites)")
    lost = {**row, "suite": "sums", "verdict": "lost", "p_holm": 0.01}
    text = sentence(read({"comparisons": [lost, *rows]}).arms[0])
    assert text.startswith("lost sums 70.0 points; may have lost json 70.0 points (not proven beside the other suites)")


FATES: dict[str, dict[str, Any]] = {
    "lost": {"verdict": "lost", "delta": -0.5, "low": -0.6, "high": -0.4},
    "gained": {"verdict": "gained", "delta": 0.5, "low": 0.4, "high": 0.6},
    "kept": {"verdict": "kept", "delta": 0.0, "low": -0.01, "high": 0.01},
    "open": {"verdict": "cannot tell", "delta": 0.0, "low": -0.3, "high": 0.3},
    "suspected": {"verdict": "cannot tell", "delta": -0.2, "low": -0.3, "high": -0.1},
}


@pytest.mark.parametrize("fates", list(itertools.combinations_with_replacement(FATES, 3)), ids=",".join)
def test_a_suite_stands_under_one_heading_of_an_arm(fates: tuple[str, ...]) -> None:
    rows = [{"arm": "a", "suite": f"s{i}", "role": "old", **FATES[fate]} for i, fate in enumerate(fates)]
    text = sentence(read({"comparisons": rows}).arms[0])
    if text == "kept all 3 old suites":
        return
    for i, fate in enumerate(fates):
        (clause,) = (clause for clause in text.split("; ") if f"s{i}" in clause)
        heading = {"open": "cannot tell", "suspected": "may have lost"}.get(fate, fate)
        assert clause.startswith(heading), text
        assert clause.count(f"s{i}") == 1, text


def test_a_studys_headline_does_not_say_no_loss_where_one_shows_alone() -> None:
    learned = {"suite": "new", "role": "new", "delta": 0.5, "low": 0.4, "high": 0.6, "verdict": "gained"}
    alone = {"suite": "json", "role": "old", "delta": -0.7, "low": -1.0, "high": -0.4, "verdict": "cannot tell"}
    open_ = {**alone, "delta": -0.1, "low": -0.3, "high": 0.1}

    def opening(**arms: dict[str, Any]) -> str:
        return headline(read({"comparisons": [{**row, "arm": a} for a, old in arms.items() for row in (learned, old)]}))

    assert opening(plain=open_) == "Plain training learned new; no loss is proven."
    assert opening(plain=alone) == (
        "Plain training learned new; no loss is proven beside the other suites, but shown alone on json."
    )
    assert opening(a=open_, b=open_) == "a and b learned, with no loss proven."
    assert opening(a=alone, b=open_) == (
        "a and b learned, with no loss proven beside the other suites, but shown alone on json under a."
    )


def test_every_report_says_what_its_verdicts_are_about() -> None:
    row = {"suite": "s", "role": "old", "delta": -0.1, "low": -0.2, "high": -0.05, "verdict": "lost"}
    one, three = ({**row, "arm": arm, "seeds": seeds} for arm, seeds in (("a", 1), ("b", 3)))
    assert claim_words(read({"comparisons": []})) == ""
    assert claim_words(read({"kind": "compare", "comparisons": [one]})).startswith(
        "Verdicts are about these two checkpoints"
    )
    assert "about this checkpoint, not about this way of training" in claim_words(read({"comparisons": [one]}))
    assert (
        claim_words(read({"comparisons": [three]})) == "Verdicts are about this way of training: they cover its seeds."
    )
    mixed = {"comparisons": [one, three]}
    assert "not about this way of training (a). Several seeds: about this way of training (b)." in claim_words(
        read(mixed)
    )
    for format in ("text", "md", "html"):
        text = " ".join(render(mixed, format).split())
        assert claim_words(read(mixed)) in text


@pytest.mark.parametrize("form", ["text", "md", "html"])
def test_no_interval_in_points_passes_a_hundred(form: str) -> None:
    """Results of earlier versions hold Student's intervals as they came out."""
    results = synthetic.study()
    for row in results["comparisons"]:
        row["high" if row["delta"] > 0 else "low"] = math.copysign(1.073, row["delta"])
    text = render(results, form)
    assert "107.3" not in text
    assert "100.0]" in text
    three = {"mean": 0.9, "low": 0.7, "high": 1.073}
    found = read_frontier({"points": [{"arm": "a", "learned": three, "forgotten": three, "balance": three}]})
    assert found is not None
    assert found.points[0].learned == found.points[0].forgotten == pytest.approx((90, 70, 100))
    assert found.points[0].balance == pytest.approx((90, 70, 107.3))


def test_bits_learned_carry_no_minus() -> None:
    row = {"arm": "a", "suite": "pages", "role": "new", "unit": "bits", "better": "lower", "verdict": "gained"}
    text = sentence(read({"comparisons": [{**row, "delta": -0.067, "low": -0.08, "high": -0.05}]}).arms[0])
    assert text == "learned pages 0.067 bits lower"


def test_a_withheld_interval_says_why() -> None:
    row = {"arm": "a", "suite": "s", "role": "old", "unit": "bits", "better": "lower", "delta": 0.3, "low": None}
    why = "too few items or seeds for this kind of score"
    (found,) = read({"comparisons": [{**row, "verdict": "cannot tell", "method": why}]}).changes
    assert verdict_words(found) == f"cannot tell: +0.300 bits ({why})"


def _study(arms: dict[str, tuple[str, str]]) -> str:
    rows = [
        {"arm": arm, "suite": suite, "role": suite, "delta": 0.1 if v == "gained" else -0.1, "verdict": v}
        for arm, pair in arms.items()
        for suite, v in zip(("new", "old"), pair, strict=True)
    ]
    return headline(read({"comparisons": rows}))


def test_study_headline_in_every_case() -> None:
    both = ("gained", "lost")
    assert _study({"plain": both, "a": both, "b": both}).endswith(
        "Every other arm that learned lost something too; a lost least."
    )
    assert _study({"plain": both, "a": both}).endswith("a learned too and lost something as well.")
    assert _study({"plain": both, "a": ("kept", "kept")}).endswith("No other arm is proven to have learned.")
    assert (
        _study({"plain": ("kept", "kept")})
        == "Plain training is not proven to have learned anything and kept every old suite."
    )
    assert "joint" not in _study({"plain": both, "joint": ("gained", "kept")})
    assert _study({"plain": both, "a": ("gained", "kept")}).endswith("a learned too and kept every old suite.")
    rows = [{"arm": arm, "suite": "new", "role": "new", "delta": 0.1, "verdict": "gained"} for arm in ("plain", "a")]
    assert headline(read({"comparisons": rows})) == "Plain training learned new. a learned too."
    assert _study({"plain": ("gained", "cannot tell")}) == "Plain training learned new; no loss is proven."


def test_earlier_tasks_lost_what_is_proven() -> None:
    def words(mean: float, low: float | None, high: float | None) -> str:
        row = {"arm": "plain", "suite": "new", "role": "new", "delta": 0.1, "verdict": "gained"}
        metrics = {"backward_transfer": {"mean": mean, "low": low, "high": high}}
        arms = {"plain": {"before": [0.1, 0.1], "seeds": {"0": [[0.9, 0.1], [0.9, 0.9]]}, "metrics": metrics}}
        return headline(read({"comparisons": [row], "matrix": {"tasks": ["a", "b"], "arms": arms}}))

    assert words(-0.1, -0.15, -0.05).endswith("earlier ones lost 10.0 points under plain.")
    for low, high in ((-0.15, 0.09), (None, None)):
        assert "lost" not in words(-0.03, low, high)


def test_many_arms_that_teach_nothing_measured_are_one_sentence() -> None:
    def words(arms: dict[str, tuple[str, str]]) -> str:
        rows = [
            {"arm": arm, "suite": suite, "role": "old", "delta": -0.1, "verdict": verdict}
            for arm, pair in arms.items()
            for suite, verdict in zip(("json", "facts"), pair, strict=True)
        ]
        return headline(read({"comparisons": rows}))

    lost, kept, unclear = "lost", "kept", "cannot tell"
    assert words({"a": (lost, lost), "b": (lost, unclear), "c": (lost, kept)}) == "Every arm lost json; a lost facts."
    assert words(dict.fromkeys("abc", (lost, kept)) | {"d": (kept, kept)}) == (
        "3 of 4 arms lost json; d kept every suite."
    )
    assert words(dict.fromkeys("abc", (unclear, kept))) == "No arm is proven to have lost anything."
    assert words({"a": (lost, kept), "b": (kept, kept)}) == "a lost json (1 of 2 suites). b kept every suite."


def test_metric_signs_are_said() -> None:
    assert metric_words("backward_transfer", -12.3) == "earlier tasks lost 12.3 points once later ones were taught"
    assert metric_words("backward_transfer", 1.0).startswith("earlier tasks gained 1.0")
    assert metric_words("forgetting", 5.0) == "from its best moment an earlier task lost 5.0 points"
    assert "below the joint arm" in metric_words("intransigence", 2.0)
    assert "above the joint arm" in metric_words("gap_to_joint", -2.0)
    assert "above the untouched model" in metric_words("forward_transfer", 2.0)
    assert metric_words("average_accuracy", 80.0).startswith("80.0 points")
    assert "joint" in metric_words("intransigence", None)
    assert metric_words("forgetting", -0.01).endswith("lost 0.0 points")


def test_numbers_in_sentences_are_those_of_the_file() -> None:
    facts = read(synthetic.study())
    for arm in facts.arms:
        known = {
            f"{abs(row.delta):.{1 if row.unit == 'points' else 3}f}" for row in arm.changes if row.delta is not None
        }
        found = re.findall(r"(?<= )\+?(\d+\.\d+)", sentence(arm))
        assert found
        assert set(found) <= known
