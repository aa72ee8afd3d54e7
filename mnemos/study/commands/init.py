"""`mnemos init`: a commented study file for a user's own data, with defaults that fit the model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnemos.core.errors import DataError, MnemosError, UsageError
from mnemos.core.files import write_jsonl, write_text
from mnemos.core.names import data_name
from mnemos.core.nouns import Example
from mnemos.core.places import PATIENTS
from mnemos.core.yaml_text import yaml_scalar
from mnemos.study.paths import data_location, model_location, shown_path
from mnemos.study.proposal import Facts, Proposal, duration, facts_of, matrix_flops, propose
from mnemos.study.room import free_here, needs_for
from mnemos.study.starter import StarterFacts, study_text

if TYPE_CHECKING:
    from mnemos.measure.probe import Probe
    from mnemos.models.load import Checkpoint

HELD_OUT = 200
"""Items of the starter suite at most; a fifth of the rows when there are fewer than 1,000."""

LONG_ANSWER = 8
"""Words above which two right answers are hardly ever the same."""


def write_study(data: str, model: str, out: Path, *, force: bool = False, probe: bool | None = None) -> Iterator[str]:
    """Hold out rows for a starter suite, write train file, suite and study; yields what is done, as it is done.

    Writes <stem>.train.jsonl, suites/<stem>.yaml with its items, and `out`. The split is by
    position after a seeded shuffle, so running it again gives the same one. probe: whether the model is asked what it
    can do today (`measure.probe`); None does so where its weights lie here. A model that cannot be looked at is said,
    and the defaults are those of a chat model of a billion parameters. Raises UsageError
    when `out` exists, DataError when there are fewer than ten rows.
    """
    from mnemos.models.load import Checkpoint
    from mnemos.sources.read import read
    from mnemos.sources.write import row_of

    if out.exists() and not force:
        raise UsageError(f"{out}", "exists", "choose another --out, or overwrite it with --force")
    here = Path.cwd()
    source = read(data_location(data, here))
    examples = list(source)
    if len(examples) < 10:
        raise DataError(f"{data}", f"has {len(examples)} rows; a study needs 10 at least", "add rows")
    held, train, unfit = _split(examples)
    why = ", ".join(f"{reason}: {count}" for reason, count in sorted(unfit.items()))
    if not held:
        raise DataError(f"{data}", f"has fewer than 5 answers to measure against ({why})", "add rows with good answers")
    yield source.describe()
    stem = data_name(data, "rows")
    files = Files(out.parent / f"{stem}.train.jsonl", out.parent / "suites" / f"{stem}.yaml")
    write_jsonl(files.train, [row_of(example) for example in train])
    write_jsonl(files.suite.with_suffix(".jsonl"), [_item(example) for example in held])
    write_text(files.suite, _suite(stem, held))
    yield f"{files.train}: {len(train)} rows to learn; {files.suite}: {len(held)} held out to measure"
    if unfit:
        yield f"{files.train}: rows that are no reference to measure against stay there ({why})"

    checkpoint = Checkpoint(model_location(model, here))
    facts, found = None, None
    for step in _looked(checkpoint, train, probe):
        if isinstance(step, str):
            yield step
        elif isinstance(step, Facts):
            facts = step
        else:
            found = step
    proposal = propose(
        facts,
        len(train),
        free_bytes=free_here(),
        flops=matrix_flops() if facts else None,
        needed=needs_for(checkpoint) if facts else None,
    )
    starter = StarterFacts(
        model=shown_path(checkpoint.path, out.absolute().parent),
        data=data,
        study=out,
        train=files.train,
        suite=files.suite,
        described=source.describe(),
        rows=len(train),
        held=len(held),
        documents=held[0].kind == "text",
        thinking=_thinks(train) if facts is not None and facts.thinking else None,
    )
    write_text(out, study_text(starter, facts, proposal, found))
    yield from _advice(facts, proposal, found, out)


@dataclass(frozen=True)
class Files:
    """Where the rows to learn and the starter suite go."""

    train: Path
    suite: Path


def _looked(model: Checkpoint, train: Sequence[Example], wanted: bool | None) -> Iterator[str | Facts | Probe]:
    """What the model is, and what it can do where that is asked; lines for people in between."""
    from mnemos.train.rates import size

    if not Path(model.path).is_dir():
        yield f"{model.path}: not a directory here, so it is not looked at; the rates are those of a billion parameters"
        return
    try:
        facts = facts_of(model, train)
    except MnemosError as error:
        yield f"{model.path}: not looked at ({error.value}: {error.bound}); the rates are those of a billion parameters"
        return
    yield f"{model.path}: {facts.family}, {size(facts.parameters)} parameters" + (
        "" if facts.chat else ", no chat template"
    )
    yield facts
    if wanted is not False:
        yield from _probed(model, facts, train)


def _probed(model: Checkpoint, facts: Facts, train: Sequence[Example]) -> Iterator[str | Probe]:
    from mnemos.measure.probe import ITEMS, SECONDS, Ability, abilities, line, probed, spoken

    texts = [" ".join(turn.text for turn in example.turns) for example in train]
    suites = abilities(spoken(texts), patient=Path(model.path).is_relative_to(PATIENTS))
    # A model of half a billion parameters answers the items in about three minutes on two cores.
    guess = max(5.0, 180 * facts.parameters / 500e6)
    yield (
        f"asking the model {ITEMS} items of each of {len(suites)} suites, about {duration(min(guess, SECONDS))} on two"
        " cores (--no-probe leaves this out)"
    )
    try:
        loaded = model.load()
    except MnemosError as error:
        yield f"not asked: {error.value}: {error.bound}"
        return
    for step in probed(loaded, suites, items=ITEMS):
        yield line(step) if isinstance(step, Ability) else step


def _thinks(train: Sequence[Example]) -> bool:
    """Whether the answers of the rows hold reasoning."""
    from mnemos.core.nouns import REASONING

    return any(
        "<think>" in turn.text or any(name in REASONING for name, _ in turn.fields)
        for example in train
        for turn in example.turns
    )


def _advice(facts: Facts | None, proposal: Proposal, found: Probe | None, out: Path) -> Iterator[str]:
    if proposal.needs is not None:
        yield (
            f"memory: full fine-tuning of this model takes about {proposal.needs / 1e9:.1f} GB, and"
            f" {free_here() / 1e9:.1f} GB are free here: free some, or take a smaller model"
        )
    if proposal.seconds is not None:
        yield f"time: about {duration(proposal.seconds)} for each full training, when nothing else runs"
    if found is None:
        yield f"{out}: add what must not be lost under suites.old, then: mnemos run {out}"
    else:
        kept = ", ".join(found.kept) or "none: it has nothing to lose that these suites can see"
        yield f"{out}: suites.old holds {kept}; look at it, then: mnemos run {out} --dry-run"


def _split(examples: list[Example]) -> tuple[list[Example], list[Example], Counter[str]]:
    """Rows to measure, rows to learn, and why some of these could not be measured."""
    import random

    faults = [_no_reference(example) for example in examples]
    order = [number for number, fault in enumerate(faults) if fault is None]
    random.Random(0).shuffle(order)
    count = min(HELD_OUT, len(order) // 5)
    held = set(order[:count])
    chosen = [example for number, example in enumerate(examples) if number in held]
    rest = [example for number, example in enumerate(examples) if number not in held]
    return chosen, rest, Counter(fault for fault in faults if fault is not None)


def _no_reference(example: Example) -> str | None:
    """Why a row's last answer is not what a model should be measured against; None where it may be."""
    if example.label is False:
        return "a thumb down"
    if not example.turns[-1].learn:
        return "the last answer's loss is off"
    if not example.turns[-1].is_plain:
        return "the last answer is a call of a tool, or has reasoning in a field of its own"
    return None


def _item(example: Example) -> dict[str, object]:
    from mnemos.sources.write import beside

    *asked, last = example.turns
    if example.kind == "text":
        return {"id": example.id, "text": last.text}
    if example.kind == "completion":
        return {"id": example.id, "prompt": asked[0].text, "answer": last.text}
    messages = [turn.message() for turn in asked]
    return {"id": example.id, "messages": messages, **beside(example.variables), "answer": last.text}


def _suite(stem: str, held: Sequence[Example]) -> str:
    if held[0].kind == "text":
        return f"name: {yaml_scalar(stem)}\nkind: bits_per_byte\ndata: {yaml_scalar(stem + '.jsonl')}\n"
    answers = [example.turns[-1].text for example in held]
    # Three characters a token is on the safe side for most scripts of Europe; the longest of twenty may be cut.
    longest = sorted(map(len, answers))[math.ceil(0.95 * len(answers)) - 1] / 3
    tokens = min(512, max(16, 2 ** math.ceil(math.log2(longest + 8))))
    return (
        f"name: {yaml_scalar(stem)}\nkind: generated\ndata: {yaml_scalar(stem + '.jsonl')}\n"
        f"match: {_match(answers):<16}  # exact | normalised | number | regex | json | f1 | chrf | rouge_l\n"
        f"max_new_tokens: {tokens}\ntolerance: 2.0           # points that may be lost and still count as kept\n"
    )


def _match(answers: Sequence[str]) -> str:
    """How answers like these are compared: as JSON, as numbers, word for word, or, where they are long and could be
    said otherwise, by the pieces of words that they share with the reference (chrF, which is graded)."""
    if all(text.strip()[:1] in ("{", "[") for text in answers):
        return "json"
    if all(re.fullmatch(r"-?[\d.,]+", text.strip()) for text in answers):
        return "number"
    words = sorted(max(len(text.split()), len(text.encode()) // 9) for text in answers)
    return "normalised" if words[len(words) // 2] <= LONG_ANSWER else "chrf"
