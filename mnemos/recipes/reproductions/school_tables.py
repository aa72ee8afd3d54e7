"""Reproductions without a study: tokenizers beside each other, the Chinchilla replication, filters and classifiers
beside people, and addition by size. Each is called with (data, out), writes below `out` and returns the lines of its
table.

data: the folder of third-party data, which keep their own licences (XQuAD CC BY-SA 4.0, Tatoeba CC BY 2.0 FR, DCLM's
labelled pages, AdvBench and HH MIT, Dolly CC BY-SA 3.0, XSTest's prompts CC BY 4.0; the points of arXiv:2404.10102
name none) and never enter this repository. A missing file raises FileNotFoundError.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mnemos.core.files import write_jsonl
from mnemos.recipes.reproductions.prepare import rows
from mnemos.recipes.reproductions.real_vocabulary import XQUAD
from mnemos.recipes.reproductions.school_text import PAGES
from mnemos.recipes.worlds.seed import chance

if TYPE_CHECKING:
    from mnemos.sources.filters.classifier import Classifier

LANGUAGES = {"en": "English", "ru": "Russian", "ar": "Arabic", "hi": "Hindi", "th": "Thai", "zh": "Chinese"}
PAIRS = "tatoeba_en_zh/shared.jsonl.gz"
VOCABULARY, HELD = 8000, 5
"""Pieces of each tokenizer; of so many texts one is measured, not learned from."""

POINTS, OUTLIERS = "chinchilla/points.csv.gz", 5
REQUESTS, XSTEST = "requests", "xstest"
TRANSFER = "requests, asked about xstest"
COLUMNS = {"n": "Model Size", "c": "Training FLOP", "loss": "loss"}
PUBLISHED = {
    "A": (482.01, 124.58), "B": (2085.43, 1293.23), "E": (1.8172, 0.0260), "alpha": (0.3478, 0.0154),
    "beta": (0.3658, 0.0206),
}  # fmt: skip
"""arXiv:2404.10102: the fit of 240 points, and its standard errors."""


def tokenizers(data: Path, out: Path) -> list[str]:
    """Eight kinds learned from six scripts at once: tokens a word, and bytes a token, of held-out text of each."""
    from mnemos.sources.plain import texts_at
    from mnemos.sources.tokenizer.train import KINDS, train
    from mnemos.study.commands.tokenizer import compare

    learned: list[str] = []
    held: dict[str, Any] = {}
    for language, texts in _texts(data).items():
        chance("school", "tokenizers", language).shuffle(texts)
        learned += [text for n, text in enumerate(texts) if n % HELD]
        write_jsonl(out / f"data/{language}.jsonl", ({"text": text} for text in texts[::HELD]))
        held[LANGUAGES[language]] = texts_at(str(out / f"data/{language}.jsonl"))
    record = compare({kind: train(learned, kind, VOCABULARY) for kind in KINDS}, held, out / "compare")
    return kinds_table(record["rows"])


def _texts(data: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    found["en"] += dict.fromkeys(row["context"] for row in rows(data / XQUAD[1]))
    for row in rows(data / XQUAD[0]):
        found[row["lang"]].append(row["text"])
    found["zh"] += dict.fromkeys(row["zh"] for row in rows(data / PAIRS))
    return found


def kinds_table(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a tokenizer, a column a language: tokens a word (bytes a token)."""
    languages = list(dict.fromkeys(row["language"] for row in measured))
    cells = {(row["tokenizer"], row["language"]): row for row in measured}
    out = [f"{'':<18}" + "".join(f"{language:>15}" for language in languages)]
    for kind in dict.fromkeys(row["tokenizer"] for row in measured):
        own = [cells[kind, language] for language in languages]
        out.append(f"{kind:<18}" + "".join(f"{row['fertility']:>8.2f} ({row['compression']:.1f})" for row in own))
    return out


def laws(data: Path, out: Path, draws: int = 1000) -> list[str]:
    """The three approaches on 245 points of the Chinchilla paper, with and without the five of highest loss, and
    whether the third one without them is within the published standard errors."""
    from mnemos.study.commands.laws import Asked, fit_laws, lines

    path = data / POINTS
    path.stat()  # FileNotFoundError, as of every reproduction without its data
    record = fit_laws(path, out / "laws", Asked(without_highest=OUTLIERS, draws=draws), COLUMNS)
    fitted = next(one for one in record["fits"] if one["approach"] == "3" and one["points"].startswith("without"))
    return [*lines(record), "", *replicated(fitted["numbers"])]


def replicated(numbers: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Each published number beside the one here, and the verdict."""
    out, all_within = [], True
    for name, (value, error) in PUBLISHED.items():
        here = numbers[name]["value"]
        within = here is not None and abs(here - value) <= error
        all_within &= within
        away = "no fit" if here is None else f"{here:.4g}, {abs(here - value) / error:.2f} standard errors away"
        out.append(f"  {name:<6} published {value:g} ± {error:g}; here {away}")
    verdict = "HOLDS" if all_within else "DOES NOT HOLD"
    return [f"{verdict}: chinchilla-replication: every number is within the published standard error", *out]


def people(data: Path, out: Path) -> list[str]:
    """What each filter keeps of DCLM's pages that people labelled, and how far it agrees with them."""
    from mnemos.study.commands.filter import filter_pages, lines
    from mnemos.study.commands.filter_parts import Asked

    path = data / PAGES
    path.stat()
    # A finished filtering is refused its place, and a stopped one costs seconds.
    shutil.rmtree(out / "filtered", ignore_errors=True)
    return lines(filter_pages(str(path), out / "filtered", Asked(label="label"), jobs=1))


def classifiers(data: Path, out: Path) -> list[str]:
    """What classifiers of words, and of a frozen encoder's vectors, learn of labels: on rows held out, and on XSTest,
    whose safe prompts have the words of unsafe ones."""
    from mnemos.measure.auc import auc
    from mnemos.recipes.reproduce import models_folder
    from mnemos.study.commands.classifier import Learning, load_filter, train_classifier

    held = _labelled(data)
    kinds = {"words": None, "embeddings": str(models_folder() / "minilm")}
    found: dict[str, list[str]] = {}
    for name, labelled in held.items():
        write_jsonl(out / f"data/{name}.jsonl", labelled)
        found[name] = []
        for kind, embeddings in kinds.items():
            file = out / f"{name}-{kind}.json"
            file.unlink(missing_ok=True)
            record = train_classifier(str(out / f"data/{name}.jsonl"), file, Learning("label", embeddings))
            found[name].append(_area(record["held_out"]["auc"]))
    texts, unsafe = [row["text"] for row in held[XSTEST]], [row["label"] == 1 for row in held[XSTEST]]
    found[TRANSFER] = []
    for kind in kinds:
        learned = cast("Classifier", load_filter(str(out / f"{REQUESTS}-{kind}.json")).score)
        found[TRANSFER].append(_area(auc(learned.scores(texts), unsafe)))
    head = f"{'area under the ROC curve':<34}" + "".join(f"{kind:>24}" for kind in kinds)
    return [head, *(f"{name:<34}" + "".join(f"{cell:>24}" for cell in cells) for name, cells in found.items())]


def _labelled(data: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of text and label by what is labelled: DCLM's pages that people would keep, requests that ask for harm
    (AdvBench) beside those that do not (Dolly), XSTest's prompts, unsafe or safe, and of two answers of HH the one that
    people found more harmful."""
    from mnemos.recipes.reproductions.school_text import labelled

    harmful = [row["goal"] for row in rows(data / "advbench/harmful_behaviors.jsonl.gz")]
    plain = [row["instruction"] for row in rows(data / "dolly_2k/train.jsonl.gz") if not row["input"]][: len(harmful)]
    prompts = rows(data / "xstest/prompts.jsonl.gz")
    found: dict[str, list[tuple[str, bool]]] = {
        "pages": labelled(data),
        REQUESTS: [(text, True) for text in harmful] + [(text, False) for text in plain],
        XSTEST: [(row["prompt"], row["label"] == "unsafe") for row in prompts],
        "answers": [
            (text, worse)
            for row in rows(data / "hh_harmless_test/shared_first1500.jsonl.gz")
            for which, worse in (("chosen", False), ("rejected", True))
            if (text := row[which].rpartition("\n\nAssistant:")[2].strip())
        ],
    }
    return {name: [{"text": text, "label": int(label)} for text, label in some] for name, some in found.items()}


def _area(found: Sequence[float]) -> str:
    area, low, high = found
    return f"{area:.3f} [{low:.3f}, {high:.3f}]"


def addition(data: Path, out: Path) -> list[str]:
    """Sums by size of the model, under several metrics (`recipes.addition`); `data` is not read."""
    from mnemos.recipes.addition import run
    from mnemos.study.commands.laws import emergence_lines

    return emergence_lines(run(out))
