"""What a model writes rows with, and the journal that lets a killed writing continue.

Every answer is in the journal as soon as the piece of the call that it belongs to is finished. A
writing that is started again asks the same questions in the same order, finds the first pieces
answered in the journal, and goes on with the first one that is not there.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
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

PIECE_TOKENS = 65_536
"""Tokens that the answers of one piece may have at most: about what a GPU writes in one batch, so a
piece fills it, and a kill loses no more than that."""

PIECE_ROWS = 512
"""Rows of one piece at most: short answers are cheap, but a kill should lose seconds of them."""


class JournaledContext:
    """Implements sources.written.SynthesisContext in a step's directory.

    find: rows of a written source that lies within another.
    """

    def __init__(self, directory: Path, find: Callable[[GeneratedSource], Source]) -> None:
        self.counts: Counter[str] = Counter()
        self.notes: dict[str, float | None] = {}
        self.journal = Journal(directory / "journal.jsonl")
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
    seconds, tokens: spent on the answers, and tokens generated, over all attempts together.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds, self.tokens = 0.0, 0
        self.calls = count()
        self._kept = _whole_lines(path)

    def answered(self, key: str, ask: Callable[[], tuple[Any, int]]) -> Any:
        """What the journal holds under `key`; else what `ask` answers (a JSON value, and how many
        tokens were generated), put there first."""
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


def _whole_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Entries by key; the file is cut behind the last whole one."""
    if not path.exists():
        return {}
    data, whole = path.read_bytes(), 0
    kept: dict[str, dict[str, Any]] = {}
    # What follows the last line break is no whole line, or nothing.
    for line in data.split(b"\n")[:-1]:
        try:
            entry = json.loads(line)
            kept[entry["key"]] = {name: entry[name] for name in ("answers", "tokens", "seconds")}
        except (ValueError, KeyError, TypeError):
            break
        whole += len(line) + 1
    if whole < len(data):
        os.truncate(path, whole)
    return kept


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
        call, out = next(self.journal.calls), []
        size = max(1, min(PIECE_ROWS, PIECE_TOKENS // max(1, decoding.max_new_tokens)))
        for number, part in _pieces(prompts, size):
            own = replace(decoding, seed=piece_seed(decoding.seed, call, number))
            # With the numbers of call and piece: questions that are asked twice are two draws, not one read twice.
            key = self._key("generate", call, number, part, own)
            found = self.journal.answered(key, lambda part=part, own=own: self._generate(part, own))  # type: ignore[misc]
            out += [Generation(text, tuple(ids), finished) for text, ids, finished in found]
        return out

    def _generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> tuple[Any, int]:
        model = self._model()
        doing("writing answers")
        before = getattr(model, "completion_tokens", None)
        answers = model.generate(prompts, decoding)
        # A server gives no ids but counts the tokens itself.
        tokens = sum(len(a.ids) for a in answers) if before is None else model.completion_tokens - before  # type: ignore[attr-defined]
        return [[answer.text, list(answer.ids), answer.finished] for answer in answers], tokens

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        """Per context, the score of each of its options."""
        call = next(self.journal.calls)
        out: list[list[OptionScore]] = []
        pairs = [(context, tuple(texts)) for context, texts in zip(contexts, options, strict=True)]
        for number, part in _pieces(pairs, PIECE_ROWS):

            def ask(part: Sequence[tuple[Prompt, tuple[str, ...]]] = part) -> tuple[Any, int]:
                model = self._model()
                doing("scoring answers")
                scores = model.choose([context for context, _ in part], [texts for _, texts in part])
                return [[[one.log_prob, one.tokens, one.greedy] for one in row] for row in scores], 0

            found = self.journal.answered(self._key("choose", call, number, part), ask)
            out += [[OptionScore(*one) for one in row] for row in found]
        return out

    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Per text, summed -ln p and the number of tokens."""
        call = next(self.journal.calls)
        out: list[tuple[float, int]] = []
        for number, part in _pieces(texts, PIECE_ROWS):

            def ask(part: Sequence[str] = part) -> tuple[Any, int]:
                model = self._model()
                doing("scoring texts")
                return [[nats, tokens] for nats, tokens in model.nats(part)], 0

            found = self.journal.answered(self._key("nats", call, number, part), ask)
            out += [(nats, tokens) for nats, tokens in found]
        return out

    def _key(self, *question: Any) -> str:
        return fingerprint([self._fingerprint, *question])


def piece_seed(seed: int, call: int, piece: int) -> int:
    """The seed of one piece of a call, in [0, 2^31): servers take no larger one."""
    # SeedSequence takes no negative numbers; of its 32 bits 31 are kept.
    return int(np.random.SeedSequence([seed % 2**64, call, piece]).generate_state(1)[0]) >> 1


def _pieces(items: Sequence[Any], size: int) -> Iterator[tuple[int, Sequence[Any]]]:
    """Numbered pieces of a call; a piece counts as done when the next one is asked for."""
    with counting(len(items)) as done:
        for number, at in enumerate(range(0, len(items), size)):
            yield number, items[at : at + size]
            done.to(min(len(items), at + size))
