"""Does the race of `mnemos teach` find what an exhaustive study finds, for a third of its training?

    python -m benchmarks teach_race --work runs/teach-race

Five jobs on the shipped chat patient. The exhaustive study trains all that the race could come to on all rows: every
proposed arm, every pair of two kinds, and each of them half-way back. The race may spend a third of the tokens that
this took. Both are judged on held-out items, which neither was chosen by:

- teach-race-tokens: the largest share, over the jobs, of the exhaustive study's training tokens that the race trained,
  its rungs, its combination and the chosen arm on all rows together.
- teach-race-found: of the jobs, the share in which the chosen arm is not proven behind the best one of the exhaustive
  study, the one with the largest balance of points learned and lost on these items among those that keep every old
  suite within the allowed loss (the 95 % interval of the paired difference reaches 0).

The best arm is the best on the very items that judge, so that chance favours it and not the race.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Result
from mnemos.core.files import read_json, read_jsonl, write_json, write_jsonl
from mnemos.measure.frontier import SuiteScores, frontier
from mnemos.recipes.patient import patient
from mnemos.recipes.worlds.people import WORDINGS, people, questions
from mnemos.recipes.worlds.tasks import expressions
from mnemos.study.commands.teach import LOOK, teach
from mnemos.study.paths import RECIPES
from mnemos.study.teach.budget import Budget
from mnemos.study.teach.look import Look
from mnemos.study.teach.propose import Arm, arms, combined, half_way, settings, study_of
from mnemos.study.teach.race import Carried, Means, carry

ROWS, ITEMS, MAX_LOSS, SHARE = 800, 240, 5.0, 1 / 3
OLD_ROWS = RECIPES / "data" / "old.jsonl"
NOT_BOUND = Budget(1e12, "tokens")
DONE = "done.json"
"""What a job found, in its folder."""


@dataclass(frozen=True)
class Job:
    """rows: as a chat file has them. old: whether old rows are at hand."""

    name: str
    rows: list[dict[str, Any]]
    old: bool


def run(jobs: int = 2, work: Path | None = None) -> Iterator[Result]:
    """Both shares, with each job's figures among the details. work: where jobs are kept, for a walk that is killed and
    goes on; gone afterwards unless given."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for job in the_jobs():
            place = (work or Path(scratch)) / job.name
            place.mkdir(parents=True, exist_ok=True)
            done = place / DONE
            if not done.is_file():
                write_json(done, one(job, place, jobs))
            found.append(read_json(done))
            print(found[-1], flush=True)
    worst = max(found, key=lambda job: job["race tokens"] / job["exhaustive tokens"])
    yield Result(
        "teach-race-tokens",
        worst["race tokens"],
        worst["exhaustive tokens"],
        "tokens",
        "lower is better",
        SHARE,
        {"jobs": found},
    )
    yield Result(
        "teach-race-found",
        sum(job["within"] for job in found),
        len(found),
        "jobs",
        "higher is better",
        1.0,
        {"jobs": found},
    )


def the_jobs() -> list[Job]:
    """Commands in an invented language, without and with old rows; the same as forms; new people; larger sums."""
    sentences, forms = (
        list(read_jsonl(RECIPES / "data" / f"{name}.jsonl"))[:ROWS] for name in ("new_skill", "new_form")
    )
    persons = [
        chat(f"{person.number}-{wording}-{asked.attribute}", asked.text, asked.answer)
        for person in people(ROWS // (5 * WORDINGS), seed=77)
        for wording in range(WORDINGS)
        for asked in questions(person, wording)
    ]
    known = {text for text, _ in expressions(20)}
    unknown = [(text, answer) for text, answer in expressions(45) if text not in known]
    larger = [chat(text, f"Work out {text}.", answer) for text, answer in unknown[:: len(unknown) // ROWS]]
    return [
        Job("sentences", sentences, False),
        Job("sentences, old rows", sentences, True),
        Job("forms, old rows", forms, True),
        Job("people, old rows", persons, True),
        Job("sums", larger, False),
    ]


def chat(name: str, question: str, answer: str) -> dict[str, Any]:
    """One row of a chat file."""
    return {
        "id": name,
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
    }


def one(job: Job, root: Path, jobs: int) -> dict[str, Any]:
    """One job: the exhaustive study, the race for a third of its tokens, and how far its arm is behind."""
    rows, out = root / "rows.jsonl", root / "out"
    write_jsonl(rows, job.rows)
    given: dict[str, Any] = {
        "out": out, "items": ITEMS, "max_loss": MAX_LOSS, "old_rows": OLD_ROWS if job.old else None, "quiet": True,
        "jobs": jobs,
    }  # fmt: skip
    model = str(patient("chat"))
    if not (out / LOOK).is_file():
        # A walk that goes on has its look, and perhaps a race within another budget behind it.
        teach(rows, model, budget="1000M tokens", plan_only=True, **given)
    look = Look.of(read_json(out / LOOK)["look"])
    chosen = space(
        arms(look, settings(look.rows, look.parameters), NOT_BOUND, old_rows=given["old_rows"] and str(OLD_ROWS))
    )
    # In the race's own folder: a training that both ask for is done once, and counted for both.
    whole = everything(look, model, chosen, Means(out, None, jobs, True))
    tokens = sum(whole.trained.values())
    taught = teach(rows, model, budget=f"{int(SHARE * tokens)} tokens", **given)
    assert taught.arm is not None
    scores = whole.scores([arm.name for arm in chosen])
    judged = judge(scores, [arm.name for arm in chosen], taught.arm)
    return {
        "job": job.name,
        "race tokens": taught.tokens,
        "exhaustive tokens": tokens,
        "outcome": taught.outcome,
        **judged,
    }


def space(proposed: tuple[Arm, ...]) -> list[Arm]:
    """All that a race of these arms could come to."""
    pairs = (combined(a, b) for a, b in itertools.combinations(proposed, 2))
    found = [*proposed, *(pair for pair in pairs if pair is not None)]
    found += [half for arm in [*found] if (half := half_way(arm)) is not None]
    kept: list[Arm] = []
    for arm in found:
        # Plain half-way back is an arm of its own, and a pair with half-way weights is a half-way arm.
        if not any((arm.steps, dict(arm.train)) == (other.steps, dict(other.train)) for other in kept):
            kept.append(arm)
    return kept


def everything(look: Look, model: str, chosen: list[Arm], means: Means) -> Carried:
    """Every arm on all rows, measured on held-out items."""
    study = study_of(
        look, model, chosen, settings(look.rows, look.parameters), ITEMS, "held_out", name="exhaustive", seeds=[0]
    )
    return carry(study, means.root / "exhaustive", means)


def judge(scores: list[SuiteScores], names: list[str], arm: str) -> dict[str, Any]:
    """The chosen arm beside the best, with all arms' points learned and lost."""
    able = [name for name in names if keeps(scores, name)] or names
    found = frontier(scores, [*able, *([] if arm in able else [arm])])
    assert found is not None
    points = {point["arm"]: point for point in found["points"]}
    best = max(able, key=lambda name: points[name]["balance"]["mean"])
    pair = frontier(scores, list(dict.fromkeys([best, arm])))
    assert pair is not None
    behind = next(point["below_knee"] for point in pair["points"] if point["arm"] == arm)
    return {
        "chosen": arm,
        "best": best,
        "within": not behind,
        "balances": {name: round(100 * points[name]["balance"]["mean"], 2) for name in (best, arm)},
        "arms": len(names),
    }


def keeps(scores: list[SuiteScores], arm: str) -> bool:
    """Whether no old suite in points loses more than allowed in the mean."""
    old = [suite for suite in scores if suite.role == "old" and suite.unit == "points"]
    return all(float((suite.before - suite.after[arm]).mean()) <= MAX_LOSS / 100 + 1e-12 for suite in old)
