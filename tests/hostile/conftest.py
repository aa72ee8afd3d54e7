"""The warm process that all cases of a session share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.runner import Warm


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Forks of it run the cases."""
    one = Warm(tmp_path_factory.mktemp("hostile"))
    yield one
    one.close()
