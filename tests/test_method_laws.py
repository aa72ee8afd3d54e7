"""Every registered method keeps the four laws; methods that break one are caught."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mnemos.methods  # noqa: F401  fills the registry
from mnemos.core.method import REGISTRY, Method, apply, method
from mnemos.core.plan import AllParameters, Plan
from tests import laws

METHODS = [REGISTRY[name] for name in sorted(REGISTRY)]
PAIRS = laws.disjoint(METHODS)
few = settings(max_examples=15, suppress_health_check=list(HealthCheck))


def name_of(value: Any) -> str:
    return value.name if isinstance(value, Method) else str(value)


@pytest.mark.parametrize("law", [laws.off, laws.pure, laws.declared], ids=lambda law: law.__name__)
@pytest.mark.parametrize("one", METHODS, ids=name_of)
@few
@given(data=st.data())
def test_law(one: Method, law: Callable[..., None], data: st.DataObject) -> None:
    law(one, laws.base_plan(), data.draw(laws.settings_of(one)))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0].name}-{pair[1].name}")
@pytest.mark.hypothesis
def test_commute(pair: tuple[Method, Method]) -> None:
    # A property of its own for each pair: hypothesis' plugin wraps the settings of a parametrised property once more at
    # every case, and a thousand cases in one process are deeper than Python's stack.
    @settings(few, max_examples=6)
    @given(data=st.data())
    def commute(data: st.DataObject) -> None:
        drawn = data.draw(laws.settings_of(pair[0])), data.draw(laws.settings_of(pair[1]))
        laws.commute(*pair, laws.base_plan(), drawn)

    commute()


@pytest.mark.parametrize("one", METHODS, ids=name_of)
def test_example_settings_change_the_plan(one: Method) -> None:
    """Defaults (with the example where one is required) are on, so that naming a method does
    something, and off is really another setting."""
    plan = laws.base_plan()
    example = {} if one.name in ("replay",) else laws.example_of(one)
    out = one(plan, **example)
    assert out.fingerprint != plan.fingerprint
    assert not out.history[-1].off


@pytest.mark.parametrize("one", METHODS, ids=name_of)
def test_laws_hold_on_a_plan_that_others_have_changed(one: Method) -> None:
    """Off means unchanged wherever the method stands in an arm."""
    arm = [{"output_only": {}}, {"lora": {"rank": 2}}, {"kl_to_before": {}}, {"weights": {}}, {"replay": {}}]
    plan = apply(laws.base_plan(), arm)
    laws.off(one, plan, laws.example_of(one))
    laws.pure(one, plan, laws.example_of(one))
    laws.declared(one, plan, laws.example_of(one))


@pytest.mark.parametrize("one", METHODS, ids=name_of)
def test_a_method_is_documented(one: Method) -> None:
    assert one.summary.endswith(".")
    assert one.paper
    for name, field in one.settings.model_fields.items():
        assert field.description, f"{one.name}.{name} is not explained"


# --- the laws can fail -------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Method]:
    """A catalogue in which a test may register what it likes."""
    fresh: dict[str, Method] = {}
    monkeypatch.setattr("mnemos.core.method.REGISTRY", fresh)
    return fresh


@dataclass(frozen=True)
class Mark:
    value: Any


def test_off_that_changes_the_plan_is_caught(registry: dict[str, Method]) -> None:
    @method(paper="none", changes={"weigh"}, off={"amount": 0})
    def always(plan: Plan, *, amount: int = 1) -> Plan:
        """Marks the plan.

        amount: how much.
        """
        return dataclasses.replace(plan, weigh=(Mark(amount),))  # type: ignore[arg-type]

    with pytest.raises(AssertionError, match="off settings change the plan"):
        laws.off(always, laws.base_plan(), {})


def test_a_method_with_a_memory_is_caught(registry: dict[str, Method]) -> None:
    calls = itertools.count()

    @method(paper="none", changes={"weigh"}, off={"amount": 0})
    def counting(plan: Plan, *, amount: int = 1) -> Plan:
        """Marks the plan.

        amount: how much.
        """
        return dataclasses.replace(plan, weigh=(Mark(next(calls)),))  # type: ignore[arg-type]

    with pytest.raises(AssertionError, match="is not pure"):
        laws.pure(counting, laws.base_plan(), {})


def test_a_method_that_writes_into_its_plan_is_caught(registry: dict[str, Method]) -> None:
    @method(paper="none", changes={"weigh"}, off={"amount": 0})
    def writing(plan: Plan, *, amount: int = 1) -> Plan:
        """Marks the plan.

        amount: how much.
        """
        object.__setattr__(plan, "weigh", (Mark(amount),))
        return plan

    with pytest.raises(AssertionError, match="changed the plan that it was given"):
        laws.pure(writing, laws.base_plan(), {})


def test_an_undeclared_change_is_caught(registry: dict[str, Method]) -> None:
    @method(paper="none", changes={"weigh"}, off={"amount": 0})
    def sneaky(plan: Plan, *, amount: int = 1) -> Plan:
        """Changes what it did not declare.

        amount: how much.
        """
        return dataclasses.replace(plan, trainable=AllParameters(learning_rate=1.0))

    with pytest.raises(AssertionError, match=r"sneaky changed \['trainable'\] but declares \['weigh'\]"):
        laws.declared(sneaky, laws.base_plan(), {})


@pytest.mark.parametrize("field", ["seed", "task", "before", "past", "train", "history", "sequence"])
def test_given_fields_may_not_be_changed(registry: dict[str, Method], field: str) -> None:
    other = {
        "seed": 9,
        "task": "x",
        "before": laws.Handle("y", "f"),
        "past": (),
        "train": laws.TrainSettings(max_steps=3),
        "history": (),
        "sequence": False,
    }

    @method(paper="none", changes={"weigh"}, off={"amount": 0})
    def sneaky(plan: Plan, *, amount: int = 1) -> Plan:
        """Changes what is given.

        amount: how much.
        """
        return dataclasses.replace(plan, **{field: other[field]})  # type: ignore[arg-type]

    plan = dataclasses.replace(laws.base_plan(), history=("earlier",))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=field):
        sneaky(plan)


def test_methods_that_look_at_each_other_are_caught(registry: dict[str, Method]) -> None:
    @method(paper="none", changes={"trainable"}, off={"on": False})
    def mover(plan: Plan, *, on: bool = True) -> Plan:
        """Changes what may move.

        on: whether it does.
        """
        return dataclasses.replace(plan, trainable=AllParameters(learning_rate=1.0))

    @method(paper="none", changes={"weigh"}, off={"on": False})
    def looker(plan: Plan, *, on: bool = True) -> Plan:
        """Writes down what may move.

        on: whether it does.
        """
        return dataclasses.replace(plan, weigh=(Mark(plan.trainable.learning_rate),))  # type: ignore[arg-type]

    with pytest.raises(AssertionError, match="do not commute"):
        laws.commute(looker, mover, laws.base_plan(), ({}, {}))


def test_every_changeable_field_pair_is_covered() -> None:
    """All methods take part in the commute law, else a new one would slip through."""
    assert {one.name for pair in PAIRS for one in pair} == set(REGISTRY)
