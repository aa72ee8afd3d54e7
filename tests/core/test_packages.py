"""Packages that are absent are named, with the command that brings them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
import types

import pytest

from mnemos.cli.errors import explained
from mnemos.core.errors import UsageError
from mnemos.core.packages import command, extra_of, missing, require, there
from mnemos.recipes.locks import project

REQUIRED = ["torch>=2.6", "scikit_learn", "starlette<2,>=1; extra == 'serve'", 'jiwer; extra == "speech"',
            'soundfile>=0.13; python_version >= "3.11" and extra == "speech"']  # fmt: skip


@pytest.fixture
def of_mnemos(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata of an installed mnemos."""
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRED if name == "mnemos" else None)


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        (("starlette",), 'pip install "mnemos[serve]"'),
        (("soundfile", "jiwer"), 'pip install "mnemos[speech]"'),
        (("soundfile", "starlette"), "pip install soundfile starlette"),
        (("sklearn",), "make venv in a checkout, else pip install mnemos"),
        (("wandb",), "pip install wandb"),
        (("yaml",), "pip install PyYAML"),
    ],
)
def test_the_command_that_brings_a_package(packages: tuple[str, ...], expected: str, of_mnemos: None) -> None:
    assert command(*packages) == expected


def test_without_metadata_a_package_is_had_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "requires", gone)
    assert command("starlette") == "pip install starlette"


def test_what_is_absent_is_named_and_what_is_there_is_not(of_mnemos: None) -> None:
    require("a verb", "json", "re")
    with pytest.raises(UsageError) as caught:
        require("a verb", "json", "no_such_one", otherwise="leave it out")
    assert caught.value.args == ("a verb", "needs the package no_such_one", "pip install no_such_one, or leave it out")
    with pytest.raises(UsageError, match="needs the packages no_such_one and nor_this"):
        require("a verb", "no_such_one", "json", "nor_this")


def test_a_package_that_is_barred_is_absent_and_a_stand_in_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert not there("vllm")
    monkeypatch.setitem(sys.modules, "vllm", types.ModuleType("vllm"))
    assert there("vllm")


def test_what_an_import_said_is_kept() -> None:
    assert str(missing("model 'x'", "vllm", why=ImportError("torch 1.0"))).startswith(
        "model 'x': needs the package vllm (torch 1.0)\n  pip install vllm"
    )


def test_an_import_that_fails_anywhere_is_explained_with_the_same_command(of_mnemos: None) -> None:
    error = explained(ModuleNotFoundError("x", name="soundfile.inside"))
    assert isinstance(error, UsageError)
    assert (error.value, error.cure) == ("the package soundfile", 'pip install "mnemos[speech]"')


def test_extras_of_pyproject_are_found() -> None:
    """In the metadata that pip wrote when mnemos was installed, for each extra that was there then."""
    extras = project()["project"]["optional-dependencies"]
    for extra in importlib.metadata.metadata("mnemos").get_all("Provides-Extra") or []:
        for requirement in extras[extra]:
            name = re.split(r"[^\w.-]", requirement)[0]
            assert extra_of(name) == extra
