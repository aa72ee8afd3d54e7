"""A model behind an OpenAI-compatible server: vLLM, llama.cpp, SGLang, `transformers serve`, a vendor.

    handle("http://localhost:8000/v1#org/model")
    handle("http://one:8000/v1,http://two:8000/v1#org/model")

Several addresses are replicas of one model. Questions are shared out among them one by one as they answer, the answers
come back in the order of the questions, and where a server is lost its questions are asked of the others.
Chat prompts go to /chat/completions, where the server applies its own chat template; raw ones to
/completions. Requests run in parallel up to a bound; what may pass (no connection, 429, 5xx) is
tried again with growing, jittered pauses (`models.transport`, which also bounds time and size). The
key, if one is needed, is read from OPENAI_API_KEY. Whatever a server says is data to be doubted:
numbers that cannot be meant are errors that name the address.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from mnemos.core.errors import ModelError, RunError, UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Decoding, Generation, OptionScore, PowerDecoding, Prompt, RuleDecoding
from mnemos.core.progress import note, read
from mnemos.models.addresses import parsed
from mnemos.models.transport import Asking, UnansweredError, excerpt
from mnemos.sources.render import RAW_ROLES
from mnemos.sources.write import beside

PARALLEL = 16
"""Requests on their way at once: enough for a server to batch, few enough for a vendor's limits."""

ATTEMPTS = 6
"""How often one request is tried before the run stops."""

TIMEOUT = 600.0
"""Seconds that one answer may take, all its tries together."""

SECONDS = "MNEMOS_SERVER_SECONDS"
"""Environment variable that says another number than TIMEOUT."""

MOST_TOKENS = 10**9
"""A count of tokens above this is not one."""

ROUNDING = 1e-3
"""What a server's logarithm of a probability may lie above 0."""

ENDS = ("stop", "tool_calls")
"""Reasons for which an answer ends that the model itself gave."""
THOUGHTS = frozenset({"thinking", "reasoning", "reasoning_text"})
"""Parts of an answer that are not said to the asker, by their type."""

REST = 300.0
"""Seconds for which a server that was lost is asked nothing, where others are there."""

T = TypeVar("T")

if TYPE_CHECKING:
    from httpx2 import AsyncClient


@dataclass(frozen=True)
class Server:
    """A model that a server offers; implements `core.plan.ModelHandle`.

    url: the API's base, ending in /v1 for most servers. model: the name that the server knows it by. replicas: further
    servers that offer the same model; who answers is no part of a result, so they may come and go between two runs.
    Trap: the fingerprint is made of url and name alone. A server can change the weights behind the
    same name, and rows already written are then still taken for its own.
    """

    url: str
    model: str
    replicas: tuple[str, ...] = field(default=(), compare=False)

    @property
    def urls(self) -> tuple[str, ...]:
        """All addresses, the one that names it first."""
        return (self.url, *self.replicas)

    @property
    def path(self) -> str:
        """``url#model``, as it stands in a study file; several addresses with commas between them."""
        return f"{','.join(self.urls)}#{self.model}"

    @property
    def fingerprint(self) -> str:
        """Of the first url and the model's name; asks the server nothing."""
        return fingerprint({"server": self.url, "model": self.model})

    def load(self) -> ServerModel:
        """The model, ready to be asked; the server is first met at the first question."""
        return ServerModel(self.url, self.model, replicas=self.replicas)


def server(reference: str) -> Server:
    """The handle of ``http(s)://host:port/v1#model``, or of several addresses with commas between them. Raises
    UsageError as `addresses.parsed`."""
    urls, model = parsed(reference)
    return Server(urls[0], model, tuple(urls[1:]))


class ServerModel:
    """Implements core.nouns.LanguageModel over HTTP.

    replicas: addresses of further servers that offer the same model, which share the questions. parallel: requests at
    once, of each server. attempts: tries of one request. pause: seconds before the second try, doubled at each further
    one. timeout: seconds that one answer may take, all its tries together; `allowed_seconds` unless given.
    Deviations from a local model: 1. token ids are not known, so `Generation.ids` is empty; 2. how
    a seed is used is the server's affair, and greedy answers may differ with what shares its batch.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        replicas: Sequence[str] = (),
        parallel: int = PARALLEL,
        attempts: int = ATTEMPTS,
        pause: float = 0.5,
        timeout: float | None = None,
    ) -> None:
        self.url, self.model = url, model
        timeout = allowed_seconds() if timeout is None else timeout
        self.asking = Asking(parallel, attempts, pause, timeout)
        more = [
            ServerModel(one, model, parallel=parallel, attempts=attempts, pause=pause, timeout=timeout)
            for one in replicas
        ]
        self.members: tuple[ServerModel, ...] = (self, *more)
        self.tokens, self.lost = 0, float("-inf")

    @property
    def completion_tokens(self) -> int:
        """Tokens generated so far, as the servers count them."""
        return sum(one.tokens for one in self.members)

    @property
    def name(self) -> str:
        """The server's name of the model."""
        return self.model

    @property
    def fingerprint(self) -> str:
        """Of url and name; see the trap of `Server`."""
        return Server(self.url, self.model).fingerprint

    def takes_tools(self, prompt: Prompt) -> bool:
        """True: the API has a place for tools. Whether the server's template knows them is not to be seen from here."""
        return True

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        """One answer a prompt. Each is sampled with a seed of its own, made of `decoding.seed`, the
        prompt and how often it came before in the call. Raises RunError when the server gives up or
        answers with something else; top_k is sent only when it is set (OpenAI's own API has none)."""
        refuse_local(self.model, decoding)
        seen: Counter[Prompt] = Counter()
        jobs = []
        for prompt in prompts:
            jobs.append((prompt, prompt_seed(decoding.seed, prompt, seen[prompt])))
            seen[prompt] += 1
        return self._all(lambda one, client, job: one._write(client, job[0], decoding, job[1]), jobs)

    async def _write(self, client: AsyncClient, prompt: Prompt, decoding: Decoding, seed: int) -> Generation:
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
            place, body = "chat/completions", {**body, **chat(prompt)}
        reply = await self._post(client, place, body)
        choice = self._choice(place, reply)
        text = self._said(place, choice) if is_raw(prompt) else self._message(place, choice)
        tokens = self._tokens(place, reply)
        self.tokens += tokens
        read(tokens)
        # Not sent along: servers take four at most, and some look for them in a model's thoughts.
        kept = decoding.cut(text)
        return Generation(kept, (), choice.get("finish_reason") in ENDS or kept != text)

    def _said(self, place: str, choice: Mapping[str, Any]) -> str:
        text = choice.get("text")
        if not isinstance(text, str):
            raise self._nonsense(place, "text", text)
        return _whole(text)

    def _message(self, place: str, choice: Mapping[str, Any]) -> str:
        """The text of a message, whose content is a string, a list of parts, or null where all that was
        written is a refusal, or thoughts, which do not belong to the answer. Calls of tools that the server has read
        out of the text stand behind it, each as ``<tool_call>{"name": …, "arguments": …}</tool_call>``."""
        message = choice.get("message")
        if not isinstance(message, Mapping) or not message:
            raise self._nonsense(place, "message", message)
        return "\n".join(filter(None, [self._content(place, message), *self._calls(place, message)]))

    def _calls(self, place: str, message: Mapping[str, Any]) -> list[str]:
        calls = message.get("tool_calls") or []
        listed = calls if isinstance(calls, list) else [None]
        functions = [one.get("function") if isinstance(one, Mapping) else None for one in listed]
        if not all(isinstance(one, Mapping) and isinstance(one.get("name"), str) for one in functions):
            raise self._nonsense(place, "tool_calls", calls)
        written = [{"name": one["name"], "arguments": one.get("arguments")} for one in functions if one]
        return [_whole(f"<tool_call>{json.dumps(one, ensure_ascii=False)}</tool_call>") for one in written]

    def _content(self, place: str, message: Mapping[str, Any]) -> str:
        content = message.get("content")
        if isinstance(content, list):
            return _whole("".join(self._part(place, part) for part in content))
        if content is None:
            content = message.get("refusal") or ""
        if not isinstance(content, str):
            raise self._nonsense(place, "content", content)
        return _whole(content)

    def _part(self, place: str, part: object) -> str:
        if isinstance(part, str):
            return part
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in THOUGHTS:
            return ""
        text = part.get("refusal" if kind == "refusal" else "text") if isinstance(part, Mapping) else None
        if not isinstance(text, str):
            raise self._nonsense(place, "part of the content", part)
        return text

    def _tokens(self, place: str, reply: Mapping[str, Any]) -> int:
        """How many tokens were written; 0 where the server does not count."""
        usage = reply.get("usage")
        count = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
        if count is None:
            return 0
        if isinstance(count, bool) or not isinstance(count, int | float) or not 0 <= count <= MOST_TOKENS:
            raise self._nonsense(place, "completion_tokens", count)
        return int(count)

    def _nonsense(self, place: str, name: str, value: object) -> RunError:
        return RunError(
            f"{self.url}/{place}",
            f"answers with {name} = {excerpt(repr(value))}, which cannot be meant",
            "check that it is an OpenAI-compatible server",
        )

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
        scores = iter(
            self._all(lambda one, client, job: one._score(client, job[0] + job[1], len(job[0].rstrip())), jobs)
        )
        return [[next(scores) for _ in texts] for texts in options]

    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Per text: summed -ln p of its tokens, and how many. Without a BOS token the text's first
        one has no probability and does not count. Raises ModelError like `choose`."""
        scored = self._all(lambda one, client, text: one._score(client, text, 0), list(texts))
        return [(-one.log_prob, one.tokens) for one in scored]

    async def _score(self, client: AsyncClient, text: str, start: int) -> OptionScore:
        body = {"model": self.model, "prompt": text, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}
        place = "completions"
        choice = self._choice(place, await self._post(client, place, body))
        words, whole = choice.get("logprobs"), choice.get("text")
        words = words if isinstance(words, Mapping) else {}
        values, offsets = words.get("token_logprobs"), words.get("text_offset")
        if not values or not offsets or not isinstance(whole, str) or not whole.startswith(text):
            raise ModelError(
                f"{self.url}: {self.model}",
                "does not give the probabilities of a prompt's own tokens (echo with logprobs)",
                "serve it with vLLM or llama.cpp, or name it by its directory or hub id",
            )
        tops = words.get("top_logprobs") or [None] * len(values)
        for name, found in (("token_logprobs", values), ("text_offset", offsets), ("top_logprobs", tops)):
            if not isinstance(found, list) or len(found) != len(values):
                raise self._nonsense(place, name, found)
        if not all(_is_number(at) for at in offsets) or list(offsets) != sorted(offsets):
            raise self._nonsense(place, "text_offset", offsets)
        # Characters [offsets[i], ends[i]) of the echoed text are token i's.
        ends = [*offsets[1:], len(whole)]
        # A token across the border is the option's; the generated one begins at len(text) and is nobody's; a text's
        # first token has no probability where no BOS stands before it.
        own = [
            i
            for i, (value, at, end) in enumerate(zip(values, offsets, ends, strict=True))
            if value is not None and end > start and at < len(text)
        ]
        for i in own:
            likely = list(tops[i].values()) if isinstance(tops[i], Mapping) else []
            for value in (values[i], *likely):
                if not _is_number(value) or value > ROUNDING:
                    raise self._nonsense(place, "the logarithm of a probability", value)
        # Where a server names no top token the bound is 0 = ln 1, so that nothing counts as greedy unproven.
        greedy = all(isinstance(tops[i], Mapping) and values[i] >= max(tops[i].values(), default=0.0) for i in own)
        return OptionScore(sum(values[i] for i in own), len(own), greedy)

    def _all(self, ask: Callable[[ServerModel, AsyncClient, Any], Awaitable[T]], jobs: Sequence[Any]) -> list[T]:
        """Answers in the order of the jobs, by all servers that were not lost lately. ask: how one of them is asked."""
        there = [one for one in self.members if time.monotonic() - one.lost > REST] or list(self.members)

        def lost(number: int, error: UnansweredError) -> None:
            there[number].lost = time.monotonic()
            note(f"server {there[number].url} is lost ({error.value}); its questions go to the others")

        return self.asking.all([partial(ask, one) for one in there], jobs, lost)

    async def _post(self, client: AsyncClient, place: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self.asking.post(client, f"{self.url}/{place}", body, lambda status: _cure(status, self.model))

    def _choice(self, place: str, reply: dict[str, Any]) -> dict[str, Any]:
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise RunError(
                f"{self.url}/{place}",
                f"gives no answer: {excerpt(json.dumps(reply)[:4096])}",
                "check that it is an OpenAI-compatible server and that the model's name is right",
            )
        # One was asked for; should more come, in any order, it is the one of index 0.
        return next((one for one in choices if isinstance(one, dict) and one.get("index") == 0), choices[0])


def chat(prompt: Prompt) -> dict[str, Any]:
    """The prompt as OpenAI's API takes it: arguments of calls as text, an id for each call and its result, tools,
    and other variables as `chat_template_kwargs`, which vLLM and SGLang hand to their chat template."""
    messages, waiting, count = [], deque[str](), 0
    for turn in prompt.turns:
        message = turn.message()
        for call in message.get("tool_calls", ()):
            # Nine letters and digits, which is what Mistral's templates accept.
            call.setdefault("id", f"call{count:05d}")
            count += 1
            waiting.append(call["id"])
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        if turn.role == "tool" and waiting:
            message.setdefault("tool_call_id", waiting[0])
            if message["tool_call_id"] in waiting:
                waiting.remove(message["tool_call_id"])
        messages.append(message)
    return {"messages": messages, **beside(prompt.variables)}


def allowed_seconds() -> float:
    """Seconds that one answer of a server may take: of $MNEMOS_SERVER_SECONDS, else TIMEOUT. UsageError for what is
    no such number."""
    text = os.environ.get(SECONDS)
    if not text:
        return TIMEOUT
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86400:
        bound = "must be a number of seconds above 0, a day at most"
        raise UsageError(f"the environment variable {SECONDS} = {text}", bound, "3600 allows an hour")
    return value


def is_raw(prompt: Prompt) -> bool:
    """Whether the prompt is plain text to be continued, not a chat."""
    return all(turn.role in RAW_ROLES for turn in prompt.turns)


def _whole(text: str) -> str:
    """The text without halves of surrogate pairs, which no tokenizer and no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _text(prompt: Prompt) -> str:
    return "".join(turn.text for turn in prompt.turns)


def refuse_local(name: str, decoding: Decoding) -> None:
    """Raise ModelError for what takes the logits of every step, which an engine behind an API does not hand out."""
    if isinstance(decoding, PowerDecoding):
        raise ModelError(name, "cannot sample whole answers from p^alpha", "name a model that runs here")
    if isinstance(decoding, RuleDecoding):
        raise ModelError(name, "cannot add rules to its logits at every step", "name a model that runs here")


def prompt_seed(seed: int, prompt: Prompt, again: int) -> int:
    """The seed with which one prompt of a call is sampled. again: how often it came before."""
    words = [[turn.role, turn.text, *map(list, turn.fields)] for turn in prompt.turns]
    text = json.dumps([seed, again, words, *([prompt.variables] if prompt.variables else [])])
    # 31 bits: servers take no larger seed.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def _cure(status: int, model: str) -> str:
    if status in (401, 403):
        return "put a valid key into the environment variable OPENAI_API_KEY"
    if status == 404:
        return f"check the address (most end in /v1) and that the server offers {model!r} (GET /v1/models lists them)"
    return "read what the server says; a prompt may be longer than its context"
