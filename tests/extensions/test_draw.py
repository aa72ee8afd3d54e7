"""Adding a draw touches one module and one row of a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mnemos.core.errors import UsageError
from mnemos.train.draws import DRAWS
from mnemos.train.likelihood import train
from tests.extensions.toy_draw import Twice
from tests.train.conftest import llama as llama
from tests.train.making import plan


def test_a_draw_is_a_module_and_a_row(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taught = plan(llama, draw=Twice())
    with pytest.raises(UsageError, match="is not learned here"):
        train(taught, tmp_path / "unknown", quiet=True)
    monkeypatch.setitem(DRAWS, Twice, "tests.extensions.toy_draw")
    found = train(taught, tmp_path / "twice", quiet=True)
    assert found.counts["times read"] == 2
    # What is summed twice is divided by twice the weight: the same mean, so the same losses as read once.
    once = train(plan(llama), tmp_path / "once", quiet=True)
    np.testing.assert_allclose(found.losses, once.losses, rtol=1e-5)
