"""@method: settings from the signature, refusals that name key, value and cure, history."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from mnemos.core.errors import UsageError
from mnemos.core.method import Method, apply, find, method, validated
from mnemos.core.plan import Applied, Likelihood, Plan
from mnemos.core.settings import Settings, TrainSettings
from tests.laws import base_plan


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Method]:
    fresh: dict[str, Method] = {}
    monkeypatch.setattr("mnemos.core.method.REGISTRY", fresh)
    return fresh


@pytest.fixture
def twice(registry: dict[str, Method]) -> Method:
    @method(paper="arXiv:0000.00000", changes={"objective"}, off={"times": 0})
    def twice(
        plan: Plan,
        *,
        times: Annotated[int, Field(ge=0, le=9)] = 2,
        share: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        mode: Literal["up", "down"] = "up",
        names: Literal["all"] | tuple[str, ...] = "all",
    ) -> Plan:
        """Repeat the likelihood
        some times.

        times: how often; 0 turns it
        off.
        share: a share, in [0, 1).
        mode: up or down.

        names: which ones.

        Trap: none.
        """
        if times == 0:
            return plan
        return dataclasses.replace(plan, objective=(*plan.objective, *[Likelihood()] * times))

    return twice


def test_it_is_registered_with_what_the_signature_and_docstring_say(twice: Method) -> None:
    assert find("twice") is twice
    assert twice.summary == "Repeat the likelihood some times."
    assert twice.changes == {"objective"}
    text = {name: field.description for name, field in twice.settings.model_fields.items()}
    assert text == {
        "times": "how often; 0 turns it off.",
        "share": "a share, in [0, 1).",
        "mode": "up or down.",
        "names": "which ones.",
    }


def test_history_has_every_setting(twice: Method) -> None:
    plan = twice(twice(base_plan(), times=1), times=0)
    assert len(plan.objective) == 2
    filled = {"times": 1, "share": 0.5, "mode": "up", "names": "all"}
    assert plan.history == (
        Applied("twice", "arXiv:0000.00000", filled, off=False),
        Applied("twice", "arXiv:0000.00000", {**filled, "times": 0}, off=True),
    )


def test_settings_are_converted_to_their_type(twice: Method) -> None:
    assert twice.validate({"names": ["a", "b"], "share": 0})["names"] == ("a", "b")
    assert isinstance(twice.validate({"share": 0})["share"], float)
    assert twice(base_plan(), share=0).fingerprint == twice(base_plan(), share=0.0).fingerprint


@pytest.mark.parametrize(
    ("settings", "value", "bound", "cure"),
    [
        ({"tmes": 1}, "twice.tmes", "is not a known key", "did you mean 'times'?"),
        ({"zzzzz": 1}, "twice.zzzzz", "is not a known key", "known: mode, names, share, times"),
        ({"times": -1}, "twice.times = -1", "greater than or equal to 0", "how often; 0 turns it off. (default 2)"),
        ({"times": "many"}, "twice.times = 'many'", "valid integer", "how often"),
        ({"times": 1.5}, "twice.times = 1.5", "integer", "how often"),
        ({"times": None}, "twice.times = None", "integer", "how often"),
        ({"share": 1}, "twice.share = 1", "less than 1", "a share"),
        ({"share": float("nan")}, "twice.share = nan", "finite number", "a share"),
        ({"mode": "sideways"}, "twice.mode = 'sideways'", "'up' or 'down'", "up or down"),
        ({"names": 3}, "twice.names = 3", "Input should be 'all' or: Input should be a valid tuple", "which ones"),
        ({"names": ["a", 3]}, "twice.names.1 = 3", "Input should be a valid string", "which ones"),
    ],
)
def test_refusals(twice: Method, settings: dict[str, Any], value: str, bound: str, cure: str) -> None:
    with pytest.raises(UsageError) as caught:
        twice(base_plan(), **settings)
    assert caught.value.value.startswith(value)
    assert bound in caught.value.bound
    assert caught.value.cure.startswith(cure)
    assert "[" not in caught.value.value.split(" = ")[0], "the place is a key, not pydantic's name of a type"


def test_a_required_setting(registry: dict[str, Method]) -> None:
    @method(paper="p", changes={"after"}, off={"kind": "none"}, example={"kind": "some"})
    def needing(plan: Plan, *, kind: str) -> Plan:
        """Needs a kind.

        kind: of what.
        """
        return plan

    with pytest.raises(UsageError, match=r"needing\.kind = missing: .*required\n  of what\."):
        needing(base_plan())


class Common(BaseModel):
    """What two methods share.

    width: how wide.
    times: how often.
    """

    width: Annotated[float, Field(gt=0)]
    times: int = 2


def test_a_block_of_shared_settings_is_written_flat(registry: dict[str, Method]) -> None:
    @method(paper="p", changes={"after"}, off={"depth": 0}, example={"width": 1})
    def shared(plan: Plan, common: Common, *, depth: int = 0) -> Plan:
        """Has a block.

        depth: how deep.
        """
        return dataclasses.replace(plan, after=(*plan.after, f"{common.width}x{common.times}x{depth}"))

    assert list(shared.settings.model_fields) == ["width", "times", "depth"]
    assert shared.settings.model_fields["width"].description == "how wide."
    made = shared(base_plan(), width=3, depth=1)
    assert made.after == ("3.0x2x1",)
    assert made.history[-1].settings == {"width": 3.0, "times": 2, "depth": 1}
    with pytest.raises(UsageError, match=r"shared\.width = 0: .*greater than 0"):
        shared(base_plan(), width=0)
    with pytest.raises(TypeError, match="behind blocks of shared ones"):

        @method(paper="p", changes={"after"}, off={})
        def positional(plan: Plan, depth: int) -> Plan:
            """Wrong.

            depth: how deep.
            """
            return plan


class Heat(BaseModel):
    """How draws are made.

    heat: how wild.
    """

    heat: Annotated[float, Field(gt=0)] = 1.0


def test_several_blocks_and_the_defaults_that_a_method_has_of_its_own(registry: dict[str, Method]) -> None:
    @method(paper="p", changes={"after"}, off={"depth": 0}, example={"width": 1})
    def shared(plan: Plan, common: Common, drawn: Heat = Heat(heat=0.5), *, depth: int = 0) -> Plan:  # noqa: B008
        """Has two blocks.

        depth: how deep.
        """
        return dataclasses.replace(plan, after=(*plan.after, f"{common.width}x{drawn.heat}x{depth}"))

    assert list(shared.settings.model_fields) == ["width", "times", "heat", "depth"]
    assert shared(base_plan(), width=3, depth=1).after == ("3.0x0.5x1",)
    assert shared(base_plan(), width=3, depth=1, heat=2).after == ("3.0x2.0x1",)
    with pytest.raises(UsageError, match=r"shared\.heat = 0: .*greater than 0"):
        shared(base_plan(), width=1, heat=0)
    with pytest.raises(TypeError, match="width: stands in a block too"):

        @method(paper="p", changes={"after"}, off={})
        def twice_width(plan: Plan, common: Common, *, width: int = 1) -> Plan:
            """Wrong.

            width: how wide.
            """
            return plan

    with pytest.raises(TypeError, match="width: stands in two blocks"):

        @method(paper="p", changes={"after"}, off={})
        def common_twice(plan: Plan, common: Common, again: Common) -> Plan:
            """Wrong."""
            return plan


# --- applying an arm ---------------------------------------------------------------------------


def test_apply_goes_left_to_right(twice: Method) -> None:
    plan = apply(base_plan(), [{"twice": {"times": 1}}, {"twice": None}, {"twice": {}}])
    assert [line.settings["times"] for line in plan.history] == [1, 2, 2]
    assert apply(base_plan(), []).fingerprint == base_plan().fingerprint


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("twice", "must be one {method: settings} pair"),
        ({"twice": {}, "thrice": {}}, "must be one {method: settings} pair"),
        ({}, "must be one {method: settings} pair"),
        ({"twise": {}}, "did you mean 'twice'?"),
        ({7: {}}, "is not in the catalogue"),
        ({"twice": 3}, "must be a mapping of settings"),
        ({"twice": 0}, "must be a mapping of settings"),
        ({"twice": [1]}, "must be a mapping of settings"),
        ({"twice": {3: 4}}, "is not a known key"),
        ({"twice": {"plan": 1}}, "is not a known key"),
    ],
)
def test_bad_steps(twice: Method, step: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        apply(base_plan(), [step])
    assert message in str(caught.value)


# --- defects of a method, caught when it is written --------------------------------------------


def good(plan: Plan, *, amount: int = 1) -> Plan:
    """Does nothing.

    amount: of it.
    """
    return plan


def unannotated(plan: Plan, *, amount=1) -> Plan:  # type: ignore[no-untyped-def]
    """Does nothing.

    amount: of it.
    """
    return plan


def unexplained(plan: Plan, *, amount: int = 1) -> Plan:
    """Does nothing; the amount: is not at the start of a line."""
    return plan


def positional(plan: Plan, amount: int = 1) -> Plan:
    """Does nothing.

    amount: of it.
    """
    return plan


def nameless(p: Plan, *, amount: int = 1) -> Plan:
    """Does nothing.

    amount: of it.
    """
    return p


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (unannotated, "needs an annotation"),
        (unexplained, "a line 'amount: …' in the docstring"),
        (positional, "keyword-only"),
        (nameless, "the first parameter must be `plan`"),
    ],
)
def test_bad_signatures(registry: dict[str, Method], function: Callable[..., Plan], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        method(paper="p", changes={"weigh"}, off={"amount": 0})(function)
    assert not registry


@pytest.mark.parametrize("changes", [set(), {"seed"}, {"weigh", "wiegh"}, {"before"}])
def test_bad_changes(registry: dict[str, Method], changes: set[str]) -> None:
    with pytest.raises(TypeError, match="must name fields among"):
        method(paper="p", changes=changes, off={"amount": 0})


def test_off_settings_must_be_valid(registry: dict[str, Method]) -> None:
    with pytest.raises(UsageError, match=r"good\.amuont"):
        method(paper="p", changes={"weigh"}, off={"amuont": 0})(good)


def test_a_name_is_taken_once(registry: dict[str, Method]) -> None:
    method(paper="p", changes={"weigh"}, off={"amount": 0})(good)
    with pytest.raises(TypeError, match="registered twice"):
        method(paper="p", changes={"weigh"}, off={"amount": 0})(good)


def test_it_must_return_a_plan(registry: dict[str, Method]) -> None:
    @method(paper="p", changes={"weigh"}, off={})
    def forgetful(plan: Plan) -> Plan:
        """Returns nothing."""
        return None  # type: ignore[return-value]

    with pytest.raises(TypeError, match="returned NoneType, not a Plan"):
        forgetful(base_plan())


def test_a_value_without_a_name_is_refused(registry: dict[str, Method]) -> None:
    """A lambda in a plan would have no fingerprint, so that a cached step could be a wrong one."""

    @method(paper="p", changes={"weigh"}, off={})
    def lazy(plan: Plan) -> Plan:
        """Weighs by a lambda."""
        return dataclasses.replace(plan, weigh=(lambda rows, before: rows,))

    with pytest.raises(TypeError, match="no fingerprint for function"):
        lazy(base_plan())


# --- settings records --------------------------------------------------------------------------


def test_validated_fills_defaults_and_names_the_place() -> None:
    made = validated(TrainSettings, {"learning_rate": 1e-3}, where="train")
    assert (made.learning_rate, made.max_length) == (1e-3, 1024)
    with pytest.raises(UsageError, match=r"train\.learning_rte: is not a known key\n  did you mean 'learning_rate'"):
        validated(TrainSettings, {"learning_rte": 1}, where="train")
    with pytest.raises(UsageError, match=r"train\.max_length = 1: .*\n  Longest example in tokens"):
        validated(TrainSettings, {"max_length": 1}, where="train")
    with pytest.raises(UsageError, match="train = 'fast': must be a mapping"):
        validated(TrainSettings, "fast", where="train")  # type: ignore[arg-type]


def test_places_inside_settings_are_named() -> None:
    class Inner(Settings):
        size: int

    class Outer(Settings):
        inner: Inner | list[Inner]

    with pytest.raises(UsageError, match=r"^outer\.inner\.1\.size = missing: Field required"):
        validated(Outer, {"inner": [{"size": 1}, {}]}, where="outer")
    with pytest.raises(UsageError, match=r"^outer\.inner\.0\.size = 'x': .*valid integer"):
        validated(Outer, {"inner": [{"size": "x"}]}, where="outer")


def test_contradictions_are_refused() -> None:
    with pytest.raises(UsageError, match="fsdp and deepspeed are both set"):
        validated(TrainSettings, {"fsdp": "full_shard", "deepspeed": "x.json"}, where="train")


def test_every_train_setting_is_explained_and_counts() -> None:
    start = TrainSettings()
    for name, info in TrainSettings.model_fields.items():
        assert info.description, name
    assert start.fingerprint == TrainSettings(learning_rate=start.learning_rate).fingerprint
    assert start.fingerprint != TrainSettings(learning_rate=1e-3).fingerprint
    with pytest.raises(ValueError, match="frozen"):
        start.learning_rate = 1.0


def test_settings_refuse_unknown_keys() -> None:
    class Mine(Settings):
        size: int = 3

    with pytest.raises(ValueError, match="extra"):
        Mine(sise=4)  # type: ignore[call-arg]
