"""MMLU (arXiv:2009.03300): questions with four options, behind examples of their subject; the likeliest letter counts.

Files as they are published: a folder of one headerless CSV a subject (question, A, B, C, D, the right letter), such as
data/test and data/dev; or one file of rows with question, subject, choices (or A to D) and answer (a place from 0, or
the letter), as JSON Lines or as CSV with a header. The prompt is that of lm-evaluation-harness' task `mmlu`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.nouns import Prompt, Turn
from mnemos.measure.items import Item, read_rows
from mnemos.measure.settings import MMLUSettings
from mnemos.sources import files

LETTERS = ("A", "B", "C", "D")
SPLITS = ("_test", "_dev", "_val")
"""What a file's name ends in behind the subject."""
MOST_QUESTIONS = 1_000_000


@dataclass(frozen=True)
class Question:
    """One question. where: file and line. right: place of the right option."""

    where: str
    subject: str
    text: str
    options: tuple[str, ...]
    right: int

    def asked(self, *, answered: bool) -> str:
        """The question with its options, up to where the letter stands; with the right letter where answered."""
        options = "".join(f"{letter}. {one}\n" for letter, one in zip(LETTERS, self.options, strict=True))
        return f"{self.text.strip()}\n{options}Answer:{f' {LETTERS[self.right]}' if answered else ''}"


def items_at(settings: MMLUSettings, folder: Path, where: str) -> list[tuple[Item, str]]:
    """Items with their places. Raises DataError for rows that cannot be read, and for a subject without as many
    examples as are shown."""
    assert settings.data is not None
    shown: dict[str, list[Question]] = {}
    if settings.shots and settings.examples is not None:
        for one in questions(Path(settings.examples)):
            shown.setdefault(one.subject, []).append(one)
    found: list[tuple[Item, str]] = []
    numbers: dict[str, int] = {}
    for one in questions(Path(settings.data)):
        examples = shown.get(one.subject, [])[: settings.shots]
        if len(examples) < settings.shots:
            bound = f"has {len(examples)} examples in {settings.examples}, and {settings.shots} are shown"
            raise DataError(f"{one.where}: subject {one.subject!r}", bound, "set shots, or add examples of it")
        numbers[one.subject] = numbers.get(one.subject, 0) + 1
        found.append((_item(settings, one, examples, numbers[one.subject]), one.where))
        if len(found) > MOST_QUESTIONS:
            raise DataError(f"{settings.data}", f"has more than {MOST_QUESTIONS:,} questions", "give a smaller file")
    if not found:
        raise DataError(where, "has no items", "a suite needs at least one")
    return found


def _item(settings: MMLUSettings, question: Question, examples: list[Question], number: int) -> Item:
    subject = question.subject.replace("_", " ")
    parts = [f"The following are multiple choice questions (with answers) about {subject}."]
    parts += [one.asked(answered=True) for one in examples]
    text = "\n\n".join([*parts, question.asked(answered=False)])
    start = (Turn("system", settings.system),) if settings.chat and settings.system else ()
    turn = Turn("user" if settings.chat else "prompt", text)
    # Options are letters, so which text stands behind them is in the prompt alone.
    return Item(
        f"{question.subject}-{number}",
        Prompt((*start, turn)),
        options=LETTERS,
        true=(question.right,),
        category=question.subject,
    )


def questions(path: Path) -> Iterator[Question]:
    """The questions of a file, or of each CSV of a folder by name. Raises DataError where there are none."""
    if path.is_dir():
        tables = sorted(one for one in path.iterdir() if files.is_table(one))
        if not tables:
            raise DataError(
                f"{path}", "holds no CSV file", "name MMLU's folder of one CSV a subject, or a file of rows"
            )
        for table in tables:
            yield from _table(table, _subject(table))
    elif not path.exists():
        raise DataError(f"{path}", "does not exist", "get MMLU's data.tar (arXiv:2009.03300) and name its folder here")
    elif files.is_table(path) and not _has_header(path):
        yield from _table(path, _subject(path))
    elif files.is_table(path):
        for raw in files.rows_of(path, str(path), ""):
            if not isinstance(raw.value, Mapping):
                raise raw.value
            yield _question({str(key).lower(): value for key, value in raw.value.items()}, raw.where)
    else:
        for row in read_rows(path):
            yield _question({str(key).lower(): value for key, value in row.values.items()}, row.where)


def _subject(path: Path) -> str:
    name = path.name.removesuffix(".gz").removesuffix(".csv")
    return next((name.removesuffix(end) for end in SPLITS if name.endswith(end)), name)


def _has_header(path: Path) -> bool:
    with files.opened(path) as stream:
        first = stream.readline(1 << 16).decode("utf-8-sig", "replace").lower()
    return {"question", "answer"} <= {cell.strip(' \r\n"') for cell in first.split(",")}


def _table(path: Path, subject: str) -> Iterator[Question]:
    """Questions of a CSV without a header: question, four options, the right letter."""
    with files.opened(path) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        try:
            for cells in reader:
                place = f"{path}:{reader.line_num}"
                if len(cells) != 6:
                    cure = "write question, A, B, C, D, letter, and quote commas"
                    raise DataError(place, f"has {len(cells)} cells, and a question has 6", cure)
                yield _question(
                    {"question": cells[0], "choices": cells[1:5], "answer": cells[5], "subject": subject}, place
                )
        except (csv.Error, UnicodeDecodeError) as error:
            bound = f"cannot be read as comma-separated values ({error})"
            raise DataError(f"{path}:{reader.line_num + 1}", bound, "save it as UTF-8 CSV") from None


def _question(row: Mapping[str, Any], where: str) -> Question:
    options = row.get("choices", [row.get(letter.lower()) for letter in LETTERS])
    if not isinstance(options, list) or len(options) != len(LETTERS):
        raise DataError(f"{where}: choices", "are not four", "choices: [four texts], or columns A, B, C and D")
    texts = {"question": row.get("question"), "subject": row.get("subject", "all")}
    for name, value in (*texts.items(), *zip(LETTERS, options, strict=True)):
        if not isinstance(value, str | int | float) or not str(value).strip():
            raise DataError(f"{where}: {name} = {value!r}", "must be a text that is not empty", "mend the row")
    return Question(
        where, str(texts["subject"]).strip(), str(texts["question"]), tuple(map(str, options)), _right(row, where)
    )


def _right(row: Mapping[str, Any], where: str) -> int:
    value = str(row.get("answer")).strip().upper()
    places = {letter: place for place, letter in enumerate(LETTERS)} | {str(place): place for place in range(4)}
    if value not in places:
        raise DataError(f"{where}: answer = {row.get('answer')!r}", "is no option", "write a letter A to D, or 0 to 3")
    return places[value]
