"""What an objective term is shown, made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mnemos.core.plan import References


def references(**given: Callable[..., Any]) -> References:
    """`core.plan.References` in which only what is given may be asked for."""

    def refused(name: str) -> Callable[..., Any]:
        return lambda *_: pytest.fail(f"asked for {name}")

    names = ("before_logits", "logits_of", "teacher_logits", "start")
    return References(**{name: given.get(name) or refused(name) for name in names})
