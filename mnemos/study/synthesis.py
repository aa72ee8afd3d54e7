"""What a model writes rows with, and the journal that lets a killed writing continue.

Every answer is in the journal as soon as the piece of the call that it belongs to is finished. A
writing that is started again asks the same questions in the same order, finds the first pieces
answered in the journal, and goes on with the first one that is not there.

The processes of one launch (torchrun, or `engine.processes` on a cluster) write together: each has a model of its own
and asks its share of a call's pieces, numbered, into a journal of its own; all of them read all journals and get the
answers in order. A piece draws by a seed of its own, so that the rows are the same for any number of processes. They
meet in files, since a writing takes hours and what waits within a process group gives up after minutes.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.core.errors import RunError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.inputs import refuse_changed
from mnemos.core.nouns import Decoding, Example, Generation, LanguageModel, OptionScore, Prompt, Source
from mnemos.core.plan import ModelHandle
from mnemos.core.progress import counting, doing
from mnemos.sources.generated import GeneratedSource, materialize
from mnemos.study import processes

PIECE_TOKENS = 65_536
"""Tokens that the answers of one piece may have at most: about what a GPU writes in one batch, so a
piece fills it, and a kill loses no more than that."""

PIECE_ROWS = 512
"""Rows of one piece at most: short answers are cheap, but a kill should lose seconds of them."""

LOOK_EVERY = 0.2
"""Seconds between two looks at the journals of other processes."""

Asked = tuple[str, Callable[[], tuple[Any, int]]]
"""A question's fingerprint, and what asks it: a JSON value, and how many tokens were generated."""


class JournaledContext:
    """Implements sources.written.SynthesisContext in a step's directory.

    find: rows of a written source that lies within another.
    """

    def __init__(self, directory: Path, find: Callable[[GeneratedSource], Source]) -> None:
        self.counts: Counter[str] = Counter()
        self.notes: dict[str, float | None] = {}
        self.journal = Journal(directory / "journal.jsonl", processes.rank(), processes.count())
        # Nobody writes before all have read: they would take different pieces for answered.
        processes.barrier()
        self._find = find
        self._models: dict[str, JournalledModel] = {}

    def model(self, handle: ModelHandle) -> LanguageModel:
        """The handle's model behind the journal; loaded when a question is not answered there."""
        name = handle.fingerprint
        if name not in self._models:
            self._models[name] = JournalledModel(handle, name, self.journal)
        return self._models[name]

    def rows(self, source: Source) -> list[Example]:
        """The rows of `source`, written ones inside it read from disk."""
        return list(materialize(source, self._find))

    def count(self, reason: str, number: int = 1) -> None:
        """Add to the rows counted under `reason`."""
        self.counts[reason] += number

    def note(self, name: str, value: float) -> None:
        """Keep `value`; None where it is not finite."""
        self.notes[name] = float(value) if math.isfinite(value) else None


class Journal:
    """Answers by the fingerprint of their question, in a file that is only ever appended to.

    What stands behind the last whole line (a kill in the middle of writing it) is cut off.
    seconds, tokens: spent on the answers, and tokens generated, over all attempts and processes together. rank, count:
    which of so many processes this is; each appends to a file of its own and reads those of all, also of more than
    there are now.
    """

    def __init__(self, path: Path, rank: int = 0, count: int = 1) -> None:
        self.path = _of_rank(path, rank)
        self.seconds, self.tokens = 0.0, 0
        self.calls = itertools.count()
        self.rank, self.count = rank, count
        self._others = {_of_rank(path, other): 0 for other in range(count) if other != rank}
        earlier = [place for place in path.parent.glob(f"{path.stem}-*.jsonl") if place != self.path]
        self._kept = _whole_lines(self.path)[0]
        for place in sorted({*earlier, *self._others}):
            found, self._others[place] = _whole_lines(place, cut=False)
            self._kept |= found
        # What all processes found alike: who asks what must not hang on how far each has read since.
        self._earlier = frozenset(self._kept)

    def answered(self, key: str, ask: Callable[[], tuple[Any, int]]) -> Any:
        """What the journal holds under `key`; else what `ask` answers, put there first."""
        if key not in self._kept:
            started = time.monotonic()
            answers, tokens = ask()
            entry = {"key": key, "answers": answers, "tokens": tokens, "seconds": time.monotonic() - started}
            self._append(entry)
            self._kept[key] = entry
        entry = self._kept[key]
        # Also for what was kept: the cost of the rows is that of all attempts, not of the last one.
        self.seconds += entry["seconds"]
        self.tokens += entry["tokens"]
        return entry["answers"]

    def all_answered(self, asked: Sequence[Asked], done: Callable[[int], None]) -> list[Any]:
        """The answers to all, in order; of those that are not kept this process asks its share and awaits the others'.
        done: told how many are here."""
        answers: dict[int, Any] = {}
        new = [place for place, (key, _) in enumerate(asked) if key not in self._earlier]
        others = {place for number, place in enumerate(new) if number % self.count != self.rank}
        # First what this process asks: others wait for it meanwhile.
        for place in sorted(range(len(asked)), key=lambda place: (place in others, place)):
            key, ask = asked[place]
            if place in others:
                self.await_key(key)
            answers[place] = self.answered(key, ask)
            done(len(answers))
        return [answers[place] for place in range(len(asked))]

    def await_key(self, key: str) -> None:
        """Wait until some process has an answer under `key`."""
        while key not in self._kept:
            time.sleep(LOOK_EVERY)
            self._look()

    def remove(self) -> None:
        """Take the journals of all processes away, also those of more than there are now."""
        for place in (self.path, *self._others):
            place.unlink(missing_ok=True)

    def _look(self) -> None:
        for place, read in self._others.items():
            found, self._others[place] = _whole_lines(place, read, cut=False)
            self._kept |= found

    def _append(self, entry: dict[str, Any]) -> None:
        refuse_changed()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(self.path, "ab") as file:
                file.write(json.dumps(entry).encode() + b"\n")
                file.flush()
                # An answer counts as kept only when it would survive the machine's failing.
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            cure = "free some room and run the same command again: finished answers are kept"
            raise RunError(f"{self.path}", "the disk is full", cure) from error


class KeptBatches:
    """Batches of a measurement by what was asked in them, in a journal (a `models.forward.Keeper`).

    The same question comes again where suites hold equal items; each time is an entry of its own, since sampled
    answers differ between them.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._times: Counter[str] = Counter()

    def __call__(self, question: Any, ask: Callable[[], Any]) -> Any:
        """See `models.forward.Keeper`."""
        name = fingerprint(question)
        self._times[name] += 1
        return self.journal.answered(f"{name}-{self._times[name]}", lambda: (ask(), 0))


def _of_rank(path: Path, rank: int) -> Path:
    return path.with_name(f"{path.stem}-{rank}{path.suffix}") if rank else path


def _whole_lines(path: Path, begin: int = 0, *, cut: bool = True) -> tuple[dict[str, dict[str, Any]], int]:
    """Entries by key from the byte `begin` on, and the byte behind the last whole one. cut: cut the file there."""
    kept: dict[str, dict[str, Any]] = {}
    if not path.exists() or path.stat().st_size <= begin:
        return kept, begin
    with open(path, "rb") as file:
        file.seek(begin)
        data, whole = file.read(), 0
    # What follows the last line break is no whole line, or nothing.
    for line in data.split(b"\n")[:-1]:
        try:
            entry = json.loads(line)
            kept[entry["key"]] = {name: entry[name] for name in ("answers", "tokens", "seconds")}
        except (ValueError, KeyError, TypeError):
            break
        whole += len(line) + 1
    if cut and whole < len(data):
        os.truncate(path, begin + whole)
    return kept, begin + whole


class JournalledModel:
    """A LanguageModel whose calls are cut into pieces that the journal answers if it can."""

    def __init__(self, handle: ModelHandle, fingerprint: str, journal: Journal) -> None:
        self.handle, self.journal = handle, journal
        self._fingerprint = fingerprint
        self._loaded: LanguageModel | None = None

    @property
    def name(self) -> str:
        """The handle's path."""
        return self.handle.path

    @property
    def fingerprint(self) -> str:
        """The handle's fingerprint."""
        return self._fingerprint

    def _model(self) -> LanguageModel:
        if self._loaded is None:
            doing("loading the model")
            self._loaded = self.handle.load()
        return self._loaded

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        """One answer per prompt; each piece samples by a seed of its own."""
        call = next(self.journal.calls)
        size = max(1, min(PIECE_ROWS, PIECE_TOKENS // max(1, decoding.max_new_tokens)))

        def asked(number: int, part: Sequence[Prompt]) -> Asked:
            own = replace(decoding, seed=piece_seed(decoding.seed, call, number))
            # With the numbers of call and piece: questions that are asked twice are two draws, not one read twice.
            return self._key("generate", call, number, part, own), lambda: self._generate(part, own)

        found = self._pieces(prompts, size, asked)
        return [Generation(text, tuple(ids), finished) for text, ids, finished in found]

    def _generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> tuple[Any, int]:
        model = self._model()
        doing("writing answers")
        before = getattr(model, "completion_tokens", None)
        answers = model.generate(prompts, decoding)
        # A server gives no ids but counts the tokens itself.
        tokens = sum(a.written for a in answers) if before is None else model.completion_tokens - before  # type: ignore[attr-defined]
        return [[answer.text, list(answer.ids), answer.finished] for answer in answers], tokens

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        """Per context, the score of each of its options."""
        call = next(self.journal.calls)
        pairs = [(context, tuple(texts)) for context, texts in zip(contexts, options, strict=True)]

        def asked(number: int, part: Sequence[tuple[Prompt, tuple[str, ...]]]) -> Asked:
            return self._key("choose", call, number, part), lambda: self._choose(part)

        return [[OptionScore(*one) for one in row] for row in self._pieces(pairs, PIECE_ROWS, asked)]

    def _choose(self, pairs: Sequence[tuple[Prompt, tuple[str, ...]]]) -> tuple[Any, int]:
        model = self._model()
        doing("scoring answers")
        scores = model.choose([context for context, _ in pairs], [texts for _, texts in pairs])
        return [[[one.log_prob, one.tokens, one.greedy] for one in row] for row in scores], 0

    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Per text, summed -ln p and the number of tokens."""
        call = next(self.journal.calls)

        def asked(number: int, part: Sequence[str]) -> Asked:
            return self._key("nats", call, number, part), lambda: self._nats(part)

        return [(nats, tokens) for nats, tokens in self._pieces(texts, PIECE_ROWS, asked)]

    def _nats(self, texts: Sequence[str]) -> tuple[Any, int]:
        model = self._model()
        doing("scoring texts")
        return [[nats, tokens] for nats, tokens in model.nats(texts)], 0

    def _pieces(self, items: Sequence[Any], size: int, asked: Callable[[int, Sequence[Any]], Asked]) -> list[Any]:
        """The answers to all items, asked in pieces of `size`. asked: the question of a numbered piece."""
        parts = [items[at : at + size] for at in range(0, len(items), size)]
        with counting(len(items)) as done:
            found = self.journal.all_answered(
                [asked(number, part) for number, part in enumerate(parts)],
                lambda pieces: done.to(min(len(items), pieces * size)),
            )
        return [one for answers in found for one in answers]

    def _key(self, *question: Any) -> str:
        return fingerprint([self._fingerprint, *question])


def piece_seed(seed: int, call: int, piece: int) -> int:
    """The seed of one piece of a call, in [0, 2^31): servers take no larger one."""
    # SeedSequence takes no negative numbers; of its 32 bits 31 are kept.
    return int(np.random.SeedSequence([seed % 2**64, call, piece]).generate_state(1)[0]) >> 1
