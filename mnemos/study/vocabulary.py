"""New pieces of a language as a step of a study: arms by initialisation, and progressive expansion (arXiv:2412.12310).

What follows is measured in bits per byte: loss per token cannot be compared between vocabularies.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.fingerprint import fingerprint
from mnemos.core.plan import ModelHandle
from mnemos.study.sections import Vocabulary
from mnemos.study.steps import NamedStep, StepModel, result_of, surroundings

KEPT = ("pieces", "init", "ids", "changed", "old_texts", "tokens_before", "tokens_after")
"""What results say of an extension; tokens are those of the text that pieces were learned from."""


@dataclass(frozen=True)
class ExtendStep(NamedStep):
    """Give a model new pieces and rows for them. seed: of what `init` draws. root: the run, where it will lie."""

    before: ModelHandle
    vocabulary: Vocabulary
    seed: int
    root: Path
    title: str
    needs: tuple[str, ...] = ()
    every_process = False

    @property
    def model(self) -> StepModel:
        """The extended model, usable as a handle before it exists."""
        dtype = getattr(self.before, "torch_dtype", None)
        return StepModel(self.root, self.key, torch_dtype=dtype)

    def _key(self) -> str:
        from mnemos.sources.plain import texts_at

        own = self.vocabulary
        read = [texts_at(place).source for place in (own.data, own.old) if place is not None]
        settings = [own.scripts, own.pieces, own.init, self.seed]
        return "extend-" + fingerprint([self.before, read, settings, surroundings()])

    def describe(self) -> str:
        """One line for people."""
        own = self.vocabulary
        return f"{own.pieces:,} new pieces in {', '.join(own.scripts)}, rows by {own.init}"

    def work(self, directory: Path, quiet: bool) -> Mapping[str, Any]:
        """Write directory/model; raises as `mnemos tokenizer extend`."""
        from mnemos.sources.plain import texts_at
        from mnemos.study.commands.tokenizer import extend_model

        own, out = self.vocabulary, directory / "model"
        # What a killed step left: whole or not, it is made anew.
        shutil.rmtree(out, ignore_errors=True)
        old = None if own.old is None else texts_at(own.old)
        return extend_model(
            self.before.path, texts_at(own.data), old, out,
            pieces=own.pieces, scripts=own.scripts, how=own.init, seed=self.seed,
        )  # fmt: skip


def extension_of(steps: tuple[ExtendStep, ...], root: Path) -> list[dict[str, Any]]:
    """What the extensions of a run did, for results.json."""
    found = [result_of(step.key, root) for step in steps]
    return [{name: one[name] for name in KEPT if name in one} for one in found]
