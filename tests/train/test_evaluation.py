"""Held-out rows are not learned, the best weights stay, training stops where it gets worse; a stop changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemos.core.errors import DataError, UsageError
from mnemos.core.method import validated
from mnemos.core.nouns import Example, Turn
from mnemos.core.plan import Likelihood, PreferencePairs
from mnemos.core.settings import EVALUATION, TrainSettings
from mnemos.models.load import Checkpoint, load_model
from mnemos.sources.render import Renderer
from mnemos.train.evaluation import NOTED, best_of
from mnemos.train.likelihood import train
from mnemos.train.preflight import check_training
from mnemos.train.rows import held_out, prepare, whole
from mnemos.train.used import used
from mnemos.weights.checkpoint import load_tokenizer
from tests.tiny import TEXT
from tests.train.making import Few, plan, weights
from tests.train.stall import Stall

BAD = {"learning_rate": 0.3, "max_steps": 12, "logging_steps": 2}
"""A rate at which the loss of held-out rows soon rises."""


def _stop() -> None:
    raise KeyboardInterrupt


def _reference(model: Path | str, rows: Any) -> float:
    """Loss of rows by one forward pass each: sum(weight * nll) / sum(|weight|)."""
    loaded = load_model(str(model))
    total = weight = 0.0
    for row in rows:
        ids = torch.tensor([row.ids.tolist()])
        with torch.no_grad():
            logits = loaded(input_ids=ids, use_cache=False).logits[0, :-1].double()
        nll = torch.nn.functional.cross_entropy(logits, ids[0, 1:].long(), reduction="none")
        taught = torch.tensor(row.weight[1:]).double()
        total, weight = total + float((nll * taught).sum()), weight + float(taught.abs().sum())
    return total / weight


def test_the_best_is_the_earliest_lowest() -> None:
    assert best_of([[2, 1.0], [4, 0.5], [6, 0.5], [8, 0.7]]) == (4, 2)
    assert best_of([[2, 1.0]]) == (2, 0)
    assert best_of([[2, 1.0], [4, 0.95]], threshold=0.1) == (2, 1)


def test_held_out_rows_are_the_same_whatever_is_mixed_in(llama: Path) -> None:
    rows = prepare(plan(llama), Renderer(load_tokenizer(str(llama)))).rows
    taught = [tokens for row in rows for tokens in row]
    old = [replace(row, example=f"old {n}", origin="replay") for n, row in enumerate(taught[:3])]
    learned, held = held_out(taught, 0.3, "rows")
    mixed, again = held_out([*old, *reversed(taught)], 0.3, "rows")
    assert {row.example for row in held} == {row.example for row in again}
    assert len(held) == round(0.3 * len(taught))
    assert not {row.example for row in held} & {row.example for row in learned}
    assert len(mixed) == len(learned) + 3
    assert len(held_out(taught[:2], 0.9, "rows")[0]) == 1
    with pytest.raises(DataError, match="too few rows to hold some out"):
        held_out(taught[:1], 0.5, "rows")


def test_pieces_of_a_document_and_copies_of_a_row_go_one_way(llama: Path) -> None:
    documents = [Example(f"d{n}", "text", (Turn("text", f"{n} " + TEXT[n % 6] * 12),)) for n in range(10)]
    # As `mixture` names rows that it reads several times.
    copies = [replace(one, id=f"{one.id}#{turn}") for one in documents[:5] for turn in (2, 3)]
    settings = {"eval_strategy": "epoch", "held_out_share": 0.3, "long_documents": "chunk", "max_length": 32}
    given = plan(llama, examples=Few((*documents, *copies)), weigh=(), **settings)
    found = prepare(given, Renderer(load_tokenizer(str(llama))))
    learned = {tokens.example for row in found.rows for tokens in row}
    held = {tokens.example for tokens in found.held}
    assert {"d0#2#2", "d0#3"} <= learned | held
    assert len({name.partition("#")[0] for name in held}) == 3
    assert not {name.partition("#")[0] for name in held} & {name.partition("#")[0] for name in learned}


def test_a_row_is_a_piece_only_of_one_that_is_there() -> None:
    assert whole("a#2#3", {"a", "a#2"}) == whole("a#2", {"a"}) == whole("a", {"a"}) == "a"
    assert whole("clip#2", {"clip#1", "clip#2"}) == "clip#2"
    # The first answer of a conversation may be the longest row of it, and left out.
    assert whole("a#2#3", {"a"}) == "a"
    assert whole("a#b", {"a"}) == "a#b"


def test_the_loss_is_that_of_the_held_out_rows_and_the_best_model_stays(llama: Path, tmp_path: Path) -> None:
    settings = {"eval_strategy": "steps", "eval_steps": 2, "held_out_share": 0.3}
    given = plan(llama, **BAD, **settings, load_best_model_at_end=True)
    held = prepare(given, Renderer(load_tokenizer(str(llama)))).held
    found = train(given, tmp_path / "best", quiet=True)
    points = found.noted[NOTED]
    assert [step for step, _ in points] == [2, 4, 6, 8, 10, 12]
    best = min(loss for _, loss in points)
    assert best < points[-1][1], "this rate was chosen to get worse"
    assert _reference(found.model, held) == pytest.approx(best, abs=1e-5)
    assert found.counts["held out of training"] == len(held) > 0
    assert not list((tmp_path / "best").glob(".best*"))
    last = train(plan(llama, **BAD, **settings), tmp_path / "last", quiet=True)
    assert last.noted[NOTED] == points
    assert _reference(last.model, held) == pytest.approx(points[-1][1], abs=1e-5)


def test_training_stops_after_the_patience(llama: Path, tmp_path: Path) -> None:
    settings = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}
    whole = train(plan(llama, **BAD, **settings), tmp_path / "whole", quiet=True).noted[NOTED]
    found = train(plan(llama, **BAD, **settings, early_stopping_patience=2), tmp_path / "stopped", quiet=True)
    points = found.noted[NOTED]
    assert points == whole[: len(points)]
    assert found.steps == points[-1][0] < 12
    step, since = best_of(points)
    assert since == 2
    assert all(best_of(points[:n])[1] < 2 for n in range(1, len(points)))
    assert step == points[-3][0]


def test_an_evaluation_a_pass_and_at_the_last_step(llama: Path, tmp_path: Path) -> None:
    given = plan(llama, eval_strategy="epoch", max_steps=-1, num_train_epochs=2.5, held_out_share=0.2)
    found = train(given, tmp_path, quiet=True)
    steps = [step for step, _ in found.noted[NOTED]]
    a_pass = math.floor(found.steps / 2.5)  # the last one is half a pass
    assert steps == [a_pass, 2 * a_pass, found.steps]


@pytest.mark.parametrize("step", [3, 6])
def test_a_stopped_training_continues_to_the_same_end(llama: Path, tmp_path: Path, step: int) -> None:
    settings = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "save_steps": 1}

    def given(stall: Stall) -> Any:
        return plan(llama, objective=(Likelihood(), stall), **BAD, **settings, early_stopping_patience=4)

    whole = train(given(Stall()), tmp_path / "whole", quiet=True)
    with pytest.raises(KeyboardInterrupt):
        train(given(Stall(step, _stop)), tmp_path / "broken", quiet=True)
    continued = train(given(Stall()), tmp_path / "broken", quiet=True)
    assert continued.noted == whole.noted
    assert continued.losses == whole.losses
    assert continued.steps == whole.steps
    left, right = weights(continued.model), weights(whole.model)
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_without_evaluation_nothing_is_called_otherwise(llama: Path) -> None:
    plain = TrainSettings()
    assert plain.fingerprint == TrainSettings(held_out_share=0.4).fingerprint
    assert plain.fingerprint != TrainSettings(eval_strategy="epoch").fingerprint
    assert not EVALUATION & set(used(plan(llama)))
    assert {"eval_strategy", "held_out_share"} <= set(used(plan(llama, eval_strategy="epoch")))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"load_best_model_at_end": True}, "need an eval_strategy"),
        ({"early_stopping_patience": 2}, "need an eval_strategy"),
        ({"eval_strategy": "epoch", "early_stopping_patience": 2}, "needs load_best_model_at_end"),
        ({"eval_strategy": "often"}, "eval_strategy"),
        ({"eval_strategy": "epoch", "lr_scheduler_type": "reduce_lr_on_plateau"}, "follows a loss .*not run here"),
        ({"held_out_share": 1.0}, "held_out_share"),
    ],
)
def test_contradictions_are_refused(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        validated(TrainSettings, given, where="train")


@pytest.mark.parametrize("more", [{}, {"early_stopping_patience": 2}])
def test_moments_of_a_training_that_may_stop_are_refused_before_it(
    llama: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    given = plan(llama, eval_strategy="epoch", load_best_model_at_end=True, **more)
    with pytest.raises(UsageError, match=next(iter(more), "load_best_model_at_end")):
        train(given, tmp_path / "out", quiet=True, moments=2)
    assert not (tmp_path / "out").exists()


def test_other_draws_are_refused_before_anything_is_loaded(llama: Path) -> None:
    with pytest.raises(UsageError, match="does not learn by it"):
        check_training(replace(plan(llama, eval_strategy="epoch"), draw=PreferencePairs()))
    assert Checkpoint(str(llama)).fingerprint
