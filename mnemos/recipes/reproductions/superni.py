"""Makes what `ssr` reads: categories of Super-NaturalInstructions as tasks, and a small author that writes in context.

The shipped base patient was never shown a list of rows, so it cannot go on with one. The author is that patient after
reading documents of the very shape in which `ssr` asks (a definition and rows of one kind), made of other
instruction data: categories that are not taught, dolly, SLURP, WOZ, WikiSQL, XQuAD. It reads no row of the
reproduction's own tasks. Each set keeps its own licence (see `prepare`) and stays outside the repository.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnemos.core.files import write_jsonl
from mnemos.core.nouns import Example, Turn
from mnemos.recipes.patient import load_recipe, patient
from mnemos.recipes.reproductions.prepare import WIKISQL, held_out, plain, query, rows, slurp, woz, write
from mnemos.recipes.reproductions.smaller_patients import read_on
from mnemos.recipes.worlds.seed import chance
from mnemos.synthesis.ssr import shown_as

TAUGHT = ("sa", "pos", "dsg")
"""Categories that a model of a million parameters learns to the best constant answer or beyond (LOG.md)."""

SOURCE = "superni_cl/train10pct.jsonl.gz"
LONGEST_DEFINITION, LONGEST_INPUT, LONGEST_OUTPUT = 60, 160, 100
"""In characters. Definitions and inputs are cut at a word, rows with a longer output are left out."""

MEASURED, CHOSEN = 0.25, 0.3
"""Share of all rows that report, and share of the others on which settings are chosen."""

LEARNED, LONGEST_ANSWER = 88, 48
"""Rows of a task that are learned, as many for each task; longest answer in tokens."""

ROWS_SHOWN = 3
"""Rows of a document that the author reads: those of a prompt of `ssr` and the one that it asks for."""

STEPS, DOCUMENT_TOKENS = 150, 320
"""Of the author's reading."""

Row = dict[str, Any]
Parts = tuple[list[Row], list[Row], list[Row]]


def make(data: Path, out: Path) -> None:
    """Write each task's rows and suite, a suite to choose settings on (`-choose`), and the author, below `out`/data;
    a finished author is kept. Raises FileNotFoundError where `data` lacks a set."""
    found = tasks(data)
    for name, (learn, choose, measure) in found.items():
        write(out, name, learn, measure, LONGEST_ANSWER, "rouge_l")
        write(out, f"{name}-choose", learn[:1], choose, LONGEST_ANSWER, "rouge_l")
    texts = documents(data)
    write_jsonl(out / "data" / "documents.jsonl", [{"text": text} for text in texts])
    settings = load_recipe().base.train.model_copy(
        update={"max_steps": STEPS, "max_length": DOCUMENT_TOKENS, "learning_rate": 2e-3}
    )
    read_on(out / "data" / "author", patient("base"), texts, settings)


def tasks(data: Path) -> dict[str, Parts]:
    """Each task's rows to learn, to choose settings on and to measure; which part a row is in depends on its id."""
    found: dict[str, list[Row]] = {name: [] for name in TAUGHT}
    for category, row in categories(data):
        if category in found:
            found[category].append(row)
    parts: dict[str, Parts] = {}
    for name, batch in found.items():
        rest = [row for row in batch if not held_out(row, MEASURED)]
        choose = [row for row in rest if held_out(row, CHOSEN, salt="choose ")]
        learn = [row for row in rest if row not in choose]
        parts[name] = (learn[:LEARNED], choose, [row for row in batch if held_out(row, MEASURED)])
    return parts


def categories(data: Path) -> Iterator[tuple[str, Row]]:
    """Every row with its category, as a chat whose system turn is the definition; a small model's rows are short."""
    for row in rows(data / SOURCE):
        answer = plain(row["output"])
        if answer and len(answer) <= LONGEST_OUTPUT:
            definition = cut(plain(row["full_prompt"]), LONGEST_DEFINITION)
            yield row["category"], chat(row["id"], definition, given(row), answer)


def given(row: Row) -> str:
    """A row's input, cut where the question is not: of a tag's question the end is kept, of a dialogue what stands
    around the gap, of everything else the beginning."""
    text = plain(row["input"])
    if row["category"] == "pos":
        return cut(text[::-1], LONGEST_INPUT)[::-1]
    if row["category"] == "dsg" and "__" in text:
        before, _, behind = text.partition("__")
        return f"{cut(before[::-1], LONGEST_INPUT // 2)[::-1]} __ {cut(behind, LONGEST_INPUT // 2)}"
    return cut(text, LONGEST_INPUT)


def cut(text: str, longest: int) -> str:
    """The words of a text that fit into `longest` characters."""
    text = text.strip()
    return text if len(text) <= longest else text[: longest + 1].rpartition(" ")[0].strip()


def chat(id: str, definition: str, question: str, answer: str) -> Row:
    """A row of the reproduction: definition, input, output."""
    contents = {"system": definition, "user": question, "assistant": answer}
    return {"id": id, "messages": [{"role": role, "content": content} for role, content in contents.items()]}


def documents(data: Path) -> list[str]:
    """What the author reads: rows of one kind under their definition, as `ssr` shows them."""
    texts: list[str] = []
    for (definition, _), batch in sorted(kinds(data).items()):
        pairs = [pair for pair in dict.fromkeys(batch) if all(pair)]
        chance("ssr author", definition, *pairs[:1]).shuffle(pairs)
        whole = len(pairs) - len(pairs) % ROWS_SHOWN
        for start in range(0, whole, ROWS_SHOWN):
            texts.append(document(definition, pairs[start : start + ROWS_SHOWN]))
    chance("ssr author", "order").shuffle(texts)
    return texts


def document(definition: str, pairs: list[tuple[str, str]]) -> str:
    """Rows as `ssr` shows them, without the open input behind them."""
    shown = [
        Example(str(number), "messages", (Turn("system", definition), Turn("user", asked), Turn("assistant", answer)))
        for number, (asked, answer) in enumerate(pairs)
    ]
    return shown_as(shown).removesuffix("\n\nInput:")


def kinds(data: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(definition, what the rows of a kind share) -> inputs and outputs. The narrower a kind, the more its rows tell
    about the next one: commands by scenario, questions by table or passage, instructions by their first word."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for category, row in categories(data):
        if category not in TAUGHT:
            definition, asked, answer = (turn["content"] for turn in row["messages"])
            found[definition, category].append((asked, answer))
    for row in slurp(data):
        scenario = row["completion"].strip()
        found["name the scenario of the command.", scenario].append((_line(row), scenario))
    for row in rows(data / WIKISQL):
        asked, answer = plain(row["question"]), query(row)
        found["say which query answers the question.", row["table_id"]].append((asked, answer))
    for row in woz(data, "en_train"):
        found["say what the user changes.", "woz"].append((_line(row, 1), row["completion"].strip()))
    for row in rows(data / "xquad/en.jsonl.gz"):
        passage = row["context"][:40]
        found["answer the question.", passage].append((plain(row["question"]), plain(row["answers"][0]["text"])))
    for row in rows(data / "dolly_2k/train.jsonl.gz"):
        asked, answer = plain(f"{row['instruction']} {row['input']}"), plain(row["output"])
        if len(answer) <= LONGEST_OUTPUT:
            found["follow the instruction.", asked.split()[0]].append((cut(asked, LONGEST_INPUT), answer))
    return found


def _line(row: Row, line: int = 0) -> str:
    """What stands behind the colon of one line of a prompt of `prepare`."""
    return str(row["prompt"].splitlines()[line]).partition(": ")[2]
