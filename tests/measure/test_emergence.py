"""A jump of the metric is not one of the model: known curves, the rule's false alarms, and what is too little."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.api import OLS

from mnemos.core.errors import DataError
from mnemos.measure.emergence import edit_similarity, judge, scores, two_pieces

SIZES = np.geomspace(1e5, 1e9, 8)


def distance(a: str, b: str) -> int:
    """Levenshtein's recursion, as it is written down."""
    table = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, table[0] = table[0], i
        for j, y in enumerate(b, 1):
            previous, table[j] = table[j], min(table[j] + 1, table[j - 1] + 1, previous + (x != y))
    return table[-1]


@settings(max_examples=200)
@given(st.text("ab1 ", max_size=12), st.text("ab1 ", max_size=12))
def test_edit_similarity_is_levenshteins(a: str, b: str) -> None:
    expected = 1 - distance(a, b) / max(len(a), len(b)) if a or b else 1.0
    assert edit_similarity(a, b) == pytest.approx(expected)


def outputs(
    kink: float = 0.0, items: int = 60, tokens: int = 5, seed: int = 0, luck: float = 0.0
) -> list[dict[str, Any]]:
    """Models whose loss per token is a power of the size; `kink` steepens it above the fifth size."""
    rng = np.random.default_rng(seed)
    hard = np.exp(0.3 * rng.standard_normal(items))
    rows = []
    for place, size in enumerate(SIZES):
        steps = np.log(SIZES / SIZES[0])
        loss = 3 * np.exp(
            -0.35 * steps[place] - kink * max(0.0, steps[place] - steps[4]) + luck * rng.standard_normal()
        )
        for item in range(items):
            logs = -loss * hard[item] * rng.gamma(20, 1 / 20, tokens)
            right = rng.random(tokens) < np.exp(logs)
            answer = "".join(str(digit) for digit in rng.integers(0, 9, tokens))
            output = "".join(c if ok else "x" for c, ok in zip(answer, right, strict=True))
            rows.append({"size": float(size), "item": item, "answer": answer, "output": output,
                         "token_logprobs": logs.tolist(), "token_right": right.tolist()})  # fmt: skip
    return rows


def test_exact_match_jumps_where_the_model_does_not() -> None:
    found = judge(outputs(items=200))
    assert found.verdict.startswith("JUMP OF THE METRIC")
    sharp, edit, accuracy, smooth = found.curves
    assert [one.name for one in found.curves] == ["exact_match", "edit_similarity", "token_accuracy", "log_probability"]
    assert sharp.jumps
    assert not smooth.jumps
    # p^n: exact match is about the fifth power of the accuracy of a token.
    assert sharp.means[-1] < accuracy.means[-1]
    assert edit.means == pytest.approx(accuracy.means, abs=1e-9)
    assert sharp.limit == pytest.approx(3 / 200)


def test_a_model_that_does_jump_is_said_to() -> None:
    assert judge(outputs(kink=1.0, items=200)).verdict.startswith("JUMP: ")


def test_the_rule_has_few_false_alarms() -> None:
    """Straight lines with the items' noise, and with a luck of training of its own: at most 5 % by construction."""
    rng, k = np.random.default_rng(1), len(SIZES)
    x = np.log(SIZES)
    root = rng.standard_normal((k, k)) / 4 + np.eye(k)
    wrong = 0
    for number in range(200):
        y = 2 - 0.3 * x + root @ rng.standard_normal(k) * (1 if number % 2 else 7)
        _, p, bend, _ = two_pieces(x, y, root @ root.T, seed=number)
        wrong += p < 0.05 and bend > 0
    assert 0 < wrong <= 14  # half of 5 % of 200, since only one direction counts; the bound is that of 1 in 1,000


def test_the_statistic_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(2)
    x, y = np.log(SIZES), rng.standard_normal(len(SIZES))
    f, _, bend, at = two_pieces(x, y, np.eye(len(x)))
    fits = [OLS(y, np.column_stack([np.ones(len(x)), x, np.maximum(x - place, 0)])).fit() for place in x[1:-1]]
    best = min(range(len(fits)), key=lambda place: fits[place].ssr)
    line = OLS(y, np.column_stack([np.ones(len(x)), x])).fit().ssr
    assert f == pytest.approx((line - fits[best].ssr) / (fits[best].ssr / (len(x) - 4)), rel=1e-6)
    assert (bend, at) == pytest.approx((fits[best].params[2], x[1 + best]), rel=1e-6)


def test_a_metric_that_an_answer_has_no_number_for_is_left_out_and_named() -> None:
    rows = outputs(items=20)
    rows[0]["token_logprobs"] = [float("nan")]
    found = judge(rows)
    assert found.left_out == {"log_probability": 1}
    assert "log_probability" not in {one.name for one in found.curves}


def test_too_little_is_said_or_refused() -> None:
    assert judge(outputs(items=10)).verdict.startswith("CANNOT TELL: 8 sizes and 10 items")
    bare = [{name: row[name] for name in ("size", "item", "answer", "output")} for row in outputs()]
    assert "no log-probabilities" in judge(bare).verdict
    assert scores({"answer": " 12 ", "output": "12", "token_logprobs": [None]})["exact_match"] == 1
    assert np.isnan(scores({"answer": "1", "output": "1", "token_logprobs": [float("nan"), -1.0]})["log_probability"])
    with pytest.raises(DataError, match="size = 'big'"):
        judge([{"size": "big", "item": 1}])
    with pytest.raises(DataError, match="1 sizes, 1 items"):
        judge([{"size": 1, "item": 1, "answer": "a", "output": "a"}])
    with pytest.raises(DataError, match="0 sizes"):
        judge([])
