"""What a judge is asked and how its verdict is read: prompts in files, one answer on a scale, a panel."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, MnemosError, UsageError
from mnemos.core.nouns import Decoding, Generation, OptionScore, Prompt, Turn
from mnemos.rewards.by_name import RewardSettings, judge, make
from mnemos.rewards.grader import Grader, turns_of
from mnemos.rewards.judge import CONSTITUTION, Judge, Verdict, principles
from mnemos.rewards.judge_asking import read_pair, read_rating
from mnemos.rewards.judge_prompt import CRITERIA, PAIR, SINGLE, Case, JudgePrompt, PromptSet, load_prompts
from mnemos.rewards.panel import Panel, majority, members, winner

ASKED = Prompt((Turn("user", "Which city?"),))
RATED = JudgePrompt(kind="single", template="{answer}", scale=(1, 5))
DUEL = JudgePrompt(kind="pairwise", template="{answer_a}|{answer_b}")


@dataclass(frozen=True)
class Says:
    """A judge that writes one text, or gives each option the probability of a table; keeps what it was asked."""

    text: str = ""
    likes: tuple[float, ...] = ()
    path: str = "fake"

    @property
    def fingerprint(self) -> str:
        return f"{self.text} {self.likes} {self.path}"

    def load(self) -> Says:
        return self

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        SEEN.extend(prompts)
        return [Generation(self.text, (), True) for _ in prompts]

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        SEEN.extend(contexts)
        return [[OptionScore(math.log(p) - 700, 1, False) for p in self.likes] for _ in contexts]


SEEN: list[Prompt] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    SEEN.clear()


@pytest.mark.parametrize("place", [PAIR, SINGLE, CRITERIA])
def test_shipped_prompts_are_filled(place: str) -> None:
    prompts = load_prompts(place)
    answers = ("left", "right") if prompts.kind == "pairwise" else ("left",)
    for references in ((), ("gold",)):
        case = Case(ASKED, answers, references, criteria="be brief")
        form = prompts.of(case)
        text = form.filled(case, raw=False, principle="be kind").turns[-1].text
        assert "user: Which city?" in text
        assert "left" in text
        assert ("gold" in text) == (bool(references) and "{ref_answer}" in form.template)
    assert (place != CRITERIA) or "be brief" in text


def test_what_an_answer_says_in_braces_is_text() -> None:
    case = Case(ASKED, ("{answer_b} {criteria} {0.__class__}", "{answer_a}"))
    assert DUEL.filled(case, raw=True).turns[0].text == "{answer_b} {criteria} {0.__class__}|{answer_a}"


@settings(deadline=None, max_examples=40)
@given(st.text(), st.text())
def test_any_answers_stand_in_the_question_as_they_are(first: str, second: str) -> None:
    assert DUEL.filled(Case(ASKED, (first, second)), raw=True).turns[0].text == f"{first}|{second}"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "pairwise", "template": "{answer_a}"}, "no {answer_b}"),
        ({"kind": "single", "template": "{anwser}"}, "did you mean 'answer'"),
        ({"kind": "single", "template": "{answer}", "scale": [5, 1]}, "lowest rating comes first"),
        ({"kind": "single", "template": "{answer}", "scale": [0, 1], "step": 1e-9}, "more than 1,000 ratings"),
        ({"kind": "single", "template": "{answer}", "rating": "{rating}"}, "end in a mark"),
        ({"kind": "pairwise", "template": "{answer_a}{answer_b}", "verdicts": {"a": "x", "b": "x"}}, "must differ"),
        ({"kind": "triple", "template": "{answer}"}, "kind"),
        ({"kind": "single", "template": "{answer}", "scael": [1, 5]}, "scael"),
    ],
)
def test_a_prompt_that_cannot_be_meant_is_refused(tmp_path: Path, values: dict[str, Any], words: str) -> None:
    path = tmp_path / "prompt.yaml"
    path.write_text(json.dumps(values))
    with pytest.raises(UsageError, match=words):
        load_prompts(path)


def test_a_file_may_hold_prompts_for_each_case(tmp_path: Path) -> None:
    path = tmp_path / "prompts.yaml"
    several = {n: {"kind": "single", "template": f"{n} {{answer}}"} for n in ("plain", "reference", "later")}
    path.write_text(json.dumps(several))
    prompts = load_prompts(path)
    two = Prompt((Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")))

    def chosen(prompt: Prompt, references: tuple[str, ...]) -> str:
        return prompts.of(Case(prompt, ("x",), references)).template.split()[0]

    assert [chosen(ASKED, ()), chosen(ASKED, ("r",)), chosen(two, ()), chosen(two, ("r",))] == [
        "plain", "reference", "later", "later",
    ]  # fmt: skip
    several["later"]["kind"] = "pairwise"
    several["later"]["template"] = "{answer_a}{answer_b}"
    path.write_text(json.dumps(several))
    with pytest.raises(UsageError, match="one kind"):
        load_prompts(path)


def test_the_fingerprint_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "prompt.yaml"
    found = []
    for text in ("Rate {answer}", "Rate {answer}!"):
        path.write_text(json.dumps({"kind": "single", "template": text}))
        found.append(make(RewardSettings(judge="http://127.0.0.1:1/v1#x", prompt=str(path))).fingerprint)
    assert found[0] != found[1]


def test_prompts_of_fastchat_are_read_as_they_are(real_data: Path) -> None:
    path = real_data / "mt_bench" / "judge_prompts.jsonl.gz"
    single, pair = load_prompts(f"{path}#single"), load_prompts(f"{path}#pair")
    two = Prompt((Turn("user", "Q1"), Turn("assistant", "R1"), Turn("user", "Q2")))
    text = single.of(Case(two, ("R2",))).filled(Case(two, ("R2",)), raw=False).turns[-1].text
    assert [text.index(part) for part in ("Q1", "R1", "Q2", "R2")] == sorted(
        text.index(p) for p in ("Q1", "R1", "Q2", "R2")
    )
    duel = Case(Prompt((Turn("user", "Q1"), Turn("user", "Q2"))), (("A1", "A2"), ("B1", "B2")), ("G1", "G2"))
    text = pair.of(duel).filled(duel, raw=False).turns[-1].text
    assert all(part in text for part in ("G1", "G2", "A1", "A2", "B1", "B2"))
    assert pair.plain.verdicts.tie == "[[C]]"
    with pytest.raises(UsageError, match="is no prompt of this file"):
        load_prompts(f"{path}#pear")


FASTCHAT = JudgePrompt(
    kind="pairwise",
    template="{answer_a}{answer_b}",
    verdicts={"a": "[[A]]", "b": "[[B]]", "tie": "[[C]]"},  # type: ignore[arg-type]
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("so [[A]]", 1.0),
        ("[[B]] [[B]]", 0.0),
        ("[[C]]", 0.5),
        ("A is better", "names none"),
        ("[[A]] or [[B]]", "several"),
    ],
)
def test_marks_are_read_as_the_prompt_writes_them(text: str, value: float | str) -> None:
    found = read_pair(FASTCHAT, text)
    assert found == value if isinstance(value, float) else value in str(found)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Rating: [[4]]", 4.0), ("[[ 3.5 ]] and [[3.5]]", 3.5), ("[[6]]", "no rating of the scale"),
        ("[[-1]]", "no rating of the scale"), ("4", "names none"), ("[[1]] [[2]]", "several"),
        ("[[1e9]]", "names none"),
        (f"[[{'9' * 5000}]]", "names none"),
    ],
)  # fmt: skip
def test_ratings_are_read_on_their_scale(text: str, value: float | str) -> None:
    found = read_rating(RATED, text)
    assert found == value if isinstance(value, float) else value in str(found)


def test_a_rating_by_probabilities_is_their_mean_over_the_scale() -> None:
    grader = Grader(Says(likes=(0.1, 0.0 + 1e-12, 0.2, 0.3, 0.4)), prompts=PromptSet(plain=RATED))
    (found,) = grader.ratings([Case(ASKED, ("x",))])
    assert found == pytest.approx(1 * 0.1 + 3 * 0.2 + 4 * 0.3 + 5 * 0.4)
    (value,) = grader([ASKED], ["x"], [])
    assert value.value == pytest.approx((float(found) - 1) / 4)


def test_ratings_that_cannot_be_read_stop_the_run_with_their_reasons() -> None:
    grader = Grader(Says("no idea"), by="text")
    with pytest.raises(DataError, match=r"3 of 3 verdicts \(100\.0%\) cannot be read \(it names none 3\)"):
        grader.ratings([Case(ASKED, ("x",))] * 3)
    thinking = Grader(Says("<think>[[3]]"), by="text", max_unparsed=1)
    assert thinking.ratings([Case(ASKED, ("x",))]) == ["the judge's verdict cannot be read: its thinking does not end"]
    after = Grader(Says("<think>[[3]]</think>[[7]]"), by="text")
    assert after.ratings([Case(ASKED, ("x",))]) == [7.0]
    empty = Grader(Says(" "), by="text", max_unparsed=1)
    assert "empty" in str(empty.ratings([Case(ASKED, ("",))])[0])


def test_a_dialogue_is_rated_turn_by_turn() -> None:
    dialogue = [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"), Turn("assistant", "d")]
    assert [(len(p.turns), a) for p, a in turns_of(dialogue)] == [(1, "b"), (3, "d")]


def test_criteria_reach_the_judge() -> None:
    grader = Grader(Says("[[10]]"), by="text", prompts=load_prompts(CRITERIA))
    assert grader.ratings([Case(ASKED, ("x",), criteria="names a river")]) == [10.0]
    assert "names a river" in SEEN[0].turns[-1].text
    with pytest.raises(DataError, match="the item has none"):
        grader.ratings([Case(ASKED, ("x",))])


def test_a_tie_by_probabilities_counts_half() -> None:
    made = Judge(Says(likes=(0.2, 0.2, 0.6)), ("",), prompts=PromptSet(plain=FASTCHAT))
    (one,) = made.cases([Case(ASKED, ("x", "y"))])
    assert one.shown_first == pytest.approx(0.5)
    assert one.decision == "tie"


@pytest.mark.parametrize(
    ("shown", "decision"), [((0.9, 0.8), "a"), ((0.9, 0.2), "tie"), ((0.1, 0.4), "b"), ((0.5, 0.9), "tie")]
)
def test_a_win_needs_both_orders(shown: tuple[float, float], decision: str) -> None:
    one = Verdict(sum(shown) / 2, *shown)
    assert one.decision == decision
    assert one.turned.decision == {"a": "b", "b": "a", "tie": "tie"}[decision]
    assert one.turned.turned == Verdict(pytest.approx(one.first), *map(pytest.approx, shown))


def voting(decision: str) -> Verdict:
    value = {"a": 1.0, "b": 0.0, "tie": 0.5}[decision]
    return Verdict(value, value, value)


def test_a_panel_says_what_most_of_it_say() -> None:
    gone = Verdict(math.nan, reason="x")
    assert winner(["a", "a", "b"]) == "a"
    assert winner(["a", "b"]) == winner(["a", "b", "tie"]) == "tie"
    assert majority([voting("a"), voting("a"), voting("b")]).decision == "a"
    assert majority([voting("a"), gone, gone]).reason is not None
    assert majority([voting("a"), gone]).decision == "a"


def test_a_judge_that_carries_the_panel_is_seen() -> None:
    ballots = {"x": "aabb", "y": "aaab", "z": "abbt"}
    words = {"a": "a", "b": "b", "t": "tie"}
    found = members({name: [voting(words[one]) for one in votes] for name, votes in ballots.items()})
    # the panel says a a b b
    assert {name: one.agree for name, one in found.items()} == {"x": 1.0, "y": 0.75, "z": 0.5}
    # without x: a ? ? ? ; without y: a ? b ?; without z: a a ? b
    assert {name: one.without for name, one in found.items()} == {"x": 0.25, "y": 0.5, "z": 0.75}


def test_a_panel_is_named_by_a_list() -> None:
    made = judge(RewardSettings(judge=["http://127.0.0.1:1/v1#a", "http://127.0.0.1:1/v1#b"], verdict="text"))
    assert isinstance(made, Panel)
    assert len(made.judges) == 2
    with pytest.raises(UsageError, match="two or more, all different"):
        judge(RewardSettings(judge=["http://127.0.0.1:1/v1#a"] * 2))
    with pytest.raises(MnemosError, match="panel"):
        judge(RewardSettings(judge=["a", "b"], prompt=SINGLE))
    asked = Panel((Judge(Says("(A)"), ("",), "text"), Judge(Says("(B)"), ("",), "text")))
    (found,) = asked.compare([ASKED], ["x"], ["y"])
    assert found.decision == "tie"  # each of them likes a place, whatever stands there


def test_a_prompt_of_the_other_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="shows one answer"):
        Judge(Says(), principles(CONSTITUTION), prompts=load_prompts(SINGLE))
    with pytest.raises(UsageError, match="shows two answers"):
        Grader(Says(), prompts=load_prompts(PAIR))
    assert isinstance(make(RewardSettings(judge="x", prompt=SINGLE)), Grader)
