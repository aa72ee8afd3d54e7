"""What the page is made of, without a server: runs, logs, the index, differences, the order of votes."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import MnemosError, UsageError
from mnemos.core.progress import Status
from mnemos.serve import places, voting
from mnemos.serve.difference import MOST_EDITS, marked
from mnemos.serve.index import CONDITIONS, Index, Pair
from mnemos.serve.live import live, memory_of
from mnemos.serve.places import AbsentError, run_named, runs, side_named, sides, suites
from mnemos.serve.summary import Results
from mnemos.serve.voting import Contest, agreements, shown_first, tallies, verdict_of
from mnemos.study.progress import LOG, Log, Progress, logged
from tests.serve.folders import SUITE, make_run, measured, results

# places -----------------------------------------------------------------------------------------


def test_runs_are_found_at_every_depth_and_named_by_their_path(tmp_path: Path) -> None:
    make_run(tmp_path / "one")
    make_run(tmp_path / "teach" / "round-1")
    (tmp_path / "notes").mkdir()
    assert {run.id for run in runs(tmp_path)} == {"one", "teach/round-1"}
    assert [run.id for run in runs(tmp_path / "one")] == ["."]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../one",
        "one/..",
        "one/../one",
        "/etc",
        "one//",
        "./one",
        "one/.",
        "o\0ne",
        "x" * 5000,
        "notes",
        "link",
        "one/steps",
    ],
)
def test_only_runs_below_the_folder_have_a_name(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    make_run(root / "one")
    make_run(tmp_path / "outside")
    (root / "notes").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(AbsentError):
        run_named(root, name)
    assert run_named(root, "one").path == root / "one"


@pytest.mark.parametrize("finished", [True, False])
def test_models_of_a_run_have_the_same_names_while_it_works_and_afterwards(tmp_path: Path, finished: bool) -> None:
    make_run(tmp_path / "one", finished=finished)
    run = run_named(tmp_path, "one")
    assert [side.name for side in sides(tmp_path, run)] == ["before", "plain/seed-0"]
    assert suites(sides(tmp_path, run)[0]) == [SUITE]


def test_a_link_that_leads_out_of_the_folder_is_no_model(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make_run(root / "one")
    (tmp_path / "secret" / "answers").mkdir(parents=True)
    (root / "one" / "arms" / "evil").mkdir()
    (root / "one" / "arms" / "evil" / "answers").symlink_to(tmp_path / "secret" / "answers")
    run = run_named(root, "one")
    with pytest.raises(AbsentError, match="evil"):
        side_named(root, run, "evil")
    for name in ("../../x", "capitals/../capitals", ".."):
        with pytest.raises(AbsentError):
            places.answers_file(side_named(root, run, "before"), name)


# live -------------------------------------------------------------------------------------------


def test_a_log_that_the_runner_writes_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come from the runner's own display, so that a change of its words is noticed here."""
    monkeypatch.setattr("mnemos.study.progress.EVERY", 0.1)
    monkeypatch.setattr("mnemos.study.progress.EARLY", 0.05)
    title = "a: b, 7 of 9 x, seed 0: train"
    log = Log(tmp_path / LOG)
    (tmp_path / ".lock.owner").write_text(f"process {os.getpid()}\n")
    log.write("mnemos 0.1.0: study, 3 steps")
    with Progress(["measure-0", "train-1"], reused=1, silent=True, log=log) as progress:
        progress.start("measure-0", "before: measure")
        progress.finish("measure-0")
        progress.start("train-1", title)
        assert live(tmp_path).steps[-1].running
        progress.at("train-1", Status("", 1200, 9600, "steps", 2.345, 812.0, 65.0))
        end = time.monotonic() + 20
        while live(tmp_path).steps[-1].loss is None and time.monotonic() < end:
            time.sleep(0.05)
        found = live(tmp_path)
        assert (found.state, found.done, found.total) == ("running", 2, 3)
        step = found.steps[-1]
        assert (step.title, step.done, step.total, step.unit) == (title, 1200, 9600, "steps")
        assert (step.loss, step.rate, step.left) == (2.345, "812", "1:05")
        assert step.losses[-1] == (1200, 2.345)
        assert found.memory is None or found.memory > 1 << 20
        progress.finish("train-1")
    log.write("done")
    found = live(tmp_path)
    assert (found.state, found.done, found.total, found.moves) == ("done", 3, 3, False)


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [(KeyboardInterrupt(), "stopped", "same command"), (ValueError("no\nroom"), "failed", "no")],
)
def test_how_a_run_ended_is_said(tmp_path: Path, error: BaseException, state: str, words: str) -> None:
    with pytest.raises(type(error)), logged(Log(tmp_path / LOG), "mnemos 0.1.0: study, 3 steps"):
        raise error
    assert live(tmp_path).state == state
    assert words in live(tmp_path).words


def test_a_run_whose_process_is_gone_has_ended(tmp_path: Path) -> None:
    Log(tmp_path / LOG).write("mnemos 0.1.0: study, 3 steps")
    (tmp_path / ".lock.owner").write_text("process 999999999\n")
    assert live(tmp_path).state == "ended"


def test_a_run_that_says_nothing_for_long_is_called_silent(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text("2020-01-01T00:00:00+00:00  mnemos 0.1.0: study, 3 steps\n")
    (tmp_path / ".lock.owner").write_text(f"process {os.getpid()}\n")
    assert live(tmp_path).state == "silent"


def test_an_attempt_before_counts_no_more(tmp_path: Path) -> None:
    log = Log(tmp_path / LOG)
    for text in (
        "mnemos 0.1.0: s, 2 steps",
        "[1/2] before: measure  1.0 s",
        "failed: x",
        "mnemos 0.1.0: s, 2 steps",
        "done",
    ):
        log.write(text)
    assert (live(tmp_path).state, live(tmp_path).steps) == ("done", ())


@pytest.mark.parametrize("begins", ["stream s", "adapt s"])
def test_an_attempt_of_a_stream_before_counts_no_more(tmp_path: Path, begins: str) -> None:
    log = Log(tmp_path / LOG)
    (tmp_path / ".lock.owner").write_text(f"process {os.getpid()}\n")
    with pytest.raises(ValueError, match="full"), logged(log, f"mnemos 0.1.0: {begins}"):
        raise ValueError("the disk is full")
    assert live(tmp_path).state == "failed"
    log.write(f"mnemos 0.1.0: {begins}")
    assert (live(tmp_path).state, live(tmp_path).words) == ("running", "")


@given(data=st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_any_bytes_may_stand_in_a_log(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("log")
    (folder / LOG).write_bytes(b"2026-01-31T12:00:00+00:00  [1/2] " + data)
    assert live(folder).total >= 0


def test_memory_of_a_process_that_is_not_there_is_unknown() -> None:
    assert memory_of(999_999_999) is None


# index ------------------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path / "cache" / "answers.sqlite")


def write(path: Path, rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def row(item: str, text: str | None, score: float | None) -> dict[str, Any]:
    return {"suite": "s", "item": item, "text": text, "score": score, "finished": True, "tokens": 1, "reason": None}


VALUES = st.tuples(st.sampled_from(["x", "y", "", None]), st.sampled_from([0.0, 0.5, 1.0, None]))


@given(
    one=st.lists(VALUES, min_size=1, max_size=12),
    other=st.lists(VALUES, min_size=1, max_size=12),
    better=st.sampled_from(["higher", "lower"]),
)
@settings(max_examples=12, deadline=None)
def test_filters_keep_what_they_say(
    tmp_path_factory: pytest.TempPathFactory, one: Any, other: Any, better: str
) -> None:
    folder = tmp_path_factory.mktemp("index")
    index = Index(folder / "i.sqlite")
    files = [
        index.file(write(folder / f"{name}.jsonl", [row(str(n), *value) for n, value in enumerate(values)]))
        for name, values in (("one", one), ("other", other))
    ]
    sign = 1 if better == "higher" else -1
    pairs = list(zip(one, other, strict=False))
    # In Python, beside what SQL keeps.
    wanted = {
        "all": lambda x, y: True,
        "flips": lambda x, y: x[1] != y[1],
        "lost": lambda x, y: None not in (x[1], y[1]) and sign * (y[1] - x[1]) < 0,
        "gained": lambda x, y: None not in (x[1], y[1]) and sign * (y[1] - x[1]) > 0,
        "differs": lambda x, y: x[0] != y[0],
        "missing": lambda x, y: None in (x[1], y[1]),
    }
    assert set(wanted) == set(CONDITIONS)
    for show, keeps in wanted.items():
        expected = [str(n) for n, (x, y) in enumerate(pairs) if keeps(x, y)]
        assert index.items(*files, show=show, better=better, most=99) == (len(expected), expected)  # type: ignore[arg-type]
        drawn = index.items(*files, show=show, better=better, most=99, seed=3)[1]  # type: ignore[arg-type]
        assert sorted(drawn) == sorted(expected)


def test_a_seed_draws_one_order_and_pages_of_it(tmp_path: Path, index: Index) -> None:
    file = index.file(write(tmp_path / "a.jsonl", [row(str(n), "t", 1.0) for n in range(50)]))
    whole = index.items(file, file, seed=1, most=50)[1]
    assert whole != index.items(file, file, seed=2, most=50)[1]
    assert whole != [str(n) for n in range(50)]
    assert [index.items(file, file, seed=1, most=20, skip=skip)[1] for skip in (0, 20, 40)] == [
        whole[:20],
        whole[20:40],
        whole[40:],
    ]


@pytest.mark.parametrize("text", ["%", "_", "'", "' OR 1=1 --", "ÄRGER", "Robert'); DROP TABLE answers;--"])
def test_what_is_searched_is_text_and_no_pattern(tmp_path: Path, index: Index, text: str) -> None:
    file = index.file(
        write(tmp_path / "a.jsonl", [row("1", f"it holds {text.lower()} here", 1.0), row("2", "nothing", 1.0)])
    )
    assert index.items(file, file, text=text) == (1, ["1"])


def test_a_file_that_changed_is_read_again_and_one_that_is_gone_is_absent(tmp_path: Path, index: Index) -> None:
    path = write(tmp_path / "a.jsonl", [row("1", "old", 0.0)])
    index.file(path)
    write(path, [row("1", "new words", 1.0), row("2", "more", None)])
    file = index.file(path)
    assert index.pairs(file, file, ["1"])[0].first.text == "new words"
    assert index.items(file, file)[0] == 2
    path.unlink()
    with pytest.raises(AbsentError):
        index.file(path)


def test_lines_that_are_no_answers_are_counted_and_left_out(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemos.serve.index.MOST_LINE", 2_000)
    bad = [
        "not json\n",
        "[" * 1_500 + "\n",
        "[1]\n",
        '{"suite": "s", "item": 3}\n',
        json.dumps(row("2", "x" * 3_000, 1.0)) + "\n",
    ]
    odd = {**row("3", "y", 1.0), "score": 1e400, "tokens": -1, "finished": "no"}
    file = index.file(write(tmp_path / "a.jsonl", [row("1", "\ud800 half", 1.0), *bad, row("1", "again", 0.0), odd]))
    suite, counted = index.about(file)
    assert suite == "s"
    assert sum(counted.values()) == 6
    assert index.items(file, file)[1] == ["1", "3"]
    shown = index.pairs(file, file, ["3"])[0].first
    assert (shown.score, shown.tokens, shown.finished) == (None, 0, None)


def test_an_index_that_is_no_database_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "i.sqlite"
    path.write_bytes(b"something else" * 100)
    assert Index(path).kept(Path("x"), "y") is None


def test_two_servers_may_read_one_file_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [row(str(n), "t", 1.0) for n in range(2_000)])
    found: list[int] = []

    def look() -> None:
        one = Index(tmp_path / "i.sqlite")
        file = one.file(path)
        found.append(one.items(file, file)[0])

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2_000] * 6


# summaries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 200_000,
        '{"arms": 3, "comparisons": [1]}',
        '{"arms": [], "comparisons": "x", "manifest": {"suites": [{}]}}',
        "[]",
        "NaN",
    ],
)
def test_broken_results_are_named_and_hurt_no_other_run(tmp_path: Path, index: Index, text: str) -> None:
    make_run(tmp_path / "good")
    make_run(tmp_path / "bad")
    (tmp_path / "bad" / "results.json").write_text(text)
    lines = {run.id: Results(index).line(run) for run in runs(tmp_path)}
    assert "learned" in lines["good"].words
    assert not lines["good"].broken
    assert lines["bad"].broken
    assert lines["bad"].words


def test_a_line_is_made_again_when_the_results_change(tmp_path: Path, index: Index) -> None:
    make_run(tmp_path / "one")
    first = Results(index).line(run_named(tmp_path, "one")).words
    (tmp_path / "one" / "results.json").write_text(json.dumps(results("one", verdict="cannot tell")))
    assert Results(index).line(run_named(tmp_path, "one")).words != first


# differences ------------------------------------------------------------------------------------


def lcs(a: list[str], b: list[str]) -> int:
    """Length of a longest common subsequence, by the table of the textbook."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


TEXTS = st.lists(st.sampled_from(["a", "b", "c", ".", "ä", "字"]), max_size=25).map(" ".join)


@given(one=TEXTS, other=TEXTS)
@settings(max_examples=150, deadline=None)
def test_what_is_unmarked_is_a_longest_common_subsequence(one: str, other: str) -> None:
    import re

    left, right = marked(one, other)
    assert "".join(text for text, _ in left) == one
    assert "".join(text for text, _ in right) == other
    kept = ["".join(text for text, own in parts if not own) for parts in (left, right)]
    assert kept[0] == kept[1]
    words = [re.findall(r"\s+|\w+|[^\w\s]", text) for text in (one, other)]
    common = [
        w
        for w, parts in zip(words, (left, right), strict=True)
        for w in [sum(len(re.findall(r"\s+|\w+|[^\w\s]", t)) for t, own in parts if not own)]
    ]
    assert common == [lcs(*words)] * 2


def test_texts_that_differ_in_too_much_differ_as_a_whole() -> None:
    one, other = " ".join("ab"[n % 2] for n in range(9_000)), " ".join("cd"[n % 2] for n in range(9_000))
    began = time.process_time()
    left, right = marked(f"same {one} end", f"same {other} end")
    assert time.process_time() - began < 20
    assert [own for _, own in left] == [False, True, False]
    assert left[0][0].startswith("same")
    assert len(right) == 3
    assert MOST_EDITS < 9_000


# votes ------------------------------------------------------------------------------------------


def test_orders_are_drawn_by_seed_item_and_rater() -> None:
    contest = Contest.of("run", "s", "plain/seed-0", "before")
    assert contest == Contest.of("run", "s", "before", "plain/seed-0")
    items = [str(n) for n in range(400)]
    ann = [shown_first(contest, item, "ann", 0) for item in items]
    assert ann == [shown_first(contest, item, "ann", 0) for item in items]
    assert ann != [shown_first(contest, item, "bob", 0) for item in items]
    assert ann != [shown_first(contest, item, "ann", 1) for item in items]
    # A fair coin gives 200 with a deviation of 10.
    assert 140 < ann.count("a") < 260
    assert voting.in_order(items, 0) != voting.in_order(items, 1)
    assert voting.in_order(items[::-1], 0) == voting.in_order(items, 0)


@pytest.mark.parametrize(
    ("choice", "first", "verdict"),
    [
        ("first", "a", "a"),
        ("first", "b", "b"),
        ("second", "a", "b"),
        ("second", "b", "a"),
        ("tie", "b", "tie"),
        ("both_bad", "a", "both_bad"),
    ],
)
def test_a_choice_by_place_is_a_verdict_by_model(choice: str, first: Any, verdict: str) -> None:
    assert verdict_of(choice, first) == verdict


def test_a_choice_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="none of"):
        verdict_of("a", "a")


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\0b", "a\u202eb"])
def test_a_rater_has_a_name_that_can_be_read(name: str) -> None:
    with pytest.raises(UsageError):
        voting.rater_named(name)


def test_votes_are_counted_by_item_and_agreement_by_shared_items() -> None:
    from mnemos.measure.votes import Vote

    def vote(item: str, rater: str, verdict: Any) -> Vote:
        return Vote("r", "s", item, "before", "plain", "a", verdict, "", rater)

    votes = [
        *(vote("1", rater, "b") for rater in ("ann", "bob", "eve")),
        vote("2", "ann", "a"), vote("2", "bob", "b"),
        vote("3", "ann", "tie"), vote("3", "bob", "tie"),
        vote("4", "ann", "a"),
    ]  # fmt: skip
    [tally] = tallies(votes)
    assert (tally.votes, tally.items, tally.raters) == (8, 4, 3)
    # Item 1 goes to b, item 4 to a; 2 is even and 3 a tie.
    assert tally.decided == 2
    assert tally.share is not None
    assert tally.share[0] == 0.5
    found = {one.raters: one for one in agreements(votes)}
    assert (found["ann", "bob"].items, found["ann", "bob"].same) == (3, 2)
    assert (found["ann", "bob"].plain, found["ann", "bob"].plain_same) == (2, 1)
    assert (found["ann", "eve"].items, found["ann", "eve"].same) == (1, 1)


def test_alpha_of_raters_is_krippendorffs() -> None:
    """Four raters and gaps, held to the definition, pair of ratings by pair."""
    from mnemos.measure.votes import Vote

    table = ["1233214.....", "1233224.....", ".3332241241.", "12332441241."]
    names = {"1": "a", "2": "b", "3": "tie", "4": "both_bad"}
    votes = [
        Vote("r", "s", str(unit), "before", "plain", "a", names[label], "", f"rater {rater}")  # type: ignore[arg-type]
        for rater, row in enumerate(table)
        for unit, label in enumerate(row)
        if label != "."
    ]
    # By the definition, pair by pair: 1 - observed over expected disagreement.
    units = [[row[unit] for row in table if row[unit] != "."] for unit in range(12)]
    paired = [unit for unit in units if len(unit) > 1]
    values = [value for unit in paired for value in unit]
    n = len(values)
    observed = sum(sum(x != y for x in unit for y in unit) / (len(unit) - 1) for unit in paired) / n
    expected = sum(x != y for x in values for y in values) / (n * (n - 1))
    found = voting.alpha(votes)
    assert found is not None
    assert abs(found - (1 - observed / expected)) < 1e-9
    assert voting.alpha(votes[:1]) is None


def test_a_folder_that_nobody_voted_in_stays_as_it_is(tmp_path: Path) -> None:
    assert voting.Votes(tmp_path).of() == []
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mnemos.serve import server

    monkeypatch.setattr(server, "NEEDED", ("no_such_package_of_anybody",))
    with pytest.raises(UsageError, match=r"no_such_package_of_anybody") as caught:
        server.serve(tmp_path)
    assert caught.value.cure == "pip install no_such_package_of_anybody"
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="starlette and uvicorn") as caught:
        server.serve(tmp_path)
    assert caught.value.cure == 'pip install "mnemos[serve]"'


def test_a_port_that_is_taken_and_a_folder_that_is_none_are_said(tmp_path: Path) -> None:
    from mnemos.serve import server

    taken = server.bound(0)
    with pytest.raises(UsageError, match="cannot be used"):
        server.bound(taken.getsockname()[1])
    taken.close()
    with pytest.raises(MnemosError, match="is not a folder"):
        server.serve(tmp_path / "none")


def test_pairs_come_in_the_order_asked(tmp_path: Path, index: Index) -> None:
    file = index.file(write(tmp_path / "a.jsonl", [row(str(n), f"t{n}", 1.0) for n in range(5)]))
    found: list[Pair] = index.pairs(file, file, ["3", "0", "9"])
    assert [pair.item for pair in found] == ["3", "0"]


def test_saved_answers_are_what_the_index_reads(tmp_path: Path, index: Index) -> None:
    from mnemos.measure.ask import save_measured

    save_measured(tmp_path / "answers", measured([("1", "text\u2028line", 0.5), ("2", None, None)]))
    file = index.file(tmp_path / "answers" / f"{SUITE}.jsonl")
    pairs = index.pairs(file, file, ["1", "2"])
    assert (pairs[0].first.text, pairs[0].first.score) == ("text\u2028line", 0.5)
    assert (pairs[1].first.text, pairs[1].first.reason) == (None, "no answer")
