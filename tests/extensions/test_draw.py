"""Adding a draw touches one module and one row of a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mnemos.core.errors import UsageError
from mnemos.train.draws import DRAWS, Draw
from mnemos.train.likelihood import train
from tests.extensions.toy_draw import Echo, Echoed
from tests.train.conftest import llama as llama
from tests.train.making import pairs, plan


def test_a_draw_is_a_module_and_a_row(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taught = plan(llama, draw=Echo())
    with pytest.raises(UsageError, match="is not learned here"):
        train(taught, tmp_path / "unknown", quiet=True)
    monkeypatch.setitem(DRAWS, Echo, Draw("tests.extensions.toy_draw", in_data=True))
    found = train(taught, tmp_path / "echo", quiet=True)
    assert found.counts["steps echoed"] == found.steps
    same = train(plan(llama, examples=Echoed(pairs())), tmp_path / "same", quiet=True)
    np.testing.assert_allclose(found.losses, same.losses, rtol=1e-6)
