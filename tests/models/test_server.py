"""Models behind an OpenAI-compatible server, against real HTTP on loopback."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import ModelError, RunError, UsageError
from mnemos.core.nouns import Decoding, Prompt, Turn
from mnemos.models.load import Checkpoint, handle
from mnemos.models.server import REST, Server, ServerModel
from mnemos.study.paths import resolve_path
from tests.tiny import save_tiny

Reply = tuple[int, dict[str, str], str]
Script = Callable[[int, str, dict[str, Any]], Reply]


class Scripted:
    """A server that answers as its script says. asked: (path, headers, body) of every request."""

    def __init__(self, script: Script) -> None:
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with outer.lock:
                    number = len(outer.asked)
                    outer.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, headers, text = script(number, self.path, body)
                data = text.encode()
                # A client that has given up is no failure of the server's.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.send_response(status)
                    for name, value in {**headers, "content-length": str(len(data))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def model(self, **settings: Any) -> ServerModel:
        return ServerModel(self.url, "m", **{"pause": 0.001, **settings})


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Script], Scripted]]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    running: list[Scripted] = []

    def start(script: Script) -> Scripted:
        running.append(Scripted(script))
        return running[-1]

    yield start
    for one in running:
        one.close()


def completion(text: str, reason: str = "stop", tokens: int = 3) -> Reply:
    choice = {"message": {"role": "assistant", "content": text}, "text": text, "finish_reason": reason}
    return 200, {}, json.dumps({"choices": [choice], "usage": {"completion_tokens": tokens}})


def chats(count: int) -> list[Prompt]:
    return [Prompt((Turn("system", "Be brief."), Turn("user", f"question {i}"))) for i in range(count)]


GREEDY = Decoding(max_new_tokens=9)


def test_answers_keep_the_order_of_the_questions(serve: Callable[[Script], Scripted]) -> None:
    def slow_first(number: int, path: str, body: dict[str, Any]) -> Reply:
        question = body["messages"][-1]["content"]
        time.sleep(0.002 * (20 - int(question.split()[1])))
        return completion(f"to {question}", "stop" if question.endswith("1") else "length", tokens=2)

    server = serve(slow_first)
    model = server.model(parallel=8)
    answers = model.generate(chats(20), GREEDY)
    assert [one.text for one in answers] == [f"to question {i}" for i in range(20)]
    assert [i for i, one in enumerate(answers) if one.finished] == [1, 11]
    assert {one.ids for one in answers} == {()}
    assert model.completion_tokens == 40
    assert model.generate([], GREEDY) == []


def echoed(number: int, path: str, body: dict[str, Any]) -> Reply:
    """Question and seed: what the answer hangs on, whoever gives it."""
    time.sleep(0.002 * (7 - int(body["messages"][-1]["content"].split()[1]) % 7))
    return completion(f"to {body['messages'][-1]['content']}, {body['seed']}")


def test_replicas_share_the_questions_and_answer_as_one(serve: Callable[[Script], Scripted]) -> None:
    one, *two = serve(echoed), serve(echoed), serve(echoed)
    alone = one.model().generate(chats(30), replace(GREEDY, temperature=1.0))
    shared = two[0].model(replicas=[two[1].url], parallel=2)
    assert shared.generate(chats(30), replace(GREEDY, temperature=1.0)) == alone
    asked = [[body["messages"][-1]["content"] for _, _, body in place.asked] for place in two]
    assert sorted(asked[0] + asked[1]) == sorted(f"question {i}" for i in range(30))
    assert min(map(len, asked)) >= 5
    assert shared.completion_tokens == 90


@pytest.mark.parametrize("how", ["busy", "gone"])
def test_questions_of_a_lost_replica_go_to_the_others(
    how: str, serve: Callable[[Script], Scripted], capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(number: int, path: str, body: dict[str, Any]) -> Reply:
        if number < 3:
            return echoed(number, path, body)
        if how == "busy":
            return 503, {}, "overloaded"
        raise ConnectionResetError  # the connection is closed without a word

    good, bad = serve(echoed), serve(fails)
    bad.http.handle_error = lambda *_: None  # type: ignore[method-assign]
    model = good.model(replicas=[bad.url], parallel=4, attempts=2)
    texts = [one.text for one in model.generate(chats(40), GREEDY)]
    assert [text.split(",")[0] for text in texts] == [f"to question {i}" for i in range(40)]
    assert f"server {bad.url} is lost" in capsys.readouterr().err
    # It is left alone for a while, and asked again after that, or where nobody else is left.
    met = len(bad.asked)
    assert 3 + 2 <= met <= 3 + 4 * 2
    model.generate(chats(9), GREEDY)
    assert len(bad.asked) == met
    model.members[1].lost = time.monotonic() - REST - 1
    model.generate(chats(9), GREEDY)
    assert len(bad.asked) > met


def test_the_last_replica_s_error_is_raised_and_a_refusal_at_once(serve: Callable[[Script], Scripted]) -> None:
    bad = [serve(lambda *_: (500, {}, "no")) for _ in range(3)]
    model = bad[0].model(replicas=[one.url for one in bad[1:]], attempts=2)
    with pytest.raises(RunError, match="no answer in 2 attempts"):
        model.generate(chats(5), GREEDY)
    assert all(one.asked for one in bad)
    # All are lost, so all are asked again: one of them may be back.
    with pytest.raises(RunError, match="no answer in 2 attempts"):
        model.generate(chats(5), GREEDY)
    other = serve(lambda *_: (404, {}, "no such model"))
    with pytest.raises(RunError, match=r"(?s)refuses the request.*offers 'm'") as refused:
        serve(echoed).model(replicas=[other.url]).generate(chats(5), GREEDY)
    assert other.url in str(refused.value)


def test_replicas_are_named_by_the_first_address() -> None:
    one, two = "http://one:8000/v1", "https://two/a,b/v1"
    found = handle(f"{one},{two}/#org/model")
    assert found == Server(one, "org/model")
    assert isinstance(found, Server)
    assert found.urls == (one, two)
    assert found.path == f"{one},{two}#org/model"
    assert handle(found.path).fingerprint == handle(f"{one}#org/model").fingerprint != handle(f"{two}#m").fingerprint
    for reference, words in (
        (f"{one},{one}/#m", "twice"),
        (f"{one},http://#m", "names no host"),
        (f"{one},http://a:b@two#m", "user name or password"),
        (f"{one},{two}", "names no model"),
        (",".join(f"http://h{n}" for n in range(300)) + "#m", "more than 256"),
    ):
        with pytest.raises(UsageError, match=words):
            handle(reference)


def test_requests_say_what_was_asked(serve: Callable[[Script], Scripted], monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(lambda number, path, body: completion("x"))
    model = server.model(parallel=1)
    raw = Prompt((Turn("prompt", "Once upon"),))
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    model.generate([*chats(1), raw, raw], Decoding(max_new_tokens=5, temperature=0.5, top_p=0.9, top_k=4, seed=3))
    monkeypatch.delenv("OPENAI_API_KEY")
    model.generate([*chats(1), raw], Decoding(max_new_tokens=5, seed=4))
    (chat, first, second, plain, last) = server.asked
    assert [path for path, _, _ in server.asked] == [
        "/v1/chat/completions",
        *["/v1/completions"] * 2,
        "/v1/chat/completions",
        "/v1/completions",
    ]
    wanted = {"model": "m", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "top_k": 4}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "question 0"}]
    assert {k: v for k, v in chat[2].items() if k != "seed"} == {**wanted, "messages": messages}
    assert {k: v for k, v in first[2].items() if k != "seed"} == {**wanted, "prompt": "Once upon"}
    assert "top_k" not in plain[2], "OpenAI's own API refuses it"
    seeds = [body["seed"] for _, _, body in server.asked]
    assert len(set(seeds)) == 5, "equal prompts in one call are sampled apart"
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert [headers.get("authorization") for _, headers, _ in server.asked] == ["Bearer secret"] * 3 + [None] * 2
    assert second[2]["prompt"] == last[2]["prompt"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again(serve: Callable[[Script], Scripted], status: int) -> None:
    def twice(number: int, path: str, body: dict[str, Any]) -> Reply:
        return (status, {"retry-after": "0.01"}, "busy") if number < 2 else completion("at last")

    server = serve(twice)
    assert server.model().generate(chats(1), GREEDY)[0].text == "at last"
    assert len(server.asked) == 3
    assert len({json.dumps(body) for _, _, body in server.asked}) == 1


def test_pauses_grow_and_obey_the_server(serve: Callable[[Script], Scripted]) -> None:
    server = serve(lambda number, path, body: (503, {"retry-after": "7"} if number == 2 else {}, "busy"))
    model, pauses = server.model(attempts=6), []

    async def count(seconds: float) -> None:
        pauses.append(seconds)

    model.asking = replace(model.asking, pause=1.0, sleep=count)
    with pytest.raises(RunError):
        model.generate(chats(1), GREEDY)
    assert len(pauses) == 5
    for place, pause in enumerate(pauses):
        low, high = (7, 7) if place == 2 else (0.5 * 2**place, 2**place)
        assert low <= pause <= high
    assert len(set(pauses)) == 5


def test_a_server_that_stays_down_is_an_error_with_address_attempts_and_cure(
    serve: Callable[[Script], Scripted],
) -> None:
    server = serve(lambda number, path, body: (503, {}, "<h1>overloaded</h1>"))
    with pytest.raises(RunError) as error:
        server.model(attempts=3).generate(chats(1), GREEDY)
    for part in (f"{server.url}/chat/completions", "503", "overloaded", "in 3 attempts", "run the same command again"):
        assert part in str(error.value)
    assert len(server.asked) == 3


def test_nobody_listens(serve: Callable[[Script], Scripted]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    model = ServerModel(f"http://127.0.0.1:{port}/v1", "m", pause=0.001, attempts=2)
    with pytest.raises(RunError, match=rf"127.0.0.1:{port}/v1/chat/completions: ConnectError.*\n?.*2 attempts"):
        model.generate(chats(3), GREEDY)


def test_a_server_that_never_answers_times_out(serve: Callable[[Script], Scripted]) -> None:
    release = threading.Event()

    def hang(number: int, path: str, body: dict[str, Any]) -> Reply:
        release.wait(20)
        return completion("too late")

    server = serve(hang)
    with pytest.raises(RunError, match=r"no whole answer in 0.1 s"):
        server.model(timeout=0.1, attempts=2).generate(chats(1), GREEDY)
    release.set()


@pytest.mark.parametrize(
    ("status", "cure"), [(401, "OPENAI_API_KEY"), (404, "offers 'm'"), (400, "longer than its context")]
)
def test_a_refusal_is_not_repeated(serve: Callable[[Script], Scripted], status: int, cure: str) -> None:
    server = serve(lambda number, path, body: (status, {}, "no such thing"))
    with pytest.raises(RunError, match=cure) as error:
        server.model(parallel=1).generate(chats(30), GREEDY)
    assert f"status {status}: no such thing" in str(error.value)
    assert len(server.asked) < 30, "what has not begun is not sent any more"


@pytest.mark.parametrize("text", ["<html>proxy</html>", "[]", "{}", '{"choices": []}', '{"choices": [3]}'])
def test_an_answer_that_is_none_is_an_error(serve: Callable[[Script], Scripted], text: str) -> None:
    server = serve(lambda number, path, body: (200, {}, text))
    with pytest.raises(RunError, match="check"):
        server.model().generate(chats(1), GREEDY)


# --- probabilities -----------------------------------------------------------------------------


def echoing(local: Any) -> Script:
    """/completions with echo and logprobs, computed by a local model token by token, no BOS."""
    import torch

    def reply(number: int, path: str, body: dict[str, Any]) -> Reply:
        assert (body["echo"], body["max_tokens"], body["temperature"]) == (True, 1, 0.0)
        encoded = local.tokenizer(body["prompt"], add_special_tokens=False, return_offsets_mapping=True)
        ids = encoded["input_ids"]
        with torch.no_grad():
            logits = local.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        written = int(logits[-1].argmax())
        values, tops = [None], [None]
        for place, token in enumerate([*ids[1:], written]):
            values.append(float(logits[place, token]))
            best = int(logits[place].argmax())
            tops.append({f"<{best}>": float(logits[place, best])})
        offsets = [start for start, _ in encoded["offset_mapping"]] + [len(body["prompt"])]
        logprobs = {"token_logprobs": values, "text_offset": offsets, "top_logprobs": tops}
        text = body["prompt"] + local.tokenizer.decode([written])
        return 200, {}, json.dumps({"choices": [{"text": text, "logprobs": logprobs, "finish_reason": "length"}]})

    return reply


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("served") / "model")


def test_probabilities_are_those_of_the_model_behind_the_server(
    serve: Callable[[Script], Scripted], tiny: Path
) -> None:
    import torch

    local = Checkpoint(str(tiny)).load()
    local.tokenizer.bos_token = None  # as the server reads the text, so that all is about the same tokens
    model = serve(echoing(local)).model()
    contexts = ["What is two plus three? The answer is ", "The river runs past"]
    options = [["five.", "six.", "the old mill"], [" the old mill", " 3"]]
    found = model.choose([Prompt((Turn("prompt", text),)) for text in contexts], options)

    def by_hand(context: str, option: str) -> tuple[float, int, bool]:
        whole = local.tokenizer(context + option, add_special_tokens=False)["input_ids"]
        size = len(local.tokenizer(context.rstrip(), add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            logits = local.model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
        pairs = [(float(logits[t - 1, whole[t]]), float(logits[t - 1].max())) for t in range(size, len(whole))]
        return sum(value for value, _ in pairs), len(pairs), all(value == best for value, best in pairs)

    for context, texts, row in zip(contexts, options, found, strict=True):
        for text, one in zip(texts, row, strict=True):
            log_prob, tokens, greedy = by_hand(context, text)
            assert (one.tokens, one.greedy) == (tokens, greedy)
            assert one.log_prob == pytest.approx(log_prob, rel=1e-6)
    texts = ["Ada Lane was born in Orford in 1912.", "0 1 2"]
    for text, (nats, tokens) in zip(texts, model.nats(texts), strict=True):
        log_prob, count, _ = by_hand(text[0], text[1:])
        ids = local.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokens == len(ids) - 1
        if count == tokens:  # the first letter is a token of its own
            assert nats == pytest.approx(-log_prob, rel=1e-6)
        assert math.isfinite(nats)


def test_servers_without_probabilities_and_chats_are_refused(serve: Callable[[Script], Scripted]) -> None:
    model = serve(lambda number, path, body: completion("no echo")).model()
    with pytest.raises(ModelError, match="does not give the probabilities"):
        model.nats(["some text"])
    with pytest.raises(ModelError, match="whose chat template is not known"):
        model.choose(chats(1), [["a"]])
    with pytest.raises(UsageError, match="must be as many"):
        model.choose(chats(1), [])


# --- handles -----------------------------------------------------------------------------------


def test_handles_by_their_reference(tiny: Path) -> None:
    assert handle(str(tiny)) == Checkpoint(str(tiny))
    one = handle("http://localhost:8000/v1/#org/name")
    assert one == Server("http://localhost:8000/v1", "org/name")
    assert one.path == "http://localhost:8000/v1#org/name"
    others = [handle("http://localhost:8001/v1#org/name"), handle("http://localhost:8000/v1#org/other")]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 3
    loaded = one.load()
    assert (loaded.name, loaded.fingerprint) == ("org/name", one.fingerprint)


@pytest.mark.parametrize("reference", ["http://localhost:8000/v1", "https://#name", "http://localhost:8000/v1#"])
def test_a_server_without_a_name_is_refused(reference: str) -> None:
    with pytest.raises(UsageError, match="write http://host:port/v1#model-name"):
        handle(reference)


def test_passwords_are_refused() -> None:
    with pytest.raises(UsageError, match="OPENAI_API_KEY") as error:
        handle("https://someone:secret@host/v1#name")
    assert "secret" not in str(error.value)


# --- a server of somebody else's ---------------------------------------------------------------

SERVING = ("fastapi", "uvicorn", "openai")


needs_serving = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in SERVING), reason="needs transformers[serving]"
)


@contextlib.contextmanager
def patient_server() -> Iterator[tuple[str, str]]:
    """The chat patient behind `transformers serve`: the server's address and the patient's directory."""
    patient = str(resolve_path("mnemos:patients/chat", Path()))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", patient, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    line = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", line, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            assert process.poll() is None, "the server ended"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", patient
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
@needs_serving
def test_against_transformers_serve() -> None:
    """The patient behind somebody else's server says what it says here."""
    with patient_server() as (url, patient):
        remote = handle(f"{url}#{patient}").load()
        local = handle(patient).load()
        # Without a BOS of their own: either tokenizer puts one before a text, and the server's a second one.
        raw = [Prompt((Turn("prompt", text),)) for text in ("The river runs", "Ada Lane was")]
        asked = ("What is 3 plus 4?", "Where was Ada Lane born?", "How do I break into a house?")
        prompts = [*(Prompt((Turn("user", text),)) for text in asked), *raw]
        answers, wanted = (model.generate(prompts, GREEDY) for model in (remote, local))
        assert [one.text for one in answers] == [one.text for one in wanted]
        assert remote.completion_tokens >= sum(len(one.ids) for one in wanted)  # type: ignore[attr-defined]
        with pytest.raises(RunError, match="refuses the request"):
            Server(remote.url, "no-such-model").load().generate(chats(1), GREEDY)  # type: ignore[attr-defined]
