"""A family of models that names its parts in its own way is one row: methods then move what they are told to."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from mnemos.methods.trainable.layers import PATTERNS, layers_of, parts_of


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.time_mix = torch.nn.Linear(4, 4)
        self.channel_mix = torch.nn.Linear(4, 4)


class Mixer(torch.nn.Module):
    """A stranger: no module is called attention or mlp."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = torch.nn.Embedding(5, 4)
        self.blocks = torch.nn.ModuleList(Block() for _ in range(2))
        self.head = torch.nn.Linear(4, 5)

    def get_input_embeddings(self) -> Any:
        return self.emb

    def get_output_embeddings(self) -> Any:
        return self.head


def test_a_stranger_is_known_by_two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Mixer()
    assert parts_of(model)["blocks.0.time_mix.weight"] == frozenset()
    rows = [("attention", re.compile("^time_mix$")), ("mlp", re.compile("^channel_mix$"))]
    monkeypatch.setattr("mnemos.methods.trainable.layers.PATTERNS", [*rows, *PATTERNS])
    found = parts_of(model)
    assert found["blocks.1.time_mix.weight"] == {"attention"}
    assert found["blocks.1.channel_mix.bias"] == {"mlp"}
    assert layers_of(model)[1] == 2
