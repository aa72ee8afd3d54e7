"""Suites that ask about the clips of `recipes.listening`: tasks of labels by dimension, and instructions in three
forms."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.files import write_jsonl, write_text
from mnemos.core.yaml_text import dump_yaml
from mnemos.sources.described import Described, described
from mnemos.synthesis.listening import SYSTEM
from mnemos.synthesis.sound_questions import seed_line, with_options

SHORT, LONG = 24, 96
"""Most tokens of an answer that is a label, and of one that follows an instruction."""


@dataclass(frozen=True)
class LabelTask:
    """One task. attribute: the column that holds the label. dimension: of Dynamic-SUPERB. sets: whose clips it asks
    about; empty for all. instructions: ways to ask. noisy: only clips in a noise that is less than 20 dB below the
    voice, or only the others; None for all. named: whether the question names the labels, where nobody could guess
    their words. A model of half a billion weights that is told "seven" answers an open question right, and names a
    wrong one of ten options every second time."""

    attribute: str
    dimension: str
    instructions: tuple[str, ...]
    sets: tuple[str, ...] = ()
    noisy: bool | None = None
    named: bool = False

    def asks(self, clip: Described) -> bool:
        """Whether it asks about a clip."""
        if self.attribute not in clip.known or (self.sets and clip.known.get("set") not in self.sets):
            return False
        return self.noisy in (None, float(clip.known.get("snr", CLEAR_DB)) < CLEAR_DB)


CLEAR_DB = 20
DIGIT = ("Which digit is spoken?", "Name the number that you hear.", "What number is said?")

TASKS: Mapping[str, LabelTask] = {
    "digit": LabelTask("digit", "content", DIGIT, noisy=False),
    "digit-options": LabelTask("digit", "content", DIGIT, noisy=False, named=True),
    "digit-noisy": LabelTask("digit", "content", DIGIT, noisy=True),
    "intent": LabelTask(
        "intent",
        "semantics",
        ("What is the order about?", "Name the subject of the request.", "Which device or service is asked for?"),
        named=True,
    ),
    "accent": LabelTask(
        "accent", "paralinguistics", ("Which accent does the speaker have?", "Name the accent of the voice."), ("fsdd",)
    ),
    "noise": LabelTask(
        "noise",
        "degradation",
        ("What noise is in the background?", "Which sound is beside the voice?", "Name the noise in the recording."),
    ),
    "room": LabelTask("room", "degradation", ("What is the room like?", "Does the room echo, or is it dry?")),
    "who": LabelTask("speaker", "speaker", ("Who is speaking?", "Whose voice is this?", "Name the speaker.")),
    "gender": LabelTask(
        "gender", "speaker", ("Is the voice male or female?", "Does a man or a woman speak?"), ("espeak-ng",)
    ),
    "speakers": LabelTask(
        "speakers", "speaker", ("How many people speak?", "Count the voices."), ("fsdd", "fsdd pairs")
    ),
}

RULES: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "json": (
        'Reply only with a JSON object of the form {"answer": "..."}.', "detectable_format:json_format", {}
    ),
    "upper": ("Write your answer in English, in capital letters only.", "change_case:english_capital", {}),
    "lower": ("Write your answer in English, in small letters only.", "change_case:english_lowercase", {}),
    "quotes": ("Put your whole answer in double quotation marks.", "startend:quotation", {}),
    "end": (
        'End your answer with exactly the words "That is all I can say." and write nothing after them.',
        "startend:end_checker",
        {"end_phrase": "That is all I can say."},
    ),
    "bullets": (
        'Answer with exactly 2 bullet points, each on a line of its own that begins with "* ".',
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
    ),
}  # fmt: skip
"""By name: the words of the instruction, IFEval's name of its check, and the check's arguments."""
ABOUT_SOUND = (
    "What does the speaker say?", "What can you hear from the audio?", "Describe the recording.",
    "What do you learn about the speaker?", "What is the clip about?",
)  # fmt: skip
ABOUT_NOTHING = (
    "Name the capital of France.", "What do bees make?", "Why is the sky blue?", "What is a river?",
    "Which season comes after spring?",
)  # fmt: skip
"""What is asked in the form without a sound, so that an answer is possible."""
FORM_CLIPS = 10
"""Clips that each instruction is asked about."""


def suites_of(out: Path, seed: int) -> Path:
    """Write rows about the clips of OUT/test below OUT/suites, and two files of suites: OUT/suites.yaml of labels,
    which are taught, and OUT/forms.yaml of instructions, which could be followed before. Tasks of fewer than two labels
    are left out."""
    clips = list(described(out / "test", Counter()))
    place = out / "suites"
    place.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    for name, task in TASKS.items():
        rows = task_rows(name, task, clips, place, seed)
        if rows:
            write_jsonl(place / f"{name}.jsonl", rows)
            suite = {
                "kind": "dynamic_superb",
                "data": f"suites/{name}.jsonl",
                "max_new_tokens": SHORT,
                "system": SYSTEM,
            }
            found += [{"name": name, **suite}, {"name": f"{name}-shuffled", **suite, "audio": "shuffled"}]
    rows = form_rows(clips, place, seed)
    if rows:
        write_jsonl(place / "forms.jsonl", rows)
        forms = {"kind": "speech_ifeval", "data": "suites/forms.jsonl", "max_new_tokens": LONG, "system": SYSTEM}
        asked = [{"name": f"forms-{form}", **forms, "form": form} for form in ("audio", "description", "text")]
        write_text(out / "forms.yaml", dump_yaml(asked))
    write_text(out / "suites.yaml", dump_yaml(found))
    return out / "suites.yaml"


STUDY = """\
# What does a model hear, and what has it unlearned, by who wrote the answers and what may move?
# The rows: mnemos listen rows {folder}/train --model LM --target self --target human --out {folder}/rows
name: listening
model: {model}
teach: {{data: rows/self.jsonl}}
suites: {{new: [suites.yaml], old: [forms.yaml]}}
arms:
  self-lora: [{{lora: {{rank: 8, learning_rate: 2.0e-4}}}}]
  human: []
  human-lora: [{{lora: {{rank: 8, learning_rate: 2.0e-4}}}}]
arm_data:
  human: {{self: rows/human.jsonl}}
  human-lora: {{self: rows/human.jsonl}}
{beside}health: false
train: {{learning_rate: 1.0e-3, num_train_epochs: 1, per_device_train_batch_size: 8}}
seeds: [0]
"""


def write_study(out: Path, model: Path, cascade: Path | None) -> Path:
    """Write OUT/study.yaml: the bridge alone and adapters, on the model's own answers and on labels. model, cascade:
    directories that `mnemos listen new` wrote."""
    beside = "" if cascade is None else f"beside: {{cascade: {os.path.relpath(cascade, out)}}}\n"
    write_text(out / "study.yaml", STUDY.format(folder=out, model=os.path.relpath(model, out), beside=beside))
    return out / "study.yaml"


def task_rows(name: str, task: LabelTask, clips: Sequence[Described], place: Path, seed: int) -> list[dict[str, Any]]:
    """One row a clip whose label is known; none where there are fewer than two labels. place: their folder."""
    own = [clip for clip in clips if task.asks(clip)]
    labels = sorted({clip.known[task.attribute] for clip in own})
    if len(labels) < 2:
        return []
    draw = random.Random(f"{name} {seed}")
    return [
        {
            "file": f"{name}-{at:04}",
            "audio": os.path.relpath(clip.part.path, place),
            "instruction": with_options(draw.choice(task.instructions), labels if task.named else ()),
            "label": clip.known[task.attribute],
            "dimension": task.dimension,
            "synthetic": clip.synthetic,
        }
        for at, clip in enumerate(own)
    ]


def form_rows(clips: Sequence[Described], place: Path, seed: int) -> list[dict[str, Any]]:
    """Each instruction about `FORM_CLIPS` clips with speech, the same ones for all; `seed` is what is known of one in a
    line of text. Several instructions about one clip are not independent: they are one cluster."""
    speaking = [clip for clip in clips if clip.transcript]
    draw = random.Random(f"forms {seed}")
    chosen = draw.sample(speaking, min(FORM_CLIPS, len(speaking)))
    rows = []
    # Clip by clip, so that the first rows have every instruction.
    for at, clip in enumerate(chosen):
        question, general = ABOUT_SOUND[at % len(ABOUT_SOUND)], ABOUT_NOTHING[at % len(ABOUT_NOTHING)]
        for name, (words, check, arguments) in RULES.items():
            rows.append(
                {
                    "id": f"{name}-{clip.id}",
                    "audio": os.path.relpath(clip.part.path, place),
                    "seed": seed_line(clip),
                    "prompt": f"{question} {words}",
                    "text_prompt": f"{general} {words}",
                    "instruction_id_list": [check],
                    "kwargs": [dict(arguments)],
                    "cluster": clip.id,
                }
            )
    return rows
