"""Statistics of batch normalisation stay, whoever calls model.train()."""

from __future__ import annotations

import copy

import torch
from torch import nn

from mnemos.models.batch_norm import hold_statistics
from mnemos.stream.adaptation.ears import Ears, dropout
from tests.stream.adaptation.ears import TinyEars


def test_statistics_stay_and_what_is_learned_learns() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.BatchNorm1d(3, track_running_stats=False)
    )
    before, rows = copy.deepcopy(model.state_dict()), torch.randn(8, 3)
    hold_statistics(model)
    hold_statistics(model)
    assert [len(layer._forward_pre_hooks) for layer in model] == [0, 1, 0, 1]
    model.train()
    model(rows).square().sum().backward()
    assert model[2].training
    assert model[1].weight.grad is not None
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    normalised = nn.Sequential(model[0], model[1])
    alone, together = torch.cat([normalised(row[None]) for row in rows]), normalised(rows)
    torch.testing.assert_close(alone, together)


def test_statistics_stay_while_a_recogniser_adapts() -> None:
    ears = TinyEars()
    ears.network.extra = nn.BatchNorm1d(3)
    Ears(ears, None)
    with dropout(ears.network, 0):
        ears.network.extra(torch.randn(4, 3))
    assert torch.equal(ears.network.extra.running_mean, torch.zeros(3))
