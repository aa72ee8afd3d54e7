"""What a stream gained, against references computed here."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mnemos.measure.proportions import wilson
from mnemos.measure.uncertainty import paired
from mnemos.stream import gains
from mnemos.stream.journal import Asked, Step


def steps(values: list[float | None], order: list[int] | None = None) -> list[Step]:
    places = order or list(range(len(values)))
    return [
        Step(at, f"q{i}", "a", "a", values[i], None if values[i] is not None else "failed", None, 1, 10, 2, 0.5, at)
        for at, i in enumerate(places)
    ]


def drawn(seed: int, rate: float, number: int = 60) -> list[float]:
    return [float(v) for v in np.random.default_rng(seed).random(number) < rate]


def test_the_gain_is_the_paired_difference_over_items_and_orders() -> None:
    base = drawn(0, 0.4)
    sides = [drawn(seed, 0.7) for seed in (1, 2)]
    orders = [list(np.random.default_rng(s).permutation(60)) for s in (5, 6)]
    found = gains.gain([steps(v, o) for v, o in zip(sides, orders, strict=True)], [steps(base)])  # type: ignore[arg-type]
    place = [f"q{i}" for i in orders[0]]
    index = [int(name[1:]) for name in place]
    wanted = paired(np.array(base)[index], np.array(sides)[:, index])
    assert found.gain == pytest.approx(np.mean(sides) - np.mean(base))
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found.normalised == pytest.approx((np.mean(sides) - np.mean(base)) / (1 - np.mean(base)))
    assert (found.items, found.missing, found.orders) == (60, 0, 2)


def test_items_without_a_score_on_any_side_are_left_out_and_counted() -> None:
    first: list[float | None] = [1.0, None, 1.0, 0.0] * 10
    base: list[float | None] = [0.0, 1.0, None, 0.0] * 10
    found = gains.gain([steps(first)], [steps(base)])
    assert (found.items, found.missing) == (20, 20)
    assert found.gain == pytest.approx(0.5)
    none = gains.gain([steps([None, None])], [steps([1.0, 1.0])])
    assert (none.gain, none.items) == (None, 0)
    assert gains.gain([], []).gain is None


def test_the_mean_of_several_arms_is_the_mean_of_what_each_got() -> None:
    a, b, own = drawn(0, 0.4), drawn(1, 0.6), drawn(2, 0.7)
    order = list(np.random.default_rng(3).permutation(60))
    arms = [[steps(list(a)), steps(list(a), order)], [steps(list(b)), steps(list(b), order)]]
    mean = gains.mean_steps(arms)
    assert [[step.item for step in one] for one in mean] == [[step.item for step in one] for one in arms[0]]
    found = gains.gain([steps(list(own)), steps(list(own), order)], mean)
    assert found.gain == pytest.approx(np.mean(own) - (np.mean(a) + np.mean(b)) / 2)
    lacks = gains.mean_steps([[steps([1.0, None])], [steps([0.0, 1.0])]])
    assert [step.value for step in lacks[0]] == [0.5, None]


def test_with_sampling_both_sides_are_drawn_as_often() -> None:
    sides, bases = [drawn(s, 0.7) for s in range(5)], [drawn(s, 0.4) for s in range(5, 10)]
    found = gains.gain([steps(v) for v in sides], [steps(v) for v in bases])  # type: ignore[arg-type]
    assert found.gain == pytest.approx(np.mean(sides) - np.mean(bases))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.gain < found.high  # type: ignore[operator]
    assert found.low > 0


def test_a_perfect_reset_agent_leaves_nothing_to_gain() -> None:
    found = gains.gain([steps([1.0] * 30)], [steps([1.0] * 30)])
    assert (found.gain, found.normalised) == (0.0, None)
    assert found.low is not None
    assert found.low < 0  # not having seen a change is no proof that there is none


def test_the_step_from_which_the_gain_is_proven() -> None:
    late = [0.0] * 40 + [1.0] * 60
    found = gains.pays_off([steps(late)], [steps([0.0] * 100)])  # type: ignore[arg-type]
    assert found is not None
    assert 40 < found <= 60
    assert gains.pays_off([steps(drawn(1, 0.5, 100))], [steps(drawn(1, 0.5, 100))]) is None  # type: ignore[arg-type]
    # Proven early and lost again: not from there on.
    lost = [1.0] * 30 + [0.0] * 90
    assert gains.pays_off([steps(lost)], [steps([0.0] * 30 + [1.0] * 90)]) is None  # type: ignore[arg-type]


def test_a_curve_is_a_moving_mean_with_wilson_s_band() -> None:
    values = drawn(3, 0.5, 75)
    points = gains.curve([steps(values)], window=50, stride=10)  # type: ignore[arg-type]
    assert [one["step"] for one in points] == [50, 60, 70, 75]
    assert points[1]["mean"] == pytest.approx(np.mean(values[10:60]))
    assert (points[1]["low"], points[1]["high"]) == pytest.approx(wilson(float(np.mean(values[10:60])), 50))
    assert gains.curve([steps([1.0])])[0]["step"] == 1
    assert gains.curve([]) == []


def test_forgetting_is_the_last_panel_against_the_first() -> None:
    panel = [Asked(step, f"q{i}", "a", float(i < right), None) for step, right in ((10, 8), (20, 5)) for i in range(8)]
    found = gains.forgetting([([], panel)])
    assert found is not None
    assert (found["first"], found["last"], found["items"]) == (10, 20, 8)
    assert found["delta"] == pytest.approx(-3 / 8)
    assert [one["mean"] for one in found["points"]] == [1.0, 5 / 8]
    assert gains.forgetting([([], panel[:8])]) is None


def test_costs_add_up() -> None:
    found = gains.cost(steps([1.0, 0.0, None]), {"prompt": 2.0, "completion": 10.0})
    assert found["prompt_tokens"] == 30
    assert found["tokens"] == 6
    assert math.isclose(found["dollars"], (2 * 30 + 10 * 6) / 1e6)
    assert gains.missing(steps([1.0, None, None])) == {"failed": 2}
