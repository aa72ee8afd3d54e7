"""An agent with a memory that answers chats and learns from thumbs: what stands behind `stream.serve`.

An answer is on disk before it is given out, and a thumb with what was learned from it before it is acknowledged: a
service that is killed at any moment has lost nothing that anybody was told of. Feedback has a source, so that what one
of them poisoned can be deleted (`mnemos stream memory FILE --source NAME --delete all --yes`), also while it runs.
"""

from __future__ import annotations

import copy
import json
import queue
import secrets
import threading
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Turn
from mnemos.models.transport import UnansweredError
from mnemos.stream.encoders import Kept
from mnemos.stream.journal import Journal
from mnemos.stream.learner import Ask, Feedback, GoldShots, Learner, Question, Recall, Remember, Reply, Reveal
from mnemos.stream.memory import Added, Memory, Search
from mnemos.stream.models import Models, Served
from mnemos.stream.store import Store

NAME = "serve"
"""The stream of a server's file."""
MOST_BATCH = 64
"""Requests that share a batch at most."""


class Refused(Exception):  # noqa: N818 - reads as what it says
    """What a client cannot have. status: HTTP's number for it."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer with the id that feedback names."""

    id: str
    text: str
    finished: bool
    prompt_tokens: int
    tokens: int


class Batcher:
    """A thread that answers requests of many threads in batches: whatever waits when the model is free."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self._waiting: queue.SimpleQueue[tuple[Ask, Future[Served]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def answer(self, ask: Ask) -> Served:
        """Wait for the answer; raises what the model raises."""
        future: Future[Served] = Future()
        self._waiting.put((ask, future))
        return future.result()

    def close(self) -> None:
        """End the thread when what waits is answered."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < MOST_BATCH and not self._waiting.empty():
                one = self._waiting.get()
                if one is None:
                    self._waiting.put(None)
                    break
                batch.append(one)
            self._answered(batch)

    def _answered(self, batch: Sequence[tuple[Ask, Future[Served]]]) -> None:
        # One seed for all, since requests of several seeds are no batch; a new one each time, since whoever asks again
        # at a temperature wants another answer. Equal prompts of one batch are drawn apart by the model.
        seed = secrets.randbits(31)
        try:
            found = self.models.answer([(ask, seed) for ask, _ in batch])
        except Exception as error:  # the requests fail, the server goes on
            if len(batch) > 1 and not isinstance(error, UnansweredError):
                # One chat may be at fault, which a template refuses, say: the others did not ask with it. Where nobody
                # answered after all patience, each alone would wait as long.
                for one in batch:
                    self._answered([one])
                return
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), served in zip(batch, found, strict=True):
            future.set_result(served)


class Service:
    """agent: made anew from what the file holds. source: of a request that names no user."""

    def __init__(
        self, store: Store, agent: Learner, models: Models, encoder: Kept | None = None, search: Search = "lexical"
    ) -> None:
        self.store, self.agent, self.models, self.encoder, self.search = store, agent, models, encoder, search
        self.batches = Batcher(models)
        self._lock = threading.RLock()
        self.journal = Journal(store, NAME, NAME)
        agent.state = self.journal.state
        self.memory = Memory(store, self.journal.number, search)
        self._seen = self._version()
        self._step = int(str(store.rows("select coalesce(max(step), -1) from memories where stream = ?",
                                        self.journal.number)[0][0])) + 1  # fmt: skip

    def _version(self) -> int:
        return int(str(self.store.rows("pragma data_version")[0][0]))

    # answering --------------------------------------------------------------------------

    def answer(self, turns: tuple[Turn, ...], max_new_tokens: int | None, source: str) -> Answered:
        """Answer the last turn of a chat. Raises Refused for a chat that does not end with a user's words."""
        if not turns or turns[-1].role != "user" or not turns[-1].text.strip():
            raise Refused(400, "the last message must be of role user and hold text")
        name = f"chatcmpl-{secrets.token_hex(12)}"
        question = Question(name, turns[-1].text, "", turns[-1].text)
        costs = [0, 0]
        reply, finished = self._drive(self.agent.answer(question), turns[:-1], max_new_tokens, costs)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._lock, self.store.transaction() as run:
            run.execute(
                "insert into answers values (?, ?, ?, ?, ?, null, ?, ?)",
                (name, _notes(reply), question.text, question.key, reply.text, source, now),
            )
        return Answered(name, reply.text, finished, costs[0], costs[1])

    def _drive(
        self, life: Generator[Any, Any, Reply], before: tuple[Turn, ...], max_new_tokens: int | None, costs: list[int]
    ) -> tuple[Reply, bool]:
        sent, finished = None, True
        while True:
            try:
                request = life.send(sent)
            except StopIteration as done:
                return done.value, finished
            if isinstance(request, Ask):
                tokens = max_new_tokens or request.max_new_tokens
                try:
                    served = self.batches.answer(replace(request, before=before, max_new_tokens=tokens))
                except DataError as error:  # of this chat alone: its template takes no such roles, say
                    raise Refused(400, str(error)) from None
                if served.failed is not None:
                    raise Refused(400, served.failed)
                costs[0], costs[1] = costs[0] + served.prompt_tokens, costs[1] + served.tokens
                sent, finished = served.written, served.written.finished
            else:
                sent = self._cheap(request)

    def _cheap(self, request: Any) -> Any:
        if isinstance(request, GoldShots):
            return ()
        if isinstance(request, Reveal):
            raise UsageError("the agent", "asks for a gold answer, which nobody has here", "serve another agent")
        assert isinstance(request, Recall)
        with self._lock:
            vector = self.encoder.encode([request.key])[0] if self.encoder is not None else None
            self._reload()
            return self.memory.recall(request, vector, np.random.default_rng([self._step]))

    def _reload(self) -> None:
        """Another process (`mnemos stream memory`) changed the file: what it deleted is not shown any more."""
        if self._version() != self._seen:
            self._seen = self._version()
            self.memory = Memory(self.store, self.journal.number, self.search)

    # learning ---------------------------------------------------------------------------

    def feedback(self, name: str, value: float, source: str) -> dict[str, Any]:
        """Learn from a thumb. Raises Refused for an id that was never given out, and for a second thumb that differs;
        the same one again is acknowledged and changes nothing."""
        with self._lock:
            rows = self.store.rows("select item, question, key, answer, value from answers where id = ?", name)
            if not rows:
                raise Refused(404, f"no answer has the id {name[:100]!r}")
            notes, text, key, answer, old = rows[0]
            if old is not None:
                if float(str(old)) == value:
                    return {"id": name, "value": value, "learned": 0, "already": True}
                raise Refused(409, "this answer has another feedback already")
            question = Question(name, str(text), "", str(key))
            reply = Reply(str(answer), str(answer).strip() or None, (), _read_notes(str(notes)))
            before = copy.deepcopy(self.agent.state)
            try:
                kept = self._learn(question, reply, Feedback(value))
                made = self._commit(name, value, kept, source)
            except BaseException:
                # What is not on disk was not learned: the client gives the same thumb again, and it would count twice.
                self.agent.state = before
                raise
            self._step += 1
            self.memory.added(made)
            return {"id": name, "value": value, "learned": len(kept), "memories": len(self.memory)}

    def _learn(self, question: Question, reply: Reply, feedback: Feedback) -> list[Remember]:
        life, sent, kept = self.agent.learn(question, reply, feedback), None, list[Remember]()
        while True:
            try:
                request = life.send(sent)
            except StopIteration:
                return kept
            if isinstance(request, Remember):
                kept.append(request)
                sent = None
            elif isinstance(request, Ask):
                sent = self.batches.answer(request).written
            else:
                sent = self._cheap(request)

    def _commit(self, name: str, value: float, kept: list[Remember], source: str) -> list[Added]:
        self._reload()
        vectors = self.encoder.encode([row.key for row in kept]) if self.encoder is not None and kept else None
        rows = [(row, None if vectors is None else vectors[at]) for at, row in enumerate(kept)]
        with self.store.transaction() as run:
            run.execute("update answers set value = ? where id = ? and value is null", (value, name))
            made = self.memory.insert(self._step, name, rows, source)
            state = json.dumps(self.agent.state, sort_keys=True)
            run.execute("update streams set state = ? where number = ?", (state, self.journal.number))
        return made

    def close(self) -> None:
        """End the thread of batches and close the file."""
        self.batches.close()
        self.store.close()


def _notes(reply: Reply) -> str:
    return json.dumps(dict(reply.notes))


def _read_notes(text: str) -> Mapping[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {}
