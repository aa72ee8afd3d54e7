"""What the reproduction of a real model that learns to listen reads: clips, rows of three kinds, two directories.

Called with (data, out) as in prepare.py; data: the folder of third-party data, which keep their own licences (fsdd CC
BY-SA 4.0, the others as `recipes.listening` names them) and never enter this repository. Needs espeak-ng for its
synthetic voices. What the model writes itself is journalled: a second call continues the first, or reads it.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from mnemos.core.files import write_json, write_jsonl, write_text
from mnemos.core.plan import ModelHandle
from mnemos.core.yaml_text import dump_yaml, read_yaml
from mnemos.models.load import handle
from mnemos.models.speech.files import make as make_listener
from mnemos.recipes.listening import Sizes
from mnemos.recipes.listening import make as make_clips
from mnemos.recipes.reproduce import models_folder
from mnemos.recipes.reproductions.prepare import Row, rows, turns
from mnemos.recipes.reproductions.real_models import benign_rows, chat, refusal_suites, requests, shuffled
from mnemos.recipes.reproductions.real_reading import TEMPLATE
from mnemos.report.plot_scales import scales_plot
from mnemos.sources.described import described
from mnemos.study.commands.listen import sweep, sweep_lines
from mnemos.study.commands.listen_rows import listen_rows
from mnemos.study.run import run
from mnemos.synthesis.listening import SYSTEM, TARGETS, Asking
from mnemos.synthesis.sound_questions import ATTRIBUTES

SIZES = Sizes(takes=(8, 2), pairs=(0, 0), copies=(4, 4))
ASKED = ("digit", "speaker", "accent", "noise", "intent")
"""What the arms ask about: four hundred clips do not teach sixteen attributes."""
FIRST = {"digits": ("digit", "speaker", "noise"), "others": ("intent", "noise")}
"""What the bridge learns first, of digits and of all other clips."""
ASKING = Asking(questions="attributes", per_clip=1, max_new_tokens=48, attributes=ASKED)
TEXT_ROWS, TEXTS, HARMFUL, HARMLESS = 200, 60, 60, 40
TEXT_FORMS = ("forms-text", "forms-description")
"""Instructions without a sound: what the model could follow before it had ears."""
TASKS = ("digit", "digit-options", "digit-noisy", "intent", "accent", "noise", "who")
SHUFFLED = ("digit-shuffled", "who-shuffled")
"""Of the tasks with another row's sound in the place of their own, two are enough."""
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)
STUDY = Path(__file__).parent / "real" / "listening.yaml"
LONGEST_PASSAGE, LONGEST_REPLY = 600, 240
"""Characters of a passage and of an answer that the other model learns from."""
MOST = {"accent": 40, "noise": 40, "who-shuffled": 40, **dict.fromkeys(("forms-audio", *TEXT_FORMS), 36)}
"""Items of a suite at most: of tasks, where there are more clips than are needed; six clips with six instructions."""


def listening(data: Path, out: Path) -> None:
    """Clips with suites, rows of text, an untrained model that listens, and the cascade."""
    below = out / "data"
    qwen, whisper = (str(models_folder() / name) for name in ("qwen", "whisper-base"))
    make_clips(data, below / "clips", SIZES)
    split_suites(below / "clips")
    label_rows(below)
    text = benign_rows(data)
    taught, read = text[:TEXT_ROWS], text[TEXT_ROWS:][:TEXTS]
    author_rows(data, below)
    write_jsonl(
        below / "text.jsonl", [chat(f"text-{n}", row["instruction"], row["output"]) for n, row in enumerate(taught)]
    )
    write_jsonl(below / "texts.jsonl", [{"id": f"read-{n}", "text": row["output"]} for n, row in enumerate(read)])
    refusal_suites(data, below, requests(data)[2][:HARMFUL], harmless=HARMLESS)
    directories: dict[str, dict[str, Any]] = {
        "listener": {"encoder": whisper, "bridge": {"kind": "mlp"}},
        "cascade": {"encoder": None, "recogniser": whisper},
    }
    for name, parts in directories.items():
        # What a directory holds depends on its parts alone; one that is there may be of other parts.
        shutil.rmtree(below / name, ignore_errors=True)
        make_listener(below / name, language=qwen, **parts)


def label_rows(below: Path) -> None:
    """A conversation about each clip that is learned from: every one of `FIRST` is asked, in an order of its own, and
    answered by its label. Turns about one clip share the sound and the system text, and cost half of what rows do."""
    found = []
    for clip in described(below / "clips" / "train", Counter()):
        names = FIRST["digits" if "digit" in clip.known else "others"]
        draw = random.Random(f"first {clip.id}")
        known = {name: label for name in names if (label := ATTRIBUTES[name].value(clip))}
        messages: list[Row] = [{"role": "system", "content": SYSTEM}]
        for name in draw.sample(sorted(known), len(known)):
            messages += turns(draw.choice(ATTRIBUTES[name].questions), known[name])
        sound = {"type": "audio", "audio": os.path.relpath(clip.part.path, below)}
        messages[1]["content"] = [sound, {"type": "text", "text": "\n" + messages[1]["content"]}]
        found.append({"id": clip.id, "messages": messages})
    write_jsonl(below / "labels.jsonl", found)


def answers(data: Path, out: Path) -> None:
    """Rows that the model answers itself, that people label, and that another model answers: some ten minutes."""
    below = out / "data"
    qwen = handle(str(models_folder() / "qwen"))
    listen_rows(below / "clips" / "train", qwen, below / "rows", ASKING, TARGETS, author(below))


def author_rows(data: Path, below: Path) -> None:
    """What the other model learns chatting from: Dolly's rows with a short passage, and as many without one, none of
    which the arms replay."""
    read = [
        {**row, "instruction": f"{row['input']}\n\n{row['instruction']}"}
        for row in rows(data / "dolly_2k/train.jsonl.gz")
        if row["input"] and len(row["input"]) <= LONGEST_PASSAGE and len(row["output"]) <= LONGEST_REPLY
    ]
    plain = [row for row in benign_rows(data)[TEXT_ROWS + TEXTS :] if len(row["output"]) <= LONGEST_REPLY]
    learned = enumerate([*read, *plain[: len(read)]])
    found = [chat(f"author-{n}", row["instruction"], row["output"]) for n, row in learned]
    write_jsonl(below / "author.jsonl", shuffled(found, "author"))
    write_text(below / "author.jinja", TEMPLATE)


def author(below: Path) -> ModelHandle:
    """The other model that answers: a base model of another family (Gemma 3 270M), made a chat model on Dolly's rows.
    None of them is about a sound; half have a passage to read, as the line that describes a clip is one."""
    study = {
        "name": "author",
        "model": str(models_folder() / "gemma"),
        "chat_template": str(below / "author.jinja"),
        "teach": {"data": str(below / "author.jsonl"), "name": "chat"},
        "suites": {"new": [{"name": "texts", "kind": "bits_per_byte", "data": str(below / "texts.jsonl")}]},
        "train": {"learning_rate": 5e-5, "num_train_epochs": 2, "per_device_train_batch_size": 8, "max_length": 256},
        "seeds": [0],
        "health": False,
    }
    run(study, out=below / "author", quiet=True)
    return handle(str(below / "author" / "arms" / "plain" / "seed-0" / "model"))


def split_suites(clips: Path) -> None:
    """Write heard.yaml and text.yaml beside the suites of the clips, what is new and what is old; and tasks.yaml, what
    is new without instructions about sounds."""
    tasks, forms = (
        [{**one, **({"limit": MOST[one["name"]]} if one["name"] in MOST else {})} for one in read_yaml(clips / name)]
        for name in ("suites.yaml", "forms.yaml")
    )
    heard = [one for one in tasks if one["name"] in (*TASKS, *SHUFFLED)]
    write_text(clips / "tasks.yaml", dump_yaml(heard))
    heard += [one for one in forms if one["name"] not in TEXT_FORMS]
    write_text(clips / "heard.yaml", dump_yaml(heard))
    write_text(clips / "text.yaml", dump_yaml([one for one in forms if one["name"] in TEXT_FORMS]))


def scales(data: Path, out: Path) -> list[str]:
    """What the arm that learned labels with adapters scores at five scales of them (SALMONN, arXiv:2310.13289), its
    first seed: digits, and text beside them. Lines of a table; also scales.json and scales.svg below `out`."""
    below = out / "data"
    digit = next(one for one in read_yaml(below / "clips" / "tasks.yaml") if one["name"] == "digit")
    # As the study asks it: two copies of one suite would come to differ.
    old = read_yaml(STUDY)["suites"]["old"]
    answers_in_json = next(one for one in old if isinstance(one, dict) and one["name"] == "json-answers")
    asked = [{**digit, "data": f"clips/{digit['data']}"}, answers_in_json, read_yaml(below / "refusals.yaml")]
    write_text(below / "scaled.yaml", dump_yaml(asked))
    adapter = out / "listening" / "arms" / "human-lora" / "seed-0" / "model"
    found = sweep(str(adapter), [str(below / "scaled.yaml")], SCALES)
    write_json(out / "scales.json", found)
    write_text(out / "scales.svg", scales_plot(found))
    return sweep_lines(found)
