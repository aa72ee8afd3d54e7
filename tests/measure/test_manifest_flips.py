"""The manifest refuses by name; flips are chosen by rule."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mnemos.core.errors import NotComparable
from mnemos.core.nouns import Answer, Score
from mnemos.measure.ask import Measured
from mnemos.measure.flips import flips, gold_words
from mnemos.measure.items import Item
from mnemos.measure.manifest import COMPARED, differences, manifest, refuse_differences
from mnemos.measure.suite import load_suites

ITEMS = [{"id": str(i), "prompt": f"p{i}", "answer": "x"} for i in range(12)]
SUITE = load_suites([{"name": "s", "kind": "generated", "items": ITEMS}], Path("."))
MODEL = SimpleNamespace(path="a", fingerprint="1")


def frozen(model: Any = MODEL, **more: Any) -> dict[str, Any]:
    return manifest(model=model, suites=SUITE, roles={"s": "old"}, seeds=[0], first_tokens=range(99), **more)


def test_the_model_and_the_seeds_may_differ() -> None:
    a = frozen()
    b = frozen(SimpleNamespace(path="b", fingerprint="2"))
    b["seeds"] = [1, 2]
    refuse_differences(a, b)
    assert a["fingerprint"] == b["fingerprint"]
    assert len(a["first_tokens"]) == 50
    assert a["suites"][0]["items"] == 12
    assert a["versions"]["torch"]
    assert a["hardware"]["device"]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("versions", "torch"), "0.1", "versions.torch: "),
        (("hardware", "cpu"), "abacus", "hardware.cpu: "),
        (("decoding", "s", "max_new_tokens"), 3, "decoding.s.max_new_tokens: 64 against 3"),
        (("first_tokens",), [7], "first_tokens: "),
        (("template_fingerprint",), "other", "template_fingerprint: "),
        (("suites", 0, "fingerprint"), "f", "(other items or settings)"),
        (("suites", 0, "tolerance"), 9.0, "suites.s.tolerance: 2.0 against 9.0"),
        (("suites", 0, "name"), "t", "suites.t: only on one side"),
    ],
)
def test_each_difference_is_named(place: tuple[Any, ...], value: Any, message: str) -> None:
    a, b = frozen(), copy.deepcopy(frozen())
    target: Any = b
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    with pytest.raises(NotComparable) as caught:
        refuse_differences(a, b)
    assert message in str(caught.value)
    assert str(place[0]) in COMPARED


def test_commits_count_where_both_are_known_and_parts_can_be_allowed() -> None:
    a, b = frozen(), copy.deepcopy(frozen())
    a["commit"], b["commit"] = "1", None
    refuse_differences(a, b)
    b["commit"] = "2"
    b["hardware"]["cpu"] = "abacus"
    assert len(differences(a, b)) == 2
    refuse_differences(a, b, allow=("commit", "hardware"))
    with pytest.raises(NotComparable, match="hardware"):
        refuse_differences(a, b, allow=("commit",))


def test_the_template_counts_only_where_a_suite_is_a_chat() -> None:
    assert frozen(template_fingerprint="t")["template_fingerprint"] is None
    chat = load_suites([{"name": "c", "kind": "generated", "chat": True, "items": ITEMS}], Path("."))
    made = manifest(model=MODEL, suites=chat, roles={}, seeds=[0], template_fingerprint="t")
    assert made["template_fingerprint"] == "t"


def side(values: list[float]) -> dict[str, Measured]:
    scores = [Score("s", str(i), v, "gone" if math.isnan(v) else None) for i, v in enumerate(values)]
    return {"s": Measured("s", [Answer("s", str(i), f"said {v}") for i, v in enumerate(values)], scores)}


BEFORE = side([1.0] * 5 + [0.0] * 5 + [0.5, math.nan])
AFTER = side([0.0, 0.2, 0.4, 0.6, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0, 0.5, 1.0])


def test_largest_losses_then_gains_then_random() -> None:
    found = flips(SUITE, BEFORE, AFTER, arm="plain", seed=0, each=2)
    assert [(f["item"], f["why"]) for f in found[:4]] == [
        ("0", "largest loss"),
        ("1", "largest loss"),
        ("5", "largest gain"),
        ("6", "largest gain"),
    ]
    assert [f["why"] for f in found[4:]] == ["random"] * 2
    assert len({f["item"] for f in found}) == 6
    assert found[0] == {
        "arm": "plain",
        "seed": 0,
        "suite": "s",
        "item": "0",
        "prompt": "p0",
        "gold": "x",
        "before": {"text": "said 1.0", "score": 1.0},
        "after": {"text": "said 0.0", "score": 0.0},
        "why": "largest loss",
    }


def test_the_draw_follows_the_seed_and_a_missing_score_is_none() -> None:
    draws = {seed: flips(SUITE, BEFORE, AFTER, arm="a", seed=seed, each=12) for seed in (0, 0, 1, 2, 3)}
    assert flips(SUITE, BEFORE, AFTER, arm="a", seed=1, each=12) == draws[1]
    orders = {tuple(f["item"] for f in found) for found in draws.values()}
    assert len(orders) > 1
    missing = next(f for f in draws[0] if f["item"] == "11")
    assert missing["before"]["score"] is None


def test_ties_do_not_follow_the_order_of_the_file() -> None:
    before, after = side([1.0] * 12), side([0.0] * 12)
    first = [flips(SUITE, before, after, arm="a", seed=s, each=1)[0]["item"] for s in range(8)]
    assert len(set(first)) > 1


def test_losses_where_lower_is_better() -> None:
    lower = load_suites([{"name": "s", "kind": "repetition", "items": ITEMS}], Path("."))
    found = flips(lower, BEFORE, AFTER, arm="a", seed=0, each=1)
    assert (found[0]["item"], found[0]["why"]) == ("5", "largest loss")


def test_what_counts_as_right_is_the_true_option_or_the_answer() -> None:
    options = ("male", "female")
    assert gold_words(Item("1", options=options, true=(1,))) == "female"
    assert gold_words(Item("1", options=options, answers=("male",))) == "male"
    assert gold_words(Item("1", expect="refuse")) == "refuse"
