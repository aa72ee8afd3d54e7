"""What a teaching decides before it trains: rows, budget, schedule, arms, outcome; no model is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import read_jsonl
from mnemos.core.yaml_text import dump_yaml
from mnemos.measure.compare import Comparison
from mnemos.measure.gate import gate
from mnemos.measure.race import Place
from mnemos.measure.split import PARTS, in_part
from mnemos.measure.suite import load_suites
from mnemos.study.config import resolved_study
from mnemos.study.paths import PATIENTS
from mnemos.study.teach import propose as proposing
from mnemos.study.teach.budget import Budget, Costs, Schedule, parse, schedule, shown
from mnemos.study.teach.look import Look, _shown, seen
from mnemos.study.teach.propose import Arm, combined, half_way, propose, rank, settings, study_of
from mnemos.study.teach.prove import judged
from mnemos.study.teach.race import Rung, standing, with_combinations
from mnemos.study.teach.rows import Rows, look_at_rows
from mnemos.study.teach.suites import refuse_leaks, spec_of
from tests.study.worlds import chat, write_jsonl


class Words:
    """A renderer whose tokens are words, or bytes."""

    def __init__(self, by: str = "word") -> None:
        self.by, self.tokenizer = by, self._ids

    def _ids(self, text: str, add_special_tokens: bool) -> dict[str, list[Any]]:
        return {"input_ids": text.split() if self.by == "word" else list(text.encode())}


def rows_of(folder: Path, rows: list[dict[str, Any]], **more: Any) -> Rows:
    write_jsonl(folder / "data.jsonl", rows)
    return look_at_rows(
        str(folder / "data.jsonl"), folder / "rows", Words(more.pop("by", "word")), **{"hold_out": True, **more}
    )


def plain_rows(count: int) -> list[dict[str, Any]]:
    return [chat(n, f"Question {n}?", f"answer {n}") for n in range(count)]


# rows ---------------------------------------------------------------------------------------


def test_a_fifth_is_held_out_and_no_question_stands_on_both_sides(tmp_path: Path) -> None:
    rows = plain_rows(200)
    found = rows_of(tmp_path, [*rows, {**rows[3], "id": "again"}])
    assert (found.rows, found.repeated, found.held + found.taught) == (201, 1, 201)
    assert found.held in (40, 41)
    assert found.suite is not None
    assert found.match == "normalised"
    (suite,) = load_suites([found.suite], tmp_path)
    taught = {row["messages"][0]["content"] for row in read_jsonl(found.file)}
    assert not taught & {item.prompt.turns[-1].text for item in suite.items if item.prompt}
    assert all(len(in_part(suite.items, part)) >= 10 for part in PARTS)


def completion(number: int) -> dict[str, Any]:
    return {"prompt": f"Question {number}: ", "completion": f"answer {number}"}


def dialogue(number: int) -> dict[str, Any]:
    first, last = chat(number, "Good morning", "Hello")["messages"], chat(number, f"Question {number}?", "yes")
    return {"messages": [{"role": "system", "content": f"You are clerk {number % 3}."}, *first, *last["messages"]]}


@pytest.mark.parametrize("row", [lambda n: chat(n, f"Question {n}?", f"answer {n}"), completion, dialogue])
@pytest.mark.parametrize("first", [0, 1000, 2000])
def test_the_fewest_rows_leave_as_many_items_in_either_part(
    tmp_path: Path, row: Callable[[int], dict[str, Any]], first: int
) -> None:
    """A hundred rows suffice, as the refusal of fewer says, however the hashes of their questions fall."""
    found = rows_of(tmp_path, [row(first + n) for n in range(100)])
    assert found.held == 20
    assert found.suite is not None
    items = load_suites([found.suite], tmp_path)[0].items
    assert [len(in_part(items, part)) for part in PARTS] == [10, 10]


def test_a_question_is_measured_by_the_row_that_says_what_is_right(tmp_path: Path) -> None:
    """The first row of each question is not to be learned, and stays out of the suite as out of the rows to teach."""
    rows, good = ([{**completion(n), "label": label} for n in range(100)] for label in (False, True))
    found = rows_of(tmp_path, [*rows, *good])
    assert (found.held, found.taught) == (40, 160)
    assert found.suite is not None
    assert len(load_suites([found.suite], tmp_path)[0].items) == 20


def test_the_rows_are_written_in_a_fixed_random_order(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = rows_of(tmp_path / "a", plain_rows(120)), rows_of(tmp_path / "b", plain_rows(120))
    assert Path(one.file).read_text() == Path(two.file).read_text()
    order = [int(row["messages"][0]["content"].split()[1][:-1]) for row in read_jsonl(one.file)]
    assert order != sorted(order)


def test_ten_rows_are_refused_with_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"leaves 2 questions .*20 are needed[\s\S]*give 100 rows or more, or --new"):
        rows_of(tmp_path, plain_rows(10))
    assert rows_of(tmp_path, plain_rows(10), hold_out=False).taught == 10


def test_rows_that_contradict_each_other_are_counted_and_measure_nothing(tmp_path: Path) -> None:
    rows = plain_rows(150) + [chat(1000 + n, f"Question {n}?", "another") for n in range(30)]
    found = rows_of(tmp_path, rows)
    assert found.contradicting == 60
    assert any("60 rows (33%) answer a question that another row answers differently" in n for n in found.notices)
    assert found.suite is not None
    (suite,) = load_suites([found.suite], tmp_path)
    asked = {item.prompt.turns[-1].text for item in suite.items if item.prompt}
    assert not asked & {f"Question {n}?" for n in range(30)}


def test_a_tokenizer_that_shatters_the_answers_is_said(tmp_path: Path) -> None:
    assert not rows_of(tmp_path, plain_rows(120)).notices
    (notice,) = rows_of(tmp_path, plain_rows(120), by="byte").notices
    assert "pieces of 1.0 bytes" in notice
    assert "vocabulary" in notice


def test_a_hundred_thousand_rows_are_read(tmp_path: Path) -> None:
    found = rows_of(tmp_path, plain_rows(100_000))
    assert (found.taught, found.held) == (99_600, 400)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ("yes", "normalised"),
        ('{"a": 1}', "json"),
        ("a long answer of many words that goes on", "rouge_l"),
        ("42", "normalised"),
    ],
)
def test_how_answers_are_compared_follows_from_them(tmp_path: Path, answer: str, match: str) -> None:
    assert rows_of(tmp_path, [chat(n, f"Question {n}?", answer) for n in range(120)]).match == match


def test_running_text_needs_a_suite(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--new"):
        rows_of(tmp_path, [{"text": f"text {n}"} for n in range(200)])


def test_a_suite_takes_a_free_name(tmp_path: Path) -> None:
    found = rows_of(tmp_path, plain_rows(120), taken={"data", "data-2"})
    assert found.suite is not None
    assert found.suite["name"] == "data-3"


def test_a_suite_that_asks_what_is_taught_is_refused() -> None:
    items = [{"id": "7", "prompt": "What  is THIS?", "answer": "x"}, {"id": "8", "prompt": "other", "answer": "x"}]
    (suite,) = load_suites([{"name": "mine", "kind": "generated", "items": items}], Path("."))
    refuse_leaks([suite], {"something else": "row 1"})
    with pytest.raises(DataError, match=r"asks 1 of its 2 items .* item '7' and data.jsonl:3"):
        refuse_leaks([suite], {"what is this?": "data.jsonl:3"})


def test_a_suite_without_items_of_its_own_cannot_hold_out() -> None:
    items = [{"prompt": "a", "answer": "b"}]
    suites = load_suites(
        [{"name": "s", "kind": "generated", "items": items}, {"name": "t", "kind": "stop_rate", "of": "s"}], Path(".")
    )
    assert load_suites([spec_of(suites[0])], Path("."))[0].fingerprint == suites[0].fingerprint
    with pytest.raises(UsageError, match="none can be held out"):
        spec_of(suites[1])


# budget -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", Budget(7200, "seconds")), ("90m", Budget(5400, "seconds")), ("1h30m", Budget(5400, "seconds")),
        ("45 s", Budget(45, "seconds")), ("1.5h", Budget(5400, "seconds")), ("500k tokens", Budget(5e5, "tokens")),
        ("2M tok", Budget(2e6, "tokens")), ("1000tokens", Budget(1000, "tokens")),
    ],
)  # fmt: skip
def test_budgets_are_read(text: str, expected: Budget) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "2", "two hours", "0s", "-1h", "5 dollars", "2h of it", "1e400s"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--budget"):
        parse(text)


@pytest.mark.parametrize("text", ["$5", "5 USD", "5$", "EUR 5", "5.00 €"])
def test_money_is_time_at_the_price_of_an_hour(text: str) -> None:
    found = parse(text, 2.5)
    assert (found.amount, found.unit) == (7200, "seconds")
    assert found.shown(3600) == "60 min (2.50 at 2.5 an hour)"
    with pytest.raises(UsageError, match="add --price"):
        parse(text)
    with pytest.raises(UsageError, match="--price 0"):
        parse(text, 0)


def test_a_price_says_what_a_time_costs() -> None:
    assert str(parse("2h", 2.5)) == "2 h 00 min (5.00 at 2.5 an hour)"
    with pytest.raises(UsageError, match="is nothing"):
        parse("0 USD", 2.5)


def test_costs_in_words() -> None:
    assert [shown(a, "seconds") for a in (20.1, 300, 5400, 7260)] == ["21 s", "5 min", "1 h 30 min", "2 h 01 min"]
    assert shown(1234.5, "tokens") == "1,235 tokens"


@pytest.mark.parametrize("amount", [120, 200, 500, 1000, 2000, 5000, 20_000])
def test_no_race_costs_more_than_its_budget(amount: float) -> None:
    costs = Costs(100, 5, 5)
    found = schedule(7, 500, costs, Budget(amount, "seconds"))
    assert found.cost <= amount
    assert found.arms[0] >= found.arms[-1] >= 1
    rungs = sum(n * (share * 100 + 5) for n, share in zip(found.arms, found.shares, strict=True))
    assert rungs + (found.seeds - 1) * 100 + found.seeds * 5 <= found.cost


def test_a_large_budget_keeps_all_and_a_small_one_few() -> None:
    costs = Costs(100, 5, 5)
    assert schedule(7, 500, costs, Budget(1e6, "seconds")).arms == (7, 7, 7)
    assert schedule(7, 500, costs, Budget(600, "seconds")).arms[-1] == 2
    assert schedule(7, 20, costs, Budget(1e6, "seconds")).shares == (1.0,)


def test_a_budget_below_one_arm_names_the_smallest_that_works() -> None:
    costs = Costs(5000, 100, 100)
    with pytest.raises(UsageError, match="--budget 87m is the smallest that works") as caught:
        schedule(7, 500, costs, Budget(600, "seconds"))
    assert "too small for one arm" in str(caught.value)
    assert schedule(7, 500, costs, parse("87m")).arms == (1,)
    with pytest.raises(UsageError, match="--budget '5000 tokens' is the smallest"):
        schedule(7, 500, Costs(5000, 0, 0), Budget(600, "tokens"))


# arms ---------------------------------------------------------------------------------------

ROWS = Rows(1800, 0, 0, 1440, 360, "normalised", "rows.jsonl", None, 45.0, 50, 2.0, ())
LOOK = Look(
    rows=ROWS, parameters=1_300_000,
    new=({"name": "new", "kind": "generated", "items": [{"prompt": "a", "answer": "b"}]},),
    old=({"name": "old", "kind": "generated", "items": [{"prompt": "c", "answer": "d"}]},),
    before={"new": 0.4, "old": 0.9}, held={"new": 180, "old": 120}, left_out={}, nats=0.7, known=False, rate=1000.0,
    item_seconds={"new": 0.01, "old": 0.01}, seconds=9.0,
)  # fmt: skip
DAY = Budget(86_400, "seconds")


def names(look: Look = LOOK, budget: Budget = DAY, old_rows: str | None = None) -> list[str]:
    return [arm.name for arm in proposing.arms(look, settings(look.rows, look.parameters), budget, old_rows=old_rows)]


def test_arms_follow_from_what_was_seen() -> None:
    assert names() == ["plain", "half-way", "magpie", "kl", "gentle", "lora", "own-words"]
    assert "replay" in names(old_rows="old.jsonl")
    assert "magpie" not in names(old_rows="old.jsonl")
    assert not {"magpie", "own-words"} & set(names(budget=Budget(60, "seconds")))
    assert "own-words" not in names(replace(LOOK, before={"new": 0.0, "old": 1.0}))
    assert "token-mask" in names(replace(LOOK, nats=3.0))


def test_rates_follow_from_size_and_length_from_rows() -> None:
    small, large = settings(ROWS, 1_300_000), settings(ROWS, 7_000_000_000)
    assert (small["learning_rate"], large["learning_rate"]) == (3e-4, 1e-5)
    assert small["max_length"] == 128
    lora = next(arm for arm in proposing.arms(LOOK, large, DAY, old_rows=None) if arm.name == "lora")
    assert lora.steps[0]["lora"]["learning_rate"] == 1e-4


def test_every_proposed_study_is_one() -> None:
    train = settings(ROWS, 1_300_000)
    chosen = proposing.arms(replace(LOOK, nats=3.0), train, DAY, old_rows=None)
    value = study_of(LOOK, "mnemos:patients/chat", chosen, train, 60, "development", name="s", limit=10)
    study = resolved_study(value, Path("."))
    assert set(study.arms) == {arm.name for arm in chosen}
    assert study.suites.old[0]["part"] == "development"


@pytest.mark.parametrize(
    ("written", "raced"),
    [(["lora"], ["lora"]), (["lora", "plain", "kl"], ["lora", "plain", "kl"]), ([], ["plain"])],
)
def test_the_arms_of_an_edited_plan_are_those_of_the_file(tmp_path: Path, written: list[str], raced: list[str]) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    look = replace(LOOK, rows=replace(LOOK.rows, file=str(tmp_path / "rows.jsonl")))
    train, model = settings(look.rows, look.parameters), str(PATIENTS / "chat")
    arms = proposing.arms(look, train, DAY, old_rows=None)
    plan = proposing.study_of(look, model, arms, train, 60, "development", name="plan")
    plan |= {"arms": {name: plan["arms"][name] for name in written}, "arm_train": {}}
    (tmp_path / "plan.yaml").write_text(dump_yaml(plan))
    own, _ = proposing.arms_of(tmp_path / "plan.yaml", look, model, 0)
    assert [arm.name for arm in own] == raced


def test_a_small_budget_of_time_asks_fewer_items() -> None:
    train = settings(ROWS, 1_300_000)
    slow = replace(LOOK, item_seconds={"new": 1.0, "old": 1.0})
    all_of_them = propose(LOOK, train, DAY, old_rows=None, wanted=800)
    fewer = propose(slow, train, Budget(7200, "seconds"), old_rows=None, wanted=800)
    assert (all_of_them.items, all_of_them.proof_items) == (360, 800)
    assert (fewer.items < 300, fewer.proof_items) == (True, 800)


def test_what_a_race_costs_at_most_counts_the_rows_that_arms_add() -> None:
    train = settings(LOOK.rows, LOOK.parameters)
    wide = Budget(1e12, "tokens")
    without, with_old = (propose(LOOK, train, wide, old_rows=old, wanted=60) for old in (None, "old.jsonl"))
    arms = {arm.name: arm for arm in with_old.arms}
    assert (arms["plain"].grown, arms["lora"].grown) == (1.0, 1.0)
    assert arms["replay"].grown == pytest.approx(1 / 0.7)
    assert combined(arms["replay"], arms["kl"]).grown == pytest.approx(1 / 0.7)
    tokens = LOOK.rows.taught * LOOK.rows.length * float(train["num_train_epochs"])
    assert without.schedule.cost / tokens == pytest.approx(_whole(without.schedule))
    assert with_old.schedule.cost / tokens == pytest.approx(_whole(with_old.schedule) / 0.7)
    # Where only one arm is paid for, it is the first, which adds nothing.
    alone = propose(LOOK, train, Budget(tokens, "tokens"), old_rows="old.jsonl", wanted=60)
    assert (alone.schedule.arms, alone.schedule.cost) == ((1,), pytest.approx(tokens))


def _whole(found: Schedule) -> float:
    """Trainings on all rows: the rungs, a combination, and the further seeds of the proof."""
    return sum(number * share for share, number in zip(found.shares, found.arms, strict=True)) + found.seeds


def test_what_kind_an_arm_is_needs_no_other_module_first() -> None:
    code = "from mnemos.study.teach.propose import Arm; print(Arm('half', [{'weights': {}}], '', {}).kind)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "weights\n", done.stderr


def test_two_kinds_combine_and_variants_of_one_do_not() -> None:
    kl = Arm("kl", [{"kl_to_before": {"coefficient": 0.2}}], "", {})
    lora, gentle = (
        Arm("lora", [{"lora": {}}], "", {}),
        Arm("gentle", [], "", {"learning_rate": 1e-5}),
    )
    half, plain = Arm("half-way", [{"weights": {}}], "", {}), Arm("plain", [], "", {})
    both = combined(half, lora)
    assert both is not None
    assert (both.name, both.steps) == ("lora+half-way", [{"lora": {}}, {"weights": {}}])
    assert combined(kl, kl) is None
    assert combined(plain, kl) is None
    with_rate = combined(gentle, kl)
    assert with_rate is not None
    assert with_rate.train == {"learning_rate": 1e-5}
    assert half_way(half) is None
    assert half_way(kl) is not None
    assert sorted([both, plain, kl, gentle], key=rank)[0] is plain


def test_where_nobody_has_learned_who_only_trains_less_stands_last() -> None:
    arms = {
        "half-way": Arm("half-way", [{"weights": {"expression": "0.5*after + 0.5*before"}}], "", {}),
        "gentle": Arm("gentle", [], "", {"learning_rate": 1e-5}),
        "kl": Arm("kl", [{"kl_to_before": {"coefficient": 0.2}}], "", {}),
        "plain": Arm("plain", [], "", {}),
    }
    assert [arm.brakes for arm in arms.values()] == [True, True, False, False]
    losses = {"half-way": 0.1, "gentle": 0.2, "kl": 0.3, "plain": 0.4}
    places = [Place(arm, 0.0, loss, -loss) for arm, loss in losses.items()]
    assert [place.arm for place in standing(places, arms)] == ["kl", "plain", "half-way", "gentle"]
    # As soon as one has learned, the balance decides; who was dropped is gone.
    learned = [replace(place, learned=0.5, balance=0.5 + place.balance, proven=True) for place in places]
    assert [place.arm for place in standing(learned, arms)] == list(arms)
    gone = [replace(place, dropped=place.arm == "kl") for place in learned]
    assert [place.arm for place in standing(gone, arms)] == ["half-way", "gentle", "plain"]


def test_the_second_of_a_pair_may_be_one_that_lost_too_much() -> None:
    replay = Arm("replay", [{"replay": {"data": "old.jsonl"}}], "", {})
    kl = Arm("kl", [{"kl_to_before": {"coefficient": 0.2}}], "", {})
    lora = Arm("lora", [{"lora": {}}], "", {})
    arms = {arm.name: arm for arm in (replay, kl, lora)}
    best, lost = Place("replay", 0.1, 0.0, 0.1), Place("kl", 0.1, 0.2, -0.1, lost=("old",), dropped=True)
    beaten = Place("lora", 0.1, 0.1, 0.0, beaten_by=("replay",), dropped=True)
    found = with_combinations([replay], [Rung(10, (best, beaten, lost))], arms)
    assert [arm.name for arm in found] == ["replay", "replay+kl", "replay+half-way", "replay+kl+half-way"]
    alone = with_combinations([replay], [Rung(10, (best, beaten))], arms)
    assert [arm.name for arm in alone] == ["replay", "replay+half-way"]
    assert [arm.name for arm in with_combinations([replay, lora], [Rung(10, (best,))], arms)][2] == "replay+lora"


def test_what_can_be_shown_is_said_beforehand() -> None:
    assert "cannot be shown" not in seen(400, 5, 0.9)
    text = seen(50, 2, 1.0)
    assert "--max-loss 2 cannot be shown with 50 held-out items even where none changes: 7.1 points can" in text
    assert "189 items" in text


def test_a_built_in_suite_that_could_never_show_so_small_a_loss_is_left_out() -> None:
    def items(count: int) -> list[dict[str, str]]:
        return [{"id": str(n), "prompt": f"question {n}", "answer": "x"} for n in range(count)]

    suites = load_suites([{"name": f"s{n}", "kind": "generated", "items": items(n)} for n in (40, 300)], Path("."))
    kept, few = _shown(suites, {"s40", "s300"}, 5.0)
    assert [suite.name for suite in kept] == ["s300"]
    assert "held-out items cannot show that at most 5 points are lost" in few["s40"]
    assert _shown(suites, {"s300"}, 5.0)[1] == {}


def test_a_look_is_read_back() -> None:
    assert Look.of(json.loads(json.dumps(LOOK.as_dict()))) == LOOK


# outcome ------------------------------------------------------------------------------------


def comparison(role: str, low: float, high: float, verdict: Any, p: float = 0.001) -> Comparison:
    return Comparison(
        arm="a", suite=role, role=role, seeds=1, items=100, missing=0, before=0.9, after=0.9, delta=(low + high) / 2,
        low=low, high=high, verdict=verdict, minimum_detectable=0.1, p=p, p_holm=p, tolerance=5.0, unit="points",
        better="higher", method="", scale=100.0, claim="about this checkpoint",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        ((0.2, 0.4, "gained"), (-0.02, 0.03, "kept"), "handed over"),
        ((0.2, 0.4, "gained"), (-0.2, 0.03, "cannot tell"), "cannot tell"),
        ((0.2, 0.4, "gained"), (-0.4, -0.2, "lost"), "lost"),
        ((-0.1, 0.1, "cannot tell"), (-0.02, 0.03, "kept"), "cannot tell"),
        ((-0.4, -0.2, "lost"), (-0.02, 0.03, "kept"), "lost"),
    ],
)
def test_the_outcome_follows_from_gate_and_gain(new: Any, old: Any, expected: str) -> None:
    compared = [comparison("new", *new), comparison("old", *old)]
    outcome, reasons = judged(compared, gate(compared, max_loss=5))
    assert outcome == expected
    assert reasons


def test_without_old_suites_the_gain_decides() -> None:
    assert judged([comparison("new", 0.2, 0.4, "gained")], None)[0] == "handed over"
