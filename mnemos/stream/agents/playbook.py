"""Playbook: an agent that keeps notes instead of examples (ACE, arXiv:2510.04618).

A generator answers with the notes and names those it used; a reflector says what led to the outcome and calls each
used note helpful, harmful or neutral; a curator writes notes to add, and code, not a model, merges them. Deviations
from the authors' code: 1. the reflector does not see the gold answer (theirs does by default), unless `sees_gold`;
2. counts are used: a note that did more harm than good goes, and beyond the budget the least useful go, where theirs
only adds; 3. one reflection a question instead of up to three tries at wrong ones; 4. notes that say the same are
found by their words, not by an encoder and a model; 5. the budget is in characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mnemos.stream.learner import Answering, Ask, Feedback, Learning, Question, Reply, Reveal

SECTIONS = {"strategies": "STRATEGIES & INSIGHTS", "formulas": "FORMULAS & CALCULATIONS", "mistakes": "COMMON MISTAKES"}
"""How the curator calls them -> their headings."""
MOST_NOTE = 400
"""Characters of a note; a longer one is cut."""
MOST_ADDED = 2
"""Notes that are added for one question."""
HARMFUL = 2
"""By how much harm must exceed help for a note to go."""
SAME = 0.8
"""Share of words in common from which two notes say the same."""
REFLECTION_TOKENS = 300

_ID = re.compile(r"\[?\b((?:str|for|mis)-\d{5})\b\]?")
_USED = re.compile(r"(?im)^\W*used\W*:(.*)$")
_TAG = re.compile(r"(?i)\b((?:str|for|mis)-\d{5})\b\W{0,3}\s*(?:is |was )?(helpful|harmful|neutral)")
_ADD = re.compile(r"(?im)^\W*(strategies|formulas|mistakes)\W*:\s*(.+)$")


@dataclass
class Playbook:
    """every: questions between two curations. budget: characters of all notes. sees_gold: tell the reflector the gold
    answer; not comparable then with agents that hear a thumb."""

    prompts: Mapping[str, str]
    every: int = 1
    budget: int = 8000
    sees_gold: bool = False
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def notes(self) -> list[dict[str, Any]]:
        """{id, section, text, helpful, harmful}, in the order in which they were added."""
        return list(self.state.get("notes", []))

    def answer(self, question: Question) -> Answering:
        """One request; the bare question as long as there is no note."""
        fields = {"instruction": question.instruction, "question": question.text, "playbook": written(self.notes)}
        template = self.prompts["playbook-answer" if self.notes else "zero-shot"]
        reply = yield Ask(template, fields)
        lines = _USED.findall(reply.text)
        known = {note["id"] for note in self.notes}
        used = [name for name in dict.fromkeys(_ID.findall(lines[-1])) if name in known] if lines else []
        return Reply(_USED.sub("", reply.text).strip(), notes={"used": used})

    def learn(self, question: Question, reply: Reply, feedback: Feedback) -> Learning:
        """Reflect, count, prune and curate."""
        if feedback.correct is None:
            return
        notes, used = self.notes, list(reply.notes.get("used", []))
        gold = ""
        if self.sees_gold:
            gold = yield Reveal()
        fields = {"instruction": question.instruction, "question": question.text}
        reflection = yield Ask(
            self.prompts["playbook-reflect"],
            {
                **fields,
                "answer": reply.text,
                "verdict": "correct" if feedback.correct else "not correct",
                "gold": f" The right answer is: {gold}" if gold else "",
                "used": written([note for note in notes if note["id"] in used]) or "none",
            },
            max_new_tokens=REFLECTION_TOKENS,
        )
        notes = counted(notes, reflection.text, used)
        step = int(self.state.get("step", 0)) + 1
        made = int(self.state.get("made", 0))
        if step % max(1, self.every) == 0:
            now = {**fields, "reflection": reflection.text, "playbook": written(notes) or "empty"}
            added = yield Ask(self.prompts["playbook-curate"], now, max_new_tokens=REFLECTION_TOKENS)
            notes, made = merged(notes, added.text, made)
        self.state = {"step": step, "made": made, "notes": pruned(notes, self.budget)}


def written(notes: list[dict[str, Any]]) -> str:
    """The notes by section, one a line: ``[str-00001] helpful=5 harmful=0 :: text``."""
    parts = []
    for section, heading in SECTIONS.items():
        own = [note for note in notes if note["section"] == section]
        lines = [f"[{n['id']}] helpful={n['helpful']} harmful={n['harmful']} :: {n['text']}" for n in own]
        parts += [f"## {heading}", *lines] if own else []
    return "\n".join(parts)


def counted(notes: list[dict[str, Any]], reflection: str, used: list[str]) -> list[dict[str, Any]]:
    """Notes with what the reflector said of those that were used, each counted once; of others it says nothing that
    counts."""
    tags = {name: tag.lower() for name, tag in _TAG.findall(reflection) if name in used}
    return [
        {
            **note,
            "helpful": note["helpful"] + (tags.get(note["id"]) == "helpful"),
            "harmful": note["harmful"] + (tags.get(note["id"]) == "harmful"),
        }
        for note in notes
    ]


def merged(notes: list[dict[str, Any]], curated: str, made: int) -> tuple[list[dict[str, Any]], int]:
    """Notes with what the curator adds; what says the same as one that is there is left out. made: notes that ever
    were, so that an id is never given twice."""
    out = list(notes)
    for section, text in _ADD.findall(curated)[:MOST_ADDED]:
        text = " ".join(text.split())[:MOST_NOTE]
        if not text or any(alike(text, note["text"]) for note in out):
            continue
        made += 1
        name = f"{section.lower()[:3]}-{made:05d}"
        out.append({"id": name, "section": section.lower(), "text": text, "helpful": 0, "harmful": 0})
    return out, made


def alike(one: str, other: str) -> bool:
    """Whether two notes share most of their words (Jaccard)."""
    a, b = (set(re.findall(r"\w+", text.lower())) for text in (one, other))
    return len(a & b) >= SAME * len(a | b)


def pruned(notes: list[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """Without notes that did harm, and without the least useful ones beyond the budget (the oldest of equals)."""
    kept = [note for note in notes if note["harmful"] - note["helpful"] < HARMFUL]
    size = sum(len(note["text"]) for note in kept)
    for note in sorted(kept, key=lambda note: (note["helpful"] - note["harmful"], note["id"][4:])):
        if size <= budget:
            break
        kept.remove(note)
        size -= len(note["text"])
    return kept
