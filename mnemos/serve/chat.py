"""Two models of a run answering side by side, token by token, until somebody stops them.

Only models that the run itself names are loaded, from their directories; no path comes from a browser. One question
is answered at a time: two models share the machine as it is.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mnemos.core.errors import MnemosError, UsageError
from mnemos.core.nouns import Decoding, Generation, Prompt, Turn
from mnemos.serve.places import AbsentError, Run, Side, side_named, sides
from mnemos.serve.prompts import chat_of, model_of
from mnemos.sources.chat_settings import ChatSettings

MOST_TOKENS = 2048
MOST_TURNS = 200
MOST_LETTERS = 100
"""Of the name that a page gives itself."""
HELD = 2
"""Models in memory at once: the two that are compared."""
NOTICED_S = 2.0
"""Seconds within which a browser's closed connection is seen."""


class Streaming(Protocol):
    """What a model must be able to do."""

    def stream(self, prompt: Prompt, decoding: Decoding, watch: Callable[[str], bool]) -> Generation:
        """See `models.language.LocalModel.stream`."""
        ...


@dataclass(frozen=True)
class RunModel:
    """A model as its run asked it. path: its directory. chat: what the study gave to its chat template; a model that
    was trained has it in its own tokenizer."""

    path: Path
    chat: ChatSettings | None = None

    @property
    def key(self) -> tuple[Path, int, str]:
        """Changes when another model lies there, or is to be asked in another way."""
        config = self.path / "config.json"
        changed = config.stat().st_mtime_ns if config.is_file() else 0
        return self.path, changed, "" if self.chat is None else self.chat.fingerprint


Loader = Callable[[RunModel], Streaming]


def load(model: RunModel | Path) -> Streaming:
    """The model in a directory."""
    from mnemos.models.load import Checkpoint

    asked = model if isinstance(model, RunModel) else RunModel(model)
    # A study's consent to code and pickles was given on the machine that ran it: a folder of runs brings none along.
    return Checkpoint(str(asked.path), chat=asked.chat).load()


@dataclass(frozen=True)
class Question:
    """What is asked. turns: one conversation a model, since each goes on from its own answers. page: the name that the
    asking page gave itself; it asks one thing at a time, so that its next question stops its last one."""

    models: tuple[RunModel, ...]
    turns: tuple[tuple[Turn, ...], ...]
    decoding: Decoding
    page: str = ""


def models_in(root: Path, run: Run) -> dict[str, Path]:
    """Models of a run that can be asked here: name -> directory."""
    found = {}
    for side in sides(root, run):
        place = _directory(run, side)
        if place is not None:
            found[side.name] = place
    return found


def _directory(run: Run, side: Side) -> Path | None:
    # The models before and, of a comparison, after lie where the run found them; an arm's in the run.
    return side.model if side.model is not None else model_of(run, side.name)


def question(root: Path, run: Run, body: Mapping[str, Any]) -> Question:
    """The question of a request. Raises UsageError for one that cannot be meant, AbsentError for a model that
    is not there."""
    asked = body.get("sides")
    if not isinstance(asked, list) or not 1 <= len(asked) <= HELD:
        raise UsageError("sides", f"must be a list of one to {HELD}", "send one entry a model")
    models, turns = [], []
    for one in asked:
        if not isinstance(one, Mapping) or not isinstance(one.get("model"), str):
            raise UsageError("sides", "must each name a model", "send {model, turns}")
        side = side_named(root, run, one["model"])
        place = _directory(run, side)
        if place is None:
            raise AbsentError(f"model {side.name!r}", "is not on this machine any more", "run the study again")
        models.append(RunModel(place, chat_of(run) if side.name == "before" else None))
        turns.append(_turns(one.get("turns")))
    settings = {
        "max_new_tokens": _number(body, "max_new_tokens", 256, 1, MOST_TOKENS, int),
        "temperature": _number(body, "temperature", 0.0, 0.0, 5.0, float),
        "seed": _number(body, "seed", 0, 0, 2**31, int),
    }
    page = body.get("page", "")
    if not isinstance(page, str) or len(page) > MOST_LETTERS:
        raise UsageError("page", f"must be a text of at most {MOST_LETTERS} letters", "leave it out")
    return Question(tuple(models), tuple(turns), Decoding(**settings), page)


def _turns(given: Any) -> tuple[Turn, ...]:
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_TURNS:
        raise UsageError("turns", f"must be a list of one to {MOST_TURNS}", "begin a new conversation")
    out = []
    for turn in given:
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, Mapping) else (None, None)
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            raise UsageError("turns", "must each have a role (system, user, assistant) and a text", "correct them")
        out.append(Turn(role, content.encode("utf-8", "replace").decode()))
    if out[-1].role != "user" or not out[-1].text.strip():
        raise UsageError("the last turn", "must be a question of the user", "type one")
    return tuple(out)


def _number(body: Mapping[str, Any], name: str, default: float, low: float, high: float, kind: type) -> Any:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UsageError(f"{name} = {str(value)[:50]}", f"must lie between {low:g} and {high:g}", "choose another")
    return kind(value)


@dataclass(frozen=True)
class _Running:
    """The question that is being answered. stop: set once nobody reads any more. ended: when both sides have."""

    page: str
    stop: threading.Event
    ended: asyncio.Future[Any]


async def _read(lines: asyncio.Queue[dict[str, Any]], left: int, stop: threading.Event) -> AsyncIterator[str]:
    try:
        while left:
            line = await lines.get()
            left -= "end" in line
            yield json.dumps(line) + "\n"
    finally:
        stop.set()


class Chat:
    """The models in memory and the one question that is being answered."""

    def __init__(self, loader: Loader = load) -> None:
        self.loader = loader
        self._models: OrderedDict[tuple[Path, int, str], Streaming] = OrderedDict()
        self._loading = threading.Lock()
        self._threads = ThreadPoolExecutor(HELD, thread_name_prefix="chat")
        self._running: _Running | None = None

    async def answer(self, asked: Question) -> AsyncIterator[str]:
        """Lines of JSON: {side, text} with what came last, and {side, end, words} at each side's end. Whoever stops
        reading stops the models, and the next question waits until they have. Raises UsageError while another page's
        question is being answered that nobody stops."""
        await self._free(asked.page)
        loop, stop = asyncio.get_running_loop(), threading.Event()
        lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        def put(line: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(lines.put_nowait, line)

        work = [
            loop.run_in_executor(self._threads, self._one, asked, side, put, stop) for side in range(len(asked.models))
        ]
        # Not free before both have ended: the next question would share the models with them. Nor does it hang on the
        # stream, which may be closed before its first line is asked for.
        self._running = _Running(asked.page, stop, asyncio.gather(*work, return_exceptions=True))
        return _read(lines, len(work), stop)

    async def _free(self, page: str) -> None:
        patient_until = time.monotonic() + NOTICED_S
        while self._running is not None and not self._running.ended.done():
            # A browser that stops and asks again may be heard in the other order, on a busy machine seconds apart: the
            # new question comes in before the old one's connection is seen to be closed.
            if page and page == self._running.page:
                self._running.stop.set()
            if not self._running.stop.is_set() and time.monotonic() > patient_until:
                raise UsageError("the chat", "is answering another question", "stop it, or wait until it has ended")
            await asyncio.wait([self._running.ended], timeout=0.05)

    def _one(self, asked: Question, side: int, put: Callable[[dict[str, Any]], None], stop: threading.Event) -> None:
        shown = ""

        def watch(text: str) -> bool:
            nonlocal shown
            # A letter of several tokens is not whole yet.
            text = text.rstrip("\ufffd")
            if text.startswith(shown) and text != shown:
                put({"side": side, "text": text[len(shown) :]})
                shown = text
            return stop.is_set()

        try:
            model = self._model(asked.models[side])
            if stop.is_set():
                put({"side": side, "end": "stopped", "words": ""})
                return
            found = model.stream(Prompt(asked.turns[side]), asked.decoding, watch)
        except MnemosError as error:
            put({"side": side, "end": "error", "words": str(error)})
        except Exception as error:  # a model of anybody's may fail in ways that nobody foresaw
            put({"side": side, "end": "error", "words": f"{type(error).__name__}: {error}"[:2000]})
        else:
            # The whole text once more: what was cut or came in parts is put right by it.
            why = "stopped" if stop.is_set() else "finished" if found.finished else "length"
            put({"side": side, "end": why, "words": "", "whole": found.text, "tokens": len(found.ids)})

    def _model(self, asked: RunModel) -> Streaming:
        key = asked.key
        with self._loading:
            if key not in self._models:
                while len(self._models) >= HELD:
                    self._models.popitem(last=False)
                self._models[key] = self.loader(asked)
            self._models.move_to_end(key)
            return self._models[key]


def read_body(data: bytes) -> Mapping[str, Any]:
    """A request's JSON. Raises UsageError."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError("the request", f"is not JSON ({error})", "send an object") from None
    if not isinstance(value, Mapping):
        raise UsageError("the request", "is no object", "send {run, sides, …}")
    return value


__all__: Sequence[str] = ("Chat", "Question", "RunModel", "Streaming", "load", "models_in", "question", "read_body")
