"""Power sampling on a real model beside other ways to spend tokens on an answer (arXiv:2510.14901).

    python -m mnemos.recipes.power_sampling --model qwen --out runs/power-sampling

Problems of GSM8K and functions of HumanEval are answered greedily, at the low temperature 1 / alpha, and from p^alpha.
With as many tokens as p^alpha took, several answers are drawn at temperature 1: how many of them are right (sampled),
whether any is (one of them: what a perfect judge would choose), and two choices among them: the one whose last number
most of them have (majority, arXiv:2203.11171; of numbers alone), and the one to which the model gives the highest
probability (likeliest). A way that was asked is not asked again. Items are read from $MNEMOS_DATA, models by name from
$MNEMOS_MODELS.

Deviations: 1. answers of at most 256 tokens in blocks of 64 with 4 steps each, where the paper has 3,072 tokens, 16
blocks and 10 steps. 2. a chat model, where the paper samples from base models too. 3. the likeliest of several answers
is chosen by the probability of its text, without that of its end.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mnemos.core.files import write_json
from mnemos.core.nouns import Answer, LanguageModel, Prompt
from mnemos.core.yaml_text import read_yaml
from mnemos.measure.ask import Measured, score
from mnemos.measure.sampling import texts_of
from mnemos.measure.suite import Suite, load_suites
from mnemos.recipes.findings import Ordering
from mnemos.recipes.pages import in_percent
from mnemos.recipes.ways import ask, mean, named_model, ordering, ordering_lines
from mnemos.rewards.numbers import last_number

SUITES = ("gsm8k", "human-eval")
FOLDER = Path(__file__).parent / "suites" / "benchmarks"
ALPHA, BLOCK, STEPS = 4, 64, 4
SAMPLED, ONE, MAJORITY, LIKELIEST = "sampled", "one of them", "majority", "likeliest"
Expect = Literal["lower", "higher"]
MARGIN = 0.01
"""A share of right answers that counts as no difference."""
ORDERINGS: tuple[tuple[str, str, Expect, str], ...] = (
    ("power", "greedy", "higher", "-"),
    ("power", "low temperature", "higher", ".748 and .690"),
    ("power", SAMPLED, "higher", ".748 and .496"),
    ("low temperature", SAMPLED, "higher", ".690 and .496"),
    ("power", LIKELIEST, "higher", "-"),
    ("power", MAJORITY, "higher", "-"),
    ("power", ONE, "lower", "-"),
)
"""(way, than, how it should stand to the other, the paper's numbers: Qwen2.5-Math-7B on MATH500)."""


def suite_of(name: str, limit: int, longest: int, **more: Any) -> Suite:
    """One of the two suites, with its first so many items. more: how it is decoded."""
    given = {**read_yaml(FOLDER / f"{name}.yaml"), "limit": limit, "max_new_tokens": longest, **more}
    return load_suites([given], FOLDER)[0]


def walk(model: LanguageModel, out: Path, name: str, limit: int, longest: int) -> dict[str, Measured]:
    """Every way to answer one suite's items, by its name. See `ways.ask` for what lies below `out`."""

    def asked(way: str, **more: Any) -> Measured:
        return ask(model, out, f"{name} {way}", [suite_of(name, limit, longest, **more)])[name]

    found = {"greedy": asked("greedy"), "low temperature": asked("low temperature", temperature=1 / ALPHA)}
    found["power"] = asked("power", power={"alpha": ALPHA, "block": BLOCK, "steps": STEPS})
    # As many answers as fit into the tokens of p^alpha, by how long a greedy one is; two at least, to choose among.
    number = min(1000, max(2, round(tokens(found["power"]) / max(1.0, tokens(found["greedy"])))))
    several = suite_of(name, limit, longest, temperature=1, samples=number)
    found[SAMPLED] = ask(model, out, f"{name} {SAMPLED}", [several])[name]
    drawn = found[SAMPLED].answers
    any_right = suite_of(name, limit, longest, temperature=1, samples=number, pass_at=number)
    found[ONE] = Measured(name, drawn, score(any_right, drawn))
    alone = suite_of(name, limit, longest)
    if getattr(alone.settings, "match", None) == "number":
        found[MAJORITY] = chosen(alone, drawn, [majority(texts_of(one)) for one in drawn])

    def by_probability() -> dict[str, Measured]:
        return {name: chosen(alone, drawn, likeliest(model, alone, drawn))}

    found[LIKELIEST] = ask(model, out, f"{name} {LIKELIEST}", [several], by_probability)[name]
    return found


def tokens(found: Measured) -> float:
    """Tokens that were written for an answer, on average, those of answers that were given up included."""
    return sum(answer.tokens for answer in found.answers) / len(found.answers)


def chosen(suite: Suite, drawn: Sequence[Answer], places: Sequence[int]) -> Measured:
    """One of each item's answers, scored as the only one; its tokens stay those of all that were drawn."""
    answers = [
        dataclasses.replace(one, text=texts_of(one)[place], data={}) for one, place in zip(drawn, places, strict=True)
    ]
    return Measured(suite.name, answers, score(suite, answers))


def majority(texts: Sequence[str | None]) -> int:
    """The first answer whose last number most answers have; one without any number has no vote."""
    numbers = [last_number(text or "") for text in texts]
    votes = Counter(number for number in numbers if number is not None)
    # Equal counts go to the number that came first, which is the order of a Counter.
    return numbers.index(votes.most_common(1)[0][0]) if votes else 0


def likeliest(model: LanguageModel, suite: Suite, drawn: Sequence[Answer]) -> list[int]:
    """For each item, the answer to which the model gives the highest probability; an empty one is none."""
    prompts = [item.prompt or Prompt(()) for item in suite.items]
    texts = [[text or " " for text in texts_of(one)] for one in drawn]  # An empty option cannot be asked for.
    found = model.choose(prompts, texts)
    return [
        max(range(len(own)), key=lambda at: _rank(own[at], scores[at].log_prob))
        for own, scores in zip(texts, found, strict=True)
    ]


def _rank(text: str, log_prob: float) -> float:
    return -math.inf if not text.strip() or math.isnan(log_prob) else log_prob


def record_of(cells: Mapping[str, Measured]) -> dict[str, Any]:
    """Share right and tokens by way, and the orderings, with 95 % intervals over items."""
    ways = {way: {"right": list(mean(cell.scores)), "tokens": tokens(cell)} for way, cell in cells.items()}
    return {"ways": ways, "orderings": [_ordering(cells, *one) for one in ORDERINGS if {*one[:2]} <= set(cells)]}


def _ordering(cells: Mapping[str, Measured], way: str, than: str, expect: Expect, paper: str) -> dict[str, Any]:
    test = Ordering(arm=way, than=than, measure="right", expect=expect, margin=MARGIN)
    return {"paper": paper, **ordering(test, cells[way].scores, cells[than].scores)}


def lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The record of each suite as two tables of Markdown."""
    out: list[str] = []
    for name, record in found.items():
        out += [f"| {name} | right | tokens |", "|---|---|---:|"]
        out += [f"| {way} | {in_percent(own['right'])} | {own['tokens']:.0f} |" for way, own in record["ways"].items()]
        out += ["", *ordering_lines(record["orderings"]), ""]
    return out[:-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mnemos.recipes.power_sampling", description="What does sampling from p^alpha find?"
    )
    parser.add_argument("--model", default="qwen", help="a directory, a hub id, or a name below $MNEMOS_MODELS")
    parser.add_argument("--items", type=int, default=40, help="items of each suite")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="longest answer")
    parser.add_argument("--out", type=Path, default=Path("runs/power-sampling"), help="where everything lies")
    given = parser.parse_args(arguments)
    checkpoint = named_model(given.model)
    model = checkpoint.load()
    found = {name: record_of(walk(model, given.out, name, given.items, given.max_new_tokens)) for name in SUITES}
    write_json(
        given.out / "power-sampling.json", {"model": checkpoint.path, "fingerprint": checkpoint.fingerprint, **found}
    )
    print("\n".join(lines(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
