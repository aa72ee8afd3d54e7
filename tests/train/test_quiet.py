"""Nothing of the libraries underneath stands between the lines of a run."""

from __future__ import annotations

import pytest
from datasets.utils.tqdm import tqdm as of_datasets
from tqdm import tqdm
from tqdm.auto import tqdm as of_any_place
from transformers.utils.logging import tqdm as of_transformers

from mnemos.train.quiet import no_bars, quieted

BARS = {"tqdm": tqdm, "auto": of_any_place, "datasets": of_datasets, "transformers": of_transformers}


@pytest.mark.parametrize("name", BARS)
def test_no_library_draws_a_bar(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with quieted(True):
        assert list(BARS[name](range(3), desc="bar", disable=False)) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


def test_afterwards_there_are_bars_again(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), no_bars(), no_bars():
        raise ZeroDivisionError
    list(tqdm(range(3), desc="bar"))
    assert "bar" in capfd.readouterr().err
