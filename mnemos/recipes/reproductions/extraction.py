"""Makes the reproduction `extraction`: the lives of invented people in four forms, questions about half of them, names
to be probed, and a small model of random weights (bioS of arXiv:2309.14316).

once: one wording, in one order, the full name in the first sentence alone. permuted: the same sentences in a new order
each time. many: new wordings each time. full: new wordings, a new order, and the full name in every sentence. mixed:
full, with the questions among the lives from the beginning, as text.

Deviations from the paper: those of recipes/worlds/people.py, and 1. fewer people, with ten values an attribute, so that
a model of half a million parameters meets each often enough within minutes; guessing well is then right one time in ten
or so (chance.json). 2. every parameter learns the questions, not LoRA. 3. fewer readings of each life than the paper's
540, and as many new wordings as readings where the paper has five. 4. a tokenizer of its own, in which names and values
are few tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.files import read_jsonl, write_json, write_jsonl
from mnemos.models.fresh import fresh_llama
from mnemos.recipes.reproductions.invented_people import asked, best_guess, world
from mnemos.recipes.worlds.people import ATTRIBUTES, TELLINGS, WORDINGS, Person, sentence
from mnemos.recipes.worlds.seed import chance
from mnemos.sources.plain import texts_at
from mnemos.study.commands.tokenizer import train_tokenizer
from mnemos.weights.checkpoint import load_tokenizer

Row = dict[str, Any]

PEOPLE, VALUES, READINGS, ROUNDS = 160, 10, 150, 3
"""People; values an attribute may have; readings of each life; times that each question stands in its file."""
WORLD = {"test": 21, "dev": 22}
"""Seed of the world that reports, and of the one on which settings were chosen."""
VOCABULARY, SHOWN = 1500, 20
"""Of the tokenizer; readings of each life that it is trained on."""
SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>")
SHAPE = {
    "hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 256, "tie_word_embeddings": True,
}  # fmt: skip


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


def make(data: Path, out: Path) -> None:
    """Write the start model and, for each world, lives, questions and items below `out`/data. Reads nothing from
    `data`."""
    texts: list[str] = []
    for part, seed in WORLD.items():
        people = world(PEOPLE, VALUES, seed)
        write_world(out / "data" / part, people, seed)
        texts += [row["text"] for row in lives(people, FORMS["full"], seed, SHOWN)]
        texts += [row["prompt"] + row["completion"] for row in asked(people, "train", range(WORDINGS))]
    start_model(out / "data", texts)
    tokenizer = load_tokenizer(str(out / "data/tokenizer"))
    for part in WORLD:
        rows = read_jsonl(out / "data" / part / "unseen.jsonl")
        write_jsonl(out / "data" / part / "first-token.jsonl", [first_token(row, tokenizer) for row in rows])


def first_token(row: Row, tokenizer: Any) -> Row:
    """The same question, whose answer is what the first token of its answer spells."""
    ids = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
    return {**row, "answer": tokenizer.decode(ids[:1]).strip()}


def start_model(folder: Path, texts: Sequence[str]) -> Path:
    """A tokenizer of these texts, and a Llama of random weights; what is there is kept."""
    tokens, model = folder / "tokenizer", folder / "start"
    if not (tokens / "tokenizer_config.json").is_file():
        write_jsonl(folder / "words.jsonl", [{"text": text} for text in texts])
        train_tokenizer(texts_at(str(folder / "words.jsonl")), "byte-bpe", VOCABULARY, tokens, special=SPECIAL)
    if not (model / "model.safetensors").is_file():
        fresh_llama(load_tokenizer(str(tokens)), SHAPE, 0, model)
    return model


def life(person: Person, form: Form, reading: int, seed: int) -> str:
    """The `reading`-th telling of a person's life, a sentence an attribute."""
    words = chance(seed, "wording", person.number, reading if form.fresh else 0)
    order = list(ATTRIBUTES)
    if form.shuffled:
        chance(seed, "order", person.number, reading).shuffle(order)
    # A wording an attribute, drawn before the order is known: the same sentences in every order.
    drawn = {name: words.sample(TELLINGS[name], len(TELLINGS[name])) for name in ATTRIBUTES}
    out: list[str] = []
    for name in order:
        named = form.named or not out
        # "the birth of her" would be no English: of such wordings the next one is taken.
        text = next(text for text in drawn[name] if named or "of {who}" not in text)
        out.append(sentence(text, person.name if named else person.pronoun, person.facts[name]))
    return " ".join(out)


def lives(people: Sequence[Person], form: Form, seed: int, readings: int = READINGS, first: int = 0) -> list[Row]:
    """Every life so often, one round after another."""
    return [
        {"id": f"{person.number}-{reading}", "text": life(person, form, reading, seed)}
        for reading in range(first, first + readings)
        for person in people
    ]


def write_world(folder: Path, people: Sequence[Person], seed: int) -> None:
    """A file of lives for each form and `mixed`, as many lives in each; questions; items by attribute; names to be
    probed."""
    told = {name: lives(people, form, seed) for name, form in FORMS.items()}
    for name, rows in told.items():
        write_jsonl(folder / f"{name}.jsonl", rows)
    once = asked(people, "train", range(WORDINGS))
    rounds = [{**row, "id": f"{row['id']}-{n}"} for n in range(ROUNDS) for row in once]
    write_jsonl(folder / "questions.jsonl", rounds)
    as_text = [{"id": f"q-{row['id']}", "text": row["prompt"] + row["completion"]} for row in rounds]
    write_jsonl(folder / "mixed.jsonl", [*told["full"], *as_text])
    unseen, seen = asked(people, "test", [0]), asked(people, "train", [WORDINGS])
    for name in ATTRIBUTES:
        write_jsonl(folder / f"unseen-{name}.jsonl", [row for row in unseen if f"-{name}-" in row["id"]])
        write_jsonl(folder / f"names-{name}.jsonl", names(people, name))
    write_jsonl(folder / "unseen.jsonl", unseen)
    write_jsonl(folder / "seen.jsonl", seen)
    write_jsonl(folder / "told-anew.jsonl", lives(people, FORMS["full"], seed, 1, first=READINGS))
    write_json(folder / "chance.json", {"best constant answer, share right": best_guess(people)})


def names(people: Sequence[Person], attribute: str) -> list[Row]:
    """Items of a probe: a name, and the value of an attribute."""
    return [{"id": f"{person.number}", "prompt": person.name, "answer": person.facts[attribute]} for person in people]
