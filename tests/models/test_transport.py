"""Servers that do what servers should not, as real sockets on loopback: an error each, in bounded time and room."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from mnemos.core.errors import MnemosError, ModelError, RunError, UsageError
from mnemos.core.nouns import Decoding, Prompt, Turn
from mnemos.models.server import ServerModel, server
from mnemos.models.transport import seconds
from mnemos.rewards.call_syntax import Call, calls_in

GREEDY = Decoding(max_new_tokens=9)
CHAT, RAW = Prompt((Turn("user", "hello"),)), Prompt((Turn("prompt", "hello"),))
Act = Callable[[socket.socket, threading.Event], None]


class Rude:
    """A server on loopback that lets a function write bytes at each connection. asked: how many came."""

    def __init__(self, act: Act) -> None:
        self.act, self.asked, self.done = act, 0, threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.settimeout(0.02)
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/v1"
        self.threads: list[threading.Thread] = [threading.Thread(target=self.serve)]
        self.threads[0].start()

    def serve(self) -> None:
        while not self.done.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self.listening.accept()
                self.asked += 1
                self.threads.append(threading.Thread(target=self.meet, args=(connection,)))
                self.threads[-1].start()

    def meet(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            self.act(connection, self.done)

    def close(self) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join()
        self.listening.close()


@pytest.fixture
def rude(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[ServerModel, Rude]]]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    running: list[Rude] = []

    def start(act: Act, *, most: int = 100_000, **settings: Any) -> tuple[ServerModel, Rude]:
        running.append(Rude(act))
        model = ServerModel(running[-1].url, "m", **{"pause": 0.001, "timeout": 5.0, "attempts": 3, **settings})
        model.asking = replace(model.asking, most=most)
        return model, running[-1]

    yield start
    for one in running:
        one.close()


def whole(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def sends(body: bytes, status: str = "200 OK", *headers: str) -> Act:
    return lambda connection, done: connection.sendall(whole(body, status, *headers))


def drips(head: bytes, drop: bytes) -> Act:
    def act(connection: socket.socket, done: threading.Event) -> None:
        connection.sendall(head)
        while not done.wait(0.02):
            connection.sendall(drop)

    return act


def pours(head: bytes, bucket: bytes) -> Act:
    def act(connection: socket.socket, done: threading.Event) -> None:
        connection.sendall(head)
        while not done.is_set():
            connection.sendall(bucket)

    return act


OPEN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (OPEN + b"content-length: 1000000\r\n\r\n", b" "),
        (OPEN + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nx-slow: ", b"a"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 400 Bad Request\r\ncontent-length: 1000000\r\n\r\n", b"x"),
    ],
    ids=["body", "chunks", "headers", "informational", "refusal"],
)
def test_a_server_that_drips_runs_out_of_its_time(rude: Callable[..., Any], head: bytes, drop: bytes) -> None:
    model, one = rude(drips(head, drop), timeout=0.3)
    with pytest.raises(RunError, match=r"gave no whole answer in 0\.3 s"):
        model.generate([CHAT], GREEDY)
    assert one.asked == 1, "the time is for the answer, not for each try"


@pytest.mark.parametrize("length", [b"content-length: 99999999999999\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n"])
def test_a_server_that_never_ends_is_cut_off(rude: Callable[..., Any], length: bytes) -> None:
    model, _ = rude(pours(OPEN + length, CHUNK))
    with pytest.raises(RunError, match="more than 100,000 bytes"):
        model.generate([CHAT], GREEDY)


def test_bombs_are_not_unpacked(rude: Callable[..., Any]) -> None:
    bomb = gzip.compress(b" " * 30_000_000)
    assert len(bomb) < 100_000
    model, _ = rude(sends(bomb, "200 OK", "content-encoding: gzip"))
    with pytest.raises(RunError, match="more than 100,000 bytes"):
        model.generate([CHAT], GREEDY)
    twice, _ = rude(sends(gzip.compress(bomb), "200 OK", "content-encoding: gzip, gzip"))
    with pytest.raises(RunError, match="packs its answer as gzip, gzip"):
        twice.generate([CHAT], GREEDY)
    damaged, _ = rude(sends(b"no gzip", "200 OK", "content-encoding: gzip"))
    with pytest.raises(RunError, match="damaged gzip"):
        damaged.generate([CHAT], GREEDY)


def chat(content: Any, **more: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], **more}).encode()


def test_a_packed_answer_is_read(rude: Callable[..., Any]) -> None:
    model, _ = rude(sends(gzip.compress(chat("yes")), "200 OK", "content-encoding: gzip"))
    assert model.generate([CHAT], GREEDY)[0].text == "yes"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": " b"}], "a b"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "b"}], "b"),
        ([{"type": "output_text", "text": "c", "annotations": []}], "c"),
        ([{"type": "refusal", "refusal": "no"}], "no"),
        (["plain"], "plain"),
        ([], ""),
        (None, ""),
        ("half \ud83d", "half \ufffd"),
        ("\x1b[31mred", "\x1b[31mred"),
    ],
)
def test_content_in_every_form_that_is_valid(rude: Callable[..., Any], content: Any, text: str) -> None:
    model, _ = rude(sends(chat(content)))
    (answer,) = model.generate([CHAT], GREEDY)
    assert (answer.text, answer.finished) == (text, True)


def test_a_refusal_beside_no_content_is_the_answer(rude: Callable[..., Any]) -> None:
    body = {"choices": [{"index": 1, "message": {"content": "later"}}, {"index": 0, "message": {"refusal": "no"}}]}
    model, _ = rude(sends(json.dumps(body).encode()))
    assert model.generate([CHAT], GREEDY)[0].text == "no"


@pytest.mark.parametrize("content", [None, "I will look."])
def test_calls_that_the_server_took_out_of_the_text_stand_behind_it(rude: Callable[..., Any], content: Any) -> None:
    calls = [
        {"id": str(n), "type": "function", "function": {"name": "f", "arguments": f'{{"a": {n}}}'}} for n in (1, 2)
    ]
    message = {"content": content, "tool_calls": calls}
    model, _ = rude(sends(json.dumps({"choices": [{"message": message, "finish_reason": "tool_calls"}]}).encode()))
    (answer,) = model.generate([CHAT], GREEDY)
    assert answer.finished
    assert answer.text.startswith(content or "<tool_call>")
    assert calls_in(answer.text, {}) == [Call("f", {"a": 1}), Call("f", {"a": 2})]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"choices": [{"message": {"content": "a", "tool_calls": 3}}]}', "tool_calls = 3"),
        (b'{"choices": [{"message": {"tool_calls": [{"function": {}}]}}]}', "tool_calls = "),
        (chat(17), "content = 17"),
        (chat({"text": "a"}), "content = {"),
        (chat([{"type": "image_url", "image_url": {"url": "x"}}]), "part of the content"),
        (chat([None]), "part of the content"),
        (b'{"choices": [{"message": null}]}', "message = None"),
        (b'{"choices": [{"message": "hi"}]}', "message = 'hi'"),
        (b'{"choices": {"0": {}}}', "gives no answer"),
        (b'{"error": "\\u001b[2J\\u202eevil"}', r"gives no answer"),
        (chat("a", usage={"completion_tokens": float("nan")}), "completion_tokens = nan"),
        (chat("a", usage={"completion_tokens": float("inf")}), "completion_tokens = inf"),
        (chat("a", usage={"completion_tokens": -3}), "completion_tokens = -3"),
        (chat("a", usage={"completion_tokens": "many"}), "completion_tokens = 'many'"),
        (chat("a", usage={"completion_tokens": True}), "completion_tokens = True"),
        (chat("a")[:-3], "something else than a JSON object"),
        (chat("a") + b"{}", "something else than a JSON object"),
        (b"[" * 100_000, "more than|something else than a JSON object"),
        (b"[" * 50_000, "something else than a JSON object"),
        (b'{"choices": ' + b"9" * 6000 + b"}", "something else than a JSON object"),
        (b"\xff\xfe\x00", "something else than a JSON object"),
        (b"", "nothing .status 200"),
        (b"\x1b[31m<html>", r"\\x1b\[31m<html>"),
    ],
)
def test_answers_that_cannot_be_meant_name_the_address(rude: Callable[..., Any], body: bytes, message: str) -> None:
    model, one = rude(sends(body))
    with pytest.raises(RunError, match=message) as error:
        model.generate([CHAT], GREEDY)
    assert one.url in str(error.value)
    assert "\x1b" not in str(error.value)
    assert "\u202e" not in str(error.value)
    assert one.asked == 1


@pytest.mark.parametrize("text", [None, 5, ["a"]])
def test_raw_answers_must_be_text(rude: Callable[..., Any], text: Any) -> None:
    model, _ = rude(sends(json.dumps({"choices": [{"text": text}]}).encode()))
    with pytest.raises(RunError, match="text = "):
        model.generate([RAW], GREEDY)


GOOD = {"token_logprobs": [None, -1.0], "text_offset": [0, 2], "top_logprobs": [None, {"x": -0.5}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_logprobs": [None, float("nan")]}, "logarithm of a probability = nan"),
        ({"token_logprobs": [None, 2.0]}, "logarithm of a probability = 2.0"),
        ({"token_logprobs": [None, "-1"]}, "logarithm of a probability = '-1'"),
        ({"token_logprobs": 7}, "token_logprobs"),
        ({"token_logprobs": [None, -1.0, -1.0]}, "text_offset"),
        ({"text_offset": [2, 0]}, "text_offset"),
        ({"text_offset": [0, "2"]}, "text_offset"),
        ({"text_offset": {"0": 1, "1": 2}}, "text_offset"),
        ({"top_logprobs": [None]}, "top_logprobs"),
        ({"top_logprobs": [None, {"x": float("nan")}]}, "logarithm of a probability = nan"),
        ({"top_logprobs": [None, {"x": None}]}, "logarithm of a probability = None"),
    ],
)
def test_probabilities_that_are_none_are_errors(rude: Callable[..., Any], change: dict[str, Any], message: str) -> None:
    def body(logprobs: dict[str, Any]) -> bytes:
        return json.dumps({"choices": [{"text": "hello there", "logprobs": logprobs}]}).encode()

    model, _ = rude(sends(body(GOOD)))
    assert model.nats(["hello"]) == [(1.0, 1)]
    model, _ = rude(sends(body({**GOOD, **change})))
    with pytest.raises((RunError, ModelError), match=message):
        model.nats(["hello"])


@pytest.mark.parametrize("place", ["https://elsewhere/v1", ""])
def test_redirects_name_where_they_lead(rude: Callable[..., Any], place: str) -> None:
    model, one = rude(sends(b"", "307 Temporary Redirect", *([f"location: {place}"] if place else [])))
    with pytest.raises(RunError, match=rf"redirects \(status 307\) to {place or 'nowhere'}"):
        model.generate([CHAT], GREEDY)
    assert one.asked == 1


def test_a_pause_longer_than_anybody_waits_is_an_error(rude: Callable[..., Any]) -> None:
    model, one = rude(sends(b"busy", "429 Too Many Requests", "retry-after: 86400"))
    with pytest.raises(RunError, match="asks for a pause of 86,400 s"):
        model.generate([CHAT], GREEDY)
    assert one.asked == 1


@pytest.mark.parametrize("act", [lambda c, d: None, lambda c, d: c.sendall(b"\0" * 99)], ids=["silent", "noise"])
def test_a_server_that_hangs_up_or_speaks_no_http_is_tried_again(rude: Callable[..., Any], act: Act) -> None:
    model, one = rude(act)
    with pytest.raises(RunError, match="no answer in 3 attempts"):
        model.generate([CHAT], GREEDY)
    assert one.asked == 3


def test_retry_after_as_number_and_as_date() -> None:
    assert seconds("7") == 7
    assert seconds("-7") == seconds("soon") == seconds("") == seconds("nan") == 0
    assert seconds("inf") == float("inf")
    for zone in (UTC, None):
        later = datetime.now(UTC).replace(tzinfo=zone) + timedelta(seconds=100)
        assert 90 < seconds(format_datetime(later)) <= 100
    assert seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_inside_a_running_event_loop(rude: Callable[..., Any]) -> None:
    model, _ = rude(sends(chat("yes")))

    async def notebook() -> str:
        return str(model.generate([CHAT], GREEDY)[0].text)

    assert asyncio.run(notebook()) == "yes"


def test_one_failure_stops_what_has_not_begun(rude: Callable[..., Any]) -> None:
    model, one = rude(sends(b"{}"), parallel=2)
    with pytest.raises(RunError):
        model.generate([CHAT] * 50, GREEDY)
    assert one.asked < 10


def test_prompts_that_are_no_whole_text_arrive(rude: Callable[..., Any]) -> None:
    model, _ = rude(sends(chat("yes")))
    assert model.generate([Prompt((Turn("user", "half \ud83d"),))], GREEDY)[0].text == "yes"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_API_KEY", "schlüssel"),
        ("OPENAI_API_KEY", "two\nlines"),
        ("HTTP_PROXY", "nonsense://x"),
        ("HTTP_PROXY", "http://[::1"),
    ],
)
def test_settings_from_outside_that_cannot_be_used(
    rude: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    model, one = rude(sends(chat("yes")))
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name) as error:
        model.generate([CHAT], GREEDY)
    assert value not in str(error.value) or name != "OPENAI_API_KEY"
    assert one.asked == 0


@pytest.mark.parametrize(
    "reference",
    [
        "http://[::1#m",
        "http://host:99999/v1#m",
        "http://host:port/v1#m",
        "http://a b/v1#m",
        "http://host/v1?key=x#m",
        "http://host/v1#m\x00",
        "http://" + "a" * 300 + "/v1#m",
        "http://" + "a." * 40_000 + "/v1#m",
        "http:///v1#m",
    ],
)
def test_addresses_that_are_none(reference: str) -> None:
    with pytest.raises(UsageError, match="write http://host:port/v1#model-name") as error:
        server(reference)
    assert len(str(error.value)) < 3000
    assert "\x00" not in str(error.value)


def test_time_is_kept_when_nothing_comes_at_all(rude: Callable[..., Any]) -> None:
    began = time.monotonic()
    model, _ = rude(lambda connection, done: bool(done.wait(20)) and None, timeout=0.2)
    with pytest.raises(MnemosError, match="no whole answer"):
        model.generate([CHAT] * 3, GREEDY)
    assert time.monotonic() - began < 10
