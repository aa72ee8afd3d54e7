"""The loop: what a learner can reach, what a kill leaves, and that nothing depends on who else runs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, RunError, UsageError
from mnemos.stream.agents import make
from mnemos.stream.ahead import AHEAD
from mnemos.stream.examiner import Examiner
from mnemos.stream.journal import Journal
from mnemos.stream.learner import Feedback, Question, Remember, Reply, Reveal
from mnemos.stream.loop import Panel, Stream, run
from mnemos.stream.memory import Memory
from mnemos.stream.models import Models
from mnemos.stream.orders import permutation, same_words, without_duplicates
from mnemos.stream.store import Store
from mnemos.stream.task import TaskSettings
from tests.stream.worlds import PROMPTS, RuleModel, numbers, streamed, write_rows


def values(made: Stream) -> list[float | None]:
    return [step.value for step in made.journal.steps()]


def test_an_agent_climbs_from_what_was_right_and_a_reset_one_does_not(tmp_path: Path) -> None:
    learner, zero = streamed(tmp_path, ["self-stream-icl", "zero-shot"], RuleModel())
    # The model guesses red: towns of two of four countries are right from the beginning, the others never.
    assert sum(v or 0 for v in values(zero)) == 12
    assert sum(v or 0 for v in values(learner)) == 12
    guess = iter(["red", "green", "blue"] * 100)
    wild, _ = streamed(tmp_path / "b", ["self-stream-icl", "zero-shot"], RuleModel(lambda _: next(guess)))
    assert sum(v or 0 for v in values(wild)[12:]) > sum(v or 0 for v in values(wild)[:12])


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()


class Idle:
    """Answers red and learns nothing; a base for learners that do what they may not."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def answer(self, question: Question) -> Any:
        return Reply("red")
        yield

    def learn(self, question: Question, reply: Reply, feedback: Feedback) -> Any:
        return
        yield


SECRET_ROWS = """
import json, sys
word = "SEC" + "RET"
with open(sys.argv[1], "w") as file:
    for i in range(4):
        file.write(json.dumps({"id": f"q{i}", "question": f"number {i}?", "answer": f"{word}{i}"}) + chr(10))
"""


HOSTILE = """
import gc, re, sys
from pathlib import Path
from mnemos.stream.examiner import Examiner
from mnemos.stream.journal import Journal
from mnemos.stream.learner import Reply
from mnemos.stream.loop import Stream, run
from mnemos.stream.memory import Memory
from mnemos.stream.models import Models
from mnemos.stream.store import Store
from mnemos.stream.task import TaskSettings

WORD = re.compile("".join(reversed("TERCES")) + "[0-9]")
found, heard = [], []

class Hostile:
    state = {}
    def answer(self, question):
        return Reply("red")
        yield
    def learn(self, question, reply, feedback):
        heard.append(sorted(name for name in dir(feedback) if name[0] != "_"))
        for thing in gc.get_objects():  # every container that lives
            try:
                if isinstance(thing, (dict, list, tuple)) and WORD.search(repr(thing)[:50_000]):
                    found.append(repr(thing)[:200])
            except Exception:
                pass
        return
        yield

folder = Path(sys.argv[1])
rows = TaskSettings(data=str(folder / "rows.jsonl"))
store = Store(folder / "s.db")
with Examiner(rows) as examiner:
    journal = Journal(store, "hostile", "x")
    made = Stream("hostile", Hostile, list(examiner.questions), journal, Memory(store, journal.number))
    run([made], examiner.questions, examiner, Models([], max_new_tokens=8))
    try:
        examiner.gold("q0")
    except Exception as error:
        print("refused:", error)
print(len(found), heard[0])
with Examiner(rows, reveal=True) as examiner:
    held = [examiner.gold("q0")]
    list(Hostile().learn(None, None, None))
print(len(found))
"""


def test_no_gold_answer_is_in_the_process_of_a_hostile_learner(tmp_path: Path) -> None:
    # The rows are written by another process, so that only the grader ever holds them.
    subprocess.run([sys.executable, "-c", SECRET_ROWS, str(tmp_path / "rows.jsonl")], check=True)
    done = subprocess.run([sys.executable, "-c", HOSTILE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    refused, *_, hidden, shown = done.stdout.strip().splitlines()
    assert refused.startswith("refused: the task failed: PermissionError")
    assert hidden == "0 ['correct', 'reason', 'value']"
    assert int(shown) >= 1  # one that asked for gold, and may, is found: the search can find


def test_only_a_control_that_says_so_sees_gold(tmp_path: Path) -> None:
    (oracle,) = streamed(tmp_path, ["oracle-memory"], RuleModel())
    assert sum(v or 0 for v in values(oracle)[8:]) == 16

    class Peeks(Idle):
        def learn(self, question: Question, reply: Reply, feedback: Feedback) -> Any:
            yield Reveal()

    store = Store(tmp_path / "p.db")
    with Examiner(TaskSettings(data=str(write_rows(tmp_path / "rows.jsonl")))) as examiner:
        journal = Journal(store, "peeks", "x")
        made = Stream("peeks", Peeks, list(examiner.questions), journal, Memory(store, journal.number))
        with pytest.raises(UsageError, match="only controls"):
            run([made], examiner.questions, examiner, Models([RuleModel()], max_new_tokens=8))


def test_streams_together_do_what_they_do_alone(tmp_path: Path) -> None:
    agents = ["self-stream-icl", "mem-prompt", "grow-prompt", "random-correct", "coin-feedback", "playbook"]
    apart = RuleModel()
    together = RuleModel()
    first = streamed(tmp_path, agents, together, orders=(0, 1), k=4)
    second = streamed(tmp_path / "b", agents, apart, orders=(0, 1), k=4, together=False)
    assert [numbers(one) for one in first] == [numbers(one) for one in second]
    assert max(together.batches) > 4
    assert max(apart.batches) == 1
    # Rows of one stream are found by no other.
    assert {len(one.memory) for one in first[-2:]} == {0}


def test_what_learns_nothing_is_asked_ahead_in_large_batches_for_the_same_steps(tmp_path: Path) -> None:
    agents = ["zero-shot", "few-shot", "self-refine"]
    made, batches = [], []
    for folder, together in ((tmp_path, True), (tmp_path / "b", False)):
        # A critique that never ends the rounds: each answer is refined as often as it may be.
        model = RuleModel()
        made.append([numbers(one) for one in streamed(folder, agents, model, number=100, k=4, together=together)])
        batches.append(model.batches)
    assert made[0] == made[1]
    assert max(batches[0]) == 2 * AHEAD  # the first answers of self-refine are those of zero-shot
    assert sum(batches[0]) == sum(batches[1])  # nothing is asked that no step needs
    assert len(batches[0]) < len(batches[1]) / 5


KILLED = """
import sys
from pathlib import Path
from mnemos.stream.loop import Panel
from tests.stream.worlds import RuleModel, streamed
import time
class Slow(RuleModel):
    def generate(self, asked, decoding):
        time.sleep(0.004)
        return super().generate(asked, decoding)
streamed(Path(sys.argv[1]), ["self-stream-icl", "mam-thompson", "coin-feedback"], Slow(), orders=(0, 1),
         panel=Panel(items=5, every=6), number=int(sys.argv[2]))
"""


@pytest.mark.parametrize(("times", "number"), [(6, 24), pytest.param(20, 240, marks=pytest.mark.slow)])
def test_killed_at_any_moment_the_stream_continues_with_the_same_numbers(
    tmp_path: Path, times: int, number: int
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    agents = ["self-stream-icl", "mam-thompson", "coin-feedback"]
    wanted = streamed(whole, agents, RuleModel(), orders=(0, 1), panel=Panel(items=5, every=6), number=number)
    moment, kills = random.Random(0), 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(times):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(broken), str(number)], env=environment)
        end = time.monotonic() + 20
        before = committed(broken)
        # Somewhere in the work: from its first new commit on, a random while later.
        while process.poll() is None and committed(broken) == before and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(moment.random() * 0.08)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
    assert kills >= (2 if times == 6 else times), "the stream was too short to be killed so often"
    made = streamed(broken, agents, RuleModel(), orders=(0, 1), panel=Panel(items=5, every=6), number=number)
    assert [numbers(one) for one in made] == [numbers(one) for one in wanted]
    assert [one.journal.panels() for one in made] == [one.journal.panels() for one in wanted]
    assert [one.journal.state for one in reopened(made)] == [one.journal.state for one in reopened(wanted)]


def reopened(made: list[Stream]) -> list[Stream]:
    for one in made:
        one.journal = Journal(one.journal.store, one.name, "same")
    return made


def committed(folder: Path) -> int:
    import sqlite3

    try:
        connection = sqlite3.connect(f"file:{folder / 'stream.db'}?mode=ro", uri=True)
        with connection:
            found = connection.execute("select count(*) from steps").fetchone()[0]
        connection.close()
    except sqlite3.Error:
        return 0
    return int(found)


def test_a_panel_is_asked_again_and_teaches_nothing(tmp_path: Path) -> None:
    (made,) = streamed(tmp_path, ["self-stream-icl"], RuleModel(), panel=Panel(items=5, every=6))
    (bare,) = streamed(tmp_path / "b", ["self-stream-icl"], RuleModel())
    assert numbers(made) == numbers(bare)
    panels = made.journal.panels()
    assert [one.step for one in panels] == [step for step in (6, 12, 18, 24) for _ in range(5)]
    assert {one.item for one in panels} == set(made.order[:5])


def test_frozen_agents_learn_until_half_and_reset_ones_never(tmp_path: Path) -> None:
    frozen, _ = streamed(tmp_path, ["frozen-at-half", "self-stream-icl"], RuleModel())
    memories = [step.memories for step in frozen.journal.steps()]
    assert memories[11] == memories[-1] > 0
    (reset,) = streamed(tmp_path / "b", ["self-stream-icl"], RuleModel(), reset=True)
    assert {step.memories for step in reset.journal.steps()} == {0}


def test_a_coin_has_the_rate_of_the_feedback_and_not_its_news(tmp_path: Path) -> None:
    (coin,) = streamed(tmp_path, ["coin-feedback"], RuleModel(), number=200)
    stored = coin.journal.steps()[-1].memories
    assert 70 <= stored <= 130  # 100 of 200 are right
    answers = {row[0] for row in coin.journal.store.rows("select answer from memories")}
    rows = coin.journal.store.rows("select item, answer from memories")
    right = {step.item for step in coin.journal.steps() if step.value == 1.0}
    assert answers
    assert any(item not in right for item, _ in rows)


def test_a_file_of_other_settings_and_a_second_writer_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    first = Journal(store, "a", "one")
    with pytest.raises(DataError, match="other settings"):
        Journal(store, "a", "two")
    (made,) = streamed(tmp_path / "b", ["self-stream-icl"], RuleModel())
    step = made.journal.steps()[0]
    with pytest.raises(RunError, match="another process"), made.journal.store.transaction():
        made.journal.write(step, {})
    assert first.done() == 0


def test_a_full_disk_is_said_and_what_was_committed_stays(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    pages = store.connection.execute("pragma page_count").fetchone()[0]
    store.connection.execute(f"pragma max_page_count={pages + 2}")
    with pytest.raises(RunError, match="disk is full"), store.transaction() as run_:
        run_.execute("insert into encoder values (?, 1)", ("x" * 100_000,))
    assert store.rows("select count(*) from encoder") == [(0,)]


def test_a_learner_that_stores_while_it_answers_or_never_ends_is_refused(tmp_path: Path) -> None:
    class Stores(Idle):
        def answer(self, question: Question) -> Any:
            yield Remember("k", "t", "a", True)

    class Endless(Idle):
        def answer(self, question: Question) -> Any:
            from mnemos.stream.learner import Recall

            while True:
                yield Recall("x", 1)

    store = Store(tmp_path / "s.db")
    with Examiner(TaskSettings(data=str(write_rows(tmp_path / "rows.jsonl")))) as examiner:
        for name, kind, words in (("a", Stores, "stored something"), ("b", Endless, "more than 200 requests")):
            journal = Journal(store, name, "x")
            made = Stream(name, kind, list(examiner.questions), journal, Memory(store, journal.number))
            with pytest.raises(RunError, match=words):
                run([made], examiner.questions, examiner, Models([RuleModel()], max_new_tokens=8))


def test_orders_are_permutations_by_seed_whatever_the_file_s_order() -> None:
    ids = [f"q{i}" for i in range(50)]
    assert permutation(ids, 1) == permutation(ids[::-1], 1) != permutation(ids, 2)
    assert sorted(permutation(ids, 1)) == sorted(ids)


def test_duplicates_are_those_near_an_earlier_item() -> None:
    import numpy as np

    vectors = {"a": np.array([1.0, 0.0]), "b": np.array([0.99, 0.141]), "c": np.array([0.0, 1.0])}
    assert without_duplicates(["a", "b", "c"], vectors) == ["a", "c"]  # type: ignore[arg-type]
    assert same_words(["a", "b", "c"], {"a": "One two", "b": "two one", "c": "three"}) == ["a", "c"]


def test_every_agent_streams(tmp_path: Path) -> None:
    from mnemos.stream.agents import AGENTS

    class Anything(RuleModel):
        def _answer(self, text: str) -> str:
            return super()._answer(text) if "Question:" in text and "playbook" not in text else "mistakes: look twice"

    made = streamed(tmp_path, sorted(AGENTS), Anything(), number=20)
    assert {len(one.journal.steps()) for one in made} == {20}
    assert json.dumps([one.journal.state for one in made])


def test_settings_of_agents_are_checked() -> None:
    for name, given, words in (
        ("self-stream", {}, "did you mean"),
        ("self-stream-icl", {"kk": 4}, "did you mean 'k'"),
        ("self-stream-icl", {"k": "four"}, "must be like"),
        ("self-stream-icl", {"which": "wrong"}, "one of"),
        ("mam-thompson", {"turn": "never"}, "one of"),
        ("self-stream-icl", {"model": 1}, "as many models as there are"),
    ):
        with pytest.raises(UsageError, match=words):
            make(name, PROMPTS, given)
