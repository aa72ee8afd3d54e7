"""Universal logit distillation: the distance against its definition, and a teacher of another tokenizer in training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from transformers import AutoModelForCausalLM

from mnemos.core.errors import DataError, UsageError
from mnemos.core.method import apply
from mnemos.core.nouns import Example, Turn
from mnemos.core.outputs import Whole
from mnemos.core.plan import Documents, Likelihood, StepView
from mnemos.methods.objective.teacher import UniversalLogits, sorted_distance, uld
from mnemos.models.load import Checkpoint
from mnemos.sources.mix import Rows
from mnemos.sources.render import Renderer
from mnemos.train.likelihood import train
from mnemos.weights.checkpoint import load_tokenizer
from tests.tiny import save_tiny, tiny_model, tiny_tokenizer
from tests.train.making import plan
from tests.views import references

ROWS = Rows(tuple(
    Example(f"{n}", "messages", (Turn("user", f"What is {n} plus three?"), Turn("assistant", f"The answer is {n}.")))
    for n in range(6)
))  # fmt: skip


def test_the_distance_is_the_cheapest_matching_of_ranks() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), 4), rng.dirichlet(np.ones(7), 4)
    found = sorted_distance(torch.tensor(p), torch.tensor(q))
    for row in range(4):
        padded = np.concatenate([p[row], np.zeros(2)])
        costs = np.abs(padded[:, None] - q[row][None, :])
        # Sorting both is the assignment of least cost.
        assert float(found[row]) == pytest.approx(costs[linear_sum_assignment(costs)].sum())
    one_hot = torch.eye(5)[:1]
    assert float(sorted_distance(one_hot, torch.eye(9)[4:5])) == 0, "which token is certain does not matter"
    assert float(sorted_distance(one_hot, torch.full((1, 9), 1 / 9))) == pytest.approx(2 * 8 / 9)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A student, and a teacher with another tokenizer and family."""
    folder = tmp_path_factory.mktemp("uld")
    tokenizer = tiny_tokenizer(vocabulary=300)
    tiny_model(tokenizer, "gpt2", seed=1).save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    return save_tiny(folder / "student"), folder / "teacher"


def test_tokens_are_paired_by_number_and_only_those_of_answers(models: tuple[Path, Path]) -> None:
    student, teacher = (Checkpoint(str(path)) for path in models)
    stage: Any = SimpleNamespace(plan=plan(models[0], examples=ROWS))
    term = UniversalLogits(teacher, 2.0).begin(stage)
    renderer = Renderer(load_tokenizer(str(models[0])))
    rows = [renderer.render(row) for row in list(ROWS)[:2]]
    model = student.load().model
    kept, logits, of, place, output = [], [], [], [], []
    for number, row in enumerate(rows):
        with torch.no_grad():
            found = model(torch.tensor(row.ids[None].astype(np.int64))).logits[0]
        at = np.flatnonzero(row.weight[1:])[::-1] + 1  # from behind: positions may come in any order
        kept += row.ids[at].tolist()
        logits.append(found[at - 1])
        of += [number] * len(at)
        place += (at + 1000 * number).tolist()
        output += row.output[at].tolist()
    view = StepView(
        model=model, outputs=Whole(torch.cat(logits).requires_grad_()), targets=torch.tensor(kept),
        weight=torch.full((len(kept),), 0.5), rehearsed=torch.zeros(len(kept), dtype=torch.bool), normaliser=4.0,
        share=1.0, references=references(),
        documents=Documents(
            torch.tensor(of), torch.tensor(place), (("new", "0"), ("new", "1")), torch.tensor(output),
            lengths=(1000, 1000),
        ),
    )  # fmt: skip
    theirs = Checkpoint(str(models[1])).load()
    expected = 0.0
    for row, own, ours in zip(list(ROWS)[:2], rows, logits, strict=True):
        run = theirs.renderer.render(row)
        with torch.no_grad():
            q = theirs.model(torch.tensor(run.ids[None].astype(np.int64))).logits[0].softmax(-1)
        # Of the rows' tokens, prompts included, those of the answers alone.
        q = q[np.flatnonzero(run.output[1:])]
        answers = own.output[np.flatnonzero(own.weight[1:])[::-1] + 1]
        p = ours.detach()[torch.tensor(answers)].flip(0).softmax(-1)
        assert len(p) != len(q), "the tokenizers cut the answer differently"
        count = min(len(p), len(q))
        expected += float(sorted_distance(p[:count], q[:count]).sum())
    loss = term.loss(view)
    assert loss.item() == pytest.approx(2.0 * 0.5 * expected / 4.0, rel=1e-5)
    loss.backward()
    assert view.logits.grad is not None
    unknown = dataclasses.replace(
        view, documents=dataclasses.replace(view.documents, names=(("old", "0"), ("old", "1")))
    )
    assert term.loss(unknown).item() == 0, "rows that were not there at the beginning keep their likelihood"


@pytest.fixture(scope="module")
def sharp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that expects something else at each place: eight times the usual random weights."""
    folder = save_tiny(tmp_path_factory.mktemp("sharp") / "llama")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() == 2:
                value *= 8
    model.save_pretrained(folder)
    return folder


def test_masked_tokens_move_no_pair(sharp: Path, tmp_path: Path) -> None:
    """A teacher that is the model itself is at no distance, whatever is left out of an answer."""
    import mnemos.methods  # noqa: F401 - fills the catalogue

    for share in (0.0, 0.3, 0.8):
        arm: list[Any] = [
            {"output_only": {}},
            {"token_mask": {"masked_share": share}},
            {"uld": {"teacher": str(sharp)}},
        ]
        given = apply(plan(sharp, examples=ROWS, weigh=(), learning_rate=1e-12, max_steps=1), arm)
        found = train(given, tmp_path / str(share), quiet=True)
        assert found.noted["distance to the teacher"][0][1] == pytest.approx(0, abs=1e-4)


def test_it_trains_beside_the_likelihood_and_goes_on_after_a_stop(models: tuple[Path, Path], tmp_path: Path) -> None:
    made = plan(models[0], examples=ROWS, max_length=64, save_steps=1, per_device_train_batch_size=2)
    taught = uld(made, teacher=str(models[1]), coefficient=3.0)
    assert taught.objective[0] == Likelihood()
    assert uld(made, teacher=str(models[1]), coefficient=0).objective == made.objective
    found = train(taught, tmp_path / "uld", quiet=True)
    assert "distance to the teacher" in found.noted
    assert train(made, tmp_path / "plain", quiet=True).losses != found.losses
    assert train(taught, tmp_path / "again", quiet=True).losses == found.losses


def test_what_cannot_teach_is_refused(models: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="hands out no whole distributions"):
        uld(plan(models[0], examples=ROWS), teacher="http://localhost:1/v1#far")
    texts = Rows((Example("t", "text", (Turn("text", "The river runs."),)),))
    with pytest.raises(DataError, match="0 rows with an answer"):
        UniversalLogits(Checkpoint(str(models[1])), 1.0).begin(SimpleNamespace(plan=plan(models[0], examples=texts)))
