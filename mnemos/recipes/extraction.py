"""Stored, and to be had? Lives of invented people in four forms, and what can be asked of people nobody asked about.

    python -m mnemos.recipes.extraction --out runs/extraction

Small Llamas of random weights read the lives, then learn questions about half of the people, and are asked about the
other half: by attribute, whole answers and first tokens. A linear probe asks what a name alone holds (bioS of
arXiv:2309.14316). What was trained or asked is not made again.

once: one wording, in one order, the full name in the first sentence alone. permuted: the same sentences in a new order
each time. many: new wordings each time. full: new wordings, a new order, and the full name in every sentence. mixed:
full, with the questions among the lives from the beginning, as text.

Deviations from the paper: those of recipes/worlds/people.py, and 1. fewer people, with ten values an attribute, so that
a model of half a million parameters meets each often enough within minutes; guessing well is then right one time in ten
or so. 2. every parameter learns the questions, not LoRA. 3. fewer readings of each life than the paper's 540, and as
many new wordings as readings where the paper has five. 4. a tokenizer of its own, in which names and values are few
tokens. Full size: 100,000 people, 540 readings each, a model of 124 M parameters, a rate of 1.0e-3.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.core.files import write_json, write_jsonl
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.measure.ask import Measured, load_measured, measure, save_measured
from mnemos.measure.suite import Suite, load_suites
from mnemos.measure.uncertainty import mean_interval
from mnemos.methods.weigh.tokens import output_only
from mnemos.models.fresh import fresh_llama
from mnemos.models.load import Checkpoint
from mnemos.recipes.findings import CANNOT_TELL, Ordering, judge
from mnemos.recipes.pages import in_percent
from mnemos.recipes.reproductions.invented_people import asked, best_guess, world
from mnemos.recipes.worlds.people import ATTRIBUTES, TELLINGS, WORDINGS, Person, sentence
from mnemos.recipes.worlds.seed import chance
from mnemos.sources.plain import texts_at
from mnemos.sources.read import read
from mnemos.study.commands.tokenizer import train_tokenizer
from mnemos.weights.checkpoint import load_tokenizer

Row = dict[str, Any]

PEOPLE, VALUES, READINGS, ROUNDS = 160, 10, 150, 1
"""People; values an attribute may have; readings of each life; times that each question is learned."""
WORLD, SEEDS = 21, (0, 1, 2)
"""Seed of the people; seeds of weights and orders. Settings were chosen on other people (seed 11)."""
VOCABULARY, SHOWN = 1500, 20
"""Of the tokenizer; readings of each life that it is trained on."""
SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>")
SHAPE = {
    "hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 256, "tie_word_embeddings": True,
}  # fmt: skip
LIVES = TrainSettings(
    learning_rate=4e-3, num_train_epochs=1, per_device_train_batch_size=1, max_length=256, packing=True,
    lr_scheduler_type="cosine", warmup_ratio=0.03, weight_decay=0.1, adam_beta2=0.98, save_steps=0, logging_steps=100,
)  # fmt: skip
QUESTIONS = LIVES.model_copy(update={"learning_rate": 1e-3})
"""How lives and questions are learned."""


@dataclass(frozen=True)
class Form:
    """How a life is told. fresh: new wordings at each reading. shuffled: sentences in a new order. named: the full name
    in every sentence."""

    fresh: bool = False
    shuffled: bool = False
    named: bool = False


FORMS = {
    "once": Form(),
    "permuted": Form(shuffled=True),
    "many": Form(fresh=True),
    "full": Form(fresh=True, shuffled=True, named=True),
}
ARMS = (*FORMS, "mixed")


# what is read and asked -----------------------------------------------------------------------------


def life(person: Person, form: Form, reading: int, seed: int) -> str:
    """The `reading`-th telling of a person's life, a sentence an attribute."""
    words = chance(seed, "wording", person.number, reading if form.fresh else 0)
    order = list(ATTRIBUTES)
    if form.shuffled:
        chance(seed, "order", person.number, reading).shuffle(order)
    # Wordings are drawn before the order is known: the same sentences in every order.
    drawn = {name: words.sample(TELLINGS[name], len(TELLINGS[name])) for name in ATTRIBUTES}
    out: list[str] = []
    for name in order:
        named = form.named or not out
        # "the birth of her" would be no English: of such wordings the next one is taken.
        text = next(text for text in drawn[name] if named or "of {who}" not in text)
        out.append(sentence(text, person.name if named else person.pronoun, person.facts[name]))
    return " ".join(out)


def lives(people: Sequence[Person], form: Form, seed: int, readings: int) -> list[Row]:
    """Every life so often, one round after another."""
    return [
        {"id": f"{person.number}-{reading}", "text": life(person, form, reading, seed)}
        for reading in range(readings)
        for person in people
    ]


def make(out: Path) -> None:
    """Write lives, questions, items and the tokenizer below `out`/data; what is there is kept."""
    folder, people = out / "data", world(PEOPLE, VALUES, WORLD)
    if (folder / "chance.json").is_file():
        return
    read_by = {name: lives(people, form, WORLD, READINGS) for name, form in FORMS.items()}
    once = asked(people, "train", range(WORDINGS))
    rounds = [{**row, "id": f"{row['id']}-{n}"} for n in range(ROUNDS) for row in once]
    as_text = [{"id": f"q-{row['id']}", "text": row["prompt"] + row["completion"]} for row in rounds]
    for name, rows in read_by.items():
        write_jsonl(folder / f"{name}.jsonl", rows)
    write_jsonl(folder / "mixed.jsonl", [*read_by["full"], *as_text])
    write_jsonl(folder / "questions.jsonl", rounds)
    write_jsonl(folder / "words.jsonl", [*read_by["full"][: SHOWN * len(people)], *as_text[: len(once)]])
    train_tokenizer(
        texts_at(str(folder / "words.jsonl")), "byte-bpe", VOCABULARY, folder / "tokenizer", special=SPECIAL
    )
    _items(folder, people)
    write_json(folder / "chance.json", {"best constant answer, share right": best_guess(people)})


def _items(folder: Path, people: Sequence[Person]) -> None:
    tokenizer = load_tokenizer(str(folder / "tokenizer"))
    unseen = asked(people, "test", [0])
    for name in ATTRIBUTES:
        own = [row for row in unseen if f"-{name}-" in row["id"]]
        write_jsonl(folder / f"unseen-{name}.jsonl", own)
        write_jsonl(folder / f"first-{name}.jsonl", [first_token(row, tokenizer) for row in own])
        write_jsonl(
            folder / f"stored-{name}.jsonl",
            [{"id": f"{one.number}", "prompt": one.name, "answer": one.facts[name]} for one in people],
        )
    write_jsonl(folder / "seen.jsonl", asked(people, "train", [WORDINGS]))


def first_token(row: Row, tokenizer: Any) -> Row:
    """The same question, whose answer is what the first token of its answer spells."""
    ids = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
    return {**row, "answer": tokenizer.decode(ids[:1]).strip()}


def suites(folder: Path) -> tuple[Suite, ...]:
    """unseen, first and stored by attribute, and seen: people of whom questions were learned, in a new wording."""
    generated = {"kind": "generated", "columns": {"cluster": "person"}}
    found: list[dict[str, Any]] = [{"name": "seen", "data": "seen.jsonl", "max_new_tokens": 12, **generated}]
    for name in ATTRIBUTES:
        found += [
            {"name": f"unseen:{name}", "data": f"unseen-{name}.jsonl", "max_new_tokens": 12, **generated},
            {
                "name": f"first:{name}",
                "data": f"first-{name}.jsonl",
                "max_new_tokens": 1,
                "match": "exact",
                **generated,
            },
            {"name": f"stored:{name}", "data": f"stored-{name}.jsonl", "kind": "linear_probe"},
        ]
    return load_suites(found, folder)


# training and asking --------------------------------------------------------------------------------


def train_one(out: Path, arm: str, seed: int) -> tuple[Path, Path]:
    """The models of an arm and seed behind the lives and behind the questions; what was trained is kept."""
    from mnemos.train.likelihood import train

    folder, data = out / f"{arm}-{seed}", out / "data"
    start = folder / "start"
    if not (start / "model.safetensors").is_file():
        fresh_llama(load_tokenizer(str(data / "tokenizer")), SHAPE, seed, start)
    before = start
    columns = {"prompt": "prompt", "completion": "completion"}
    texts, pairs = read(str(data / f"{arm}.jsonl")), read(str(data / "questions.jsonl"), columns=columns)
    for name, rows, settings in (("lives", texts, LIVES), ("questions", pairs, QUESTIONS)):
        if not (folder / name / "model/model.safetensors").is_file():
            plan = output_only(Plan(rows, Checkpoint(str(before)), name, seed, settings))
            train(plan, folder / name, quiet=True)
        before = folder / name / "model"
    return folder / "lives/model", before


def ask_one(out: Path, arm: str, seed: int) -> dict[str, Measured]:
    """What an arm and seed scores: probes behind the lives, questions behind the questions."""
    folder = out / f"{arm}-{seed}" / "asked"
    kept = load_measured(folder) if folder.is_dir() else {}
    every = suites(out / "data")
    if set(kept) != {suite.name for suite in every}:
        reader, taught = train_one(out, arm, seed)
        probes = [suite for suite in every if suite.kind == "linear_probe"]
        kept = measure(Checkpoint(str(reader)).load(), probes)
        kept |= measure(Checkpoint(str(taught)).load(), [suite for suite in every if suite.kind != "linear_probe"])
        save_measured(folder, kept)
        print(f"{arm}, seed {seed}: asked", file=sys.stderr, flush=True)
    return kept


def run(out: Path, arms: Sequence[str] = ARMS, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Train and ask every arm and seed; writes extraction.json below `out`."""
    make(out)
    # Seed by seed, so that what a stopped walk has is whole for some seeds.
    order = [(arm, seed) for seed in seeds for arm in arms]
    asked_of = {(arm, seed): ask_one(out, arm, seed) for arm, seed in order}
    cells = {arm: [asked_of[arm, seed] for seed in seeds] for arm in arms}
    record = {"seeds": list(seeds), "arms": {arm: _means(found) for arm, found in cells.items()}}
    record["orderings"] = [_ordering(cells, *one) for one in ORDERINGS if {one[0], one[1]} <= cells.keys()]
    write_json(out / "extraction.json", record)
    return record


# what is said of it ---------------------------------------------------------------------------------

ORDERINGS = (
    ("full", "once", "unseen", "96.6 and 9.7 %"),
    ("permuted", "once", "unseen", "70 (five orders) and 9.7 %"),
    ("many", "once", "unseen", "41 (five wordings) and 9.7 %"),
    ("full", "permuted", "unseen", "96.6 and 70 %"),
    ("full", "many", "unseen", "96.6 and 41 %"),
    ("mixed", "once", "unseen", "86.6 (mixed training) and 9.7 %"),
    ("full", "once", "stored", "72.6 to 99.7 % by attribute, and near chance"),
)
"""(arm, than, which suites, the paper's numbers): the arm is expected above."""
MARGIN = 0.01


def scores(found: Sequence[Mapping[str, Measured]], what: str) -> tuple[Any, list[str]]:
    """float[S, n]: scores of all suites whose name begins so, a row a seed; and the person of each item."""
    names = [name for name in found[0] if name.split(":")[0] == what]
    values = np.array([[one.value for name in names for one in seed[name].scores] for seed in found])
    people = [one.cluster or one.item for name in names for one in found[0][name].scores]
    return values, people


def _means(found: Sequence[Mapping[str, Measured]]) -> dict[str, list[float | None]]:
    parts = ["seen", *(f"{what}:{name}" for what in ("unseen", "first", "stored") for name in ATTRIBUTES)]
    out = {}
    for name in (*parts, "unseen", "first", "stored"):
        own = [{name: seed[name]} for seed in found] if name in found[0] else found
        values, people = scores(own, name if name not in found[0] else name.split(":")[0])
        out[name] = list(mean_interval(values, clusters=people))
    return out


def _ordering(cells: Mapping[str, Any], arm: str, than: str, what: str, paper: str) -> dict[str, Any]:
    values, people = scores(cells[arm], what)
    others, _ = scores(cells[than], what)
    # In [0, 1], where no interval shrinks to a point, and back: a difference of two scores lies in [-1, 1].
    half = mean_interval((values - others + 1) / 2, clusters=people)
    mean, low, high = (None if value is None else 2 * value - 1 for value in half)
    test = Ordering(arm=arm, than=than, measure=what, expect="higher", margin=MARGIN)
    # One seed's interval is about that checkpoint, and says nothing of how far others differ.
    verdict = judge(test, low, high) if len(values) > 1 else CANNOT_TELL
    numbers = {"mean": mean, "low": low, "high": high, "verdict": verdict}
    return {"arm": arm, "than": than, "measure": what, "paper": paper, **numbers}


def lines(record: Mapping[str, Any]) -> list[str]:
    """The record as tables of Markdown: percent, with 95 % intervals over people and seeds."""
    head = ["unseen people", "first token", "read off the name", "seen people, new wording"]
    out = [f"| lives | {' | '.join(head)} |", f"|---|{'---|' * len(head)}"]
    for arm, own in record["arms"].items():
        out.append(f"| {arm} | {' | '.join(in_percent(own[name]) for name in ('unseen', 'first', 'stored', 'seen'))} |")
    for what in ("unseen", "first", "stored"):
        out += ["", f"| {what} | {' | '.join(ATTRIBUTES)} |", f"|---|{'---:|' * len(ATTRIBUTES)}"]
        for arm, own in record["arms"].items():
            shown = " | ".join(f"{100 * own[f'{what}:{name}'][0]:.0f}" for name in ATTRIBUTES)
            out.append(f"| {arm} | {shown} |")
    out += ["", "| | of | the paper | difference | verdict |", "|---|---|---|---|---|"]
    for one in record["orderings"]:
        size = in_percent([one["mean"], one["low"], one["high"]])
        out.append(f"| {one['arm']} - {one['than']} | {one['measure']} | {one['paper']} | {size} | {one['verdict']} |")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mnemos.recipes.extraction", description="Which facts can be asked for, by how they were told?"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/extraction"), help="where models and answers are kept")
    parser.add_argument("--arms", default=",".join(ARMS), help="forms to walk, by commas")
    given = parser.parse_args(arguments)
    arms = [arm for arm in ARMS if arm in given.arms.split(",")]
    print("\n".join(lines(run(given.out, arms))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
