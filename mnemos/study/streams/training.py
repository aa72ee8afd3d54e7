"""Arms whose weights change: small trainings from right answers, and old suites that guard them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnemos.core.fingerprint import fingerprint
from mnemos.core.method import apply, validated
from mnemos.core.nouns import Example, Score
from mnemos.core.plan import ModelHandle, Plan
from mnemos.core.settings import TrainSettings
from mnemos.measure.ask import measure
from mnemos.measure.compare import comparisons
from mnemos.measure.suite import Suite, load_suites
from mnemos.models.load import Checkpoint, handle
from mnemos.sources.mix import Rows
from mnemos.stream.loop import Panel
from mnemos.stream.models import Models
from mnemos.stream.weights import Weights, WeightSettings
from mnemos.study.streams.opened import Opened, stream_of
from mnemos.study.streams.settings import REFERENCE


@dataclass(frozen=True)
class StageTrainer:
    """The house's one loop of training, and its suites (`stream.weights.Trainer`)."""

    settings: WeightSettings
    suites: tuple[Suite, ...]
    seed: int

    def train(self, rows: Sequence[Example], before: ModelHandle, folder: Path) -> ModelHandle:
        """One stage on the rows."""
        from mnemos.train.likelihood import train

        train(self.plan(rows, before), folder, quiet=True, title="update")
        return Checkpoint(str(folder / "model"))

    def plan(self, rows: Sequence[Example], before: ModelHandle) -> Plan:
        """What `train` does, as a plan. UsageError for methods and settings that cannot be meant."""
        import mnemos.methods  # noqa: F401  fills the registry

        settings: TrainSettings = validated(TrainSettings, {**DEFAULTS, **self.settings.train}, where="weights: train")
        plan = Plan(Rows(tuple(rows), "right answers"), before, "stream", self.seed, settings)
        return apply(plan, self.settings.methods)

    def scores(self, handle: ModelHandle) -> Mapping[str, Sequence[Score]]:
        """Of every suite."""
        return (
            {name: found.scores for name, found in measure(handle.load(), self.suites).items()} if self.suites else {}
        )

    def compared(
        self, before: Mapping[str, Sequence[Score]], after: Mapping[str, Sequence[Score]], same: bool
    ) -> list[dict[str, Any]]:
        """As every comparison of mnemos, corrected over the suites."""
        found = comparisons(self.suites, before, {0: after}, arm="update", roles={}, same_model=same)
        return [one.as_dict() for one in found]

    def handle(self, path: str) -> ModelHandle:
        """A model that was trained earlier."""
        return Checkpoint(path)


DEFAULTS: dict[str, Any] = {"learning_rate": 2e-4, "num_train_epochs": 2, "save_steps": 0}
"""Of a small training with LoRA, unless the study says otherwise."""


def weights_of(opened: Opened, root: Path) -> dict[str, list[Weights]]:
    """One for each arm whose weights change, and each order."""
    study = opened.study
    suites = load_suites(study.suites, root) if study.suites else ()
    out: dict[str, list[Weights]] = {}
    measured: dict[str, Mapping[str, Sequence[Score]]] = {}
    for arm, settings in study.weights.items():
        for seed in study.orders:
            trainer = StageTrainer(settings, suites, seed)
            plan = trainer.plan((), handle(study.model))  # what cannot be meant is refused before anything is streamed
            what = [settings.fingerprint, [suite.fingerprint for suite in suites], study.panel.model_dump()]
            if names_files(settings.methods):
                what.append(plan.fingerprint)  # of what the files hold; the settings say only where they are
            stream = stream_of(opened, arm, seed, what)
            stream = replace(stream, panel=Panel(study.panel.items, study.panel.every))
            out.setdefault(arm, []).append(
                Weights(
                    stream,
                    settings,
                    handle(study.model),
                    trainer,
                    lambda model: _asked(opened, model),
                    # By the stream's whole name: other settings in the same run directory are other weights, and a
                    # stream that is taken up again goes on from those that it wrote.
                    root / "updates" / arm / f"order-{seed}-{fingerprint(stream.name)[:8]}",
                    opened.questions,
                    opened.prompts[REFERENCE],
                    measured,
                )
            )
    return out


def names_files(value: Any) -> bool:
    """Whether anything in settings is the absolute path of a file or folder that is there."""
    if isinstance(value, Mapping):
        return any(names_files(one) for one in value.values())
    if isinstance(value, list | tuple):
        return any(names_files(one) for one in value)
    return isinstance(value, str) and os.path.isabs(value) and os.path.exists(value)


def _asked(opened: Opened, model: ModelHandle) -> Models:
    """The models of a stream: the first one with its present weights."""
    how = opened.study.decoding
    loaded = opened.models[0] if model.fingerprint == handle(opened.study.model).fingerprint else model.load()
    return Models(
        [loaded],
        max_new_tokens=opened.examiner.max_new_tokens,
        temperature=how.temperature,
        top_p=how.top_p,
        budget=how.max_prompt_tokens,
        table=opened.table,
    )
