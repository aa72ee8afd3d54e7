"""Items are tried before the model is asked: tests that nobody can meet, that everybody meets, that are wrong."""

import math
import sqlite3

import pytest

import mnemos
from mnemos.core.errors import UsageError
from mnemos.core.nouns import Answer
from mnemos.measure.ask import Measured, load_measured, save_measured, score
from mnemos.measure.kinds import KINDS
from mnemos.measure.suite import load_suites
from mnemos.rewards import checks
from mnemos.rewards.sandbox.box import Outcome
from mnemos.study.run import plan_lines
from tests.rewards.test_sandbox import namespaces
from tests.study.worlds import make_study

pytestmark = pytest.mark.skipif(not namespaces(), reason="the kernel gives users no namespaces here")

RIGHT, TEST = "def f(x): return x + 1", "assert f(1) == 2"
ITEMS = [
    {"id": "fine", "prompt": "f", "answer": TEST},
    {"id": "solved", "prompt": "f", "answer": TEST, "solution": RIGHT},
    {"id": "short", "prompt": "f", "answer": "assert f(2)=="},
    {"id": "short too", "prompt": "f", "answer": "assert f(3)=="},
    {"id": "lacking", "prompt": "f", "answer": f"import no_such_module\n{TEST}"},
    {"id": "refuses", "prompt": "f", "answer": "assert f(1) == 3", "solution": RIGHT},
    {"id": "slow", "prompt": "f", "answer": "while True: pass"},
    {"id": "empty", "prompt": "f", "answer": "def check(f):\n    assert f(1) == 2"},
]
CODE = {"name": "programs", "kind": "generated", "match": "code", "max_new_tokens": 4, "items": ITEMS}
LINES = [
    "2 of 8 items will be missing: the tests do not compile (short, short too)",
    "1 of 8 items will be missing: the tests import no_such_module, which the sandbox lacks (lacking)",
    "1 of 8 items will be missing: the tests do not accept the known solution (refuses)",
    "1 of 8 items will be missing: the tests alone are over the limit of time (slow)",
    "1 of 8 items are right whatever the answer is: their tests accept an empty one (empty)",
]


def loaded(tmp_path, *specs):
    return load_suites(specs, tmp_path)


def test_faults_are_found_before_an_answer_is_there_and_are_missing_beside_one(tmp_path):
    (suite,) = loaded(tmp_path, CODE)
    assert KINDS[suite.kind].tried(suite.settings, suite.items) == LINES
    found = score(suite, [Answer(suite.name, item.id, RIGHT) for item in suite.items])
    assert [one.value for one in found if not math.isnan(one.value)] == [1.0, 1.0, 1.0]
    reasons = {one.item: one.reason for one in found if one.reason is not None}
    assert reasons == {
        "short": "the tests do not compile",
        "short too": "the tests do not compile",
        "lacking": "the tests import no_such_module, which the sandbox lacks",
        "refuses": "the tests do not accept the known solution",
        "slow": "the tests alone are over the limit of time",
    }


def test_a_wrong_answer_says_why_and_keeps_saying_it(tmp_path):
    (suite,) = loaded(tmp_path, {**CODE, "items": [{**ITEMS[0], "id": n} for n in "abc"]})
    words = ["import no_such_module", "def f(x): return x", RIGHT]
    answers = [Answer(suite.name, item.id, text) for item, text in zip(suite.items, words, strict=True)]
    found = score(suite, answers)
    assert [one.value for one in found] == [0.0, 0.0, 1.0]
    notes = ["failed: ModuleNotFoundError: No module named 'no_such_module'", "failed: AssertionError: ", None]
    assert [one.note for one in found] == notes
    save_measured(tmp_path / "answers", {suite.name: Measured(suite.name, answers, found)})
    assert [one.note for one in load_measured(tmp_path / "answers")[suite.name].scores] == notes


def test_a_solution_changes_the_name_of_a_suite_of_programs_alone(tmp_path):
    with_one, without = {**ITEMS[0], "solution": RIGHT}, ITEMS[0]
    text = {**CODE, "match": "exact"}
    names = [
        loaded(tmp_path, {**spec, "items": [one]})[0].fingerprint
        for spec in (CODE, text)
        for one in (with_one, without)
    ]
    assert names[0] != names[1]
    assert names[2] == names[3]
    # A column of that name, or nearly, is no news to other suites.
    (suite,) = loaded(
        tmp_path, {**text, "items": [{**without, "solution": 7}, {**without, "id": "b", "solutions": []}]}
    )
    assert [item.solution for item in suite.items] == [None, None]


def test_right_queries_are_tried_too(tmp_path):
    with sqlite3.connect(tmp_path / "t.sqlite") as connection:
        connection.executescript("create table t(a); insert into t values (1), (2)")
    connection.close()
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    items = [{"id": q[:12], "prompt": "?", "answer": q} for q in ("select a from t", "select nothing", endless)]
    (suite,) = loaded(
        tmp_path, {"name": "q", "kind": "generated", "match": "sql", "database": "t.sqlite", "items": items}
    )
    (line,) = KINDS[suite.kind].tried(suite.settings, suite.items)
    assert line == "2 of 3 items will be missing: the reference query fails (select nothi, with recursi)"
    found = score(suite, [Answer(suite.name, item.id, "select a from t") for item in suite.items])
    assert found[0].value == 1
    assert [math.isnan(one.value) for one in found] == [False, True, True]


def test_what_cannot_be_told_is_tried_again(monkeypatch):
    ends = [Outcome("busy", "the machine was busy"), Outcome("failed", "NameError: f")]

    class Box:
        def run(self, made):
            return [ends.pop(0) for _ in made]

    monkeypatch.setattr(checks, "shared", lambda *more: Box())
    monkeypatch.setattr(checks, "_TRIED", {})
    assert checks.trials("code", [TEST]) == [checks.Trial()]
    assert checks.trials("code", [TEST]) == [checks.Trial()]
    assert checks.trials("code", [TEST]) == [checks.Trial()]
    assert ends == []


def test_a_plan_and_a_comparison_say_so_before_they_begin(tmp_path, capsys):
    study = make_study(tmp_path, suites={"new": [CODE]}, train={"learning_rate": 1e-3, "max_steps": 1})
    assert [line for line in plan_lines(study) if line.startswith("suite   programs:")] == [
        f"suite   programs: {line}" for line in LINES
    ]
    model = tmp_path / "model"
    mnemos.compare(model, model, [CODE], quiet=False, health=False)
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("suite   ")] == [
        f"suite   programs: {line}" for line in LINES
    ]


def test_a_machine_without_a_sandbox_is_known_before_the_first_step(tmp_path, monkeypatch):
    def none(*more):
        raise UsageError("the sandbox", "cannot be closed here", "run it on Linux")

    monkeypatch.setattr(checks, "shared", none)
    monkeypatch.setattr(checks, "_TRIED", {})
    train = {"learning_rate": 1e-3, "max_steps": 1}
    best = {"best_of_n": {"num_generations": 2, "reward": {"verifier": "code"}}}
    for changes in ({"suites": {"new": [CODE]}}, {"arms": {"tested": [best]}}):
        with pytest.raises(UsageError, match="cannot be closed"):
            mnemos.run(make_study(tmp_path, **changes, train=train), out=tmp_path / "run", quiet=True)
        assert not (tmp_path / "run" / "steps").exists()
    plan_lines(make_study(tmp_path, train=train))
