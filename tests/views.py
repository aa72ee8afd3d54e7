"""What an objective term is shown, made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mnemos.core.outputs import Whole
from mnemos.core.plan import References


def references(**given: Callable[..., Any]) -> References:
    """`core.plan.References` in which only what is given may be asked for; logits as tensors."""

    def refused(name: str) -> Callable[..., Any]:
        return lambda *_: pytest.fail(f"asked for {name}")

    def whole(name: str) -> Callable[..., Any]:
        asked = given.get(name)
        return refused(name) if asked is None else lambda *handle: Whole(asked(*handle))

    start = given.get("start") or refused("start")
    return References(whole("before_logits"), whole("logits_of"), whole("teacher_logits"), start)
