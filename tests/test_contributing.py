"""The method shown in CONTRIBUTING.md is code that works and keeps the laws."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mnemos.methods
from mnemos.core.method import REGISTRY, Method
from mnemos.core.nouns import Tokens
from tests import laws

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"

HEADER = """
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated
from pydantic import Field
from mnemos.core.method import method
from mnemos.core.nouns import Tokens
from mnemos.core.plan import ModelHandle, Plan
"""


@pytest.fixture(scope="module")
def shown() -> Method:
    """The page's method, registered beside the real ones only while it is made."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    module = types.ModuleType("shown_in_contributing")
    sys.modules[module.__name__] = module
    exec(compile(HEADER + code, str(PAGE), "exec"), module.__dict__)
    return REGISTRY.pop("replay_weight")


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_it_keeps_the_laws(shown: Method, data: st.DataObject) -> None:
    drawn = data.draw(laws.settings_of(shown))
    for law in (laws.off, laws.pure, laws.declared):
        law(shown, laws.base_plan(), drawn)
    laws.commute(shown, REGISTRY["replay"], laws.base_plan(), (drawn, {}))


def test_it_does_what_it_says(shown: Method) -> None:
    ids, ones = np.arange(3, dtype=np.int32), np.ones(3, np.float32)
    new, old = (Tokens(ids, ones, ones > 0, "x", origin) for origin in ("new", "replay"))
    (step,) = shown(laws.base_plan()).weigh
    assert [row.weight.tolist() for row in step([new, old], laws.Handle("before"))] == [[1, 1, 1], [0.25, 0.25, 0.25]]


def test_every_room_is_named() -> None:
    text = PAGE.read_text(encoding="utf-8")
    missing = [
        path.name
        for path in Path(mnemos.__file__).parent.iterdir()
        if path.is_dir() and path.name[0] not in "._" and f"**{path.name}**" not in text
    ]
    assert not missing
