"""A setting's type says that it names a place; nothing else has to know the setting."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from mnemos.core.errors import UsageError
from mnemos.core.method import REGISTRY, method
from mnemos.core.places import located
from mnemos.core.plan import Plan
from mnemos.core.settings import AskedModelRef, DataRef, FileRef, ModelRef, Settings
from mnemos.rewards.by_name import RewardSettings
from mnemos.study.config import load_study


class Inner(Settings):
    critic: Literal["self"] | AskedModelRef | None = None
    rules: FileRef | None = None


class Record(Settings):
    one: ModelRef
    other: ModelRef | None = None
    many: dict[str, ModelRef] = Field(default_factory=dict)
    rows: tuple[DataRef, ...] = ()
    inner: Inner | None = None
    text: str = "sub/model"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder and, with other models of the same names, the working directory."""
    for place in ("study", "elsewhere"):
        for name in ("model", "critic"):
            (tmp_path / place / "sub" / name).mkdir(parents=True)
        (tmp_path / place / "rules.txt").write_text(place)
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "study"


def test_places_are_found_wherever_they_stand_and_text_stays_text(here: Path) -> None:
    given = Record(
        one="sub/model",
        other=None,
        many={"a": "sub/model", "b": "org/name"},
        rows=("sub/model", "org/rows"),
        inner=Inner(critic="sub/critic", rules="rules.txt"),
    ).model_dump()
    found = located(Record, given, here)
    model = str(here / "sub" / "model")
    assert found == {
        "one": model,
        "other": None,
        "many": {"a": model, "b": "org/name"},
        "rows": (model, "org/rows"),
        "inner": {"critic": str(here / "sub" / "critic"), "rules": str(here / "rules.txt")},
        "text": "sub/model",
    }
    assert located(Inner, {"critic": "self"}, here) == {"critic": "self"}
    server = "http://127.0.0.1:1/v1#m"
    assert located(Inner, {"critic": server}, here) == {"critic": server}
    assert located(Inner, {"critic": "vllm:sub/critic"}, here) == {"critic": f"vllm:{here / 'sub' / 'critic'}"}


@pytest.mark.parametrize("text", ["http://127.0.0.1:1/v1#m", "vllm:sub/model"])
def test_a_server_is_no_model_whose_weights_are_read(here: Path, text: str) -> None:
    with pytest.raises(UsageError, match="its weights are needed here"):
        located(Record, {"one": text}, here)


def test_a_new_methods_model_is_the_one_beside_the_study(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @method(paper="none: a test", changes={"weigh"}, off={"critic_model": None})
    def with_a_critic(plan: Plan, *, critic_model: AskedModelRef | None = None, notes: str = "sub/model") -> Plan:
        """Do nothing with a model.

        critic_model: a model.
        notes: a text.
        """
        return plan

    try:
        study, _ = load_study(_study(here, {"with_a_critic": {"critic_model": "sub/critic"}}))
    finally:
        del REGISTRY["with_a_critic"]
    ((settings,),) = [list(step.values()) for step in study.arms["arm"] or []]
    assert settings == {"critic_model": str(here / "sub" / "critic"), "notes": "sub/model"}


def test_rewards_and_suites_too(here: Path) -> None:
    for place in (here, here.parent / "elsewhere"):
        (place / "items.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
        (place / "base.sqlite").write_bytes(b"")
    judge = {"judge": "sub/critic", "constitution": "rules.txt"}
    study, _ = load_study(_study(here, {"best_of_n": {"reward": judge}}, database="base.sqlite", match="sql"))
    reward = (study.arms["arm"] or [])[0]["best_of_n"]["reward"]  # type: ignore[index]
    assert (reward["judge"], reward["constitution"]) == (str(here / "sub" / "critic"), str(here / "rules.txt"))
    (suite,) = study.suites.new
    assert (suite["data"], suite["database"]) == (str(here / "items.jsonl"), str(here / "base.sqlite"))
    own = RewardSettings(verifier="sql", database="base.sqlite").model_dump()
    assert located(RewardSettings, own, here)["database"] == str(here / "base.sqlite")


def test_every_setting_that_names_a_model_says_so() -> None:
    """Descriptions speak of directories and hub ids exactly where the type does."""
    import mnemos.methods  # noqa: F401  fills the registry

    for one in REGISTRY.values():
        for name, info in one.settings.model_fields.items():
            if "hub id" in (info.description or "").lower() and "str" in str(info.annotation):
                assert "Ref(kind=" in f"{info.metadata} {info.annotation}", f"{one.name}.{name}"


def _study(here: Path, step: dict[str, object], **suite: str) -> Path:
    import json

    (here / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    made = {
        "model": "sub/model",
        "teach": {"data": "rows.jsonl"},
        "suites": {"new": [{"name": "s", "kind": "generated", "data": "items.jsonl", **suite}]},
        "arms": {"arm": [step]},
    }
    (here / "study.yaml").write_text(json.dumps(made))
    return here / "study.yaml"
