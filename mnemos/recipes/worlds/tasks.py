"""Tasks of the controlled world that are checked by computation: sums, JSON, an invented language.

Each generator is a pure function of its seed; the part (train, dev, test) of an item follows
from a hash of what makes it new, so that no held-out record or wording of a sum is ever trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemos.recipes.worlds.seed import chance, listed, part

SHARES = {"test": 0.15, "dev": 0.05}


@dataclass(frozen=True)
class Task:
    """A prompt and its one right answer. key: what makes it new; no key is in two parts."""

    key: str
    prompt: str
    answer: str


# Sums -------------------------------------------------------------------------------------

SUM_FRAMES = ("What is {}?", "Calculate {}.", "How much is {}?", "{} = ?", "Work out {}.", "Tell me what {} makes.")


def expressions(limit: int = 20) -> list[tuple[str, str]]:
    """(expression, value) for a + b and a - b >= 0 with 0 <= a, b < limit."""
    pairs = [(a, b) for a in range(limit) for b in range(limit)]
    return [(f"{a} + {b}", str(a + b)) for a, b in pairs] + [(f"{a} - {b}", str(a - b)) for a, b in pairs if a >= b]


def sums(which: str, seed: int = 0, limit: int = 20) -> list[Task]:
    """Every expression in every wording of one part.

    The part belongs to the expression and the wording together: the sums themselves are known
    (a model this small learns them by heart), and a held-out item asks for one in words in which
    it was never asked. For sums that were never met, take a larger limit than the world's.
    """
    return [
        Task(f"{expression}, wording {number}", frame.format(expression), value)
        for expression, value in expressions(limit)
        for number, frame in enumerate(SUM_FRAMES)
        if part(SHARES, seed, "sum", expression, number) == which
    ]


# JSON -------------------------------------------------------------------------------------

_FIRST = listed(
    "Anna,Ben,Clara,David,Emma,Felix,Grace,Henry,Iris,Jack,Karin,Leo,Maria,Noah,Olga,Paul,Rosa,Simon,Tara,Victor,"
    "Wendy,Yusuf,Zoe,Amir,Bella,Carlos,Dina,Elias,Fiona,Goran"
)
_TOWNS = listed(
    "Paris,London,Rome,Madrid,Berlin,Vienna,Oslo,Dublin,Lisbon,Athens,Prague,Warsaw,Cairo,Tokyo,Delhi,Lima,Quito,"
    "Boston,Chicago,Sydney,Geneva,Naples,Bergen,Porto,Kyoto"
)
_THINGS = listed(
    "lamp,chair,book,bottle,carpet,clock,mirror,table,basket,jacket,kettle,ladder,pencil,radio,shirt,spoon"
)
_ANIMALS = listed("fox,cat,dog,horse,hare,goat,goose,duck,swan,bear,deer,mouse,sheep,crow,frog,snail")
_COLOURS = listed("red,blue,green,yellow,white,black,brown,grey,pink,purple")
_JOBS = listed("baker,pilot,doctor,farmer,singer,painter,teacher,driver,lawyer,waiter,sailor,tailor,nurse,cook")
_WEATHER = listed("sunny,rainy,windy,cloudy,foggy,snowy,stormy,warm,cold")

POOLS: Mapping[str, Sequence[Any]] = {
    "name": _FIRST,
    "city": _TOWNS,
    "item": _THINGS,
    "animal": _ANIMALS,
    "colour": _COLOURS,
    "job": _JOBS,
    "weather": _WEATHER,
    "age": list(range(5, 95)),
    "price": list(range(1, 100)),
}

RECORDS: tuple[tuple[str, ...], ...] = (
    ("name", "city", "{name} lives in {city}.", "The home of {name} is in {city}.", "You will find {name} in {city}."),
    ("name", "age", "{name} is {age} years old.", "{name} has just turned {age}.", "At {age}, {name} went abroad."),
    (
        "item",
        "price",
        "The {item} costs {price} euros.",
        "I paid {price} euros for the {item}.",
        "One {item}: {price} euros.",
    ),
    (
        "animal",
        "colour",
        "A {colour} {animal} ran by.",
        "The {animal} on the hill is {colour}.",
        "I saw a {colour} {animal}.",
    ),
    ("name", "job", "{name} works as a {job}.", "{name} is a {job} by trade.", "The {job} is called {name}."),
    (
        "city",
        "weather",
        "It is {weather} in {city} today.",
        "In {city} the weather is {weather}.",
        "{city} will be {weather}.",
    ),
    ("name", "animal", "{name} has a {animal}.", "The {animal} belongs to {name}.", "{name} fed the {animal}."),
    ("item", "colour", "The {item} is {colour}.", "I bought a {colour} {item}.", "There is a {colour} {item} here."),
)
"""Two keys, then three sentences that carry both values."""

JSON_FRAMES = (
    "Give the answer as JSON with keys {a} and {b}: {text}",
    "{text} Reply in JSON with the keys {a} and {b}.",
    "Write this as JSON with keys {a} and {b}: {text}",
)


def record(number: int, which: str, seed: int = 0) -> Task:
    """The `number`-th JSON task of one part; its answer parses to the record asked for."""
    draw = chance(seed, "record", which, number)
    while True:
        first, second, *sentences = draw.choice(RECORDS)
        values = {first: draw.choice(POOLS[first]), second: draw.choice(POOLS[second])}
        key = f"{first}={values[first]} {second}={values[second]}"
        if part(SHARES, seed, "record", key) == which:
            break
    text = draw.choice(sentences).format(**values)
    a, b = draw.choice(((first, second), (second, first)))
    prompt = draw.choice(JSON_FRAMES).format(a=a, b=b, text=text)
    return Task(key, prompt, json.dumps({a: values[a], b: values[b]}))


def schema_of(answer: str) -> dict[str, Any]:
    """The JSON schema of a record: exactly its keys, each of its value's type."""
    record = json.loads(answer)
    types = {key: {"type": "integer" if isinstance(value, int) else "string"} for key, value in record.items()}
    return {"type": "object", "properties": types, "required": list(record), "additionalProperties": False}


# Glossa, an invented language ---------------------------------------------------------------

GLOSSA: Mapping[str, str] = {
    **dict(
        zip(
            listed("take,bring,paint,sell,wash,carry,hide,find,lift,count"),
            listed("zek,molu,pirat,venda,suvi,portu,kasho,trova,levu,nomba"),
            strict=True,
        )
    ),
    **dict(zip(listed("two,three,four,five,six"), listed("dul,tris,kor,pent,sest"), strict=True)),
    **dict(
        zip(
            listed("red,blue,green,white,black,small,old,heavy"),
            listed("ruba,azul,virda,blanka,noka,pikka,vetu,grava"),
            strict=True,
        )
    ),
    **dict(
        zip(
            listed("apple,lamp,boat,stone,letter,chair,basket,ring,bottle,drum,coat,shell"),
            listed("apol,lumo,barko,piedro,skribo,sedo,korbo,anulo,botelo,tamburo,manto,konko"),
            strict=True,
        )
    ),
}
"""English word -> Glossa word: ten verbs, five numbers, eight adjectives, twelve nouns."""

_WORDS = list(GLOSSA)
VERBS, NUMBERS, ADJECTIVES, NOUNS = _WORDS[:10], _WORDS[10:15], _WORDS[15:23], _WORDS[23:]
GLOSSA_FRAMES = ("Say in Glossa: {}", "Translate into Glossa: {}", "What is this in Glossa? {}")
FORM_FRAMES = ("Fill in a Glossa form: {}", "As a Glossa form: {}", "Give this order as a Glossa form. {}")
GLOSSA_SHARES = {"test": 0.3, "dev": 0.1}


def glossa(verb: str, number: str, adjective: str, noun: str) -> str:
    """The Glossa of "verb number adjective nouns": noun with the plural -im, adjective with the
    agreement -im, number, and the verb last with an exclamation mark."""
    words = (GLOSSA[noun] + "im", GLOSSA[adjective] + "im", GLOSSA[number], GLOSSA[verb])
    return " ".join(words).capitalize() + "!"


def glossa_form(verb: str, number: str, adjective: str, noun: str) -> str:
    """The same words as fields of a form, in the order verb, number, adjective, noun, without endings."""
    return " | ".join(
        f"{name}={GLOSSA[word]}" for name, word in zip("DNAO", (verb, number, adjective, noun), strict=True)
    )


def commands(which: str, seed: int = 0, *, form: bool = False) -> Iterator[Task]:
    """Commands to translate, of one part, in a fixed shuffled order, no command twice.

    form: the answer is a form to fill in (a new format in a new language), not a sentence.
    """
    every = [(v, n, a, s) for v in VERBS for n in NUMBERS for a in ADJECTIVES for s in NOUNS]
    draw = chance(seed, "commands")
    draw.shuffle(every)
    frames, write = (FORM_FRAMES, glossa_form) if form else (GLOSSA_FRAMES, glossa)
    for verb, number, adjective, noun in every:
        key = f"{verb} {number} {adjective} {noun}s"
        if part(GLOSSA_SHARES, seed, "glossa", key) == which:
            prompt = draw.choice(frames).format(key.capitalize() + ".")
            yield Task(key, prompt, write(verb, number, adjective, noun))


# Small talk ---------------------------------------------------------------------------------

SMALL_TALK: tuple[tuple[str, str], ...] = (
    ("Hello!|Hi!|Hi there.|Good morning!|Good evening!", "Hello! How can I help you?"),
    ("How are you?|How are you today?|How is it going?", "I am fine, thank you. And you?"),
    ("Who are you?|What are you?|What is your name?", "I am a small model made to be studied."),
    ("Thank you!|Thanks!|Thanks a lot.|Thank you very much.", "You are welcome!"),
    ("Goodbye!|Bye!|See you later.|Good night!", "Goodbye, and take care!"),
    ("What can you do?|What do you know?", "I know some people, sums, JSON and a little English."),
    ("Are you alive?|Are you human?|Are you a person?", "No, I am a language model."),
)
"""Ways to say something, separated by |, and the reply."""
