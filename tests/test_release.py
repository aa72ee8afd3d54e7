"""What is released carries all that the package reads, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from mnemos import __version__
from mnemos.recipes.locks import ROOT, project

BUILD = "from setuptools import build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')"
CARRIED = (
    "mnemos/recipes/demo.yaml",
    "mnemos/recipes/patients/chat/model.safetensors",
    "mnemos/recipes/patients/chat/tokenizer.json",
    "mnemos/recipes/suites/refusals.yaml",
    "mnemos/recipes/judges/pair.yaml",
    "mnemos/report/page.html",
    "mnemos/serve/templates/base.html",
    "mnemos/stream/prompts/playbook-curate.txt",
    "mnemos/py.typed",
)
"""One of each kind, so that an empty list of files could not pass."""


def files(root: Path) -> set[str]:
    """The package's own files in a tree, from its root."""
    found = {path.relative_to(root) for path in (root / "mnemos").rglob("*") if path.is_file()}
    return {str(path) for path in found if "__pycache__" not in path.parts and path.suffix != ".pyc"}


def built(root: Path) -> tuple[Path, Path]:
    """Wheel and sdist of a tree, made with what is installed: nothing is fetched."""
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,), (sdist,) = (root / "dist").glob("*.whl"), (root / "dist").glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built from, so that nothing is written into the checkout."""
    place = tmp_path_factory.mktemp("release")
    shutil.copytree(ROOT / "mnemos", place / "mnemos", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place)
    return place


@pytest.fixture(scope="module")
def archives(tree: Path) -> tuple[Path, Path]:
    return built(tree)


def test_the_version_is_one() -> None:
    assert project()["project"]["version"] == __version__


def test_the_wheel_carries_every_file_of_the_package(tree: Path, archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[0]) as opened:
        names = {name for name in opened.namelist() if name.startswith("mnemos/")}
        rest = set(opened.namelist()) - names
        words = Parser().parsestr(opened.read(f"mnemos-{__version__}.dist-info/METADATA").decode())
    assert set(CARRIED) <= names
    assert names == files(tree)
    assert all(name.startswith(f"mnemos-{__version__}.dist-info/") for name in rest)
    assert (words["Version"], words["Requires-Python"]) == (__version__, ">=3.11")
    assert set(words.get_all("Provides-Extra")) == set(project()["project"]["optional-dependencies"])
    assert words["License-Expression"] == "Apache-2.0"


def test_the_sdist_carries_the_same(tree: Path, archives: tuple[Path, Path]) -> None:
    with tarfile.open(archives[1]) as opened:
        names = {one.name.partition("/")[2] for one in opened.getmembers() if one.isfile()}
    assert {name for name in names if name.startswith("mnemos/")} == files(tree)
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"} <= names


@pytest.mark.slow
def test_a_wheel_of_the_sdist_is_that_of_the_tree(archives: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(archives[1]) as opened:
        opened.extractall(tmp_path, filter="data")
    again, _ = built(tmp_path / f"mnemos-{__version__}")

    def content(wheel: Path) -> dict[str, int]:
        with zipfile.ZipFile(wheel) as opened:
            return {one.filename: one.CRC for one in opened.infolist()}

    assert content(again) == content(archives[0])


@pytest.mark.slow
def test_an_installed_wheel_has_its_recipes_and_leaves_the_checkout_alone(
    archives: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its files beside what is installed here, in a folder outside the checkout."""
    with zipfile.ZipFile(archives[0]) as opened:
        opened.extractall(tmp_path / "site")
    code = "import sys, mnemos; from mnemos.cli import main; print(mnemos.__file__, file=sys.stderr); sys.exit(main())"
    command = [sys.executable, "-c", code, "run", "mnemos:demo.yaml", "--dry-run", "--out", "run"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == str(tmp_path / "site" / "mnemos" / "__init__.py")
    assert "half-way" in done.stdout
