"""The answer is the transcript of a sound in the data: a recogniser learns it, by CTC or token by token."""

from __future__ import annotations

from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.outputs import Outputs
from mnemos.core.plan import Plan
from mnemos.sources.audio import Bounds
from mnemos.train.documents import MicroBatch, Way, micro_batch
from mnemos.train.draws import batches
from mnemos.train.hearing import Ears, TranscriptRenderer
from mnemos.train.rows import Prepared, refuse_token_weights
from mnemos.train.rows import prepare as prepared_rows
from mnemos.train.schedule import join

PROBED = 2
"""Rows that a merged adapter is checked on."""


def renderer(plan: Plan, tokenizer: Any) -> TranscriptRenderer:
    """What makes rows of the plan's examples: the model before, without its weights."""
    from mnemos.models.load import load_model
    from mnemos.models.recognisers.wrap import wrapped

    network = load_model(plan.before.path, headers_only=True, hears=True)
    recogniser = wrapped(network, plan.before.path)
    usual = Bounds()
    bounds = Bounds(max(usual.shortest, recogniser.shortest), min(usual.longest, recogniser.longest))
    return TranscriptRenderer(recogniser, bounds)


def prepare(plan: Plan, renderer: TranscriptRenderer) -> Prepared:
    """Every transcript a row that names its sound; what is left out is counted by reason."""
    if renderer.recogniser.kind == "ctc":
        why = "weighs single tokens, and a CTC model learns a transcript whole"
        refuse_token_weights(plan, "method {}", why, "sounds")
    for name in ("packing", "truncate"):
        if getattr(plan.train, name):
            raise UsageError(f"train.{name} = true", "would part a transcript from its sound", "set it to false")
    return prepared_rows(plan, renderer)


class Batches(batches.Batches):
    """The trainer's rows with their sounds."""

    def way(self, longest: int, *, split: bool, chunks: bool) -> Way:
        """Sounds in, padded or by length."""
        from mnemos.models.recognisers.wrap import wrapped

        if self.trainer.args.world_size > 1:
            raise UsageError(
                f"{self.trainer.args.world_size} processes", "a recogniser is trained in one", "start one process"
            )
        made = self.trainer.stage.renderer
        ears = Ears(wrapped(self.trainer.model, self.trainer.plan.before.path), made)
        return Way(joined=False, picks=False, split=False, chunks=False, ears=ears)

    def forward(self, model: Any, batch: MicroBatch) -> Outputs:
        """What the recogniser in training says."""
        found: Outputs = self.trainer.way.ears.outputs(model, batch)
        return found

    def probe(self, prepared: Prepared) -> dict[str, Any]:
        """The first sounds, as the model's input on the CPU."""
        rows = [(row[0],) for row in prepared.rows[:PROBED]]
        one = micro_batch(self.trainer._prepare_inputs(join(rows)), self.trainer.way).passes[0]
        return {name: value.cpu() for name, value in one.inputs.items()}
