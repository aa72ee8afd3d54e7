"""`mnemos init`: a commented study file for a user's own data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mnemos.core.errors import DataError, UsageError, printable
from mnemos.core.files import write_jsonl, write_text
from mnemos.core.names import data_name
from mnemos.core.nouns import Example
from mnemos.core.yaml_text import yaml_scalar
from mnemos.study.paths import data_location, model_location

HELD_OUT = 200
"""Items of the starter suite at most; a fifth of the rows when there are fewer than 1,000."""

TEMPLATE = """\
# Teach {model_name} what is in {data_name}, several ways, and see what each way loses.
#   mnemos run {study} --dry-run    print every plan, load no model
#   mnemos run {study}              train, measure, write {run}/report.html
model: {model}

teach:
  data: {train}      # {described}

suites:                           # measured before and after, on one frozen manifest
  new:                            # what is taught
    - {new_suite}   # {held} held-out rows; edit match: exact | normalised | number | regex | json
  old: []                         # what must not be lost. YAML files of your own, for example:
    # - suites/refusals.yaml       #   {{name: refusals, kind: refusal, data: refusals.jsonl}}
    # - suites/json.yaml           #   {{name: json, kind: generated, match: json, data: json.jsonl}}
    # - suites/english.yaml        #   {{name: english, kind: bits_per_byte, data: english.jsonl}}

arms:                             # each arm is a list of methods, applied left to right
  # plain (no method) is always there
  lora: [{{lora: {{rank: 16}}}}]
  kl: [{{kl_to_before: {{coefficient: 0.1}}}}]
  half-way: [{{weights: {{expression: "0.5*after + 0.5*before"}}}}]
  # replay: [{{replay: {{data: old.jsonl, share_of_final: 0.1}}}}]      # rows like those it learned from
  # more: mnemos methods

train:
  learning_rate: 2.0e-5
  num_train_epochs: 3
  per_device_train_batch_size: 8
  max_length: 1024

seeds: [0, 1, 2]                  # every arm is trained once per seed
"""


def write_study(data: str, model: str, out: Path, *, force: bool = False) -> Iterator[str]:
    """Hold out rows for a starter suite, write train file, suite and study; yields what was done.

    Writes <stem>.train.jsonl, suites/<stem>.yaml with its items, and `out`. The split is by
    position after a seeded shuffle, so running it again gives the same one. Raises UsageError
    when `out` exists, DataError when there are fewer than ten rows.
    """
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
    stem = data_name(data, "rows")
    folder = out.parent
    train_file, suite_file = folder / f"{stem}.train.jsonl", folder / "suites" / f"{stem}.yaml"
    write_jsonl(train_file, [row_of(example) for example in train])
    write_jsonl(suite_file.with_suffix(".jsonl"), [_item(example) for example in held])
    write_text(suite_file, _suite(stem, held[0]))
    location = model_location(model, here)
    text = TEMPLATE.format(
        model=yaml_scalar(location),
        model_name=printable(Path(location).name),
        data_name=printable(Path(data).name),
        study=out,
        run=Path("runs") / out.stem,
        train=yaml_scalar(train_file.name),
        described=printable(source.describe()),
        new_suite=yaml_scalar(f"suites/{suite_file.name}"),
        held=len(held),
    )
    write_text(out, text)
    yield source.describe()
    yield f"{train_file}: {len(train)} rows to learn; {suite_file}: {len(held)} held out to measure"
    if unfit:
        yield f"{train_file}: rows that are no reference to measure against stay there ({why})"
    yield f"{out}: add what must not be lost under suites.old, then: mnemos run {out}"


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


def _suite(stem: str, example: Example) -> str:
    if example.kind == "text":
        return f"name: {yaml_scalar(stem)}\nkind: bits_per_byte\ndata: {yaml_scalar(stem + '.jsonl')}\n"
    return (
        f"name: {yaml_scalar(stem)}\nkind: generated\ndata: {yaml_scalar(stem + '.jsonl')}\n"
        "match: normalised        # exact | normalised | number | regex | json\n"
        "max_new_tokens: 128\ntolerance: 2.0           # points that may be lost and still count as kept\n"
    )
