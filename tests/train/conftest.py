"""Tiny models shared by the tests of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny import save_tiny


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny matrices run slower on more threads, and the kill test compares bits across processes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("train") / "llama")


@pytest.fixture(scope="module")
def sharp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose next token depends on what it reads: eight times the usual random weights."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = save_tiny(tmp_path_factory.mktemp("sharp") / "llama")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() == 2:
                value *= 8
    model.save_pretrained(folder)
    return folder
