"""Suites: what is measured before and after, written in YAML or JSONL in five minutes.

- name: capitals
  kind: generated
  match: normalised
  items:
    - {prompt: "The capital of France is", answer: Paris}
- {name: refusals, kind: refusal, data: refusals.jsonl, chat: true}
- {name: stops, kind: stop_rate, of: capitals}
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from mnemos.core.cache import unpacked
from mnemos.core.errors import DataError, UsageError, nearest
from mnemos.core.fingerprint import directory_fingerprint, file_fingerprint, fingerprint
from mnemos.core.method import validated
from mnemos.core.names import refuse_clash
from mnemos.core.nouns import Decoding, RuleDecoding
from mnemos.core.places import located
from mnemos.measure import recognition, tool_steps
from mnemos.measure.items import Item, Row, parse, read_rows, rows_of
from mnemos.measure.judged import check as check_judged
from mnemos.measure.judged import prints as judge_prints
from mnemos.measure.kinds import KINDS, Kind
from mnemos.measure.refusals import VERSION, check_judge
from mnemos.measure.settings import (
    ClassifierSettings,
    DynamicSuperbSettings,
    GeneratedSettings,
    GenerateSettings,
    HarnessSettings,
    HeardSettings,
    JudgedSettings,
    RefusalSettings,
    SuiteSettings,
    ToolCallsSettings,
    ToolStepsSettings,
    ToolWinsSettings,
    TranscribeSettings,
)
from mnemos.measure.split import in_part
from mnemos.measure.suite_files import BENCHMARKS as BENCHMARKS
from mnemos.measure.suite_files import BUILT_IN as BUILT_IN
from mnemos.measure.suite_files import JUDGED as JUDGED
from mnemos.measure.suite_files import definitions
from mnemos.measure.tool_calls import IN_WORDS, as_asked
from mnemos.models.load import Checkpoint, handle

DECODED_BY = ("max_new_tokens", "temperature", "seed", "stop", "power", "rules")
"""Settings of a suite that say how its answers are sampled."""

TASK_FILES = (".yaml", ".yml", ".py", ".json", ".jsonl", ".csv", ".parquet", ".txt")
"""Files of a harness task's folder whose change is noticed."""


@dataclass(frozen=True)
class Suite:
    """Items of one kind under one name, frozen.

    tolerance: change that still counts as kept, in points for unit "points" (2.0 is 0.02 of a mean
    score in [0, 1]) and in the unit itself otherwise. of: the suite whose answers it looks at; its
    items are that suite's, filled in by `linked`. origin: that suite's fingerprint.
    """

    name: str
    kind: str
    items: tuple[Item, ...]
    settings: SuiteSettings
    tolerance: float
    better: Literal["higher", "lower"]
    unit: str
    of: str | None = None
    origin: str | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Changes exactly when the scores could: name, kind, items, settings, and the content of a
        classifier or of a harness task's folder; not tolerance."""
        # What decides on a verdict, or where items were found, changes no score. The items themselves are in the
        # fingerprint by content.
        left_out = {
            "tolerance",
            "better",
            "data",
            "items",
            "columns",
            "templates",
            "part",
            "prompts",
            "rows",
            "examples",
        }
        settings = self.settings.model_dump(mode="json", exclude=left_out)
        for name in ("balanced", "power", "rules", "stop"):
            if not settings.get(name, True):
                # Left out where there is none, so that suites keep the name that they had.
                del settings[name]
        for name in ("samples", "pass_at"):
            if settings.get(name) == 1:
                del settings[name]
        # Of items, fields that came later are not compared; each is told apart here where it decides on a score.
        turns = [list(item.follow_ups) for item in self.items]
        if any(turns) and not isinstance(self.settings, JudgedSettings):
            settings |= {"turns": turns}
        categories = [item.category for item in self.items] if self.settings.balanced else []
        settings |= {"categories": categories} if any(categories) else {}
        if any(categories) and self.unit != "points":
            # Of texts and transcripts, whose items weigh by their length, categories were not the same before.
            settings |= {"balanced": "by weight"}
        if isinstance(self.settings, ClassifierSettings):
            settings["model"] = Checkpoint(self.settings.model).fingerprint
        if isinstance(self.settings, GeneratedSettings):
            # Left out where there is none, so that suites keep the name that they had.
            database = settings.pop("database")
            settings |= {} if database is None else {"database": file_fingerprint(database)}
            solutions = [item.solution for item in self.items] if self.settings.match == "code" else []
            settings |= {"solutions": solutions} if any(solutions) else {}
        if isinstance(self.settings, ToolCallsSettings):
            settings |= {"words": fingerprint(IN_WORDS)}
        if isinstance(self.settings, ToolStepsSettings):
            words = fingerprint([IN_WORDS, tool_steps.RESULTS])
            goals = [item.goal for item in self.items]
            settings |= {"words": words, "goals": goals, "functions": file_fingerprint(self.settings.functions)}
        if isinstance(self.settings, ToolWinsSettings) and self.settings.against != "before":
            settings["against"] = file_fingerprint(self.settings.against)
        if isinstance(self.settings, TranscribeSettings | HeardSettings):
            settings |= {"sounds": recognition.prints(self.items)}
        if getattr(self.settings, "normaliser", None) == "basic" and recognition.signed(self.items):
            # Left out for texts of letters alone, whose errors are counted as they were.
            settings |= {"signs": "in words"}
        if isinstance(self.settings, DynamicSuperbSettings) and self.settings.judge is not None:
            settings |= {"judge": handle(self.settings.judge).fingerprint}
        if isinstance(self.settings, RefusalSettings):
            settings |= _judge_prints(self.settings)
        if isinstance(self.settings, JudgedSettings):
            settings |= self.judged
        if isinstance(self.settings, HarnessSettings) and self.settings.include_path is not None:
            settings["include_path"] = directory_fingerprint(self.settings.include_path, suffixes=TASK_FILES)
        return fingerprint([self.name, self.kind, self.items, settings, self.origin])

    @property
    def ask(self) -> str:
        """Which call of the model answers it: generate, choose, nats, transcribe, harness, …"""
        return KINDS[self.kind].ask

    @cached_property
    def judged(self) -> dict[str, Any]:
        """What a judge's verdicts depend on, by name; empty for kinds without a judge."""
        return judge_prints(self.settings, self.items) if isinstance(self.settings, JudgedSettings) else {}

    @property
    def decoding(self) -> Decoding | None:
        """How its answers are sampled; None for kinds that generate nothing."""
        if not isinstance(self.settings, GenerateSettings):
            return None
        s = self.settings
        if s.power is not None:
            return s.power.decoding(s.max_new_tokens, s.temperature or None, s.seed)
        how = Decoding(s.max_new_tokens, s.temperature, seed=s.seed, stop=tuple(s.stop))
        return how if s.rules is None else RuleDecoding(**dataclasses.asdict(how), **s.rules.model_dump())

    @property
    def texts(self) -> tuple[str, ...]:
        """What each item asks last, or the document that it is: what no row that is learned may hold. Empty for an item
        that asks about a sound: the same question about another one is another item."""
        asking = ((item.prompt if item.sound is None else None, item.text or "") for item in self.items)
        return tuple(text if prompt is None else prompt.turns[-1].text for prompt, text in asking)

    @property
    def uses_chat(self) -> bool:
        """Whether any item goes through the chat template."""
        return any(item.prompt is not None and item.prompt.turns[0].role != "prompt" for item in self.items)

    @property
    def margin(self) -> float:
        """`tolerance` in the suite's own scale: 2 points are 0.02."""
        return self.tolerance / 100 if self.unit == "points" else self.tolerance


def load_suites(specs: Sequence[str | Mapping[str, Any]], base: Path, known: Iterable[Suite] = ()) -> tuple[Suite, ...]:
    """Read and check suites.

    specs: paths of YAML files (relative to `base`), mappings (see `suite_files.expanded`), or names of built-in suites.
    known: suites loaded earlier, whose answers an `of:` may name. Raises UsageError for unknown
    keys, kinds and names (with the nearest known one), DataError with file and line for bad items.
    """
    found: dict[str, Suite] = {}
    for spec in specs:
        for values, folder in definitions(spec, Path(base)):
            suite = _suite(values, folder)
            if suite.name in found:
                raise UsageError(f"suite {suite.name!r}", "is named twice", "give each suite its own name")
            found[suite.name] = suite
    known = tuple(known)
    refuse_clash(dict.fromkeys([*(suite.name for suite in known), *found]), "suites")
    return linked(found.values(), known)


def linked(suites: Iterable[Suite], known: Iterable[Suite] = (), *, strict: bool = False) -> tuple[Suite, ...]:
    """The suites with each `of:` filled in from the suite that it names, among `suites` or `known`.

    strict: a name that is not there raises UsageError; otherwise it waits for a later call.
    """
    suites = tuple(suites)
    names = {suite.name: suite for suite in (*known, *suites)}
    out = []
    for suite in suites:
        # Linked once is linked for good: the items are there, and the name may not be among these suites.
        if suite.of is None or suite.origin is not None:
            out.append(suite)
        elif suite.of in names:
            out.append(_link(suite, names[suite.of]))
        elif strict:
            raise UsageError(
                f"suite {suite.name!r}: of: {suite.of!r}", "is not among the suites", nearest(suite.of, names)
            )
        else:
            out.append(suite)
    return tuple(out)


def _link(suite: Suite, other: Suite) -> Suite:
    if other.ask not in ("generate", "compare", "act") or other.of is not None:
        raise UsageError(
            f"suite {suite.name!r}: of: {other.name!r}",
            f"is of kind {other.kind}, which generates no answers of its own",
            "name a generated, refusal or classifier suite",
        )
    settings = suite.settings
    if isinstance(settings, GenerateSettings) and isinstance(other.settings, GenerateSettings):
        # The answers are the other suite's, so is how they were sampled: it stands in the manifest beside each
        # suite.
        copied = {key: getattr(other.settings, key) for key in DECODED_BY}
        settings = settings.model_copy(update=copied)
    made = dataclasses.replace(suite, items=other.items, settings=settings, origin=other.fingerprint)
    for item in made.items:
        KINDS[made.kind].check(settings, item, f"suite {made.name!r}: item {item.id}")
    return made


def _suite(raw: Mapping[str, Any], folder: Path) -> Suite:
    values = dict(raw)
    where = f"suite {values.get('name', '')!r}" if values.get("name") else "suite"
    kind_name = values.get("kind")
    if not isinstance(kind_name, str) or kind_name not in KINDS:
        raise UsageError(f"{where}: kind = {kind_name!r}", "is not a known kind", nearest(str(kind_name), KINDS))
    kind = KINDS[kind_name]
    if "schema" in values:
        values["json_schema"] = values.pop("schema")
    settings = cast(SuiteSettings, validated(kind.settings, values, where=where))
    if settings.of is not None and not kind.borrows:
        raise UsageError(f"{where}: of", f"is not for kind {kind_name}", "give it data: or items: of its own")
    settings = settings.model_copy(update=located(kind.settings, dict(settings), folder))
    if isinstance(settings, HarnessSettings):
        _check_harness(settings)
    if isinstance(settings, GeneratedSettings) and settings.database is not None:
        _check_database(settings.database, where)
    if isinstance(settings, RefusalSettings):
        check_judge(settings, where)
    if isinstance(settings, JudgedSettings):
        check_judged(settings, where)
    return Suite(
        name=settings.name,
        kind=kind_name,
        items=_items(kind, settings, where, folder),
        settings=settings,
        tolerance=kind.tolerance if settings.tolerance is None else settings.tolerance,
        better=cast(Literal["higher", "lower"], settings.better or kind.better),
        unit=kind.unit,
        of=settings.of,
    )


def _judge_prints(settings: RefusalSettings) -> dict[str, Any]:
    """What decides how a refusal suite's answers are read."""
    prints: dict[str, Any] = {"reading": VERSION}
    if settings.classifier is not None:
        prints["classifier"] = file_fingerprint(settings.classifier)
    if settings.model is not None:
        prints["model"] = handle(settings.model).fingerprint
    return prints


def _check_database(name: str, where: str) -> None:
    if not Path(name).is_file():
        raise UsageError(f"{where}: database {name}", "is not a file", "it is relative to the suite's file")
    with open(unpacked(name, ".sqlite"), "rb") as file:
        head = file.read(16)
    # sqlite takes an empty file for an empty database.
    if head and head != b"SQLite format 3\0":
        raise UsageError(f"{where}: database {name}", "is no sqlite file", "name the database that the queries are for")


def _check_harness(settings: HarnessSettings) -> None:
    if settings.data or settings.items or settings.of:
        raise UsageError(
            f"suite {settings.name!r}", "names items, but a harness task brings its own", "drop data, items, of"
        )
    _refuse_names(settings, f"suite {settings.name!r}", ("columns", "templates"))
    if settings.include_path is not None and not Path(settings.include_path).is_dir():
        raise UsageError(
            f"suite {settings.name!r}: include_path {settings.include_path}",
            "is not a folder",
            "it holds the task's YAML",
        )


def _items(kind: Kind, settings: SuiteSettings, where: str, folder: Path) -> tuple[Item, ...]:
    if kind.items is not None:
        if settings.rows is not None:
            raise UsageError(f"{where}: rows", f"is not for kind {settings.kind}", "give it a file of the rows wanted")
        _refuse_names(settings, where, ("templates",) if kind.renames else ("columns", "templates"))
        found = kind.items(settings, folder, where)
        for item, place in found:
            _check(kind, settings, item, place)
        return _part(tuple(_limited([item for item, _ in found], settings.limit)), settings, where)
    if settings.data is not None:
        rows: Iterable[Row] = _between(read_rows(Path(settings.data)), settings)
    elif settings.items is not None:
        rows = rows_of(settings.items, where)
    else:
        return ()
    items: list[Item] = []
    seen: dict[str, str] = {}
    for row in rows:
        item = parse(
            row,
            chat=settings.chat,
            system=settings.system,
            columns=settings.columns,
            templates=settings.templates,
        )
        if item.id in seen:
            raise DataError(f"{row.where}: id {item.id!r}", f"stands at {seen[item.id]} already", "ids must differ")
        seen[item.id] = row.where
        _check(kind, settings, item, row.where)
        items.append(_as_asked(item, settings))
    if not items:
        raise DataError(where, "has no items", "a suite needs at least one")
    return _part(tuple(_limited(items, settings.limit)), settings, where)


def _refuse_names(settings: SuiteSettings, where: str, names: Sequence[str]) -> None:
    """UsageError for a setting that names columns where nobody looks at it: the kind's rows have names of their own."""
    for name in names:
        if getattr(settings, name):
            raise UsageError(f"{where}: {name}", f"is not for kind {settings.kind}", "rename the columns in the file")


def _between(rows: Iterable[Row], settings: SuiteSettings) -> Iterator[Row]:
    """The rows from the first to the last that the suite reads, counted as they stand in the file."""
    first, last = settings.rows or (1, None)
    count = 0
    for count, row in enumerate(rows, 1):
        if count >= first:
            yield row
        if count == last:
            return
    if last is not None:
        bound = f"asks for rows {first} to {last}, and the file has {count}"
        raise DataError(f"{settings.data}", bound, "set rows: [first, last] to what is there, or take it out")


def _as_asked(item: Item, settings: SuiteSettings) -> Item:
    if isinstance(settings, ToolCallsSettings):
        return as_asked(item, settings)
    return tool_steps.as_asked(item, settings) if isinstance(settings, ToolStepsSettings) else item


def _part(items: tuple[Item, ...], settings: SuiteSettings, where: str) -> tuple[Item, ...]:
    if settings.part is None:
        return items
    found = in_part(items, settings.part)
    if not found:
        raise DataError(f"{where}: part {settings.part}", f"has none of the {len(items)} items", "add items")
    return found


def _check(kind: Kind, settings: SuiteSettings, item: Item, where: str) -> None:
    for need in kind.needs:
        if getattr(item, need) in (None, ()):
            keys = "prompt or messages" if need == "prompt" else need
            raise DataError(where, f"has no {keys}, which kind {settings.kind} needs", f"add {keys}:")
    kind.check(settings, item, where)


def _limited(items: list[Item], limit: int | None) -> list[Item]:
    if limit is None or limit >= len(items):
        return items
    # The same items on both sides and in every study, in the file's order: a sample that depended on the arm could
    # not be paired.
    kept = set(random.Random(0).sample(range(len(items)), limit))
    return [item for index, item in enumerate(items) if index in kept]
