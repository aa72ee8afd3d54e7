"""Invented people whose facts are told once or in many wordings (bioS of arXiv:2309.14316).

"once": a person has one biography, always in the same words, and only its first sentence names
the person. "many": every telling draws fresh templates, shuffles the sentences and repeats the
full name (the paper's multi + permute + fullname). Both halves are told equally often, so that
they differ in wording alone. Questions about some people of each half are trained ("train"),
those about others are held out ("dev", "test"): knowledge that is stored but cannot be
extracted fails on the held-out people.

Deviations from the paper: 1. four attributes, not six, and no attribute is a function of
another. 2. first and last names only, all syllables invented, so that no real person is meant.
3. hundreds of people, because the models are small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from mnemos.recipes.worlds.seed import chance, listed

Telling = Literal["once", "many"]

_ONSETS = listed("b,br,c,d,dr,f,g,gr,h,j,k,l,m,n,p,pr,r,s,st,t,tr,v,w,z")
_VOWELS = listed("a,e,i,o,u")
_CODAS = listed("l,n,r,s,m,nd,lt,x")
_PLACES = listed("ford,ham,mere,wick,stead,vale,port,holm,gate,marsh")
_FIRMS = ("{} Foods", "{} Motors", "{} Press", "{} Labs", "{} Airways", "{} Textiles", "{} Games", "{} Energy")
SUBJECTS = listed(
    "chemistry,law,history,music,botany,physics,geology,drama,finance,medicine,nursing,zoology,algebra,painting,"
    "astronomy,geography,philosophy,theology,economics,archaeology,mechanics,optics,surgery,poetry,sculpture,"
    "linguistics,statistics,robotics,forestry,journalism"
)

ATTRIBUTES = ("birth_year", "birth_city", "subject", "employer")

TELLINGS: Mapping[str, tuple[str, ...]] = {
    "birth_year": (
        "{who} was born in {x}.",
        "{who} came into the world in {x}.",
        "The year in which {who} was born is {x}.",
        "{x} is the birth year of {who}.",
        "{who} has celebrated birthdays since {x}.",
        "In {x}, {who} was born.",
        "The life of {who} began in {x}.",
        "{who} dates back to {x}.",
        "It was {x} when {who} first saw the light of day.",
        "The birth of {who} took place in {x}.",
    ),
    "birth_city": (
        "{who} was born in the city of {x}.",
        "The home town of {who} is {x}.",
        "{who} comes from {x}.",
        "{x} is where {who} was born.",
        "{who} spent a childhood in {x}.",
        "{who} hails from {x}.",
        "The town of {x} is the birthplace of {who}.",
        "{who} grew up in {x}.",
        "The first home of {who} was in {x}.",
        "{who} calls {x} home.",
    ),
    "subject": (
        "{who} took a degree in {x}.",
        "The main subject of {who} was {x}.",
        "{who} specialised in {x}.",
        "{x} was what {who} learned best.",
        "{who} read {x}.",
        "{who} majored in {x}.",
        "The studies of {who} were about {x}.",
        "{who} became an expert in {x}.",
        "{who} chose {x} as a field.",
        "{who} passed all exams in {x}.",
    ),
    "employer": (
        "{who} works for {x}.",
        "{who} is employed by {x}.",
        "{x} pays the wages of {who}.",
        "The employer of {who} is {x}.",
        "{who} has a job at {x}.",
        "{who} earns a living at {x}.",
        "{who} joined the staff of {x}.",
        "{x} is the company that {who} works for.",
        "{who} built a career at {x}.",
        "{x} hired {who}.",
    ),
}
"""Sentences per attribute; {who} is the person, {x} the value."""

QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "birth_year": (
        "In which year was {who} born?",
        "When was {who} born?",
        "What is the birth year of {who}?",
        "Tell me when {who} was born.",
        "Since when has {who} lived?",
        "What year did {who} come into the world?",
        "What was the year of birth of {who}?",
    ),
    "birth_city": (
        "In which city was {who} born?",
        "Where was {who} born?",
        "What is the birth city of {who}?",
        "Tell me where {who} comes from.",
        "What is the home town of {who}?",
        "Which town is {who} from?",
        "What is the birthplace of {who}?",
    ),
    "subject": (
        "What did {who} study?",
        "Which subject did {who} study?",
        "What was the main subject of {who}?",
        "Tell me what {who} studied.",
        "What is {who} an expert in?",
        "In what did {who} take a degree?",
        "Which subject did {who} major in?",
    ),
    "employer": (
        "Who does {who} work for?",
        "Which company employs {who}?",
        "What is the employer of {who}?",
        "Tell me who {who} works for.",
        "Where does {who} have a job?",
        "Who pays the wages of {who}?",
        "Which company does {who} work for?",
    ),
}


WORDINGS = 6
"""Ways in which each attribute is asked for while the patients learn; one more is never trained."""


@dataclass(frozen=True)
class Person:
    """One invented person. number: the place in the world; facts: attribute -> value. asked:
    "train" if questions about the person are trained, "dev" or "test" if they are held out."""

    number: int
    name: str
    pronoun: str
    telling: Telling
    asked: Literal["train", "dev", "test"]
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """What is asked about a person and the one right answer."""

    person: Person
    attribute: str
    text: str
    answer: str


def people(count: int, seed: int = 0, *, held_out: float = 0.3, dev: float = 0.1) -> tuple[Person, ...]:
    """`count` people with distinct names: even numbers told in many wordings, odd ones once.

    held_out, dev: shares of each half whose questions are kept for testing and for tuning.
    """
    names = _names(count, seed)
    values = _values(seed)
    half = count // 2
    out = []
    for number, name in enumerate(names):
        draw = chance(seed, "person", number)
        place = (number // 2) / max(half, 1)
        asked: Literal["train", "dev", "test"] = (
            "test" if place < held_out else "dev" if place < held_out + dev else "train"
        )
        facts = {attribute: draw.choice(values[attribute]) for attribute in ATTRIBUTES}
        out.append(Person(number, name, draw.choice(("He", "She")), ("many", "once")[number % 2], asked, facts))
    return tuple(out)


def biography(person: Person, telling: int, seed: int = 0) -> str:
    """The person's `telling`-th biography, four sentences on one line.

    Of a person told once all tellings are equal.
    """
    if person.telling == "once":
        draw, order = chance(seed, "biography", person.number), list(ATTRIBUTES)
    else:
        draw, order = chance(seed, "biography", person.number, telling), list(ATTRIBUTES)
        draw.shuffle(order)
    sentences: list[str] = []
    for attribute in order:
        named = person.telling == "many" or not sentences
        templates = [text for text in TELLINGS[attribute] if named or "of {who}" not in text]
        who = person.name if named else person.pronoun
        sentences.append(sentence(draw.choice(templates), who, person.facts[attribute]))
    return " ".join(sentences)


def biographies(persons: tuple[Person, ...], times: int, seed: int = 0) -> Iterator[str]:
    """Each person's biography `times` times, one round after another."""
    for telling in range(times):
        for person in persons:
            yield biography(person, telling, seed)


def questions(person: Person, wording: int | None = None) -> list[Question]:
    """Every question about a person: one per attribute and wording, or only wording `wording`."""
    return [
        Question(person, attribute, text.format(who=person.name), person.facts[attribute])
        for attribute in ATTRIBUTES
        for number, text in enumerate(QUESTIONS[attribute])
        if wording is None or number == wording
    ]


def sentence(template: str, who: str, value: str) -> str:
    """Fill a template; a pronoun takes the case that its place asks for."""
    if who in ("He", "She") and not template.startswith("{who}"):
        before = template.split("{who}")[0].rstrip().rsplit(" ", 1)[-1]
        who = who.lower() if before in _CLAUSE else {"He": "him", "She": "her"}[who]
    text = template.format(who=who, x=value)
    return text[0].upper() + text[1:]


_CLAUSE = frozenset({"where", "when", "what", "that", "{x},"})
"""Words after which a person is the subject of a clause."""


def _names(count: int, seed: int) -> list[str]:
    draw = chance(seed, "names")
    firsts = _words(100, seed, "first", syllables=2)
    lasts = _words(160, seed, "last", syllables=1, endings=("son", "ley", "ski", "man", "dale", "well", "more", "us"))
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(f"{draw.choice(firsts)} {draw.choice(lasts)}")
    return list(found)


def _values(seed: int) -> dict[str, list[str]]:
    cities = _words(40, seed, "city", syllables=1, endings=tuple(_PLACES))
    firms = _words(40, seed, "firm", syllables=1, endings=("o", "a", "ex", "on"))
    return {
        "birth_year": [str(year) for year in range(1900, 2000)],
        "birth_city": cities,
        "subject": list(SUBJECTS),
        "employer": [_FIRMS[i % len(_FIRMS)].format(word) for i, word in enumerate(firms)],
    }


def _words(count: int, seed: int, purpose: str, *, syllables: int, endings: tuple[str, ...] = ("",)) -> list[str]:
    """Distinct capitalised words of invented syllables."""
    draw = chance(seed, "words", purpose)
    found: dict[str, None] = {}
    while len(found) < count:
        body = "".join(draw.choice(_ONSETS) + draw.choice(_VOWELS) for _ in range(syllables - 1))
        last = draw.choice(_ONSETS) + draw.choice(_VOWELS) + draw.choice(_CODAS)
        found.setdefault((body + last + draw.choice(endings)).capitalize())
    return list(found)
