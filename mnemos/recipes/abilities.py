"""The built-in suites of what any chat model may be able to do: facts of the world, sums, following instructions, and
answering in the language of the question. The items of the suite `code`, which no rule makes, stand in its file.

    python -m mnemos.recipes.abilities      writes recipes/suites/{world-facts,sums,instructions,answers-in-*}.jsonl

Every item is checked by a rule and short to answer: `mnemos init` asks a few of each (`measure.probe`), and a study
may ask all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle
from typing import Any

from mnemos.core.files import write_jsonl
from mnemos.measure.ask import file_name
from mnemos.measure.suite import BUILT_IN
from mnemos.recipes.worlds.seed import chance, listed

Item = dict[str, Any]

CAPITALS = """
France Paris, Germany Berlin, Italy Rome, Spain Madrid, Portugal Lisbon, Greece Athens, Austria Vienna, Poland Warsaw,
Hungary Budapest, Norway Oslo, Sweden Stockholm, Finland Helsinki, Denmark Copenhagen, Ireland Dublin, Iceland
Reykjavik, Belgium Brussels, Romania Bucharest, Bulgaria Sofia, Serbia Belgrade, Croatia Zagreb, Ukraine Kyiv|Kiev,
Russia Moscow, Turkey Ankara, Egypt Cairo, Kenya Nairobi, Morocco Rabat, Algeria Algiers, Tunisia Tunis, Ethiopia
Addis Ababa, Ghana Accra, Nigeria Abuja, Senegal Dakar, Japan Tokyo, China Beijing, India New Delhi, Thailand Bangkok,
Vietnam Hanoi, Nepal Kathmandu, Iran Tehran, Iraq Baghdad, Lebanon Beirut, Jordan Amman, Canada Ottawa, Mexico Mexico
City, Cuba Havana, Peru Lima, Chile Santiago, Argentina Buenos Aires, Brazil Bras[ií]lia, Colombia Bogot[aá],
Venezuela Caracas, Ecuador Quito, Uruguay Montevideo, Australia Canberra
"""
SYMBOLS = """
hydrogen H, helium He, lithium Li, carbon C, nitrogen N, oxygen O, neon Ne, sodium Na, magnesium Mg, aluminium Al,
silicon Si, sulfur S, chlorine Cl, potassium K, calcium Ca, iron Fe, nickel Ni, copper Cu, zinc Zn, silver Ag, tin Sn,
iodine I, gold Au, mercury Hg, lead Pb, uranium U
"""
OPPOSITES = """
hot cold, big small|little, fast slow, light dark|heavy, happy sad|unhappy, rich poor, early late, full empty,
high low, strong weak, open closed?|shut, wet dry, near far, old young|new, true false, up down, left right, day night,
buy sell, win lose
"""
COUNTED = """
days in a week: 7|seven, months in a year: 12|twelve, legs of a spider: 8|eight, sides of a triangle: 3|three,
minutes in an hour: 60|sixty, letters in the English alphabet: 26|twenty-six, legs of an insect: 6|six,
wheels of a bicycle: 2|two, continents on Earth: 7|seven, hours in a day: 24|twenty-four, seconds in a minute: 60|sixty,
sides of a hexagon: 6|six, centimetres in a metre: 100|one hundred|a hundred, players of a chess game: 2|two,
days in a leap year: 366, degrees in a right angle: 90|ninety, strings of a violin: 4|four,
planets in the solar system: 8|eight
"""

TOPICS = listed(
    "water, bread, the moon, winter, music, a garden, a bridge, the sea, a clock, a letter, rain, a horse, the market,"
    " a teacher, tea"
)
KINDS = listed(
    "fruits, animals, colours, countries, tools, cities, birds, metals, sports, instruments, trees, vegetables, oceans,"
    " months, languages"
)
WORDS = listed(
    "apple, river, silver, candle, window, garden, orange, planet, mirror, ticket, button, pepper, rocket, velvet,"
    " walnut"
)

NOUNS = {
    "en": "water, bread, river, moon, house, school, winter, music, letter, market, doctor, garden, horse, bridge",
    "zh": "水, 面包, 河流, 月亮, 房子, 学校, 冬天, 音乐, 信, 市场, 医生, 花园, 马, 桥",
    "de": "Wasser, Brot, Fluss, Mond, Haus, Schule, Winter, Musik, Brief, Markt, Arzt, Garten, Pferd, Brücke",
    "fr": "eau, pain, rivière, lune, maison, école, hiver, musique, lettre, marché, médecin, jardin, cheval, pont",
    "es": "agua, pan, río, luna, casa, escuela, invierno, música, carta, mercado, médico, jardín, caballo, puente",
    "ja": "水, パン, 川, 月, 家, 学校, 冬, 音楽, 手紙, 市場, 医者, 庭, 馬, 橋",
}
"""Language (ISO 639-1) -> nouns, the same in each."""

FRAMES = {
    "en": (
        "Explain the word “{}” in one sentence.",
        "What do people think of when they hear “{}”?",
        "Write a sentence with the word “{}”.",
    ),
    "zh": ("请用一句话解释“{}”。", "听到“{}”，人们会想到什么？", "请用“{}”造一个句子。"),
    "de": (
        "Erkläre das Wort „{}“ in einem Satz.",
        "Woran denkt man bei dem Wort „{}“?",
        "Schreibe einen Satz mit dem Wort „{}“.",
    ),
    "fr": (
        "Explique le mot « {} » en une phrase.",
        "À quoi pense-t-on en entendant le mot « {} » ?",
        "Écris une phrase avec le mot « {} ».",
    ),
    "es": (
        "Explica la palabra «{}» en una frase.",
        "¿En qué se piensa al oír la palabra «{}»?",
        "Escribe una frase con la palabra «{}».",
    ),
    "ja": (
        "「{}」を一文で説明してください。",
        "「{}」と聞いて何を思い浮かべますか。",
        "「{}」を使って文を一つ作ってください。",
    ),
}
"""Language -> questions about a noun."""

SUMS = 160


def suites() -> dict[str, list[Item]]:
    """Suite name -> items."""
    found = {"world-facts": world_facts(), "sums": sums(), "instructions": instructions()}
    return found | {f"answers-in:{language}": answers_in(language) for language in NOUNS}


def world_facts() -> list[Item]:
    """What nearly everybody knows, answered in a word or two; the answer holds it in some place."""
    pairs = [one.split(" ", 1) for one in pieces(CAPITALS)]
    items = [_asked(f"What is the capital of {where}?", city) for where, city in pairs]
    for element, symbol in (one.split() for one in pieces(SYMBOLS)):
        items.append(_asked(f"What is the chemical symbol of {element}?", symbol, exact_case=True))
    for word, other in (one.split(" ", 1) for one in pieces(OPPOSITES)):
        items.append(_asked(f"What is the opposite of “{word}”? Answer in one word.", other))
    for thing, count in (one.split(": ") for one in pieces(COUNTED)):
        items.append(_asked(f"Give the number of {thing}.", count))
    return items


def pieces(table: str) -> tuple[str, ...]:
    """The entries of a table that commas part; a line may end anywhere."""
    return listed(" ".join(table.split()))


def _asked(prompt: str, answer: str, *, exact_case: bool = False) -> Item:
    # Between borders of words, so that "H" is not found in "He", nor 6 in 60.
    flags = "" if exact_case else "(?i)"
    return {"id": prompt, "prompt": prompt, "answer": rf"{flags}(?<!\w)({answer})(?!\w)"}


def sums() -> list[Item]:
    """Sums, differences and products that take a step in the head, in plain words; nothing is repeated."""
    draw = chance("sums")
    found: dict[str, str] = {}
    frames = cycle(("What is {}?", "How much is {}?", "Calculate {}.", "{} = ?"))
    while len(found) < SUMS:
        sign = ("+", "-", "*")[len(found) % 3]
        a, b = (
            (draw.randrange(3, 13), draw.randrange(3, 13))
            if sign == "*"
            else (draw.randrange(20, 100), draw.randrange(11, 90))
        )
        if sign == "-" and b >= a:
            continue
        result = {"+": a + b, "-": a - b, "*": a * b}[sign]
        found.setdefault(f"{a} {sign} {b}", str(result))
    return [{"id": key, "prompt": next(frames).format(key), "answer": answer} for key, answer in found.items()]


def instructions() -> list[Item]:
    """Short instructions about the form of an answer, each of which a pattern can check."""
    return [
        {"id": prompt, "prompt": prompt, "answer": pattern}
        for number in range(len(TOPICS))
        for prompt, pattern in _instructions(TOPICS[number], KINDS[number], WORDS[number])
    ]


def _instructions(topic: str, kind: str, word: str) -> Iterator[tuple[str, str]]:
    yield f"In capital letters only, write one short sentence about {topic}.", r"^[^a-z]*[A-Z][^a-z]*$"
    yield f"Write exactly three words about {topic}.", r"^\W*\w+(\W+\w+){2}\W*$"
    yield f"Name three {kind} in one line, separated by commas, and write nothing else.", r"^[^,\n]+,[^,\n]+,[^,\n]+$"
    yield f"Reply with the single word {word} and nothing else.", rf"(?i)^\W*{re.escape(word)}\W*$"
    yield f"Write one sentence about {topic}. It must begin with the word Today.", r"^\W*Today\b"
    yield f"Write two bullet points about {topic}. Begin each line with “- ”.", r"^- [^\n]+\n+- "
    yield f"Name one of the {kind} between square brackets, and write nothing else.", r"^\[[^\[\]\n]+\]$"
    yield f"Name one of the {kind}, then write the word END and stop.", r"\bEND\W*$"


def answers_in(language: str) -> list[Item]:
    """Simple questions in one language, to be answered in it."""
    nouns = listed(NOUNS[language])
    return [
        {"id": f"{number} {noun}", "prompt": frame.format(noun)}
        for noun in nouns
        for number, frame in enumerate(FRAMES[language])
    ]


def write() -> None:
    """Write every suite's items beside its YAML."""
    for name, items in suites().items():
        write_jsonl(BUILT_IN / file_name(name), items)


if __name__ == "__main__":
    write()
