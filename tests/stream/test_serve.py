"""The drop-in server over a real socket: the openai client, a model server behind it, hostile requests, kills."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, RunError, UsageError
from mnemos.core.nouns import LanguageModel, Turn
from mnemos.models.load import handle
from mnemos.models.transport import UnansweredError
from mnemos.recipes.reproduce import models_folder
from mnemos.stream.agents import make
from mnemos.stream.models import Models
from mnemos.stream.serve import MOST_BODY, make_server, one_server
from mnemos.stream.service import Service
from mnemos.stream.store import Store
from mnemos.study.commands.serve_stream import serve
from mnemos.study.commands.stream import MemoryFile
from tests.stream.rule_server import rule_server
from tests.stream.worlds import PROMPTS, RuleModel

TOKEN = "a-token-of-tests"
ASK = "Question: colour of town {} in country c{}?\nAnswer:"


@contextmanager
def served(path: Path, model: LanguageModel, agent: str = "self-stream-icl") -> Iterator[int]:
    """Within it, the port of a server."""
    service = Service(Store(path), make(agent, PROMPTS, {}), Models([model], max_new_tokens=8))
    server = make_server(service, host="127.0.0.1", port=0, token=TOKEN, model="rule")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        service.close()


def call(port: int, place: str, body: Any, token: str = TOKEN, **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", f"/v1/{place}", data, {"Authorization": f"Bearer {token}", **headers})
    reply = connection.getresponse()
    found = json.loads(reply.read())
    connection.close()
    return reply.status, found


def ask(port: int, text: str, **more: Any) -> dict[str, Any]:
    status, found = call(port, "chat/completions", {"messages": [{"role": "user", "content": text}], **more})
    assert status == 200, found
    return found


def test_the_openai_client_asks_thumbs_and_is_answered_with_memory(tmp_path: Path) -> None:
    openai = pytest.importorskip("openai")
    with rule_server(RuleModel(lambda _: "blue")) as behind, served(tmp_path / "m.db", handle(behind).load()) as port:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=TOKEN, max_retries=0)
        first = client.chat.completions.create(
            model="rule", messages=[{"role": "user", "content": ASK.format(1, 2)}], user="ann"
        )
        assert first.choices[0].message.content == "blue"
        assert first.usage.total_tokens > 0
        posted = client.post("/feedback", body={"id": first.id, "value": 1}, cast_to=object)
        assert posted["learned"] == 1  # type: ignore[index]
        stream = client.chat.completions.create(
            model="rule",
            stream=True,
            stream_options={"include_usage": True},
            messages=[{"role": "system", "content": "Be short."}, {"role": "user", "content": ASK.format(9, 2)}],
        )
        chunks = list(stream)
        assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == "blue"
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage.completion_tokens > 0
        assert [one.id for one in client.models.list().data] == ["rule"]
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="wrong", max_retries=0).models.list()


class Turned(RuleModel):
    """Keeps how many turns each prompt had."""

    def generate(self, asked: Any, decoding: Any) -> Any:
        self.turns = [len(one.turns) for one in asked]
        return super().generate(asked, decoding)


def test_what_was_right_is_shown_again_and_earlier_turns_stay(tmp_path: Path) -> None:
    model = Turned(lambda _: "blue")
    with served(tmp_path / "m.db", model) as port:
        found = ask(port, ASK.format(1, 2))
        assert call(port, "feedback", {"id": found["id"], "value": 1})[1]["learned"] == 1
        wrong = ask(port, ASK.format(3, 3))
        assert call(port, "feedback", {"id": wrong["id"], "value": 0})[1]["learned"] == 0
        turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
        call(port, "chat/completions", {"messages": [*turns, {"role": "user", "content": ASK.format(7, 2)}]})
    assert "town 1 in country c2?\nAnswer: blue" in model.asked[-1]
    assert model.turns[-1] == 3


def test_feedback_for_unknown_ids_twice_and_of_other_values(tmp_path: Path) -> None:
    with served(tmp_path / "m.db", RuleModel()) as port:
        name = ask(port, ASK.format(1, 1))["id"]
        assert call(port, "feedback", {"id": "chatcmpl-none", "value": 1})[0] == 404
        assert call(port, "feedback", {"id": name, "value": 1})[1]["learned"] == 1
        assert call(port, "feedback", {"id": name, "value": 1})[1]["already"]
        assert call(port, "feedback", {"id": name, "value": 0})[0] == 409
        for bad in ({"id": 3, "value": 1}, {"id": name, "value": 2}, {"id": name, "value": True}, {"id": name}):
            assert call(port, "feedback", bad)[0] == 400
    assert len(MemoryFile(tmp_path / "m.db").rows()) == 1


def test_poison_is_deleted_by_its_source_while_the_server_runs(tmp_path: Path) -> None:
    model = RuleModel(lambda _: "green")
    with served(tmp_path / "m.db", model) as port:
        for who, town in (("mallory", 1), ("ann", 2)):
            name = ask(port, ASK.format(town, 1))["id"]
            call(port, "feedback", {"id": name, "value": 1, "source": who})
        file = MemoryFile(tmp_path / "m.db")
        assert file.delete([row["id"] for row in file.rows(source="mallory")]) == 1
        ask(port, ASK.format(3, 1))
        assert "town 2 " in model.asked[-1]
        assert "town 1 " not in model.asked[-1]


def test_concurrent_requests_lose_nothing(tmp_path: Path) -> None:
    done: list[str] = []
    with served(tmp_path / "m.db", RuleModel()) as port:

        def client(number: int) -> None:
            for turn in range(3):
                name = ask(port, ASK.format(number * 10 + turn, number))["id"]
                status, found = call(port, "feedback", {"id": name, "value": 1, "source": f"c{number}"})
                assert (status, found["learned"]) == (200, 1)
                done.append(name)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows = MemoryFile(tmp_path / "m.db").rows()
    assert sorted(row["item"] for row in rows) == sorted(done)
    assert sorted(row["step"] for row in rows) == list(range(18))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[1]", 400),
        ({}, 400),
        ({"messages": []}, 400),
        ({"messages": [{"role": "user", "content": ""}]}, 400),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400),
        ({"messages": [{"role": "root", "content": "x"}]}, 400),
        ({"messages": [{"role": "user", "content": "x"}], "n": 3}, 400),
        ({"messages": [{"role": "user", "content": "x"}], "tools": [{}]}, 400),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": -1}, 400),
        ({"messages": [{"role": "user", "content": "x"}], "user": "a\nb"}, 400),
        (b"[" * 100_000, 400),
        (b'{"messages": [{"role": "user", "content": "hi \\ud83d"}]}', 400),
        (b'{"messages": [{"role": "user", "content": "x"}], "model": "\\udc00"}', 400),
    ],
)
def test_requests_that_cannot_be_meant(tmp_path: Path, body: Any, status: int) -> None:
    with served(tmp_path / "m.db", RuleModel()) as port:
        found = call(port, "chat/completions", body)
        assert found[0] == status
        assert found[1]["error"]["message"]
        assert call(port, "nowhere", {})[0] == 404
        assert call(port, "feedback", {}, token="guess")[0] == 401
        ask(port, ASK.format(1, 1))  # it still answers


def test_bodies_are_bounded_and_silence_is_cut(tmp_path: Path) -> None:
    with served(tmp_path / "m.db", RuleModel()) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
            head = f"POST /v1/feedback HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n"
            raw.sendall(f"{head}Content-Length: {MOST_BODY + 1}\r\n\r\n".encode())
            assert b" 413 " in raw.recv(1000)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
            raw.sendall(f"POST /v1/feedback HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
            assert b" 411 " in raw.recv(1000)


def test_a_model_server_that_fails_is_told_and_the_next_request_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(RuleModel):
        fails: str | None = "told"

        def generate(self, asked: Any, decoding: Any) -> Any:
            if self.fails == "odd":
                raise ValueError("a prompt of somebody")
            if self.fails:
                raise RunError("http://model/v1", "did not answer in 1 second", "start it")
            return super().generate(asked, decoding)

    model = Fails()
    with served(tmp_path / "m.db", model) as port:
        message = {"messages": [{"role": "user", "content": ASK.format(1, 1)}]}
        status, found = call(port, "chat/completions", message)
        assert status == 502
        assert "did not answer" in found["error"]["message"]
        model.fails = "odd"
        status, found = call(port, "chat/completions", message)
        assert (status, found["error"]["message"]) == (500, "the request failed: ValueError")
        model.fails = None
        ask(port, ASK.format(1, 1))


@pytest.mark.parametrize("breaks", ["insert", "added"])
def test_a_thumb_that_could_not_be_kept_is_learned_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    agent = make("mam-thompson", PROMPTS, {})
    service = Service(Store(tmp_path / "m.db"), agent, Models([RuleModel()], max_new_tokens=8))
    name = service.answer((Turn("user", ASK.format(1, 1)),), None, "ann").id

    def full(*_: Any) -> Any:
        raise RunError("m.db", "the disk is full", "free some")

    with monkeypatch.context() as patch:
        patch.setattr(service.memory, breaks, full)
        with pytest.raises(RunError, match="disk is full"):
            service.feedback(name, 1.0, "ann")
    kept = json.loads(str(service.store.rows("select state from streams")[0][0]))
    assert agent.state == kept
    service.feedback(name, 1.0, "ann")
    assert (agent.state["step"], agent.state["right"]) == (1, [1.0])
    service.close()


class Held(RuleModel):
    """Waits with its first batch until it is let go, so that the others come together. refused: a word of a chat that
    it refuses."""

    def __init__(self, error: Exception) -> None:
        super().__init__(lambda _: "blue")
        self.error, self.go, self.busy = error, threading.Event(), threading.Event()
        self.calls: list[int] = []
        self.seeds: list[int] = []

    def generate(self, asked: Any, decoding: Any) -> Any:
        self.busy.set()
        assert self.go.wait(60)
        self.calls.append(len(asked))
        self.seeds.append(decoding.seed)
        if any("country bad" in one.turns[-1].text for one in asked):
            raise self.error
        return super().generate(asked, decoding)


@pytest.mark.parametrize(
    ("error", "alone", "calls"),
    [
        (DataError("the prompt", "the chat template refuses it", "put it into the first"), 400, [1, 4, 1, 1, 1, 1]),
        (ValueError("odd"), 500, [1, 4, 1, 1, 1, 1]),
        (UnansweredError("http://model/v1", "did not answer in 600 seconds", "start it"), 502, [1, 4]),
    ],
)
def test_a_chat_that_is_refused_fails_alone(tmp_path: Path, error: Exception, alone: int, calls: list[int]) -> None:
    model = Held(error)
    service = Service(Store(tmp_path / "m.db"), make("zero-shot", PROMPTS, {}), Models([model], max_new_tokens=8))
    server = make_server(service, host="127.0.0.1", port=0, token=TOKEN, model="rule")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    found: dict[str, int] = {}

    def client(country: str) -> None:
        message = {"role": "user", "content": ASK.format(1, "").replace("c?", f"{country}?")}
        found[country] = call(server.server_port, "chat/completions", {"messages": [message]})[0]

    threads = [threading.Thread(target=client, args=(name,)) for name in ("warm", "a", "b", "c", "bad")]
    threads[0].start()
    assert model.busy.wait(60)
    for thread in threads[1:]:
        thread.start()
    end = time.monotonic() + 60
    while service.batches._waiting.qsize() < 4 and time.monotonic() < end:
        time.sleep(0.01)
    model.go.set()
    for thread in threads:
        thread.join()
    server.shutdown()
    server.server_close()
    service.close()
    assert model.calls == calls
    others = 200 if len(calls) > 2 else alone
    assert found == {"warm": 200, "a": others, "b": others, "c": others, "bad": alone}


def test_who_asks_again_at_a_temperature_is_answered_anew(tmp_path: Path) -> None:
    model = Held(ValueError())
    model.go.set()
    models = Models([model], max_new_tokens=8, temperature=1.0)
    service = Service(Store(tmp_path / "m.db"), make("zero-shot", PROMPTS, {}), models)
    for _ in range(2):
        service.answer((Turn("user", ASK.format(1, 1)),), None, "ann")
    service.close()
    assert len(set(model.seeds)) == 2


def test_one_server_a_file_and_agents_that_cannot_serve(tmp_path: Path) -> None:
    (tmp_path / "m.db").touch()
    (tmp_path / "linked.db").symlink_to(tmp_path / "m.db")
    with one_server(tmp_path / "linked.db"):
        code = f"from mnemos.stream.serve import one_server\nfrom pathlib import Path\n" \
               f"with one_server(Path({str(tmp_path / 'm.db')!r})): pass"  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "served by another process" in done.stderr
    how: dict[str, Any] = {
        "encoder": "none", "host": "127.0.0.1", "port": 0, "max_new_tokens": 8, "max_prompt_tokens": None,
        "temperature": 0.0, "say": print,
    }  # fmt: skip
    for agent in ("oracle-memory", "coin-feedback"):
        with pytest.raises(UsageError, match="is a control"):
            serve("http://127.0.0.1:1/v1#x", tmp_path / "m.db", agent, {}, token=None, **how)
    for token, why in (("short", "fewer than 8"), ("Schlüssel", "beside those of ASCII"), ("two words", "has a space")):
        with pytest.raises(UsageError, match=why):
            serve("http://127.0.0.1:1/v1#x", tmp_path / "m.db", "zero-shot", {}, token=token, **how)


def kill(process: Any, thumbed: list[str], wanted: int, delay: float) -> None:
    """SIGKILL a random while after so many thumbs were acknowledged, in the middle of whatever is going on."""
    end = time.monotonic() + 120
    while len(thumbed) < wanted and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_nothing_that_was_acknowledged_is_lost(tmp_path: Path, times: int) -> None:
    path, moment = tmp_path / "m.db", random.Random(3)
    answered: list[str] = []
    thumbed: list[str] = []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with rule_server() as behind:
        command = [sys.executable, "-m", "mnemos", "stream", "serve", "--model", behind, "--memory", str(path)]
        for _ in range(times):
            process = subprocess.Popen(
                [*command, "--port", "0", "--token", TOKEN], env=environment, stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(2)]
            port = int(lines[1].rpartition(":")[2].partition("/")[0])
            killer = threading.Thread(target=kill, args=(process, thumbed, len(thumbed) + 2, 0.1 * moment.random()))
            killer.start()
            try:
                while time.monotonic():
                    town = len(answered)
                    answered.append(ask(port, ASK.format(town, town % 4))["id"])
                    assert call(port, "feedback", {"id": answered[-1], "value": 1, "source": "x"})[0] == 200
                    thumbed.append(answered[-1])
            except (OSError, http.client.HTTPException):
                pass
            process.wait()
            process.stdout.close()
            killer.join()
    assert len(thumbed) > times
    store = Store(path, create=False)
    kept = {str(row[0]): row[1] for row in store.rows("select id, value from answers")}
    assert set(answered) <= set(kept)
    remembered = [row["item"] for row in MemoryFile(path).rows()]
    assert set(thumbed) <= set(remembered)
    assert len(remembered) == len(set(remembered)) == sum(value == 1 for value in kept.values())


@contextmanager
def stream_server(model: str, memory: Path, *words: str) -> Iterator[str]:
    """Within it, the address of `mnemos stream serve` as a process of its own."""
    command = [sys.executable, "-m", "mnemos", "stream", "serve", "--model", model, "--memory", str(memory), *words]
    # The server behind takes the same key as the one in front.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENAI_API_KEY": TOKEN}
    process = subprocess.Popen(
        [*command, "--port", "0", "--token", TOKEN], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(2)]
        yield lines[1].split()[1]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@pytest.mark.slow
def test_the_openai_client_before_a_server_with_weights(tmp_path: Path) -> None:
    """Two servers: one whose model has weights and asks the bare question, and one with a memory in front of it."""
    openai = pytest.importorskip("openai")
    folder = models_folder() / "qwen"
    if not folder.is_dir():
        pytest.skip(f"no real model {folder} (set MNEMOS_MODELS)")
    behind, front = tmp_path / "behind.db", tmp_path / "front.db"
    with (
        stream_server(str(folder), behind, "--agent", "zero-shot", "--max-new-tokens", "8") as model,
        stream_server(f"{model}#any", front, "--set", "k=2") as address,
        openai.OpenAI(base_url=address, api_key=TOKEN, max_retries=0) as client,
    ):
        texts = []
        for town in range(4):
            message = {"role": "user", "content": ASK.format(town, town % 2)}
            if town % 2:
                whole = list(client.chat.completions.create(model="any", messages=[message], stream=True))
                name, text = whole[0].id, "".join(one.choices[0].delta.content or "" for one in whole if one.choices)
            else:
                reply = client.chat.completions.create(model="any", messages=[message])
                name, text = reply.id, reply.choices[0].message.content
            texts.append(text)
            client.post("/feedback", body={"id": name, "value": int(town < 2), "source": "ann"}, cast_to=object)
    rows = MemoryFile(front).rows()
    assert [row["answer"] for row in rows] == [text.strip() for text in texts[:2]]
    assert {row["source"] for row in rows} == {"ann"}
    # What the weights were asked last shows both answers that were right, the most similar one last.
    prompts = [
        str(row[0]) for row in Store(behind, create=False).rows("select question from answers order by made, id")
    ]
    assert len(prompts) == 4
    shown = next(prompt for prompt in prompts if "town 3 " in prompt)
    assert ASK.format(0, 0) in shown
    assert ASK.format(1, 1) in shown
    assert "town 2 " not in shown
