"""The journal: answers are given once, torn lines are cut off, each piece has a seed of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.nouns import Decoding, Generation, OptionScore, Prompt, Turn
from mnemos.sources.mix import Rows
from mnemos.study import synthesis as synthesis
from mnemos.study.synthesis import Journal, JournaledContext, piece_seed
from tests import laws


class Scripted:
    """A model whose answers say what it was asked, and that counts the calls."""

    name, fingerprint = "scripted", "f"

    def __init__(self, fail_at: int | None = None) -> None:
        self.calls: list[tuple[str, int, Any]] = []
        self.fail_at = fail_at

    def _called(self, what: str, size: int, more: Any = None) -> None:
        if len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append((what, size, more))

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        self._called("generate", len(prompts), decoding.seed)
        words = [f"{prompt.turns[0].text} by {decoding.seed}" for prompt in prompts]
        return [Generation(text, tuple(range(len(text) % 5)), len(text) % 2 == 0) for text in words]

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        self._called("choose", len(contexts))
        return [
            [OptionScore(math.nan if o == "none" else -0.1 * len(o), len(o), o == "a") for o in row] for row in options
        ]

    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        self._called("nats", len(texts))
        return [(len(text) / 3, len(text)) for text in texts]


@dataclass
class Handle:
    """Loads the model that it was given, at most once."""

    model: Any
    path: str = "scripted"
    fingerprint: str = "f"
    loaded: list[int] = field(default_factory=list)

    def load(self) -> Any:
        assert not self.loaded, "loaded twice"
        self.loaded.append(1)
        return self.model


def prompts(count: int) -> list[Prompt]:
    return [Prompt((Turn("user", f"question {i}"),)) for i in range(count)]


SAMPLED = Decoding(max_new_tokens=8, temperature=1.0, seed=7)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "PIECE_ROWS", 4)


def journaled(folder: Path) -> JournaledContext:
    return JournaledContext(folder, lambda written: Rows(()))


def everything(at: JournaledContext, handle: Handle) -> list[Any]:
    """One call of each kind, and the first again."""
    model = at.model(handle)
    contexts = prompts(6)
    return [
        model.generate(prompts(10), SAMPLED),
        model.choose(contexts, [["a", "bc", "none"][: 1 + i % 3] for i in range(6)]),
        model.nats([f"text {i}" for i in range(5)]),
        model.generate(prompts(10), SAMPLED),
    ]


def test_answers_come_in_order_whatever_the_pieces(tmp_path: Path) -> None:
    model = Scripted()
    generated, chosen, nats, _ = everything(journaled(tmp_path), Handle(model))
    assert [one.text.split(" by ")[0] for one in generated] == [f"question {i}" for i in range(10)]
    assert [call[:2] for call in model.calls[:3]] == [("generate", 4), ("generate", 4), ("generate", 2)]
    assert [len(row) for row in chosen] == [1, 2, 3, 1, 2, 3]
    assert math.isnan(chosen[2][2].log_prob)
    assert chosen[1] == [OptionScore(-0.1, 1, True), OptionScore(-0.2, 2, False)]
    assert nats == [(len(f"text {i}") / 3, 6) for i in range(5)]


def test_long_answers_make_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "PIECE_TOKENS", 100)
    model = Scripted()
    journaled(tmp_path).model(Handle(model)).generate(prompts(5), Decoding(max_new_tokens=40))
    assert [size for _, size, _ in model.calls] == [2, 2, 1]
    journaled(tmp_path / "x").model(Handle(model)).generate(prompts(2), Decoding(max_new_tokens=4000))
    assert [size for _, size, _ in model.calls[3:]] == [1, 1]


def test_every_piece_of_every_call_draws_by_its_own_seed(tmp_path: Path) -> None:
    model = Scripted()
    everything(journaled(tmp_path), Handle(model))
    seeds = [seed for what, _, seed in model.calls if what == "generate"]
    assert len(set(seeds)) == len(seeds) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)
    wide = {piece_seed(seed, call, piece) for seed in (-1, 0, 1, 2**40) for call in range(20) for piece in range(20)}
    assert len(wide) == 4 * 20 * 20


def same(a: Any, b: Any) -> bool:
    return repr(a) == repr(b)


@pytest.mark.parametrize("kill", range(11))
def test_a_killed_writing_continues_and_gives_the_same(tmp_path: Path, kill: int) -> None:
    whole = Scripted()
    wanted = everything(journaled(tmp_path / "whole"), Handle(whole))
    assert len(whole.calls) == 10
    first, second = Scripted(fail_at=kill), Scripted()
    if kill < 10:
        with pytest.raises(KeyboardInterrupt):
            everything(journaled(tmp_path / "broken"), Handle(first))
    else:
        everything(journaled(tmp_path / "broken"), Handle(first))
    at, handle = journaled(tmp_path / "broken"), Handle(second)
    assert same(everything(at, handle), wanted)
    assert first.calls + second.calls == whole.calls
    assert bool(handle.loaded) == (kill < 10), "a model is loaded exactly when something is left to ask"
    assert at.journal.tokens == sum(len(one.ids) for one in [*wanted[0], *wanted[3]])
    assert at.journal.seconds > 0


@pytest.mark.parametrize("torn", [1, 10, 40])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: int) -> None:
    wanted = everything(journaled(tmp_path), Handle(Scripted()))
    file = tmp_path / "journal.jsonl"
    data = file.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    file.write_bytes(data[: last + torn])
    again = Scripted()
    assert same(everything(journaled(tmp_path), Handle(again)), wanted)
    assert len(again.calls) == 1
    assert [json.loads(line)["key"] for line in file.read_bytes().splitlines()] == [
        json.loads(line)["key"] for line in data.splitlines()
    ]


def test_what_stands_behind_a_damaged_line_is_asked_again(tmp_path: Path) -> None:
    wanted = everything(journaled(tmp_path), Handle(Scripted()))
    file = tmp_path / "journal.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:4], b'{"key": 3\n', *lines[5:]]))
    again = Scripted()
    assert same(everything(journaled(tmp_path), Handle(again)), wanted)
    assert len(again.calls) == 6


def _together(folder: Path, count: int) -> tuple[list[Any], list[Scripted]]:
    """What each of so many processes gets, and their models. Threads stand for processes: they meet in files alone."""
    made = [(journaled(folder), Scripted()) for _ in range(count)]
    for rank, (at, _) in enumerate(made):
        at.journal = Journal(folder / "journal.jsonl", rank, count)
    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(lambda one: everything(one[0], Handle(one[1])), made))
    return found, [model for _, model in made]


def test_processes_share_a_writing_and_get_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "LOOK_EVERY", 0.001)
    whole = Scripted()
    wanted = everything(journaled(tmp_path / "whole"), Handle(whole))
    found, models = _together(tmp_path / "shared", 3)
    assert all(same(one, wanted) for one in found)
    asked = [call for model in models for call in model.calls]
    assert sorted(asked, key=repr) == sorted(whole.calls, key=repr)
    assert max(len(model.calls) for model in models) == 4, "each asks its share of three, two, two and three pieces"


def test_a_shared_writing_that_was_killed_continues_on_another_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "LOOK_EVERY", 0.001)
    found, models = _together(tmp_path, 3)
    # The second process was killed in the middle of its last line, the third had not written its last one.
    for rank, left in ((1, -7), (2, None)):
        file = tmp_path / f"journal-{rank}.jsonl"
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join([*lines[:-1], lines[-1][:left] if left else b""]))
    again, fewer = _together(tmp_path, 2)
    assert all(same(one, found[0]) for one in again)
    assert sum(len(model.calls) for model in fewer) == 2
    assert len(models[1].calls) > 1


def test_another_question_is_not_answered_from_the_journal(tmp_path: Path) -> None:
    journaled(tmp_path).model(Handle(Scripted())).generate(prompts(3), SAMPLED)
    for changed in (prompts(2), [*prompts(2), Prompt((Turn("system", "question 2"),))]):
        model = Scripted()
        journaled(tmp_path).model(Handle(model)).generate(changed, SAMPLED)
        assert len(model.calls) == 1
    model = Scripted()
    journaled(tmp_path).model(Handle(model)).generate(prompts(3), Decoding(max_new_tokens=9, temperature=1.0, seed=7))
    journaled(tmp_path).model(Handle(model, fingerprint="other")).generate(prompts(3), SAMPLED)
    assert len(model.calls) == 2


def test_counts_and_notes_are_kept(tmp_path: Path) -> None:
    at = journaled(tmp_path)
    at.count("kept", 3)
    at.count("kept")
    at.note("acceptance rate", 0.75)
    at.note("target perplexity", math.nan)
    assert at.counts == {"kept": 4}
    assert at.notes == {"acceptance rate": 0.75, "target perplexity": None}
    assert at.rows(laws.rows("a", 2)) == list(laws.rows("a", 2))
