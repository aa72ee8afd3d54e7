"""The plan's fingerprint, its default field values against references, and the small nouns."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from mnemos.core.nouns import Example, Score, Source, Tokens, Turn
from mnemos.core.outputs import Whole
from mnemos.core.plan import AllParameters, Applied, Likelihood, PastTask, Plan, StepView, Term, Trainable
from mnemos.core.settings import TrainSettings
from tests.laws import Handle, base_plan, rows
from tests.views import references


def test_everything_that_could_change_the_model_changes_the_fingerprint() -> None:
    plan = base_plan()
    changes: dict[str, Any] = {
        "examples": rows("other", 6),
        "before": Handle("before", "another-content"),
        "task": "four",
        "seed": 4,
        "train": TrainSettings(learning_rate=1e-3),
        "past": plan.past[:1],
        "weigh": (Applied("x", "y", {}, False),),
        "objective": (),
        "gradient": (Likelihood(),),
        "trainable": AllParameters(learning_rate=1.0),
        "after": ("x",),
        "draw": "other",
    }
    names = {plan.fingerprint}
    for field, value in changes.items():
        names.add(dataclasses.replace(plan, **{field: value}).fingerprint)
    assert len(names) == len(changes) + 1
    rest = {field.name for field in dataclasses.fields(Plan)} - set(changes)
    assert rest == {"history", "sequence"}
    silent = dataclasses.replace(plan, history=(Applied("x", "y", {}, False),), sequence=not plan.sequence)
    assert silent.fingerprint == plan.fingerprint


def test_the_path_of_a_checkpoint_does_not_count_its_content_does() -> None:
    assert base_plan(before=Handle("elsewhere")).fingerprint == base_plan().fingerprint


def test_past_tasks_count_by_rows_and_checkpoint() -> None:
    task = PastTask("one", rows("one", 8), Handle("a", "f"))
    other = [
        dataclasses.replace(task, examples=None),
        dataclasses.replace(task, examples=rows("one", 7)),
        dataclasses.replace(task, checkpoint=Handle("a", "g")),
    ]
    assert len({base_plan(past=(one,)).fingerprint for one in (task, *other)}) == 4


def test_likelihood_is_the_weighted_mean_negative_log_likelihood() -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(7, 11)).astype(np.float32)
    targets, weight = generator.integers(0, 11, 7), generator.uniform(0, 2, 7).astype(np.float32)
    expected = -(log_softmax(logits.astype(np.float64), axis=-1)[np.arange(7), targets] * weight).sum() / weight.sum()

    def view(part: slice) -> StepView:
        return StepView(
            model=torch.nn.Linear(1, 1),
            outputs=Whole(torch.from_numpy(logits[part])),
            targets=torch.from_numpy(targets[part]),
            weight=torch.from_numpy(weight[part]),
            normaliser=float(weight.sum()),
            share=0.5,
            rehearsed=torch.zeros(len(weight[part]), dtype=torch.bool),
            references=references(),
        )

    term = Likelihood()
    assert isinstance(term, Term)
    assert float(term.loss(view(slice(None)))) == pytest.approx(expected, rel=1e-6)
    parts = float(term.loss(view(slice(0, 2)))) + float(term.loss(view(slice(2, 7))))
    assert parts == pytest.approx(expected, rel=1e-6)


def test_all_parameters_may_move() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)).requires_grad_(False)
    model.register_parameter("whole", torch.nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False))
    trainable = AllParameters()
    assert isinstance(trainable, Trainable)
    assert trainable.prepare(model) is model
    moving = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert moving == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_tokens_must_agree_in_length() -> None:
    ids, ones = np.arange(3, dtype=np.int32), np.ones(3, np.float32)
    assert len(Tokens(ids, ones, ones > 0, "x")) == 3
    with pytest.raises(ValueError, match="row 7: ids, weight, output differ in length"):
        Tokens(ids, ones[:2], ones > 0, "row 7")


@pytest.mark.parametrize(("value", "reason"), [(math.nan, None), (0.5, "late")])
def test_a_missing_score_has_a_reason_and_a_present_one_none(value: float, reason: str | None) -> None:
    with pytest.raises(ValueError, match="suite/item"):
        Score("suite", "item", value, reason)


def test_nouns_have_protocols_and_names() -> None:
    assert isinstance(rows("x", 1), Source)
    example = Example("1", "messages", (Turn("user", "a"),))
    assert rows("x", 2).fingerprint != rows("x", 3).fingerprint
    assert dataclasses.replace(example, meta={"a": 1}) != example
