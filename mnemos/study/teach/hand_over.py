"""What is handed over: the model with its card, the suites that a pipeline asks, and the study that repeats it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemos.core.errors import printable
from mnemos.core.files import write_text
from mnemos.core.fingerprint import file_fingerprint
from mnemos.core.yaml_text import dump_yaml
from mnemos.report import render
from mnemos.study.teach.look import Look
from mnemos.study.teach.propose import Proposal, study_of
from mnemos.study.teach.prove import Proof, lines
from mnemos.study.teach.race import Raced


def gate_line(model: str, out: Path, max_loss: float) -> str:
    """The command by which a pipeline asks the same of this model, or of a later one."""
    return f"mnemos gate {shlex.quote(model)} {shlex.quote(str(out / 'model'))} --suites "\
        f"{shlex.quote(str(out / 'suites.yaml'))} --max-loss {max_loss:g}"  # fmt: skip


def hand_over(
    out: Path, proof: Proof, raced: Raced, proposal: Proposal, look: Look, model: str, *, max_loss: float, seed: int
) -> Path:
    """Write model/ (and adapter/ where only adapters were trained), its card, suites.yaml with the held-out items of
    the old suites, repeat.yaml and report.html under `out`; returns the model's place. A directory is there whole or
    not at all."""
    run = next(run for run in proof.carried.experiment.runs if run.seed == seed)
    trained = Path(run.last.model.path)
    study = study_of(
        look, model, [raced.chosen], proposal.train, proposal.proof_items, "held_out", name="repeat",
        seeds=[seed + number for number in range(proposal.schedule.seeds)], health=True,
    )  # fmt: skip
    write_text(out / "repeat.yaml", dump_yaml(study))
    old = [*study["suites"]["old"]]
    write_text(out / "suites.yaml", dump_yaml(old if old else study["suites"]["new"]))
    write_text(out / "report.html", proof.carried.record.report("html"))
    if (trained.parent / "adapter").is_dir() and len(run.last.steps) == 1:
        copied(trained.parent / "adapter", out / "adapter", _card(proof, raced, look, model, out, max_loss))
    return copied(trained, out / "model", _card(proof, raced, look, model, out, max_loss))


def copied(source: Path, target: Path, card: str) -> Path:
    """A copy of a directory, with its card, its weights by links where the disk allows, so that they lie there once."""
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh, copy_function=_linked)
    (fresh / "README.md").unlink(missing_ok=True)
    write_text(fresh / "README.md", card)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(fresh, target)
    return target


def _linked(source: str, target: str) -> str:
    # Small files are copied: whoever edits a configuration in place must not change the step that it came from.
    if source.endswith(".safetensors"):
        with contextlib.suppress(OSError):
            os.link(source, target)
            return target
    return str(shutil.copy2(source, target))


def _card(proof: Proof, raced: Raced, look: Look, model: str, out: Path, max_loss: float) -> str:
    arm, results = raced.chosen, proof.carried.record.results
    manifest = results["manifest"]
    head = ["---", "tags:", "- mnemos", "library_name: transformers", "---", ""]
    words = {"handed over": "no loss is proven beyond what was allowed, and the gain is proven",
             "lost": "a loss is proven", "cannot tell": "not everything is proven"}  # fmt: skip
    body = [
        f"# {printable(Path(model).name)}, taught {printable(Path(look.rows.file).stem)}",
        "",
        f"{words[proof.outcome][0].upper()}{words[proof.outcome][1:]}, on items that took no part in the choice "
        f"(at most {max_loss:g} points of each old suite were allowed).",
        "",
        f"- before: `{printable(model)}`, fingerprint `{manifest['model']['fingerprint']}`",
        f"- rows: {look.rows.taught:,}, SHA-256 `{file_fingerprint(look.rows.file)}…`",
        f"- arm: **{arm.name}**, {arm.why}: `{_steps(arm.steps)}`",
        f"- chosen among {len(raced.arms)} arms, which read {raced.tokens:,} tokens",
        f"- made by mnemos {manifest['versions']['mnemos']}"
        + (f", commit `{manifest['commit']}`" if manifest.get("commit") else ""),
        "",
        "```",
        *(line.strip() for line in lines(proof)),
        "```",
        "",
        f"Ask again: `{gate_line(model, out, max_loss)}`; repeat the training: `mnemos run {out / 'repeat.yaml'}`.",
        "",
    ]
    return "\n".join([*head, *body]) + "\n" + render(results, "md")


def _steps(steps: list[dict[str, Any]]) -> str:
    def one(step: Mapping[str, Any]) -> str:
        ((name, settings),) = step.items()
        return f"{name}({', '.join(f'{key}={value}' for key, value in (settings or {}).items())})"

    return ", ".join(map(one, steps)) or "no method"
