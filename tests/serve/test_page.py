"""The page over a real socket: what it shows, what it refuses, and that nothing is lost or leaks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import http.client
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

pytest.importorskip("starlette", reason="the extra [serve] is not installed")
pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")

from mnemos.core.errors import UsageError
from mnemos.core.nouns import Decoding, Prompt, Turn
from mnemos.measure.votes import read_table
from mnemos.serve.chat import Chat, Question, RunModel, load, question
from mnemos.serve.guard import MOST_BODY
from mnemos.serve.places import run_named
from tests.serve.folders import (
    DEFAULT_AFTER,
    DEFAULT_BEFORE,
    SUITE,
    Parrot,
    Served,
    ballot,
    form_token,
    make_run,
    serving,
)

PAIR = {"run": "one", "a": "before", "b": "plain/seed-0", "suite": SUITE}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that only looks."""
    root = tmp_path_factory.mktemp("runs")
    make_run(root / "one")
    with serving(root, tmp_path_factory.mktemp("cache")) as found:
        yield found


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Served]:
    """A server whose folder a test may change."""
    root = tmp_path / "runs"
    make_run(root / "one")
    with serving(root, tmp_path / "cache", loader=lambda path: Parrot()) as found:
        yield found


def get(served: Served, path: str, **query: str) -> Any:
    with served.client() as client:
        return client.get(path, params=query)


# what is shown ----------------------------------------------------------------------------------


def test_every_page_of_a_run_is_there_and_asks_nobody_else(served: Served) -> None:
    for path in ("/", "/run", "/answers", "/start", "/vote", "/votes", "/chat", "/report"):
        answer = get(served, path, **(PAIR if path != "/" else {}), rater="ann")
        assert answer.status_code == 200, path
        text = re.sub(r'xmlns(:\w+)?="[^"]*"', "", answer.text)
        assert not re.search(r"(?:src|href|action)\s*=\s*[\"']?(?:https?:)?//", text), path
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        if path != "/report":
            # Nothing for which the policy would have to let anything within a page run, or style.
            assert not re.search(
                r"<style|\sstyle=|\son\w+=|javascript:|<script(?! src=\"/static/page.js\" defer></script>)", text
            ), path


def test_arms_stand_side_by_side_with_their_verdicts(served: Served) -> None:
    text = get(served, "/run", run="one").text
    assert "Plain training learned" in text
    assert re.search(r'class="cell gained".*gained 50.0', text, flags=re.S)
    assert "<polyline" in text


@pytest.mark.parametrize(
    ("show", "items"),
    [
        ("all", ["1", "2", "3", "4"]),
        ("flips", ["1", "2", "3"]),
        ("lost", ["1"]),
        ("gained", ["2"]),
        ("missing", ["3"]),
        ("differs", ["1", "2", "3"]),
    ],
)
def test_answers_are_filtered(served: Served, show: str, items: list[str]) -> None:
    text = get(served, "/answers", **PAIR, show=show).text
    assert re.findall(r"<h2><small>item</small> (\w+)", text) == items


def test_an_answer_shows_prompt_reference_score_and_what_differs(served: Served) -> None:
    text = get(served, "/answers", **PAIR, show="lost").text
    for part in (
        "What is the capital of land 1?",
        "City 1",
        "<del>Paris</del> is the capital",
        "<ins>Lyon</ins> is the capital",
    ):
        assert part in text
    assert "score 1" in text
    assert "score 0" in text


def test_an_order_by_seed_is_the_same_each_time(served: Served) -> None:
    first, again, other = (
        re.findall(r"<h2><small>item</small> (\w+)", get(served, "/answers", **PAIR, seed=seed).text)
        for seed in ("1", "1", "4")
    )
    assert first == again
    assert sorted(other) == sorted(first)


def test_a_ballot_tells_not_whose_answers_they_are(served: Served) -> None:
    text = get(served, "/vote", **PAIR, rater="ann").text
    ballots = re.search(r'<div class="sides">(.*?)</div>', text, flags=re.S)
    assert ballots is not None
    assert "before" not in ballots[1]
    assert "plain" not in ballots[1]


# doors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/run?run=one", "/answers?run=one", "/report?run=one", "/events", "/votes", "/nowhere"]
)
@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer wrong"}, {"cookie": "mnemos=wrong; mnemos-0=x"}, {"authorization": "Bearer \xff"}],
)
def test_without_the_token_nothing_is_told(served: Served, path: str, headers: dict[str, str]) -> None:
    status, text = raw(served, "GET", path, headers)
    assert status == 401
    assert text.startswith("This address needs the token")


def raw(served: Served, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, str]:
    place = urlsplit(served.address)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
    connection.putrequest(method, path, skip_host="host" in headers)
    for name, value in {
        **headers,
        **({"content-length": str(len(body))} if body and "content-length" not in headers else {}),
    }.items():
        connection.putheader(name, value.encode("latin-1"))
    connection.endheaders(body or None)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_the_address_that_is_printed_opens_the_page_and_leaves_no_token_in_it(served: Served) -> None:
    import httpx2

    with httpx2.Client(base_url=served.address, trust_env=False) as client:
        first = client.get("/run", params={"run": "one", "token": served.token})
        assert first.status_code == 303
        assert first.headers["location"] == "/run?run=one"
        cookie = first.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        second = client.get(first.headers["location"])
        assert second.status_code == 200
        assert served.token not in second.text
        wrong = httpx2.get(f"{served.address}/", params={"token": served.token[:-1]}, trust_env=False)
        assert wrong.status_code == 401


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "//evil.example"])
def test_entering_never_leads_elsewhere(served: Served, path: str) -> None:
    place = urlsplit(served.address)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
    connection.request("GET", f"{path}?token={served.token}")
    answer = connection.getresponse()
    assert answer.status == 303
    assert re.match(r"/[^/\\]", answer.headers["location"])
    connection.close()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil:1", ""])
def test_another_name_of_this_machine_is_refused(served: Served, host: str) -> None:
    status, _ = raw(served, "GET", "/", {"host": host, "authorization": f"Bearer {served.token}"})
    assert status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused(own: Served, headers: dict[str, str]) -> None:
    with own.client(**headers) as client:
        assert client.post("/vote", data=ballot(own, "ann")).status_code == 403
    assert not (own.root / "votes.sqlite").exists()


def test_a_form_without_the_second_token_is_refused(own: Served) -> None:
    fields = ballot(own, "ann")
    with own.client() as client:
        for form in ("", "wrong", own.token, "ä"):
            assert client.post("/vote", data={**fields, "form": form}).status_code == 403
            assert (
                client.post("/ask", json={"run": "one", "sides": []}, headers={"x-form-token": "wrong"}).status_code
                == 403
            )
    assert not (own.root / "votes.sqlite").exists()


@pytest.mark.parametrize("run", ["../one", "/etc", "one/../../etc", "..%2fone", "one\0", "x" * 3_000, "one/steps"])
def test_no_path_leads_out_of_the_folder(served: Served, run: str) -> None:
    for path in ("/run", "/answers", "/report", "/chat", "/events"):
        assert get(served, path, run=run).status_code == 404


def test_no_name_of_a_model_or_suite_leads_anywhere(served: Served) -> None:
    for changed in ({"a": "../before"}, {"suite": "../../study"}, {"suite": "capitals.jsonl"}, {"b": "plain"}):
        assert get(served, "/answers", **{**PAIR, **changed}).status_code == 404
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/page.py"):
        assert raw(served, "GET", path, {"authorization": f"Bearer {served.token}"})[0] == 404


def test_a_huge_body_is_refused_whatever_it_says_of_its_length(served: Served) -> None:
    door = {"authorization": f"Bearer {served.token}"}
    assert raw(served, "POST", "/vote", {**door, "content-length": str(1 << 40)})[0] == 413
    with served.client() as client:

        def parts() -> Iterator[bytes]:
            for _ in range(2 * MOST_BODY // 4096):
                yield b"x" * 4096

        assert client.post("/vote", content=parts()).status_code == 413
        assert client.post("/vote", data={f"f{n}": "1" for n in range(500)}).status_code == 400
    assert get(served, "/").status_code == 200


@pytest.mark.parametrize("query", [{"show": "x"}, {"seed": "-1"}, {"seed": "1e9"}, {"seed": "9" * 40}])
def test_a_filter_that_is_none_is_refused_in_words(served: Served, query: dict[str, str]) -> None:
    answer = get(served, "/answers", **PAIR, **query)
    assert answer.status_code == 400
    assert next(iter(query)) in answer.text


# hostile content ---------------------------------------------------------------------------------

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x07 [x](javascript:alert(3)) &lt;b&gt; {{ 7*7 }}"


def test_what_models_and_names_hold_is_shown_and_does_nothing(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    place = root / "<b>one&two'\""
    make_run(place, [(MARKUP, MARKUP, 1.0), ("2", MARKUP, 1.0)], [(MARKUP, "x" + MARKUP, 0.0), ("2", "plain", 0.0)])
    results = json.loads((place / "results.json").read_text())
    results["arms"][0]["arm"] = results["comparisons"][0]["arm"] = MARKUP
    (place / "results.json").write_text(json.dumps(results))
    query = {"run": place.name, "suite": SUITE, "a": "before", "b": "plain/seed-0", "rater": "<i>ann</i>"}
    with serving(root, tmp_path / "cache") as served, served.client() as client:
        for path in ("/", "/run", "/answers", "/vote", "/votes", "/chat", "/report"):
            answer = client.get(path, params=query if path != "/" else {})
            assert answer.status_code == 200, path
            assert "<script>alert" not in answer.text, path
            assert "<img" not in answer.text, path
            assert "<b>" not in answer.text.replace("<b>mnemos", ""), path
            assert "<i>" not in answer.text, path
            assert "\u202e" not in answer.text, path
            assert "49 " not in answer.text or "7*7" in answer.text, path


def test_bombs_in_answers_are_cut_and_answered_in_time(tmp_path: Path) -> None:
    bombs = ["> " * 300_000, "<div>" * 200_000, "[" * 100_000 + "](" * 100_000, "a b " * 250_000, "\u0300" * 300_000]
    rows = [(str(n), text, 1.0) for n, text in enumerate(bombs)]
    after = [(item, (text or "").replace(" ", "  ") + "!", 0.0) for item, text, _ in rows]
    make_run(tmp_path / "runs" / "one", rows, after)
    with serving(tmp_path / "runs", tmp_path / "cache") as served:
        answer = get(served, "/answers", **PAIR)
        assert answer.status_code == 200
        assert answer.text.count("more characters") == 10
        assert len(answer.content) < 2_000_000
        assert get(served, "/vote", **PAIR, rater="ann").status_code == 200


def test_a_broken_results_file_is_named_and_the_other_runs_are_shown(own: Served) -> None:
    make_run(own.root / "bad")
    (own.root / "bad" / "results.json").write_text('{"arms": [')
    text = get(own, "/").text
    assert "results.json is not JSON" in text
    assert "Plain training learned" in text
    page = get(own, "/run", run="bad")
    assert page.status_code == 200
    assert "results.json is not JSON" in page.text
    assert get(own, "/answers", **{**PAIR, "run": "bad"}).status_code == 200
    assert get(own, "/report", run="bad").status_code == 400


def test_a_run_that_is_deleted_while_it_is_shown_is_absent(own: Served) -> None:
    assert get(own, "/answers", **PAIR).status_code == 200
    fields = ballot(own, "ann")
    shutil.rmtree(own.root / "one")
    for path in ("/run", "/answers", "/report", "/chat"):
        answer = get(own, path, **PAIR)
        assert answer.status_code == 404
        assert "removed" in answer.text
    with own.client() as client:
        assert client.post("/vote", data=fields).status_code == 404
    assert get(own, "/").status_code == 200


def test_prompts_of_a_suite_that_changed_are_said_to_have(own: Served) -> None:
    results = json.loads((own.root / "one" / "results.json").read_text())
    results["manifest"]["suites"][0]["fingerprint"] = "0" * 16
    (own.root / "one" / "results.json").write_text(json.dumps(results))
    assert "has changed since it was measured" in get(own, "/answers", **PAIR).text
    (own.root / "one" / "study.yaml").write_text("model: [")
    text = get(own, "/answers", **PAIR).text
    assert "prompts cannot be shown" in text
    assert "<del>Paris</del>" in text


# votes ------------------------------------------------------------------------------------------


def test_a_vote_lands_and_the_next_pair_comes(own: Served) -> None:
    seen = []
    for verdict, choice in (("first", "first"), ("tie", "tie")):
        fields = ballot(own, "ann", choice=choice, reason="shorter\r\nand right")
        seen.append(fields["item"])
        with own.client() as client:
            answer = client.post("/vote", data=fields)
        assert answer.status_code == 303, verdict
    # Item 4 is equal on both sides and is not asked about.
    assert len(set(seen)) == 2
    assert "4" not in seen
    votes = read_table(own.root / "votes.sqlite")
    assert [(vote.rater, vote.model_a, vote.model_b) for vote in votes] == [("ann", "before", "plain/seed-0")] * 2
    assert {vote.reason for vote in votes} == {"shorter\nand right"}
    assert votes[0].verdict == votes[0].shown_first or votes[1].verdict == votes[1].shown_first
    text = get(own, "/votes", run="one").text
    assert "2 votes so far" in text
    assert "shorter and right" in text


def test_a_choice_lands_on_the_answer_that_stood_there(own: Served) -> None:
    texts = {
        item: {"before": x, "plain/seed-0": y}
        for (item, x, _), (_, y, _) in zip(DEFAULT_BEFORE, DEFAULT_AFTER, strict=True)
    }
    for number in range(8):
        page = get(own, "/vote", **PAIR, rater=f"rater {number}").text
        page = page.split('<div class="sides">')[1]
        left = re.findall(r'<pre dir="auto" tabindex="0">(.*?)</pre></section>', page, flags=re.S)[0].strip()
        fields = ballot(own, f"rater {number}")
        with own.client() as client:
            assert client.post("/vote", data=fields).status_code == 303
        [vote] = [one for one in read_table(own.root / "votes.sqlite") if one.rater == f"rater {number}"]
        chosen = vote.model_a if vote.verdict == "a" else vote.model_b
        assert (texts[vote.item][chosen] or "(an empty answer)") == left


def test_a_second_vote_on_a_pair_is_refused_and_the_first_one_stays(own: Served) -> None:
    fields = ballot(own, "ann", choice="tie")
    with own.client() as client:
        assert client.post("/vote", data=fields).status_code == 303
        again = client.post("/vote", data={**fields, "choice": "first"})
        turned = client.post("/vote", data={**fields, "a": fields["b"], "b": fields["a"], "choice": "first"})
    assert (again.status_code, turned.status_code) == (409, 409)
    assert "voted on this pair already" in again.text
    assert [vote.verdict for vote in read_table(own.root / "votes.sqlite")] == ["tie"]


@pytest.mark.parametrize(
    "changed",
    [
        {"choice": "a"},
        {"choice": ""},
        {"rater": ""},
        {"rater": "x" * 200},
        {"item": "4x"},
        {"a": "nobody"},
        {"suite": "x"},
        {"reason": "x" * 5_000},
        {"b": "before"},
    ],
)
def test_a_vote_that_cannot_be_meant_is_refused(own: Served, changed: dict[str, str]) -> None:
    with own.client() as client:
        assert client.post("/vote", data={**ballot(own, "ann"), **changed}).status_code in (400, 404)
    assert not (own.root / "votes.sqlite").exists() or read_table(own.root / "votes.sqlite") == []


def test_a_rater_named_like_a_statement_is_a_name(own: Served) -> None:
    names = ["Robert'); DROP TABLE votes;--", '" OR 1=1 --', "<script>alert(1)</script>", "雅婷"]
    for name in names:
        with own.client() as client:
            assert client.post("/vote", data=ballot(own, name)).status_code == 303
    assert {vote.rater for vote in read_table(own.root / "votes.sqlite")} == set(names)
    assert "<script>alert" not in get(own, "/votes", run="one").text


def test_fifty_raters_who_vote_at_once_on_two_servers_lose_nothing(own: Served, tmp_path: Path) -> None:
    raters = [f"rater {number}" for number in range(50)]
    with serving(own.root, tmp_path / "cache") as second:
        servers = (own, second)
        forms = {}
        for server in servers:
            with server.client() as client:
                forms[server.address] = form_token(client.get("/vote", params={**PAIR, "rater": "x"}).text)
        start = threading.Barrier(len(raters))

        def vote(number: int) -> int:
            server = servers[number % 2]
            fields = {**PAIR, "item": "1", "rater": raters[number], "choice": "first", "form": forms[server.address]}
            place = urlsplit(server.address)
            connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=120)
            connection.connect()
            start.wait()
            headers = {"authorization": f"Bearer {server.token}", "content-type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/vote", urlencode(fields), headers)
            status = connection.getresponse().status
            connection.close()
            return status

        with concurrent.futures.ThreadPoolExecutor(len(raters)) as pool:
            assert list(pool.map(vote, range(len(raters)))) == [303] * len(raters)
    votes = read_table(own.root / "votes.sqlite")
    assert sorted(vote.rater for vote in votes) == sorted(raters)


def test_agreement_grows_with_the_votes(own: Served) -> None:
    for rater in ("ann", "bob"):
        for _ in range(3):
            with own.client() as client:
                client.post("/vote", data=ballot(own, rater, choice="tie"))
    text = get(own, "/votes", run="one").text
    assert "ann, bob" in text
    assert re.search(r'data-label="agree">100 %', text)


# events and chat --------------------------------------------------------------------------------


def test_a_change_of_a_runs_files_is_an_event(own: Served) -> None:
    with own.client() as client, client.stream("GET", "/events", params={"run": "one"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        first = next(line for line in lines if line.startswith("data: "))
        (own.root / "one" / "log.txt").write_text("2026-01-31T12:00:00+00:00  mnemos 0.1.0: one, 3 steps\n")
        second = next(line for line in lines if line.startswith("data: ") and line != "data: -")
        assert first != second


def test_too_many_watchers_are_refused_and_leave_room_when_they_go(
    own: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemos.serve.app.MOST_STREAMS", 1)
    with own.client() as client, client.stream("GET", "/events") as stream:
        # Held: a generator that nobody holds is closed, and the stream with it.
        lines = stream.iter_lines()
        next(lines)
        with own.client() as other, other.stream("GET", "/events") as refused:
            assert refused.status_code == 503
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with own.client() as client, client.stream("GET", "/events") as stream:
            if stream.status_code == 200:
                return
        time.sleep(0.1)
    pytest.fail("a watcher that went is still counted")


def chat_run(root: Path) -> None:
    """Both models of the run lie in folders of their own."""
    for place in ("arms/plain/seed-0/model", "steps/measure-0123456789abcdef/model"):
        (root / "one" / place).mkdir(parents=True)


def asked(served: Served, **changed: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": "hello"}]
    sides = [{"model": name, "turns": turns} for name in ("before", "plain/seed-0")]
    return {"run": "one", "sides": sides, **changed}


def chat_token(served: Served) -> dict[str, str]:
    return {"x-form-token": re.findall(r'data-form="(\w+)"', get(served, "/chat", run="one").text)[0]}


def test_two_models_answer_side_by_side(own: Served) -> None:
    chat_run(own.root)
    with own.client(**chat_token(own)) as client:
        answer = client.post("/ask", json=asked(own))
    lines = [json.loads(line) for line in answer.text.splitlines()]
    for side in (0, 1):
        written = "".join(line["text"] for line in lines if line["side"] == side and "text" in line)
        [end] = [line for line in lines if line["side"] == side and "end" in line]
        assert written.split() == [f"hello-{n}" for n in range(5)]
        assert (end["end"], end["whole"], end["tokens"]) == ("finished", written, 5)


def test_who_stops_listening_stops_the_models(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    make_run(root / "one")
    chat_run(root)
    parrots = [Parrot(pause=0.02, words=100_000), Parrot(pause=0.02, words=100_000), Parrot()]
    waiting = list(parrots)
    with serving(root, tmp_path / "cache", loader=lambda path: waiting.pop(0)) as served:
        token = chat_token(served)
        with served.client(**token) as client:
            with client.stream("POST", "/ask", json=asked(served)) as stream:
                lines = stream.iter_lines()
                next(lines)
                busy = client.post("/ask", json=asked(served))
                assert (busy.status_code, "another question" in busy.text) == (400, True)
            assert all(parrot.stopped.wait(30) for parrot in parrots[:2])


def test_a_page_that_asks_again_stops_its_own_question_though_its_connection_is_open(tmp_path: Path) -> None:
    """A server that is busy sees a closed connection late: here it is never closed."""
    root = tmp_path / "runs"
    make_run(root / "one")
    chat_run(root)
    parrots = [Parrot(pause=0.02, words=100_000) for _ in range(2)]
    waiting = list(parrots)
    with serving(root, tmp_path / "cache", loader=lambda path: waiting.pop(0)) as served:
        token = chat_token(served)
        with served.client(**token) as client, client.stream("POST", "/ask", json=asked(served, page="1-2")) as first:
            lines = first.iter_lines()
            next(lines)
            assert "another question" in client.post("/ask", json=asked(served, page="3-4")).text
            assert not any(parrot.stopped.is_set() for parrot in parrots)
            with client.stream("POST", "/ask", json=asked(served, page="1-2")) as again:
                assert again.status_code == 200
                assert all(parrot.stopped.wait(30) for parrot in parrots)
                next(again.iter_lines())


def test_the_next_question_waits_for_models_that_were_stopped(tmp_path: Path) -> None:
    """A model may take long between two tokens: the question after a stop is no fault of who asks it."""
    root = tmp_path / "runs"
    make_run(root / "one")
    chat_run(root)
    with serving(root, tmp_path / "cache", loader=lambda path: Parrot(pause=1.5, words=4)) as served:
        token = chat_token(served)
        with served.client(**token) as client:
            for _ in range(2):
                with client.stream("POST", "/ask", json=asked(served)) as stream:
                    assert stream.status_code == 200
                    next(stream.iter_lines())
            again = client.post("/ask", json=asked(served))
            assert (again.status_code, again.text.count('"finished"')) == (200, 2)


def test_a_stream_that_nobody_reads_leaves_the_chat_free(tmp_path: Path) -> None:
    chat = Chat(loader=lambda path: Parrot())
    question = Question((RunModel(tmp_path),), ((Turn("user", "hello"),),), Decoding())

    async def ask_twice() -> int:
        await chat.answer(question)
        return len([line async for line in await chat.answer(question)])

    assert asyncio.run(ask_twice()) == 6


@pytest.mark.parametrize(
    "changed",
    [
        {"sides": []}, {"sides": "x"}, {"sides": [1]}, {"sides": [{"model": "/etc"}]}, {"run": 3}, {"run": "../one"},
        {"sides": [{"model": "before", "turns": [{"role": "user", "content": ""}]}]},
        {"sides": [{"model": "before", "turns": [{"role": "tool", "content": "x"}]}]},
        {"page": 3}, {"page": "x" * 101},
        {"max_new_tokens": 10**9}, {"temperature": -1}, {"temperature": "hot"}, {"seed": True},
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_meant_is_refused(own: Served, changed: dict[str, Any]) -> None:
    chat_run(own.root)
    with own.client(**chat_token(own)) as client:
        assert client.post("/ask", json=asked(own, **changed)).status_code in (400, 404)
        assert client.post("/ask", content=b"{" * 1_000).status_code == 400


def test_a_model_that_fails_says_so_beside_the_one_that_answers(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    make_run(root / "one")
    chat_run(root)

    def loader(model: RunModel) -> Parrot:
        if "arms" in model.path.parts or "steps" not in model.path.parts:
            raise RuntimeError("no <such> file")
        return Parrot()

    with serving(root, tmp_path / "cache", loader=loader) as served, served.client(**chat_token(served)) as client:
        lines = [json.loads(line) for line in client.post("/ask", json=asked(served)).text.splitlines()]
        ends = {line["side"]: line["end"] for line in lines if "end" in line}
        assert sorted(ends.values()) == ["error", "finished"]
        # And the next question is answered.
        assert client.post("/ask", json=asked(served)).status_code == 200


def test_the_model_before_is_asked_as_the_study_asked_it(tmp_path: Path) -> None:
    """With its system prompt and its template: a trained model's own tokenizer holds both."""
    from tests.tiny import TEMPLATE, save_tiny

    root, model = tmp_path / "runs", save_tiny(tmp_path / "model")
    make_run(root / "one")
    chat_run(root)
    (tmp_path / "template.jinja").write_text(TEMPLATE + "{{ mood }}", encoding="utf-8")
    given = {
        "model": str(model), "system": "Answer in French.", "chat_template": str(tmp_path / "template.jinja"),
        "chat_template_kwargs": {"mood": "Well:"},
    }  # fmt: skip
    (root / "one" / "study.yaml").write_text(json.dumps(given), encoding="utf-8")
    run = run_named(root, "one")
    turns = [{"role": "user", "content": "hi"}]
    found = question(root, run, {"sides": [{"model": name, "turns": turns} for name in ("before", "plain/seed-0")]})
    before, trained = found.models
    assert trained.chat is None
    loaded: Any = load(replace(before, path=model))
    text = loaded.tokenizer.decode(loaded.renderer.prompt_ids(Prompt(found.turns[0])))
    assert "Answer in French." in text
    assert text.endswith("Well:")
    assert replace(before, chat=None).key != before.key
    (tmp_path / "template.jinja").unlink()
    with pytest.raises(UsageError, match=r"template\.jinja"):
        question(root, run, {"sides": [{"model": "before", "turns": turns}]})


def test_the_index_lies_in_the_cache_and_not_among_the_runs(own: Served) -> None:
    get(own, "/answers", **PAIR)
    assert sorted(path.name for path in own.root.iterdir()) == ["one"]
