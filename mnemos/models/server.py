"""A model behind an OpenAI-compatible server: vLLM, llama.cpp, SGLang, `transformers serve`, a vendor.

    handle("http://localhost:8000/v1#org/model")

Chat prompts go to /chat/completions, where the server applies its own chat template; raw ones to
/completions. Requests run in parallel up to a bound; what may pass (no connection, 429, 5xx) is
tried again with growing, jittered pauses. The key, if one is needed, is read from OPENAI_API_KEY.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from mnemos.core.errors import ModelError, RunError, UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Decoding, Generation, OptionScore, Prompt
from mnemos.sources.render import RAW_ROLES

PARALLEL = 16
"""Requests on their way at once: enough for a server to batch, few enough for a vendor's limits."""

ATTEMPTS = 6
"""How often one request is tried before the run stops."""

LONGEST_PAUSE = 60.0
"""Seconds between two attempts at most."""

TIMEOUT = 600.0
"""Seconds that one answer may take."""

PASSING = frozenset({408, 409, 425, 429})
"""Refusals that may pass by themselves; so may every 5xx."""

T = TypeVar("T")

if TYPE_CHECKING:
    from httpx2 import Client


@dataclass(frozen=True)
class Server:
    """A model that a server offers; implements `core.plan.ModelHandle`.

    url: the API's base, ending in /v1 for most servers. model: the name that the server knows it by.
    Trap: the fingerprint is made of url and name alone. A server can change the weights behind the
    same name, and rows already written are then still taken for its own.
    """

    url: str
    model: str

    @property
    def path(self) -> str:
        """``url#model``, as it stands in a study file."""
        return f"{self.url}#{self.model}"

    @property
    def fingerprint(self) -> str:
        """Of url and model name; asks the server nothing."""
        return fingerprint({"server": self.url, "model": self.model})

    def load(self) -> ServerModel:
        """The model, ready to be asked; the server is first met at the first question."""
        return ServerModel(self.url, self.model)


def server(reference: str) -> Server:
    """The handle of ``http(s)://host:port/v1#model``. UsageError where the name is missing or the
    address holds a password."""
    url, _, model = reference.partition("#")
    parts = urlsplit(url)
    if not parts.hostname or not model:
        missing = "host" if not parts.hostname else "model's name"
        raise UsageError(
            f"model {reference!r}",
            f"names no {missing}",
            "write http://host:port/v1#model-name, as the server calls it",
        )
    if parts.username or parts.password:
        raise UsageError(
            f"model at {parts.hostname}",
            "has a user name or password in its address, which would be written into the run",
            "put the key into the environment variable OPENAI_API_KEY",
        )
    return Server(url.rstrip("/"), model)


class ServerModel:
    """Implements core.nouns.LanguageModel over HTTP.

    parallel: requests at once. attempts: tries of one request. pause: seconds before the second
    try, doubled at each further one. timeout: seconds that one answer may take.
    completion_tokens: tokens generated so far, as the server counts them.
    Deviations from a local model: 1. token ids are not known, so `Generation.ids` is empty; 2. how
    a seed is used is the server's affair, and greedy answers may differ with what shares its batch.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        parallel: int = PARALLEL,
        attempts: int = ATTEMPTS,
        pause: float = 0.5,
        timeout: float = TIMEOUT,
    ) -> None:
        self.url, self.model = url, model
        self.parallel, self.attempts, self.pause, self.timeout = parallel, attempts, pause, timeout
        self.completion_tokens = 0
        self._counting, self._stopping = Lock(), Event()
        self._dice = random.Random()

    @property
    def name(self) -> str:
        """The server's name of the model."""
        return self.model

    @property
    def fingerprint(self) -> str:
        """Of url and name; see the trap of `Server`."""
        return Server(self.url, self.model).fingerprint

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        """One answer a prompt. Each is sampled with a seed of its own, made of `decoding.seed`, the
        prompt and how often it came before in the call. Raises RunError when the server gives up or
        answers with something else; top_k is sent only when it is set (OpenAI's own API has none)."""
        seen: Counter[Prompt] = Counter()
        jobs = []
        for prompt in prompts:
            jobs.append((prompt, prompt_seed(decoding.seed, prompt, seen[prompt])))
            seen[prompt] += 1
        return self._all(lambda client, job: self._write(client, job[0], decoding, job[1]), jobs)

    def _write(self, client: Client, prompt: Prompt, decoding: Decoding, seed: int) -> Generation:
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "seed": seed,
            **({"top_k": decoding.top_k} if decoding.top_k else {}),
        }
        if is_raw(prompt):
            place, body = "completions", {**body, "prompt": _text(prompt)}
        else:
            messages = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
            place, body = "chat/completions", {**body, "messages": messages}
        reply = self._post(client, place, body)
        choice = self._choice(place, reply)
        said = choice.get("text") if is_raw(prompt) else (choice.get("message") or {}).get("content")
        usage = reply.get("usage") or {}
        with self._counting:
            self.completion_tokens += int(usage.get("completion_tokens") or 0)
        return Generation(said or "", (), choice.get("finish_reason") == "stop")

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        """ln p(option | context) in nats, from servers that echo a prompt with its log-probabilities
        (vLLM and llama.cpp do). An option's tokens are those that end behind the context without its
        trailing white space. Raises ModelError for chats, whose template only the server knows, and
        for servers that do not echo."""
        if len(contexts) != len(options):
            raise UsageError(f"{len(contexts)} contexts and {len(options)} lists of options", "must be as many")
        if not all(is_raw(context) for context in contexts):
            raise ModelError(
                f"{self.url}: options behind a chat",
                "cannot be scored by a server, whose chat template is not known here",
                "name the model by its directory or hub id",
            )
        jobs = [(_text(context), option) for context, texts in zip(contexts, options, strict=True) for option in texts]
        scores = iter(self._all(lambda client, job: self._score(client, job[0] + job[1], len(job[0].rstrip())), jobs))
        return [[next(scores) for _ in texts] for texts in options]

    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Per text: summed -ln p of its tokens, and how many. Without a BOS token the text's first
        one has no probability and does not count. Raises ModelError like `choose`."""
        scored = self._all(lambda client, text: self._score(client, text, 0), list(texts))
        return [(-one.log_prob, one.tokens) for one in scored]

    def _score(self, client: Client, text: str, start: int) -> OptionScore:
        body = {"model": self.model, "prompt": text, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}
        choice = self._choice("completions", self._post(client, "completions", body))
        said = choice.get("logprobs") or {}
        values, offsets = said.get("token_logprobs"), said.get("text_offset")
        if not values or not offsets or not str(choice.get("text", "")).startswith(text):
            raise ModelError(
                f"{self.url}: {self.model}",
                "does not give the probabilities of a prompt's own tokens (echo with logprobs)",
                "serve it with vLLM or llama.cpp, or name it by its directory or hub id",
            )
        tops = said.get("top_logprobs") or [None] * len(values)
        ends = [*offsets[1:], len(str(choice["text"]))]
        mine = [
            i
            for i, (value, at, end) in enumerate(zip(values, offsets, ends, strict=True))
            if value is not None and end > start and at < len(text)
        ]
        greedy = all(tops[i] is not None and values[i] >= max(tops[i].values(), default=0.0) for i in mine)
        return OptionScore(sum(values[i] for i in mine), len(mine), greedy)

    def _all(self, ask: Callable[[Client, Any], T], jobs: Sequence[Any]) -> list[T]:
        """Answers in the order of `jobs`; the first failure stops what has not begun."""
        with self._client() as client, ThreadPoolExecutor(self.parallel) as pool:
            futures = [pool.submit(ask, client, job) for job in jobs]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self._stopping.set()
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                self._stopping.clear()

    def _client(self) -> Client:
        import httpx2

        key = os.environ.get("OPENAI_API_KEY", "")
        return httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(self.timeout, connect=min(self.timeout, 10.0)),
            limits=httpx2.Limits(max_connections=self.parallel, max_keepalive_connections=self.parallel),
        )

    def _post(self, client: Client, place: str, body: dict[str, Any]) -> dict[str, Any]:
        """The server's JSON answer. RunError names the address, the attempts and the cure."""
        import httpx2

        address, trouble = f"{self.url}/{place}", ""
        for attempt in range(self.attempts):
            wanted = 0.0
            try:
                response = client.post(address, json=body)
            except httpx2.TransportError as error:
                trouble = f"{type(error).__name__}: {error}".rstrip(": ")
            else:
                if response.status_code < 400:
                    return self._json(address, response.text)
                trouble = f"status {response.status_code}: {_excerpt(response.text)}"
                if response.status_code not in PASSING and response.status_code < 500:
                    raise RunError(address, f"refuses the request ({trouble})", _cure(response.status_code, self.model))
                wanted = _seconds(response.headers.get("retry-after", ""))
            if attempt + 1 < self.attempts:
                growing = self.pause * 2**attempt * self._dice.uniform(0.5, 1.0)
                if self._stopping.wait(min(LONGEST_PAUSE, max(wanted, growing))):
                    break
        raise RunError(
            f"{address}: {trouble}",
            f"no answer in {self.attempts} attempts",
            "check that the server runs and is not overloaded, then run the same command again: "
            "answers already given are kept",
        )

    def _json(self, address: str, text: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise RunError(
                address,
                f"answers with something else than JSON: {_excerpt(text)}",
                "check the address; most end in /v1",
            )
        return found

    def _choice(self, place: str, reply: dict[str, Any]) -> dict[str, Any]:
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise RunError(
                f"{self.url}/{place}",
                f"gives no answer: {_excerpt(json.dumps(reply))}",
                "check that it is an OpenAI-compatible server and that the model's name is right",
            )
        return choices[0]


def is_raw(prompt: Prompt) -> bool:
    """Whether the prompt is plain text to be continued, not a chat."""
    return all(turn.role in RAW_ROLES for turn in prompt.turns)


def _text(prompt: Prompt) -> str:
    return "".join(turn.content for turn in prompt.turns)


def prompt_seed(seed: int, prompt: Prompt, again: int) -> int:
    """The seed with which one prompt of a call is sampled. again: how often it came before."""
    text = json.dumps([seed, again, [[turn.role, turn.content] for turn in prompt.turns]])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def _seconds(text: str) -> float:
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:199] + "…"


def _cure(status: int, model: str) -> str:
    if status in (401, 403):
        return "put a valid key into the environment variable OPENAI_API_KEY"
    if status == 404:
        return f"check the address (most end in /v1) and that the server offers {model!r} (GET /v1/models lists them)"
    return "read what the server says; a prompt may be longer than its context"
