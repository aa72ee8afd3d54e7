"""A model as judge: both orders, soft verdicts, unreadable ones, and real HTTP."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Decoding, Example, Generation, OptionScore, Prompt, Turn
from mnemos.measure.judging import position_bias
from mnemos.rewards.by_name import RewardSettings, make
from mnemos.rewards.judge import CONSTITUTION, Judge, principles
from mnemos.rewards.judge_prompt import JudgePrompt, PromptSet
from tests.models.test_server import completion, needs_serving, patient_server, serve  # noqa: F401 - a fixture

ASKED = Prompt((Turn("user", "Which city?"),))


@dataclass(frozen=True)
class Fake:
    """A judge that likes long answers (by `taste` nats a letter) and the first place (by `lean` nats)."""

    taste: float = 0.0
    lean: float = 0.0
    says: str = "(A)"
    path: str = "fake"
    fails: str = "no such text"

    @property
    def fingerprint(self) -> str:
        return f"{self.taste} {self.lean} {self.says} {self.fails}"

    def load(self) -> Fake:
        return self

    def choose(self, contexts: Any, options: Any) -> list[list[OptionScore]]:
        out = []
        for context in contexts:
            text = context.turns[-1].text
            first, second = text.split("(A) ")[1].split("\n\n(B) ")
            second = second.split("\n\nReply")[0]
            gap = self.taste * (len(first) - len(second)) + self.lean
            value = math.nan if self.fails in text else gap - 1.0
            out.append([OptionScore(value, 2, False), OptionScore(-1.0, 2, False)])
        return out

    def generate(self, prompts: list[Prompt], decoding: Decoding) -> list[Generation]:
        return [Generation(self.says, (), True) for _ in prompts]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def judge(fake: Any, **settings: Any) -> Judge:
    return Judge(fake, principles(CONSTITUTION), **settings)


def test_the_liking_for_a_place_cancels_out_of_a_verdict() -> None:
    (one,) = judge(Fake(taste=0.5, lean=1.0)).compare([ASKED], ["long"], ["a"])
    assert one.shown_first == pytest.approx(sigmoid(1.5 + 1.0))
    assert one.shown_second == pytest.approx(1 - sigmoid(-1.5 + 1.0))
    assert one.first == pytest.approx((sigmoid(2.5) + 1 - sigmoid(-0.5)) / 2)
    (even,) = judge(Fake(lean=3.0)).compare([ASKED], ["long"], ["a"])
    assert even.first == pytest.approx(0.5)


def test_a_reward_is_the_chance_of_beating_the_gold_answer() -> None:
    rows = [Example("r", "messages", (*ASKED.turns, Turn("assistant", "four")))] * 2
    better, worse = judge(Fake(taste=1.0))([ASKED] * 2, ["longer", "a"], rows)
    assert better.value == pytest.approx(sigmoid(2.0))
    assert worse.value == pytest.approx(sigmoid(-3.0))


def test_exchanging_the_answers_turns_the_verdict_round() -> None:
    one, other = judge(Fake(taste=0.3, lean=2.0)).compare([ASKED] * 2, ["abc", "x"], ["x", "abc"])
    assert one.first == pytest.approx(1 - other.first)


def test_a_pair_too_long_to_judge_is_missing() -> None:
    good, bad = judge(Fake(fails="LONG")).compare([ASKED] * 2, ["a", "LONG"], ["b", "c"])
    assert good.reason is None
    assert bad.reason == "longer than the judge reads"
    assert math.isnan(bad.first)


@pytest.mark.parametrize(
    ("text", "read"), [("(A)", True), ("B.", True), ("A or (B)", False), ("", False), ("A lot", True)]
)
def test_written_verdicts_are_read_where_they_name_one_option(text: str, read: bool) -> None:
    made = judge(Fake(says=text), by="text", max_unparsed=1.0)
    (one,) = made.compare([ASKED], ["x"], ["y"])
    assert (one.reason is None) == read
    if read:
        assert one.first == 0.5  # the same letter in both orders: a liking for a place


def test_unreadable_verdicts_stop_the_run_above_the_limit_with_their_rate() -> None:
    with pytest.raises(DataError, match=r"2 of 2 verdicts \(100\.0%\) cannot be read"):
        judge(Fake(says="hm"), by="text").compare([ASKED], ["x"], ["y"])


def test_principles_are_drawn_by_seed_and_are_the_same_in_both_orders(tmp_path: Any) -> None:
    made = judge(Fake())
    drawn = {made._principle(ASKED, str(i), "x") for i in range(60)}
    assert drawn == set(principles(CONSTITUTION))
    assert made._principle(ASKED, "a", "b") == made._principle(ASKED, "b", "a")
    other = judge(Fake(), seed=1)
    assert [made._principle(ASKED, str(i), "x") for i in range(20)] != [
        other._principle(ASKED, str(i), "x") for i in range(20)
    ]
    file = tmp_path / "c.txt"
    file.write_text("# a remark\n\nBe kind.\n")
    assert principles(file) == ("Be kind.",)
    file.write_text("# nothing\n")
    with pytest.raises(UsageError, match="holds no principle"):
        principles(file)
    with pytest.raises(UsageError, match="cannot be read"):
        principles(tmp_path / "absent")


def test_a_judge_behind_a_server_writes_its_verdict(serve: Any) -> None:  # noqa: F811
    def longer(number: int, path: str, body: dict[str, Any]) -> Any:
        text = body["messages"][-1]["content"]
        first, second = text.split("(A) ")[1].split("\n\n(B) ")
        return completion("(A)" if len(first) > len(second.split("\n\nReply")[0]) else "(B)")

    server = serve(longer)
    made = make(RewardSettings(judge=f"{server.url}#m", verdict="text"))
    rows = [Example("r", "messages", (*ASKED.turns, Turn("assistant", "four")))] * 2
    assert [one.value for one in made([ASKED] * 2, ["longer", "a"], rows)] == [1.0, 0.0]
    assert len(server.asked) == 4


def test_a_server_that_echoes_gives_soft_verdicts(serve: Any) -> None:  # noqa: F811
    def echo(number: int, path: str, body: dict[str, Any]) -> Any:
        text = body["prompt"]
        head, option = text[:-4], text[-4:]
        value = -0.5 if "(A)" in option else -1.5
        probs = {"token_logprobs": [None, value, -9.0], "text_offset": [0, len(head), len(text)]}
        reply = {"text": text + "!", "logprobs": probs, "finish_reason": "length"}
        return 200, {}, json.dumps({"choices": [reply], "usage": {"completion_tokens": 1}})

    server = serve(echo)
    made = make(RewardSettings(judge=f"{server.url}#m", raw=True))
    assert isinstance(made, Judge)
    (one,) = made.compare([ASKED], ["x"], ["y"])
    assert one.shown_first == pytest.approx(sigmoid(1.0))
    assert one.first == pytest.approx(0.5)


@pytest.mark.slow
@needs_serving
def test_the_patient_judges_behind_transformers_serve_as_it_does_here() -> None:
    """It cannot judge: the rate of unreadable verdicts stops it, and its soft verdicts show where it leans."""
    first, second = [f"{i}" for i in range(4)], [f"It is {i}." for i in range(4)]
    asked = [Prompt((Turn("user", f"What is {i} plus 0?"),)) for i in range(4)]
    with patient_server() as (url, patient):
        remote, local = (
            make(RewardSettings(judge=place, verdict="text", max_unparsed=1.0))
            for place in (f"{url}#{patient}", patient)
        )
        assert isinstance(remote, Judge)
        assert isinstance(local, Judge)
        here = local.compare(asked, first, second)
        assert [one.reason for one in remote.compare(asked, first, second)] == [one.reason for one in here]
        assert all(str(one.reason).startswith("the judge's verdict cannot be read") for one in here)
        strict = make(RewardSettings(judge=f"{url}#{patient}", verdict="text"))
        assert isinstance(strict, Judge)
        with pytest.raises(DataError, match=r"8 of 8 verdicts \(100\.0%\) cannot be read"):
            strict.compare(asked, first, second)
    soft = make(RewardSettings(judge=patient))
    assert isinstance(soft, Judge)
    found = position_bias(soft.compare(asked, first, second))
    assert (found.pairs, found.missing) == (4, 0)
    assert abs(found.lean) > 0.4, "a model that cannot read the answers answers by place"


def test_the_fingerprint_says_every_setting() -> None:
    made = [
        judge(Fake()),
        judge(Fake(lean=1.0)),
        judge(Fake(), seed=1),
        judge(Fake(), by="text"),
        judge(Fake(), raw=True),
    ]
    made.append(Judge(Fake(), ("Be kind.",)))
    made.append(judge(Fake(), prompts=PromptSet(plain=JudgePrompt(kind="pairwise", template="{answer_a} {answer_b}"))))
    assert len({one.fingerprint for one in made}) == len(made)
