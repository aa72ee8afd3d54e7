"""Makes the reproduction `knowledge`: biographies of invented people told once or in many forms, questions about half
of them, and a small model of random weights to read them (bioS of arXiv:2309.14316).

Deviations from the paper: those of recipes/worlds/people.py, and 1. 40 people and ten values an attribute, so
that a model of half a million parameters meets each often enough within minutes; guessing well is then right
one time in ten or so, and chance.json says how often. 2. every parameter learns the questions, not LoRA. 3. fewer
readings of each biography than the paper's 540: the study file says how many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnemos.core.files import write_json, write_jsonl
from mnemos.recipes.worlds.people import ATTRIBUTES, WORDINGS, Person, Telling, biography, people, questions
from mnemos.recipes.worlds.seed import chance

Row = dict[str, Any]

PEOPLE, VALUES, TELLINGS, ROUNDS = 40, 10, 120, 6
"""People; values an attribute may have; biographies of each; times that each question stands in its file."""

WORLD = {"test": 11, "dev": 12}
"""Seed of the world that reports, and of the one on which settings were chosen."""

SHAPE = {
    "hidden_size": 96,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
"""Keys of transformers.LlamaConfig."""


def make(data: Path, out: Path) -> None:
    """Write the start model and, for each part, biographies, questions and suites below `out`/data. Reads
    nothing from `data`."""
    random_model(out / "data" / "start", SHAPE)
    for part, seed in WORLD.items():
        write_world(out / "data" / part, world(PEOPLE, VALUES, seed), seed)


def random_model(folder: Path, shape: dict[str, Any], seed: int = 0) -> Path:
    """A Llama of random weights with the base patient's tokenizer, as a Hugging Face directory; one that is
    there is kept."""
    if (folder / "model.safetensors").is_file():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from mnemos.recipes.patient import patient
    from mnemos.weights.checkpoint import load_tokenizer

    tokenizer = load_tokenizer(str(patient("base")))
    torch.manual_seed(seed)
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    config = LlamaConfig(vocab_size=len(tokenizer), **{name: getattr(tokenizer, name) for name in names}, **shape)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def world(count: int, values: int, seed: int) -> list[Person]:
    """People with few values an attribute; questions about every other one are held out ("test")."""
    found = people(count, seed)
    pools = {name: sorted({person.facts[name] for person in found})[:values] for name in ATTRIBUTES}
    return [
        replace(
            person,
            asked="test" if number % 2 else "train",
            facts={name: chance(seed, "value", number, name).choice(pools[name]) for name in ATTRIBUTES},
        )
        for number, person in enumerate(found)
    ]


def write_world(folder: Path, people: Sequence[Person], seed: int) -> None:
    """once.jsonl and many.jsonl (as many documents each), questions.jsonl, suites' items, chance.json."""
    tellings: tuple[Telling, ...] = ("once", "many")
    for telling in tellings:
        write_jsonl(folder / f"{telling}.jsonl", biographies(people, telling, TELLINGS, seed))
    once = asked(people, "train", range(WORDINGS))
    write_jsonl(folder / "questions.jsonl", [{**row, "id": f"{row['id']}-{n}"} for n in range(ROUNDS) for row in once])
    write_jsonl(folder / "unseen-people.jsonl", asked(people, "test", [0]))
    write_jsonl(folder / "seen-people.jsonl", asked(people, "train", [WORDINGS]))
    write_jsonl(folder / "told-anew.jsonl", biographies(people, "many", 1, seed, first=TELLINGS))
    write_json(folder / "chance.json", {"best constant answer, share right": best_guess(people)})


def biographies(people: Sequence[Person], telling: Telling, times: int, seed: int, first: int = 0) -> list[Row]:
    """`times` biographies of each person, from the `first`-th telling on."""
    return [
        {"id": f"{person.number}-{turn}", "text": biography(replace(person, telling=telling), turn, seed)}
        for turn in range(first, first + times)
        for person in people
    ]


def asked(people: Sequence[Person], half: str, wordings: Sequence[int]) -> list[Row]:
    """Questions about one half of the people, as prompt and completion (also a suite's items)."""
    return [
        {
            "id": f"{person.number}-{one.attribute}-{wording}",
            "prompt": one.text,
            "completion": f" {one.answer}",
            "answer": one.answer,
            "person": person.name,
        }
        for person in people
        if person.asked == half
        for wording in wordings
        for one in questions(person, wording)
    ]


def best_guess(people: Sequence[Person]) -> float:
    """How often the commonest value of each attribute among the trained half is right about the other: what
    a model reaches that knows the questions' form and nothing about anybody."""
    rights = 0
    unseen = [person for person in people if person.asked == "test"]
    for name in ATTRIBUTES:
        guess = Counter(person.facts[name] for person in people if person.asked == "train").most_common(1)[0][0]
        rights += sum(person.facts[name] == guess for person in unseen)
    return rights / (len(ATTRIBUTES) * len(unseen))
