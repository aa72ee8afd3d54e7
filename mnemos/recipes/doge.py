"""DogeRM (arXiv:2407.01470): does a reward model rank a domain's answers better once a model that was
taught the domain is added to it?

    python -m mnemos.recipes.doge --out runs/doge

For each seed the chat patient is taught Glossa, an invented language (the domain model), and a reward
model is trained from the same patient on pairs about everything but Glossa: the right answer against
that to another question. For each alpha, rm + alpha * (domain - base) ranks pairs of Glossa. Alpha is
chosen on validation pairs; what is reported are other pairs. About three minutes on two cores; full
size: a 7B chat model, a domain model of the same family, UltraFeedback, and RewardBench's domains.

Deviations from the paper: 1. the difference domain - base is added instead of a weighted mean of both
models, so the reward model keeps its scale. 2. embeddings of tokens that only one model has do not
occur, because all share a tokenizer.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnemos.core.files import write_text
from mnemos.core.nouns import Example, Turn
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.measure.uncertainty import t_quantile
from mnemos.models.load import Checkpoint
from mnemos.recipes.patient import patient
from mnemos.recipes.worlds.tasks import Task, commands
from mnemos.sources.mix import Rows
from mnemos.sources.read import read
from mnemos.study.commands.merge import bind, merge
from mnemos.study.commands.reward import differences, right
from mnemos.train.likelihood import train
from mnemos.train.reward_model import RewardTraining, train_reward_model
from mnemos.weights.merge import How

DATA = Path(__file__).parent / "data"
ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
SEEDS = (0, 1, 2, 3, 4)
DOMAIN_ROWS, GENERAL_PAIRS, TEST_PAIRS = 900, 400, 200
MARGIN = 1.0
"""Points that count as no difference."""
KNOWN_SUBJECTS = ("question", "record", "request", "sum")
"""Kinds of the patient's old rows that a general pair is made of; the row's id begins with one."""


def general_pairs(seed: int) -> list[Example]:
    """The right answer of an old row against the answer to another question of the same kind."""
    rng = random.Random(f"general pairs {seed}")
    rows = list(read(str(DATA / "old.jsonl")))
    kinds = {name: [row for row in rows if row.id.startswith(f"{name}-")] for name in KNOWN_SUBJECTS}
    made = []
    for kind in kinds.values():
        for row in kind:
            other = rng.choice(kind).turns[-1]
            if other.text != row.turns[-1].text:
                made.append(Example(row.id, "preference", row.turns, (other,)))
    rng.shuffle(made)
    return made


def domain_pairs(which: str, seed: int) -> list[Example]:
    """The right Glossa of a command against that of another one; `which` part of the commands."""
    rng = random.Random(f"domain pairs {which} {seed}")
    tasks = list(commands(which))
    chosen = rng.sample(tasks, min(TEST_PAIRS, len(tasks)))
    return [_pair(task, rng.choice([other for other in tasks if other.answer != task.answer])) for task in chosen]


def _pair(task: Task, other: Task) -> Example:
    turns = (Turn("user", task.prompt), Turn("assistant", task.answer))
    return Example(task.key, "preference", turns, (Turn("assistant", other.answer),))


def run_seed(seed: int, out: Path) -> dict[str, Any]:
    """Accuracies of every alpha on validation and test pairs of the domain, and on general pairs that
    the reward model never saw; percent."""
    shutil.rmtree(out, ignore_errors=True)  # what a stopped run left must not be taken for this one's
    base, domain, reward = patient("chat"), out / "domain", out / "reward"
    rows = list(read(str(DATA / "new_skill.jsonl")))
    random.Random(f"domain rows {seed}").shuffle(rows)
    settings = TrainSettings(learning_rate=5e-4, num_train_epochs=1, per_device_train_batch_size=8, max_length=256)
    plan = Plan(Rows(tuple(rows[:DOMAIN_ROWS]), "Glossa"), Checkpoint(str(base)), "glossa", seed, settings)
    train(plan, domain, quiet=True)
    general = general_pairs(seed)
    how = RewardTraining(learning_rate=1e-3, num_train_epochs=1, max_length=256, seed=seed)
    train_reward_model(str(base), general[:GENERAL_PAIRS], reward, how, quiet=True)
    sets = {
        "validation": domain_pairs("dev", seed),
        "test": domain_pairs("test", seed),
        "general": general[GENERAL_PAIRS:][:TEST_PAIRS],
    }
    found: dict[str, dict[str, float]] = {name: {} for name in sets}
    for alpha in ALPHAS:
        merged = out / f"merged-{alpha:g}"
        places = [f"rm={reward}", f"domain={_model(domain)}", f"base={base}"]
        merge(bind("rm + alpha*(domain - base)", places, {"alpha": alpha}), merged, how=How("float32"), trunk="rm")
        for name, pairs in sets.items():
            hits = right(differences(merged, pairs))
            found[name][f"{alpha:g}"] = 100 * sum(hits) / len(hits)
    best = max(ALPHAS, key=lambda alpha: (found["validation"][f"{alpha:g}"], -alpha))
    return {"seed": seed, "alpha": best, "accuracy": found, "pairs": {name: len(pairs) for name, pairs in sets.items()}}


def _model(folder: Path) -> Path:
    return folder / "model" if (folder / "model").is_dir() else folder


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean gains over seeds with 95 % Student intervals, and the verdict on the paper's ordering."""

    def gain(name: str) -> dict[str, float]:
        values = [run["accuracy"][name][f"{run['alpha']:g}"] - run["accuracy"][name]["0"] for run in runs]
        mean = float(np.mean(values))
        if len(values) < 2:  # one seed says nothing of how far seeds differ
            return {"mean": mean, "low": -100.0, "high": 100.0}
        half = t_quantile(len(values) - 1) * float(np.std(values, ddof=1)) / len(values) ** 0.5
        return {"mean": mean, "low": mean - half, "high": mean + half}

    test = gain("test")
    small = test["high"] < MARGIN
    verdict = "HOLDS" if test["low"] > 0 else "DOES NOT HOLD" if small else "CANNOT TELL"
    return {"test": test, "general": gain("general"), "alphas": [run["alpha"] for run in runs], "verdict": verdict}


def lines(record: dict[str, Any]) -> list[str]:
    """A table by alpha, and the verdict, for people."""
    runs, found = record["runs"], record["summary"]
    out = ["alpha  validation  test  general   (accuracy, mean over seeds, %)"]
    for alpha in ALPHAS:
        means = [
            np.mean([run["accuracy"][name][f"{alpha:g}"] for run in runs]) for name in ("validation", "test", "general")
        ]
        out.append(f"{alpha:5g}  {means[0]:10.1f}  {means[1]:4.1f}  {means[2]:7.1f}")
    for name in ("test", "general"):
        g = found[name]
        out.append(
            f"{name}: {g['mean']:+.1f} points [{g['low']:+.1f}, {g['high']:+.1f}] at the alpha chosen on validation"
        )
    out.append(f"chosen alphas: {', '.join(f'{alpha:g}' for alpha in found['alphas'])}")
    out.append(f"a reward model merged with a domain model ranks the domain's pairs better: {found['verdict']}")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all seeds; a seed whose result is there already is not run again."""
    parser = argparse.ArgumentParser(prog="python -m mnemos.recipes.doge", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/doge"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    given = parser.parse_args(arguments)
    runs = []
    for seed in given.seeds:
        file = given.out / f"seed-{seed}" / "result.json"
        if not file.is_file():
            write_text(file, json.dumps(run_seed(seed, file.parent), indent=1) + "\n")
        runs.append(json.loads(file.read_text(encoding="utf-8")))
    record = {"paper": "arXiv:2407.01470", "runs": runs, "summary": summary(runs)}
    write_text(given.out / "results.json", json.dumps(record, indent=1) + "\n")
    print("\n".join(lines(record)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
