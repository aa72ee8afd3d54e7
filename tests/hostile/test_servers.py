"""Servers that do what servers should not."""

from __future__ import annotations

import contextlib

import pytest

from tests.hostile import servers
from tests.hostile.runner import Case, Warm, parameters
from tests.models.test_transport import Rude

QUICK = ("a server that answers NaN tokens", "a server that sends a bomb", "an address of a password")
SERVED = {one.case.name: one for one in servers.cases()}


@pytest.mark.parametrize("case", parameters([one.case for one in SERVED.values()], QUICK))
def test_servers(warm: Warm, case: Case) -> None:
    act = SERVED[case.name].act
    if act is None:
        warm.run(case)
        return
    with contextlib.closing(Rude(act)) as rude:
        warm.run(case, url=rude.url)
