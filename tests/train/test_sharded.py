"""Parameters in pieces over two processes (FSDP2) learn what one process learns."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mnemos.models.load import load_model
from mnemos.train.likelihood import train
from tests.tiny import save_tiny
from tests.train.sharded import CUT, REFUSED, TEACHER, TIED, planned
from tests.train.test_together import assert_same, launched

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

SAID = {
    "version": r"fsdp_config\.version = 1.*version: 2",
    "value_head": "value head.*grpo, rloo or reinforce",
    "teacher": "teacher of self_distillation",
    "engine": "generation_backend = vllm",
    "start": "needs whole parameters",
}
"""What a refusal names."""


@pytest.fixture(scope="module")
def found(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything that two processes learn or refuse, one launch."""
    out = tmp_path_factory.mktemp("sharded")
    save_tiny(llama.with_name(TEACHER), seed=1)
    save_tiny(llama.with_name(TIED), "gemma3")
    launched("tests.train.sharded", llama, out)
    read: dict[str, Any] = json.loads((out / "found.json").read_text())
    return read


@pytest.mark.parametrize("kind", CUT)
def test_pieces_learn_what_the_whole_does(llama: Path, tmp_path: Path, found: dict[str, Any], kind: str) -> None:
    """Each process holds half; the saved directory has all of it, and loads."""
    both = found["trained"][kind]
    assert both["held"] == pytest.approx(both["whole"] / 2, rel=0.02)
    assert_same(train(planned(llama, kind), tmp_path, quiet=True), both)
    load_model(both["model"])
    assert not (Path(both["model"]).parent / "checkpoints").exists()


@pytest.mark.parametrize("kind", REFUSED)
def test_what_needs_the_whole_is_refused_by_name(found: dict[str, Any], kind: str) -> None:
    """The message has the cure."""
    assert re.search(SAID[kind], found["refused"][kind], re.DOTALL)


def test_a_later_stage_without_fsdp_is_whole_again(found: dict[str, Any]) -> None:
    """accelerate leaves its choice in the environment of the process."""
    held, whole = found["after"]
    assert held == whole > 0
