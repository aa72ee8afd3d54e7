"""What the reproduction of learning what a model knows reads: facts about countries and chemical elements.

Called with (data, out) as in prepare.py, and reads nothing but what ships with this package. The facts are common
knowledge of the kind that a small model has in part: capitals, calling codes and internet domains of countries, symbols
and numbers of elements. A fact is learned or asked, never both; subjects are on either side, so that a model which
learns a country's capital may be asked its calling code.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import defaultdict
from pathlib import Path

from mnemos.core.files import write_jsonl
from mnemos.recipes.reproductions.prepare import Row, held_out
from mnemos.recipes.reproductions.real_models import shuffled, suite

COUNTRIES = Path(__file__).parents[1] / "data" / "countries.tsv"
ELEMENTS = """
hydrogen H helium He lithium Li beryllium Be boron B carbon C nitrogen N oxygen O fluorine F neon Ne sodium Na
magnesium Mg aluminium Al silicon Si phosphorus P sulfur S chlorine Cl argon Ar potassium K calcium Ca scandium Sc
titanium Ti vanadium V chromium Cr manganese Mn iron Fe cobalt Co nickel Ni copper Cu zinc Zn gallium Ga germanium Ge
arsenic As selenium Se bromine Br krypton Kr rubidium Rb strontium Sr yttrium Y zirconium Zr niobium Nb molybdenum Mo
technetium Tc ruthenium Ru rhodium Rh palladium Pd silver Ag cadmium Cd indium In tin Sn antimony Sb tellurium Te
iodine I xenon Xe caesium Cs barium Ba lanthanum La cerium Ce praseodymium Pr neodymium Nd promethium Pm samarium Sm
europium Eu gadolinium Gd terbium Tb dysprosium Dy holmium Ho erbium Er thulium Tm ytterbium Yb lutetium Lu hafnium Hf
tantalum Ta tungsten W rhenium Re osmium Os iridium Ir platinum Pt gold Au mercury Hg thallium Tl lead Pb bismuth Bi
polonium Po astatine At radon Rn francium Fr radium Ra actinium Ac thorium Th protactinium Pa uranium U
"""
"""Names and symbols in the order of atomic numbers, from 1."""
QUESTIONS = {
    "capital": "What is the capital of {}?",
    "calling code": "What is the international calling code of {}?",
    "domain": "What is the internet country code domain of {}?",
    "symbol": "What is the chemical symbol of {}?",
    "number": "What is the atomic number of {}?",
}
EACH, ASKED = 64, 40
"""Facts of each relation that arms choose from, and that are asked."""
SHARE = 0.4
"""Of the facts, asked; what is left over is neither."""


def facts() -> list[Row]:
    """Every fact: id, question, answer, aliases, relation."""
    with COUNTRIES.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    found = [
        _fact(relation, row["country"], row[relation])
        for relation in ("capital", "calling code", "domain")
        for row in table
    ]
    words = ELEMENTS.split()
    pairs = list(zip(words[::2], words[1::2], strict=True))
    found += [_fact("symbol", name, symbol) for name, symbol in pairs]
    return found + [_fact("number", name, str(number)) for number, (name, _) in enumerate(pairs, 1)]


def _fact(relation: str, subject: str, answers: str) -> Row:
    right, *others = answers.split("|")
    # São Tomé is written Sao Tome as often.
    others += [bare] if (bare := _without_accents(right)) != right else []
    question = QUESTIONS[relation].format(subject)
    return {
        "id": f"{relation}: {subject}",
        "question": question,
        "answer": right,
        "aliases": others,
        "relation": relation,
    }


def _without_accents(text: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFD", text) if not unicodedata.combining(one))


def knowledge(data: Path, out: Path) -> None:
    """Facts to choose from, and a suite of others for each relation."""
    del data
    below = out / "data"
    by_relation: defaultdict[str, list[Row]] = defaultdict(list)
    for fact in shuffled(facts(), "knowledge"):
        by_relation[fact["relation"]].append(fact)
    pool: list[Row] = []
    items: list[Row] = []
    for found in by_relation.values():
        asked = [fact for fact in found if held_out(fact, SHARE)]
        pool += [fact for fact in found if not held_out(fact, SHARE)][:EACH]
        items += asked[:ASKED]
    write_jsonl(below / "facts.jsonl", shuffled(pool, "knowledge pool"))
    suite(
        below,
        "asked",
        {"kind": "generated", "match": "regex", "max_new_tokens": 24},
        [
            {"id": fact["id"], "prompt": fact["question"], "answer": pattern(fact), "category": fact["relation"]}
            for fact in items
        ],
    )


def pattern(fact: Row) -> str:
    """What an answer must hold: a model says a sentence before it learns to say a word. Symbols keep their case, and a
    domain its dot, or nearly every sentence would hold one."""
    words = "|".join(re.escape(one) for one in (fact["answer"], *fact["aliases"]))
    case = "" if fact["relation"] in ("symbol", "domain") else "(?i)"
    return rf"{case}(?<![\w.])({words})(?!\w)" if fact["relation"] == "domain" else rf"{case}(?<!\w)({words})(?!\w)"
