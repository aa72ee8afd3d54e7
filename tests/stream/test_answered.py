"""Answers that are there already: the same steps as without them, through kills, beside other writers, over damage."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mnemos.core.nouns import Decoding, Generation, Prompt, Turn
from mnemos.stream.answered import MOST_AT_ONCE, InMemory, Table, Totals, key
from mnemos.stream.examiner import Examiner
from mnemos.stream.learner import Ask
from mnemos.stream.loop import Panel, Stream, run
from mnemos.stream.models import PIECE, Models
from mnemos.stream.store import Store
from mnemos.stream.task import TaskSettings
from mnemos.study.commands.stream import MemoryFile
from tests.stream.worlds import RuleModel, numbers, streams, write_rows
from tests.tiny import tiny_model, tiny_tokenizer

AGENTS = ["zero-shot", "few-shot", "self-refine", "self-stream-icl", "frozen-at-half", "coin-feedback"]


class Local(RuleModel):
    """A rule whose weights, as it were, are known: it is asked for ids, and its answers may lie on disk."""

    @staticmethod
    def ids(prompt: Any) -> list[int]:
        return [ord(letter) for turn in prompt.turns for letter in turn.text]

    renderer = SimpleNamespace(prompt_ids=ids)


class Anew(Models):
    """Computes every request."""

    def _generated(self, model: Any, asked: Any, decoding: Any, ahead: bool) -> Any:
        return self._timed(model, [one.prompt for one in asked], decoding, len(asked))


def played(
    folder: Path,
    model: Any,
    *,
    kind: type[Models] = Models,
    agents: Sequence[str] = AGENTS,
    number: int = 12,
    orders: Sequence[int] = (0, 1),
    temperature: float = 0.0,
    together: bool = True,
) -> tuple[list[Stream], Totals]:
    """The finished streams of the orders, with those of agents that are reset before every item."""
    folder.mkdir(exist_ok=True)
    settings = TaskSettings(data=str(write_rows(folder / "rows.jsonl", number)), instruction="Name the colour.")
    store = Store(folder / "stream.db")
    with Examiner(settings) as examiner:
        made = streams(store, examiner, agents, orders, panel=Panel(items=4, every=5), k=2)
        made += streams(store, examiner, ["self-stream-icl", "random-correct"], orders[:1], reset=True, k=2)
        table = Table(store)
        models = kind([model], max_new_tokens=6, temperature=temperature, table=table)
        run(made, examiner.questions, examiner, models, together=together)
    return made, table.totals()


def test_a_tiny_model_makes_the_same_steps_as_without_the_table(tmp_path: Path) -> None:
    from mnemos.models.language import LocalModel

    tokenizer = tiny_tokenizer()
    model = LocalModel(tiny_model(tokenizer), tokenizer, "tiny", "tiny-0")
    small: dict[str, Any] = {"agents": ["zero-shot", "few-shot", "self-stream-icl", "frozen-at-half"], "number": 6}
    anew, all_of_them = played(tmp_path / "anew", model, kind=Anew, **small)
    kept, totals = played(tmp_path / "kept", model, **small)
    assert [numbers(one) for one in kept] == [numbers(one) for one in anew]
    assert [one.journal.panels() for one in kept] == [one.journal.panels() for one in anew]
    assert totals.asked < all_of_them.asked  # which counts also what is asked ahead
    assert totals.written < totals.asked / 2
    assert sum(len(step.answer) for one in kept for step in one.journal.steps()) > 0
    # Agents cost what they cost, the run what was computed.
    spent = sum(step.seconds for one in kept for step in one.journal.steps())
    assert 0 < totals.seconds < spent


def test_requests_are_counted_as_they_are_made_and_written(tmp_path: Path) -> None:
    model = Local()
    made, totals = played(tmp_path, model)
    steps = [step for one in made for step in one.journal.steps()]
    panels = sum(len(one.journal.panels()) for one in made)
    # What a panel asks costs no step anything: one request, of self-refine as many as its rounds have.
    assert totals.asked >= sum(step.calls for step in steps) + panels
    assert totals.written == sum(model.batches) == len(model.asked) == len(set(model.asked))
    # Zero-shot asks each question once, in whatever order, and so do those who know nothing yet.
    bare = {text for text in model.asked if text.count("Question:") == 1 and "Critique" not in text}
    assert len([text for text in bare if text.endswith("Answer:")]) == 12
    again, after = played(tmp_path, Local())
    assert [numbers(one) for one in again] == [numbers(one) for one in made]
    assert after == totals


def test_sampled_requests_are_always_computed(tmp_path: Path) -> None:
    model = Local()
    made, totals = played(tmp_path, model, temperature=1.0, agents=["zero-shot"], orders=(0, 1))
    assert totals.written == totals.asked == len(model.asked) > len(set(model.asked))
    assert made[0].journal.store.rows("select count(*) from requests") == [(0,)]


KILLED = """
import sys, time
from pathlib import Path
from tests.stream.test_answered import Local, played
class Slow(Local):
    def generate(self, asked, decoding):
        time.sleep(0.01)
        return super().generate(asked, decoding)
played(Path(sys.argv[1]), Slow(), together=sys.argv[2] == "1")
"""


def written(folder: Path) -> int:
    import sqlite3

    try:
        connection = sqlite3.connect(f"file:{folder / 'stream.db'}?mode=ro", uri=True)
        found = connection.execute("select count(*) from requests").fetchone()[0]
        connection.close()
    except sqlite3.Error:
        return 0
    return int(found)


@pytest.mark.parametrize("together", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_continues_with_the_same_numbers_and_asks_nothing_twice(
    tmp_path: Path, together: bool
) -> None:
    wanted, unbroken = played(tmp_path / "whole", Local(), together=together)
    broken = tmp_path / "broken"
    broken.mkdir()
    moment, kills = random.Random(1), 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(2):
        command = [sys.executable, "-c", KILLED, str(broken), str(int(together))]
        process = subprocess.Popen(command, env=environment)
        before, end = written(broken), time.monotonic() + 300  # a busy machine takes minutes to start it
        while process.poll() is None and written(broken) == before and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(moment.random() * 0.08)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() != 0
    there = written(broken)
    assert kills >= 1
    assert there > 0
    model = Local()
    made, totals = played(broken, model, together=together)
    assert [numbers(one) for one in made] == [numbers(one) for one in wanted]
    assert [one.journal.panels() for one in made] == [one.journal.panels() for one in wanted]
    # What a kill lost is at most the batch that was being written.
    assert there + len(model.asked) == unbroken.written == written(broken)
    assert totals.written <= unbroken.written


def ask(text: str = "Question: town in country c1?\nAnswer:", **more: Any) -> Ask:
    return Ask("{question}", {"question": text}, **more)


def served(models: Models, *asks: Ask) -> list[str]:
    return [one.written.text for one in models.answer([(one, 0) for one in asks])]


def test_two_writers_have_the_first_answer(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    first, second = (Table(Store(path)) for _ in range(2))
    one, other = (Generation(text, (1, 2), True) for text in ("red", "blue"))
    assert first.keep({"k": (one, 1.5)}) == {"k": (one, 1.5)}
    assert second.keep({"k": (other, 9.0), "l": (other, 0.25)}) == {"k": (one, 1.5), "l": (other, 0.25)}
    assert first.find(["l", "k", "k", "m"]) == {"k": (one, 1.5), "l": (other, 0.25)}

    # Many threads with a connection each: every key has one answer, and all agree on it.
    seen: list[dict[str, Any]] = []

    def write(number: int) -> None:
        table = Table(Store(path))
        answers = {f"t{i}": (Generation(f"{number}", (), True), float(number)) for i in range(40)}
        seen.append({name: table.keep({name: timed})[name] for name, timed in answers.items()})
        table.count(1, 1, 0.5)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4
    assert all(found == seen[0] for found in seen)
    assert first.totals() == Totals(4, 4, 2.0)


def test_nothing_but_the_same_request_finds_an_answer() -> None:
    model = Local()
    prompt = Prompt((Turn("user", "hi"),))
    decoding = Decoding(8)
    device = SimpleNamespace(type="cpu")

    def like(**more: Any) -> Any:
        return SimpleNamespace(**{"fingerprint": model.fingerprint, **more})

    others = [
        key(Local(name="other"), prompt, [1, 2], decoding),
        key(like(device=device), prompt, [1, 2], decoding),
        key(like(device=device, model=SimpleNamespace(dtype="bfloat16")), prompt, [1, 2], decoding),
        key(model, prompt, [1, 3], decoding),
        key(model, prompt, None, decoding),
        key(model, Prompt((Turn("system", "Be short."), Turn("user", "hi"))), [1, 2], decoding),
        key(model, Prompt((Turn("system", "hi"),)), [1, 2], decoding),
        key(model, Prompt(prompt.turns, (("enable_thinking", "false"),)), [1, 2], decoding),
        key(model, Prompt((Turn("user", "hi", fields=(("name", "Ann"),)),)), [1, 2], decoding),
        key(model, prompt, [1, 2], Decoding(9)),
        key(model, prompt, [1, 2], Decoding(8, stop=("\n",))),
        key(model, prompt, [1, 2], Decoding(8, top_k=5)),
    ]
    own = key(model, prompt, (1, 2), decoding)
    assert own == key(like(), prompt, [1, 2], Decoding(8))
    assert len({own, *others}) == 1 + len(others)


def test_a_changed_model_or_setting_is_asked_anew(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    table = Table(store)
    red, blue = Local(name="red"), Local(lambda _: "blue", name="blue")
    assert served(Models([red], max_new_tokens=4, table=table), ask()) == ["red"]
    assert served(Models([blue], max_new_tokens=4, table=table), ask()) == ["blue"]
    both = Models([blue, red], max_new_tokens=4, table=table)
    assert served(both, ask(model=1), ask(model=0)) == ["red", "blue"]
    assert (len(red.asked), len(blue.asked)) == (1, 1)
    for models, one in (
        (Models([red], max_new_tokens=5, table=table), ask()),
        (both, ask(model=1, max_new_tokens=2)),
        (both, ask(model=1, before=(Turn("system", "Be short."),))),
    ):
        before = len(red.asked)
        assert served(models, one, one) == ["red", "red"]
        assert len(red.asked) == before + 1


def test_what_is_behind_a_server_is_kept_in_memory_alone(tmp_path: Path) -> None:
    table = Table(Store(tmp_path / "s.db"))
    model = RuleModel()  # has no renderer: nobody here knows its weights
    models = Models([model], max_new_tokens=4, table=table)
    assert served(models, ask(), ask()) == served(models, ask()) * 2
    assert len(model.asked) == 1
    totals = table.totals()
    assert (totals.asked, totals.written) == (3, 1)
    changed = RuleModel(lambda _: "blue")
    assert served(Models([changed], max_new_tokens=4, table=table), ask()) == ["blue"]


@pytest.mark.parametrize(
    "damage",
    [
        "answer = x'5b22626c7565222c205b5d2c20747275655d'",
        "answer = cast(x'ff00fe' as text)",
        "answer = null",
        "seconds = 7",
        "seconds = 'x'",
        "seal = 'none'",
        "key = 'another'",
    ],
)
def test_a_damaged_row_is_asked_again(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path / "s.db")
    model = Local()
    assert served(Models([model], max_new_tokens=4, table=Table(store)), ask()) == ["red"]
    store.connection.execute("create table copy as select * from requests")
    store.connection.execute(f"update copy set {damage}")
    store.connection.execute("drop table requests")
    store.connection.execute("alter table copy rename to requests")
    store.connection.execute("create unique index again on requests (key)")
    for _ in range(2):  # the second time it is there
        assert served(Models([model], max_new_tokens=4, table=Table(store)), ask()) == ["red"]
    assert len(model.asked) == 2


def test_a_surrogate_half_and_many_keys_come_back_as_they_were(tmp_path: Path) -> None:
    table = Table(Store(tmp_path / "s.db"))
    made = {f"k{i}": (Generation(f"{i}\ud800\x00", (i,), i % 2 == 0), i / 3) for i in range(2 * MOST_AT_ONCE + 1)}
    assert table.keep(made) == made
    assert Table(Store(tmp_path / "s.db")).find(made) == made


def test_in_memory_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemos.stream.answered.MOST_KEPT", 2)
    kept = InMemory()
    timed = (Generation("red", (), True), 1.0)
    kept.keep(dict.fromkeys("abc", timed))
    assert kept.find("abc") == {"b": timed, "c": timed}


def test_a_poisoned_memory_that_was_deleted_has_no_effect(tmp_path: Path) -> None:
    """The answers to prompts with the poison are kept; no prompt without it finds them."""
    found = {}
    for kind in (Anew, Models):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        settings = TaskSettings(data=str(write_rows(folder / "rows.jsonl", 24)), instruction="Name the colour.")
        store = Store(folder / "stream.db")
        with Examiner(settings) as examiner:
            models = kind([Local()], max_new_tokens=6, table=Table(store))
            (made,) = streams(store, examiner, ["self-stream-icl"], k=2)
            poison = "insert into memories (stream, step, item, key, question, answer, correct, source, made) values "
            row = (made.journal.number, 0, "x", "colour of town in country c1", "Question: country c1?\nAnswer:", "mud")
            store.connection.execute(f"{poison} (?, ?, ?, ?, ?, ?, 1, 'mallory', '')", row)
            store.connection.execute(f"insert into words_{made.journal.number} (rowid, key) values (1, ?)", row[3:4])
            (made,) = streams(store, examiner, ["self-stream-icl"], k=2)
            made.pause = lambda step: step.step == 11
            run([made], examiner.questions, examiner, models)
            assert "mud" in {step.answer for step in made.journal.steps()}
            file = MemoryFile(folder / "stream.db")
            file.delete([int(one["id"]) for one in file.rows(source="mallory")])
            (made,) = streams(store, examiner, ["self-stream-icl"], k=2)
            run([made], examiner.questions, examiner, models)
        found[kind] = numbers(made)
        assert "mud" not in {step.answer for step in made.journal.steps()[12:]}
    assert found[Anew] == found[Models]


def test_of_many_requests_at_once_those_before_a_stop_are_kept(tmp_path: Path) -> None:
    model = Stopped()
    asks = [(Ask("{question}", {"question": f"What is {number}?"}), 0) for number in range(2 * PIECE + 5)]
    store = Store(tmp_path / "stream.db")
    models = Models([model], max_new_tokens=8, table=Table(store))
    with pytest.raises(KeyboardInterrupt):
        models.answer(asks)
    assert model.written == PIECE
    model.left = 10
    served = models.answer([*asks, asks[0]])
    assert model.written == len(asks)
    assert served[0].written == served[-1].written
    totals = models.table.totals()  # type: ignore[union-attr]
    assert (totals.asked, totals.written) == (len(asks) + len(asks) + 1, len(asks))
    store.close()


class Stopped(Local):
    """Is stopped behind its first call of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.written = 1, 0

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.written += len(prompts)
        return [Generation("yes", (1,), True) for _ in prompts]
