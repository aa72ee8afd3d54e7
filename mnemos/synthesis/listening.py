"""Rows that teach a language model to listen: a clip, a question, and what is learned to say of it.

What decides how much of a model is unlearned is who wrote the answers (arXiv:2409.20007): itself, given what is known
of the clip as one line of text (`self`); people, with short labels (`human`); or another model, given the same line
(`other`). The three are written for the same clips and questions, and the perplexity of each under the model, given the
line, says how far from its own words they are.

Deviations from DeSTA2: 1. answers are greedy; 2. answers are left out and counted that have no end, are empty, repeat
more than half of their 4-grams, refuse, or deny that there is a sound; 3. speed, pitch and volume are measured, in
three steps.
"""

from __future__ import annotations

import math
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mnemos.core.errors import DataError, UsageError, nearest
from mnemos.core.nouns import Example, Turn
from mnemos.core.plan import ModelHandle
from mnemos.rewards.refusal.reading import is_refusal
from mnemos.sources.described import Described
from mnemos.sources.generated import SynthesisContext, too_few
from mnemos.synthesis.sound_questions import ATTRIBUTES, CAPTION, CAPTIONS, labels_of, seed_line, with_options
from mnemos.synthesis.writers import Tally, answered

Target = Literal["self", "human", "other"]
TARGETS: tuple[Target, ...] = ("self", "human", "other")
Asked = Literal["attributes", "captions", "both"]
REPETITION = 0.5
SYSTEM = "You hear the clip at the beginning of the message."
"""What the answers are written under, and so what rows of sound are asked under: true of a line of text as of a sound,
and without it small models answer that they cannot hear."""
DEAF = (r"\b(?:can(?:no|')t|unable to|not able to) (?:\w+ )?(?:hear|listen)", r"\b(?:audio|clips?)\b.*\bnot provided")
"""What an answer says that denies the sound: a model that learned it would deny what it hears."""


@dataclass(frozen=True)
class Asking:
    """What is asked of each clip. questions: about attributes that are known of it, the caption that asks for
    everything, or both. per_clip: questions about attributes, drawn by seed and clip. max_new_tokens: of an answer;
    longer ones are left out. system: the system text of all prompts, empty for none. attributes: which may be asked
    about; empty for all. options: share of the questions that name the labels of all clips, as those of Dynamic-SUPERB
    do; a model that never saw one reads such a question worse. UsageError for an attribute that is not in `ATTRIBUTES`,
    and for a share outside [0, 1]."""

    questions: Asked = "both"
    per_clip: int = 4
    max_new_tokens: int = 128
    system: str = SYSTEM
    seed: int = 0
    attributes: tuple[str, ...] = ()
    options: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.options <= 1:
            raise UsageError(f"options {self.options}", "must be a share from 0 to 1", "0.5 names them in every second")
        for name in self.attributes:
            if name not in ATTRIBUTES:
                raise UsageError(f"attribute {name!r}", "is none that is asked about", nearest(name, ATTRIBUTES))

    def of(self, clip: Described, labels: Mapping[str, Iterable[str]] | None = None) -> Iterator[tuple[str, str]]:
        """(attribute, question) for a clip. labels: of all clips by attribute, which `options` names."""
        # By the clip's own name: what it is asked does not change when others come or go.
        draw = random.Random(f"questions {self.seed} {clip.id}")
        if self.questions != "captions":
            asked = self.attributes or tuple(ATTRIBUTES)
            known = [name for name, one in ATTRIBUTES.items() if name in asked and one.value(clip)]
            for name in draw.sample(known, min(self.per_clip, len(known))):
                question = draw.choice(ATTRIBUTES[name].questions)
                # Nothing is drawn where none is asked for: the same seed asks what it always asked.
                named = self.options > 0 and draw.random() < self.options
                yield name, with_options(question, (labels or {}).get(name, ())) if named else question
        if self.questions != "attributes":
            yield CAPTION, draw.choice(CAPTIONS)


@dataclass(frozen=True)
class TargetRows:
    """Rows by target, and what became of them. rows: of the files that are read again. perplexity: of each target
    under the model, over the same `compared` rows; NaN where no row has them all. dropped: by target and reason."""

    rows: Mapping[Target, Sequence[Mapping[str, Any]]]
    perplexity: Mapping[Target, float]
    compared: int
    dropped: Mapping[Target, Mapping[str, int]] = field(default_factory=dict)


def asked_of(clips: Sequence[Described], asking: Asking) -> list[tuple[Described, Example]]:
    """Each clip with each of its questions as a row of text: the seed line, the question, and the label that people
    would give (empty for a caption). The row's meta holds question and attribute."""
    out = []
    labels = labels_of(clips) if asking.options else {}
    for clip in clips:
        for attribute, question in asking.of(clip, labels):
            label = "" if attribute == CAPTION else ATTRIBUTES[attribute].value(clip) or ""
            system = (Turn("system", asking.system),) if asking.system else ()
            turns = (*system, Turn("user", f"{seed_line(clip)}\n\n{question}"), Turn("assistant", label))
            meta = {"question": question, "attribute": attribute}
            out.append((clip, Example(f"{clip.id}/{attribute}", "messages", turns, meta=meta)))
    names = Counter(row.id for _, row in out)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise DataError(f"clip {twice.rsplit('/', 1)[0]!r}", "is named by two rows", "give each its own id")
    return out


def write(
    context: SynthesisContext,
    clips: Sequence[Described],
    asking: Asking,
    before: ModelHandle,
    targets: Sequence[Target],
    other: ModelHandle | None = None,
    out: Path = Path(),
) -> TargetRows:
    """Rows of each target. before: the model that is to listen. other: who writes the target `other`. out: the folder
    that paths of clips are relative to. Raises UsageError for targets that cannot be written, DataError with counts by
    reason where a target has no row."""
    _check(targets, asking, other)
    asked = asked_of(clips, asking)
    pairs = [row for _, row in asked]
    found: dict[Target, dict[str, Example]] = {}
    dropped: dict[Target, Mapping[str, int]] = {}
    for target in targets:
        tally = Tally(context)
        if target == "human":
            kept = [row for row in pairs if row.turns[-1].text]
            tally.drop("people give no short label for a caption", len(pairs) - len(kept))
        else:
            author = other if target == "other" and other is not None else before
            kept = _willing(tally, answered(tally, author, pairs, asking.max_new_tokens, REPETITION))
        too_few(tally.dropped, len(kept), 1, what=f"rows of target {target}")
        found[target] = {row.id: row for row in kept}
        dropped[target] = dict(tally.dropped)
    perplexity, compared = _perplexity(context, before, pairs, found)
    rows = {
        target: [_row(clip, own[row.id], target, out) for clip, row in asked if row.id in own]
        for target, own in found.items()
    }
    return TargetRows(rows, perplexity, compared, dropped)


def _willing(tally: Tally, rows: Sequence[Example]) -> list[Example]:
    """The rows whose answer neither refuses nor denies that there is a sound."""
    kept = []
    for row in rows:
        text = row.turns[-1].text
        if is_refusal(text):
            tally.drop("the answer refuses")
        elif any(re.search(pattern, text, re.IGNORECASE) for pattern in DEAF):
            tally.drop("the answer denies the sound")
        else:
            kept.append(row)
    return kept


def _check(targets: Sequence[Target], asking: Asking, other: ModelHandle | None) -> None:
    if ("other" in targets) != (other is not None):
        raise UsageError("target other", "goes with another model", "name it, or leave both out")
    if "human" in targets and asking.questions == "captions":
        raise UsageError("target human", "has no short label for captions", "ask about attributes as well")


def _perplexity(
    context: SynthesisContext,
    before: ModelHandle,
    pairs: Sequence[Example],
    found: Mapping[Target, Mapping[str, Example]],
) -> tuple[dict[Target, float], int]:
    """exp(sum of -ln p over all tokens of all answers / their number), by target, over the rows that every target has:
    a mean over other questions could not be compared."""
    common = [row for row in pairs if all(row.id in own for own in found.values())]
    options = [[own[row.id].turns[-1].text for own in found.values()] for row in common]
    scores = context.model(before).choose([row.prompt for row in common], options) if common else []
    # All or none: an answer that does not fit the context takes its row out of every target.
    scores = [row for row in scores if all(math.isfinite(one.log_prob) and one.tokens for one in row)]
    out: dict[Target, float] = {}
    for place, target in enumerate(found):
        nats = -math.fsum(row[place].log_prob for row in scores)
        tokens = sum(row[place].tokens for row in scores)
        out[target] = math.exp(nats / tokens) if tokens else math.nan
    return out, len(scores)


def _row(clip: Described, row: Example, target: Target, out: Path) -> dict[str, Any]:
    """A line of the file that a study reads; `seed` is what the answer was written from."""
    stretch = {name: value for name in ("start", "end") if (value := getattr(clip.part, name)) is not None}
    system = {"system": row.turns[0].text} if row.turns[0].role == "system" else {}
    beside = {} if clip.synthetic is None else {"synthetic": clip.synthetic}
    return {
        "id": row.id,
        "audio": os.path.relpath(clip.part.path, out),
        **stretch,
        **system,
        "question": row.meta["question"],
        "answer": row.turns[-1].text.strip(),
        "target": target,
        "attribute": row.meta["attribute"],
        "seed": seed_line(clip),
        **{name: value for name, value in clip.known.items() if name not in _TAKEN},
        **({"transcript": clip.transcript} if clip.transcript else {}),
        "measured": clip.measured,
        **beside,
    }


_TAKEN = frozenset(
    {"id", "audio", "start", "end", "system", "question", "answer", "target", "attribute", "seed", "measured"}
    # What other formats of rows are known by, or what they would read.
    | {"messages", "conversations", "instruction", "output", "prompt", "completion", "chosen", "rejected", "label"}
    | {"kto_tag", "tools", "chat_template_kwargs", "images", "image", "videos", "video", "audios", "rejected_images"}
)


def synthetic_share(clips: Sequence[Described]) -> dict[str, int]:
    """Clips that a program speaks, that people do, and of which nobody says."""
    names = {True: "synthetic", False: "real", None: "not stated"}
    counts = Counter(names[clip.synthetic] for clip in clips)
    return {name: counts[name] for name in names.values()}
