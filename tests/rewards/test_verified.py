"""Verifiers as rewards."""

import dataclasses
import math

import pytest

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example, Prompt, Turn
from mnemos.rewards import verifiers as verify
from mnemos.rewards.by_name import RewardSettings, make
from mnemos.rewards.verified import MeetsSchema, Verified

ASKED = Prompt((Turn("user", "?"),))


def row(gold: str, **meta: object) -> Example:
    return Example("r", "messages", (Turn("user", "?"), Turn("assistant", gold)), meta=meta)


def scores(reward, answers, rows):
    return [one.value for one in reward([ASKED] * len(rows), answers, rows)]


@pytest.mark.parametrize(
    ("name", "gold", "right", "wrong"),
    [
        ("exact", "Paris", " Paris ", "paris"),
        ("normalised", "The Paris.", "paris", "Rome"),
        ("number", "42", "so it is 42.0", "41"),
        ("regex", "^a+$", "aaa", "ab"),
        ("json", '{"a": 1}', '{ "a": 1.0 }', '{"a": 2}'),
    ],
)
def test_a_verifier_pays_for_what_is_right(name, gold, right, wrong):
    reward = make(RewardSettings(verifier=name))
    assert scores(reward, [right, wrong], [row(gold)] * 2) == [1.0, 0.0]


def test_the_reference_may_stand_in_a_column():
    rows = [row("long solution", answer=7)]
    assert scores(Verified("number", "answer"), ["it is 7"], rows) == [1.0]
    with pytest.raises(DataError, match="no column 'gold'"):
        scores(Verified("number", "gold"), ["it is 7"], rows)


def test_a_schema_pays_for_whole_answers():
    reward = make(RewardSettings(json_schema={"type": "object", "required": ["a"]}))
    assert isinstance(reward, MeetsSchema)
    assert scores(reward, ['{"a": 1}', "{}", "no"], [row("")] * 3) == [1.0, 0.0, 0.0]
    with pytest.raises(DataError, match="is not valid"):
        MeetsSchema({"type": "nonsense"})


def test_a_reference_that_no_answer_could_meet_is_missing_not_zero():
    (one,) = Verified("number")([ASKED], ["7"], [row("no digits")])
    assert math.isnan(one.value)
    assert one.reason == "a reference that no answer could meet"


def test_a_verifier_that_fails_is_counted_by_what_it_raised(monkeypatch):
    def broken(answer, reference):
        if answer == "bad":
            raise ZeroDivisionError
        return 1.0

    monkeypatch.setattr(verify, "VERIFIERS", {**verify.VERIFIERS, "exact": verify.Verifier(broken)})
    good, bad = Verified("exact")([ASKED] * 2, ["good", "bad"], [row("x")] * 2)
    assert good.value == 1.0
    assert bad.reason == "the verifier failed: ZeroDivisionError"


def test_settings_name_exactly_one_reward():
    with pytest.raises(ValueError, match="exactly one"):
        RewardSettings()
    with pytest.raises(ValueError, match="exactly one"):
        RewardSettings(verifier="exact", json_schema={})
    with pytest.raises(ValueError, match="'exact', 'normalised'"):
        RewardSettings(verifier="exakt")


def test_the_fingerprint_says_every_setting():
    made = [Verified("exact"), Verified("number"), Verified("exact", "answer"), MeetsSchema({}), MeetsSchema({"a": 1})]
    assert len({one.fingerprint for one in made}) == len(made)
    assert dataclasses.replace(made[0]).fingerprint == made[0].fingerprint
