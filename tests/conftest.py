"""Settings that every test shares."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Properties meet the same examples in each run, so that a gate judges the change and not its luck;
# `make test-slow` looks for new ones.
# No deadline: how long an example takes says how busy the machine is.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("new", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of third-party data, or a skip that says how to get it."""
    folder = Path(os.environ.get("MNEMOS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data absent: {folder} (set MNEMOS_DATA)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `compare` keeps lies in a folder of this session, not in the user's."""
    os.environ["MNEMOS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module", autouse=True)
def _little_to_collect() -> None:
    """Each training collects garbage several times, and a collection looks at every object that lives: here also those
    of hundreds of modules and thousands of tests. What lives before a module's tests is therefore left out of it."""
    gc.collect()
    gc.freeze()
